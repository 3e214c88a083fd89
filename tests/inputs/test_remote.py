from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import fsspec
import pytest

from daskscore.core.backoff import Backoff
from daskscore.errors import InputError, UsageError
from daskscore.inputs.addresses import Address
from daskscore.inputs.patience import Patience
from daskscore.inputs.remote import RemoteFiles
from daskscore.inputs.storages import Found, Page, event_loop
from daskscore.inputs.stores import Stores
from daskscore.inputs.troubles import Cause, explain
from tests.servers import BUSY, FORBIDDEN, RESET, S3_PAGE, TOO_MANY, TRUNCATED, AzureServer, Proxy, S3Server, free_port

pytest_plugins = ["tests.servers"]

QUICK = Patience(20, Backoff(attempts=3, seconds=20, first_pause=0.01))
HASTY = replace(QUICK, silence_seconds=0.3)

TREE = {
    "in/b.csv": b"b",
    "in/a.csv": b"a",
    "in/sub/c.txt": b"c",
    "in/sub/.hidden": b"h",
    "in/.git/config": b"h",
    "in/sub-1/d.csv": b"d",
    "in/_SUCCESS": b"",
    "in/_meta.csv": b"not empty",
    "in/empty.csv": b"",
    "in/folder_$folder$": b"",
    "inner/e.csv": b"e",
    "in.csv": b"i",
}
VISIBLE = ["in/_meta.csv", "in/a.csv", "in/b.csv", "in/empty.csv", "in/sub-1/d.csv", "in/sub/c.txt"]


@pytest.fixture(scope="module")
def places(s3: S3Server, azure: AzureServer) -> dict[str, Place]:
    """The same tree in each kind of storage."""
    s3.put("tree", {**TREE, "in/placeholder/": b""})
    azure.put("tree", TREE, folders=("in", "in/sub"))
    memory = fsspec.filesystem("memory")
    for name, data in TREE.items():
        memory.pipe(f"/tree/{name}", data)
    roots = {
        "s3": ("s3://tree/", s3.options),
        "abfs": ("abfs://tree/", azure.options),
        "wasbs": ("wasbs://tree@devstoreaccount1.blob.core.windows.net/", azure.options),
        "https": ("https://devstoreaccount1.blob.core.windows.net/tree/", azure.options),
        "memory": ("memory://tree/", {}),
    }
    return {name: Place(root, Stores({root: options})) for name, (root, options) in roots.items()}


class Place(NamedTuple):
    """One of them, opened once for all tests."""

    root: str
    stores: Stores


def listed(path: str, options: dict[str, Any] | None = None, patience: Patience = QUICK, **rest: Any) -> list[str]:
    return list(RemoteFiles(path, options, patience=patience, **rest).items())


def refused(path: str, options: dict[str, Any] | None = None, **rest: Any) -> str:
    with pytest.raises(UsageError) as caught:
        listed(path, options, **rest)
    assert caught.value.__cause__ is None
    return str(caught.value)


@pytest.mark.parametrize("place", ["s3", "abfs", "wasbs", "https", "memory"])
class TestInEveryStorage:
    @pytest.fixture
    def names(self, places: dict[str, Place], place: str) -> Callable[..., list[str]]:
        root, stores = places[place]

        def names(path: str, **rest: Any) -> list[str]:
            found = listed(root + path, stores=stores, **rest)
            assert all(item.startswith(root) for item in found)
            return [item.removeprefix(root) for item in found]

        return names

    @pytest.mark.parametrize("path", ["in", "in/"])
    def test_a_folder_means_all_that_is_visible_below_it_by_name(
        self, names: Callable[..., list[str]], path: str
    ) -> None:
        assert names(path) == VISIBLE

    def test_an_object_means_itself(self, names: Callable[..., list[str]]) -> None:
        assert names("in/sub/.hidden") == ["in/sub/.hidden"]

    @pytest.mark.parametrize(
        ("path", "found"),
        [
            ("in/*.csv", ["in/_meta.csv", "in/a.csv", "in/b.csv", "in/empty.csv"]),
            ("in/s*", ["in/sub-1/d.csv", "in/sub/c.txt"]),
            ("**/[cd].*", ["in/sub-1/d.csv", "in/sub/c.txt"]),
            ("in*/[ae].csv", ["in/a.csv", "inner/e.csv"]),
        ],
    )
    def test_a_glob(self, names: Callable[..., list[str]], path: str, found: list[str]) -> None:
        assert names(path) == found

    def test_include_and_exclude(self, names: Callable[..., list[str]]) -> None:
        assert names("", include="*.csv", exclude=["_*", "sub-?"]) == [
            "in.csv", "in/a.csv", "in/b.csv", "in/empty.csv", "inner/e.csv",
        ]  # fmt: skip

    def test_everything_is_everything_but_placeholders(self, names: Callable[..., list[str]]) -> None:
        assert names("in", everything=True) == sorted(name for name in TREE if name.startswith("in/"))

    def test_what_is_not_there_is_said(self, places: dict[str, Place], place: str) -> None:
        root, stores = places[place]
        assert refused(f"{root}im", stores=stores) == (
            f"input {root}im does not exist, neither as an object nor as a folder. Check the path: capitals count"
        )
        assert "matches no object" in refused(f"{root}*.tiff", stores=stores)
        assert "holds no objects" in refused(f"{root}im/", stores=stores)


def test_the_output_below_an_input_is_no_input(places: dict[str, Place]) -> None:
    root, stores = places["s3"]
    found = listed(f"{root}in", stores=stores, skip="s3://tree/in/sub")
    assert "s3://tree/in/sub/c.txt" not in found
    assert "s3://tree/in/sub-1/d.csv" in found


@pytest.mark.parametrize("name", ["b[1].csv", "wo?x#y*z%20.csv", "ünï/cödé.csv", "a//b"])
def test_any_name_is_found_as_it_is(s3: S3Server, azure: AzureServer, name: str) -> None:
    s3.put("odd", {name: b"1"})
    azure.put("odd", {name: b"1"})
    assert listed(f"s3://odd/{name}", s3.options) == [f"s3://odd/{name}"]
    assert listed(f"abfs://odd/{name}", azure.options) == [f"abfs://odd/{name}"]


def test_scoring_can_start_when_one_page_of_many_is_there(s3: S3Server, proxied: Callable[..., Proxy]) -> None:
    names = [f"{number:04}" for number in range(4 * S3_PAGE + 1)]
    s3.put("many", dict.fromkeys(names, b"x"))
    proxy = proxied(s3.port)
    items = RemoteFiles("s3://many/", s3.behind(proxy)).items()
    assert next(items) == "s3://many/0000"
    assert proxy.answered.total() == 1
    assert ["s3://many/0000", *items] == [f"s3://many/{name}" for name in names]
    assert proxy.answered.total() == 5


def test_a_listing_goes_on_where_the_network_broke_it_off(s3: S3Server, proxied: Callable[..., Proxy]) -> None:
    s3.put("torn", dict.fromkeys([f"{number:04}" for number in range(2 * S3_PAGE)], b"x"))
    proxy = proxied(s3.port)
    proxy.will("/torn", BUSY, TRUNCATED)
    items = RemoteFiles("s3://torn/", s3.behind(proxy), patience=QUICK).items()
    found = [next(items)]
    proxy.will("/torn", RESET, TOO_MANY)
    assert [*found, *items] == listed("s3://torn/", s3.options)


class _Endless:
    """A storage with more objects than anybody wants in memory."""

    endpoint = "here"
    can_list = True

    async def look(self, address: Address) -> Found | None:
        return None

    async def page(self, address: Address, after: Any = None) -> Page:
        page = after or 0
        found = [Found(f"in/{page:04}/{number:04}", 1) for number in range(1000)]
        return Page(found, page + 1 if page < 29 else None)


def test_memory_does_not_grow_with_the_number_of_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    stores = Stores()
    monkeypatch.setattr(stores, "storage", lambda address: _Endless())
    items: Iterator[str] = RemoteFiles("s3://b/in", stores=stores).items()
    next(items)
    tracemalloc.start()
    try:
        assert sum(1 for _ in items) == 29_999
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_a_web_address_is_one_file(s3: S3Server) -> None:
    s3.put("web", {"a b.csv": b"1"})
    url = f"{s3.url}/web/a%20b.csv"
    assert listed(f"{url}?X-Amz-Signature=TOPSECRET") == [url]
    assert refused(f"{s3.url}/web/b.csv?X-Amz-Signature=TOPSECRET") == (
        f"input {s3.url}/web/b.csv does not exist ({s3.url} answers 404). Check the address"
    )
    assert "does not say what it has. Name each file" in refused(f"{s3.url}/web/")


def test_a_signature_opens_a_blob_and_is_never_shown(azure: AzureServer) -> None:
    from datetime import UTC, datetime, timedelta

    from azure.storage.blob import ContainerSasPermissions, generate_container_sas

    from tests.servers import AZURE_ACCOUNT, AZURE_KEY

    azure.put("signed", {"in/a.csv": b"1"})
    sas = generate_container_sas(
        AZURE_ACCOUNT, "signed", account_key=AZURE_KEY,
        permission=ContainerSasPermissions(read=True, list=True), expiry=datetime.now(UTC) + timedelta(hours=1),
    )  # fmt: skip
    url = f"http://127.0.0.1:{azure.port}/{AZURE_ACCOUNT}/signed/in/a.csv"
    found = RemoteFiles(f"{url}?{sas}", patience=QUICK)
    assert list(found.items()) == [url]
    broken = sas.replace("sig=", "sig=TOPSECRET")
    sentence = refused(f"{url}?{broken}")
    assert "may not be read" in sentence
    assert "TOPSECRET" not in sentence + repr(found) + repr(found.stores)


class TestTheSentenceFor:
    def test_a_bucket_that_is_not_there(self, s3: S3Server) -> None:
        assert refused("s3://nowhere/x", s3.options) == (
            f"input s3://nowhere/x: there is no bucket nowhere at {s3.url} (404 NoSuchBucket). "
            "Check its name and the account"
        )

    def test_a_container_that_is_not_there(self, azure: AzureServer) -> None:
        assert "there is no container nowhere at 127.0.0.1:" in refused("abfs://nowhere/x", azure.options)

    def test_no_permission(self, s3: S3Server, proxied: Callable[..., Proxy]) -> None:
        proxy = proxied(s3.port)
        proxy.will("/tree", FORBIDDEN)
        sentence = refused("s3://tree/", s3.behind(proxy))
        assert sentence.startswith(
            f"input s3://tree/ may not be read: {proxy.url} says 403 AccessDenied. Check the cred"
        )

    def test_a_wrong_key(self, azure: AzureServer) -> None:
        sentence = refused("abfs://tree/", azure.behind(azure.port, "QUJDREVGRw=="))
        assert "may not be read: 127.0.0.1:" in sentence
        assert "403 Auth" in sentence
        assert "QUJDREVGRw" not in sentence

    def test_no_credentials(self, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
        sentence = refused("s3://tree/", {"endpoint_url": s3.url})
        assert sentence.startswith("input s3://tree/: no credentials were found. Set AWS_ACCESS_KEY_ID")

    def test_nobody_at_the_address(self) -> None:
        port = free_port()
        sentence = refused("s3://b/x", {"key": "k", "secret": "TOPSECRET", "endpoint_url": f"http://127.0.0.1:{port}"})
        assert sentence == (
            f"input s3://b/x: http://127.0.0.1:{port} does not take connections (tried 3 times): "
            "the connection was refused. Check that it runs, and endpoint_url"
        )

    def test_an_unknown_host(self) -> None:
        sentence = refused("http://nowhere.invalid/x")
        assert "http://nowhere.invalid was not found" in sentence

    @pytest.mark.parametrize("scheme", ["s3", "http"])
    def test_no_answer(self, silent_port: int, scheme: str) -> None:
        url = f"http://127.0.0.1:{silent_port}"
        options = {"key": "k", "secret": "s", "endpoint_url": url} if scheme == "s3" else {}
        sentence = refused("s3://b/x" if scheme == "s3" else f"{url}/x", options, patience=HASTY)
        assert f"{url} gave no answer within 0.3 s (tried 3 times). Check the network and endpoint_url" in sentence

    def test_a_storage_in_trouble(self, s3: S3Server, proxied: Callable[..., Proxy]) -> None:
        proxy = proxied(s3.port)
        proxy.will("/tree", BUSY, BUSY, BUSY)
        assert f"{proxy.url} is in trouble (tried 3 times): 503 SlowDown. Try again" in refused(
            "s3://tree/", s3.behind(proxy)
        )

    def test_options_that_are_none(self) -> None:
        with pytest.raises(UsageError, match="storage_options is no mapping"):
            RemoteFiles("s3://b/x", "anon")  # type: ignore[arg-type]


def test_a_mistake_of_ours_is_no_trouble_with_a_storage() -> None:
    assert explain(AttributeError("x")) is None
    assert explain(AssertionError()) is None


def test_what_a_library_wraps_is_looked_at() -> None:
    try:
        try:
            raise ConnectionRefusedError
        except ConnectionRefusedError as error:
            raise OSError("could not") from error
    except OSError as error:
        trouble = explain(error)
    assert trouble is not None
    assert trouble.cause is Cause.REFUSED
    assert trouble.may_pass


def test_what_is_given_up_does_not_go_on(s3: S3Server, silent_port: int) -> None:
    before = _running()
    with pytest.raises(InputError):
        listed(f"http://127.0.0.1:{silent_port}/x", patience=HASTY)
    assert _running() == before


def _running() -> int:
    async def count() -> int:
        return len(asyncio.all_tasks()) - 1

    return asyncio.run_coroutine_threadsafe(count(), event_loop()).result()
