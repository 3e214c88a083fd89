from __future__ import annotations

import pickle
import traceback

import pytest

from daskscore.errors import ConfigError, InputError
from daskscore.inputs.addresses import parse
from daskscore.inputs.stores import Stores
from tests.servers import AZURE_KEY, S3Server

pytest_plugins = ["tests.servers"]

CANARY = "canary+4711/geheim=="


def test_the_longest_beginning_counts() -> None:
    stores = Stores({"s3://b/": {"anon": True}, "s3://b/private/": {"anon": False}})
    assert stores.storage(parse("s3://b/private/x")) is not stores.storage(parse("s3://b/x"))
    assert stores.storage(parse("s3://b/y")) is stores.storage(parse("s3://b/x"))


def test_a_storage_is_opened_once_whatever_the_bucket() -> None:
    stores = Stores()
    assert stores.storage(parse("s3://b/x")) is stores.storage(parse("s3://c/y"))


def test_a_store_is_known_to_be_open_only_then() -> None:
    stores = Stores()
    address = parse("memory://x")
    assert stores.opened(address) is None
    storage = stores.storage(address)
    assert stores.opened(address) is storage


def test_the_environment_is_asked_when_a_storage_is_opened() -> None:
    environment: dict[str, str] = {}
    stores = Stores({"s3://b/": {"key": "id", "secret": "${env:SECRET}"}}, environment)
    environment["SECRET"] = CANARY
    fs, path = stores.filesystem("s3://b/x/y.csv")
    assert (fs.secret, path) == (CANARY, "b/x/y.csv")


def test_a_reference_may_stand_inside_a_text_and_deep_down() -> None:
    environment = {"TOKEN": CANARY}
    stores = Stores({"https://host/": {"headers": {"Authorization": "Bearer ${env:TOKEN}"}}}, environment)
    fs, _ = stores.filesystem("https://host/x")
    assert fs.kwargs["headers"] == {"Authorization": f"Bearer {CANARY}"}
    assert CANARY not in stores.mask(f"401 for {CANARY}")


def test_a_variable_that_is_not_set_is_named() -> None:
    stores = Stores({"s3://b/": {"secret": "${env:NOT_SET}"}}, {})
    with pytest.raises(
        ConfigError, match=r"storage_options of s3://b/: the environment variable NOT_SET is not set on "
    ):
        stores.storage(parse("s3://b/x"))


def test_what_travels_is_the_reference_and_not_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", CANARY)
    stores = Stores({"s3://b/": {"key": "id", "secret": "${env:SECRET}"}})
    stores.storage(parse("s3://b/x"))
    sent = pickle.dumps(stores)
    assert CANARY.encode() not in sent
    assert pickle.loads(sent).filesystem("s3://b/x")[0].secret == CANARY


def test_two_inputs_may_bring_options_for_one_account() -> None:
    one, other = Stores({"s3://b/x": {"key": "1"}}), Stores({"s3://b/y": {"key": "2"}})
    assert repr(one.joined(other)) == "Stores(s3://b/x (key); s3://b/y (key))"
    assert repr(one.joined(one)) == repr(one)


def test_two_inputs_that_disagree_about_one_address_are_refused() -> None:
    with pytest.raises(ConfigError, match="two of them name s3://b/x, with different storage_options") as caught:
        Stores({"s3://b/x": {"key": CANARY}}).joined(Stores({"s3://b/x": {"key": "2"}}))
    assert CANARY not in str(caught.value)


def test_the_repr_shows_names_and_harmless_values() -> None:
    options = {"key": CANARY, "anon": False, "endpoint_url": "http://host:9", "account_name": "${env:WHO}"}
    assert (
        repr(Stores({"s3://b/": options}))
        == "Stores(s3://b/ (key, anon=False, endpoint_url=http://host:9, account_name))"
    )


@pytest.mark.parametrize(
    ("uri", "options", "text"),
    [
        ("s3://b/", {"secret": CANARY}, f"wrong: {CANARY}"),
        ("s3://b/", {"client_kwargs": {"aws_session_token": CANARY}}, f"wrong: {CANARY}"),
        ("s3://b/", {"secret": CANARY}, "wrong: canary%2B4711%2Fgeheim%3D%3D"),
        ("abfs://b/", {"connection_string": f"AccountName=me;AccountKey={CANARY};"}, f"wrong: {CANARY}"),
        ("abfs://b/", {"sas_token": f"?sv=1&sig={CANARY}"}, f"GET /x?sv=1&sig={CANARY}"),
        ("https://host/x?id=1&sig=canary", {}, "GET https://host/x?id=1&sig=canary&se=3"),
        ("https://me:canary@host/x", {}, "GET https://me:canary@host/x"),
        ("s3://b/", {}, "https://who:canary@host, AccountKey=canary; X-Amz-Security-Token=canary&x=1"),
    ],
)
def test_no_text_of_a_library_brings_a_secret(uri: str, options: dict[str, str], text: str) -> None:
    _, stores = Stores.of(uri, options)
    assert "canary" not in stores.mask(text)
    assert "canary" not in repr(stores)


def test_secrets_of_the_environment_are_masked_too() -> None:
    assert Stores({}, {"AWS_SECRET_ACCESS_KEY": CANARY}).mask(f"signed with {CANARY}") == "signed with ***"


def test_a_mask_leaves_what_may_be_shown() -> None:
    stores = Stores(
        {"abfs://b/": {"connection_string": f"EndpointsProtocol=https;AccountName=me;AccountKey={AZURE_KEY};"}}
    )
    assert stores.mask("https://me.blob.core.windows.net says 403") == "https://me.blob.core.windows.net says 403"


@pytest.mark.parametrize(
    ("uri", "options", "sentence"),
    [
        ("s3://b/x", {"scret": CANARY}, "storage_options of s3://b/ are not usable: .*scret"),
        (
            "s3://b/x",
            {"secret": CANARY},
            "storage_options of s3://b/ are not usable: Partial credentials .* missing: aws_acc",
        ),
        ("s3://b/x", {"endpoint_url": "host"}, "storage_options of s3://b/ are not usable: Invalid endpoint"),
        (
            "abfs://b/x",
            {},
            "names no storage account. Write abfs://b@ACCOUNT.dfs.core.windows.net/x, or give account_name",
        ),
        ("gs://b/x", {}, r"Google Cloud Storage needs the package gcsfs: pip install 'daskscore\[gs\]'"),
        ("nfs4://b/x", {}, "there is no storage for nfs4://. Known are s3://"),
        ("sftp://b/x", {}, "sftp:// needs a package that is not installed .*paramiko"),
    ],
)
def test_what_cannot_be_opened_is_said(uri: str, options: dict[str, str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        Stores({uri: options}, {}).storage(parse(uri))
    assert CANARY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("uri", "environment", "anonymous"),
    [
        ("https://acme.blob.core.windows.net/box/x", {}, True),
        ("https://acme.blob.core.windows.net/box/x", {"AZURE_CLIENT_ID": "me"}, False),
        ("abfs://box@acme.dfs.core.windows.net/x", {}, False),
    ],
)
def test_a_web_address_without_any_login_names_a_public_blob(
    uri: str, environment: dict[str, str], anonymous: bool
) -> None:
    assert Stores({}, environment).storage(parse(uri))._fs.anon is anonymous  # type: ignore[attr-defined]


def test_after_closing_the_next_call_opens_anew(s3: S3Server) -> None:
    stores = Stores({"s3://stores": s3.options})
    first = stores.storage(parse("s3://stores/x"))
    stores.close()
    assert stores.storage(parse("s3://stores/x")) is not first
