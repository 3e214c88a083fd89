from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskscore.core.backoff import Backoff
from daskscore.errors import RunError
from daskscore.inputs.addresses import Address
from daskscore.inputs.patience import Patience
from daskscore.inputs.storages import Body, event_loop
from daskscore.inputs.stores import Stores
from daskscore.worker.staging import Ahead, Staged, Stager
from tests.servers import (
    BROKEN,
    BUSY,
    FORBIDDEN,
    GONE,
    RESET,
    STALL,
    TOO_MANY,
    TRUNCATED,
    AzureServer,
    Fault,
    Proxy,
    S3Server,
)
from tests.support import wait_until

pytest_plugins = ["tests.servers"]

SECONDS = 20.0
QUICK = Patience(SECONDS, Backoff(attempts=4, seconds=SECONDS, first_pause=0.01))


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """Empty after each test: what is brought goes again, however it ended."""
    folder = tmp_path / "scratch"
    yield folder
    assert not folder.exists()
    assert not _tasks()


def arrived(ahead: Ahead) -> Staged:
    staged = ahead.next(SECONDS)
    assert staged is not None, f"waited for {ahead.missing()}"
    return staged


def contents(staged: Staged) -> list[bytes]:
    return [Path(path).read_bytes() for path in staged.paths]


def names(count: int) -> list[str]:
    return [f"in/{number:03}.txt" for number in range(count)]


@pytest.mark.parametrize("scheme", ["s3", "abfs", "wasbs", "http", "memory"])
def test_an_item_comes_with_its_own_name_and_bytes(
    s3: S3Server, azure: AzureServer, scratch: Path, scheme: str
) -> None:
    objects = {f"in/{name}": name.encode() * 1000 for name in ("a.csv", "b c#d?.csv", "ü.csv")} | {"in/empty": b""}
    root, options = {
        "s3": ("s3://staged/", s3.options),
        "abfs": ("abfs://staged/", azure.options),
        "wasbs": ("wasbs://staged@devstoreaccount1.blob.core.windows.net/", azure.options),
        "http": (f"{s3.url}/staged/", {"headers": {"Authorization": "AWS4-HMAC-SHA256 Credential=k/1/us-east-1/s3/"}}),
        "memory": ("memory://staged/", {}),
    }[scheme]
    if scheme == "http":
        del objects["in/b c#d?.csv"]
    s3.put("staged", objects)
    azure.put("staged", objects)
    for name, data in objects.items():
        fsspec.filesystem("memory").pipe(f"/staged/{name}", data)
    items = [root + name for name in objects]
    with Stager(scratch, Stores({root: options})) as stager, stager.begin([items]) as ahead:
        staged = arrived(ahead)
        assert staged.failures == []
        assert staged.items == items
        assert contents(staged) == list(objects.values())
        assert [Path(path).name for path in staged.paths] == [name.removeprefix("in/") for name in objects]
        assert stager.held_bytes == sum(map(len, objects.values()))


def test_a_large_object_comes_in_pieces(azure: AzureServer, s3: S3Server, scratch: Path) -> None:
    data = bytes(range(256)) * (9 << 12)
    s3.put("large", {"x.bin": data})
    azure.put("large", {"x.bin": data})
    stores = Stores({"s3://large": s3.options, "abfs://large": azure.options})
    with Stager(scratch, stores) as stager, stager.begin([["s3://large/x.bin", "abfs://large/x.bin"]]) as ahead:
        assert contents(arrived(ahead)) == [data, data]


def test_local_files_stay_where_they_are(tmp_path: Path, scratch: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a")
    with Stager(scratch, Stores()) as stager, stager.begin([[str(path), f"file://{path}"]]) as ahead:
        staged = arrived(ahead)
        assert staged.paths == [str(path), str(path)]
        assert staged.items == [str(path), f"file://{path}"]
        ahead.done(0)
    assert path.read_text() == "a"


class _Memory:
    """A storage whose objects are as long as their names say, and which can be held up."""

    endpoint = "here"
    can_list = False

    def __init__(self, *, open_at_first: bool = True) -> None:
        self.may_go = threading.Event()
        self.asked: list[str] = []
        if open_at_first:
            self.may_go.set()

    def storage(self, address: Address) -> _Memory:
        return self

    opened = storage

    def mask(self, text: str) -> str:
        return text

    @asynccontextmanager
    async def open(self, address: Address) -> AsyncIterator[Body]:
        self.asked.append(address.path)
        if address.path.endswith("bug"):
            raise AttributeError("a mistake of ours")
        while not self.may_go.is_set():
            await asyncio.sleep(0.001)
        rest = [b"x" * int(address.path.rpartition("-")[2])]

        async def chunk() -> bytes:
            await asyncio.sleep(0)
            return rest.pop() if rest else b""

        yield Body(None if "unknown" in address.path else len(rest[0]), chunk)


def stager_of(scratch: Path, storage: _Memory, **rest: Any) -> Stager:
    return Stager(scratch, storage, **rest)  # type: ignore[arg-type]


def test_equal_and_clashing_names_are_kept_apart(scratch: Path) -> None:
    storage = _Memory()
    items = [
        "s3://b/x/f-1",
        "s3://b/y/f-2",
        "s3://b/x/f-1/g-3",
        "s3://c/x/f-4",
        "s3://b/X/F-5",
        "s3://b/y//f-6",
        "s3://b/../f-7",
    ]
    with stager_of(scratch, storage) as stager, stager.begin([items, items]) as ahead:
        one, other = arrived(ahead), arrived(ahead)
    assert len(set(one.paths + other.paths)) == 14
    assert [Path(path).name for path in one.paths] == ["f-1", "f-2", "g-3", "f-4", "F-5", "f-6", "f-7"]
    assert [Path(path).parent.name for path in one.paths[:2]] == ["x", "y"]
    assert all(Path(path).resolve().is_relative_to(scratch.resolve()) for path in one.paths + other.paths)


@pytest.mark.parametrize("name", ["..", "a/..", "x" * 256, "a/"])
def test_a_name_that_no_file_can_have_fails_the_item(scratch: Path, name: str) -> None:
    with stager_of(scratch, _Memory()) as stager, stager.begin([[f"s3://b/{name}", "s3://b/f-1"]]) as ahead:
        staged = arrived(ahead)
        assert staged.items == ["s3://b/f-1"]
        assert "cannot be the name of a local file" in staged.failures[0].message
        assert staged.failures[0].permanent


def test_what_comes_next_is_there_before_it_is_asked_for(scratch: Path) -> None:
    with (
        stager_of(scratch, _Memory()) as stager,
        stager.begin([["s3://b/a-1"], ["s3://b/b-1"], ["s3://b/c-1"]]) as ahead,
    ):
        arrived(ahead)
        wait_until(lambda: stager.brought_items == 3, "the mini-batches that nobody has asked for yet")


def test_no_more_come_at_a_time_than_there_are_workers(
    s3: S3Server, scratch: Path, proxied: Callable[..., Proxy]
) -> None:
    s3.put("wide", dict.fromkeys(names(40), b"x"))
    proxy = proxied(s3.port, 0.05)
    stores = Stores({"s3://wide": s3.behind(proxy)})
    with (
        Stager(scratch, stores, workers=8) as stager,
        stager.begin([[f"s3://wide/{name}" for name in names(40)]]) as ahead,
    ):
        assert len(arrived(ahead).paths) == 40
    assert 1 < proxy.most_at_a_time <= 8


def test_next_says_not_yet_and_what_it_waits_for(scratch: Path) -> None:
    storage = _Memory(open_at_first=False)
    with stager_of(scratch, storage) as stager, stager.begin([["s3://b/a-1"]]) as ahead:
        assert ahead.next(0.01) is None
        assert ahead.missing() == ["s3://b/a-1"]
        storage.may_go.set()
        assert len(arrived(ahead).paths) == 1
        assert ahead.missing() == []


def test_done_frees_the_space_of_a_mini_batch_and_no_other(scratch: Path) -> None:
    with stager_of(scratch, _Memory()) as stager, stager.begin([["s3://b/a-10"], ["s3://b/b-7"]]) as ahead:
        one, other = arrived(ahead), arrived(ahead)
        ahead.done(0)
        assert stager.held_bytes == 7
        assert not Path(one.paths[0]).exists()
        assert contents(other) == [b"x" * 7]


def test_scratch_stays_below_the_limit(scratch: Path) -> None:
    with (
        stager_of(scratch, _Memory(), limit_bytes=100) as stager,
        stager.begin([[f"s3://b/{number}-30"] for number in range(10)]) as ahead,
    ):
        for position in range(10):
            arrived(ahead)
            ahead.done(position)
        assert 60 <= stager.most_held_bytes <= 100


@pytest.mark.parametrize("kind", ["known", "unknown"])
def test_what_is_larger_than_the_limit_comes_alone(scratch: Path, kind: str) -> None:
    items = [["s3://b/a-60"], [f"s3://b/{kind}-500"], ["s3://b/c-60"]]
    with stager_of(scratch, _Memory(), limit_bytes=100) as stager, stager.begin(items) as ahead:
        for position in range(3):
            staged = arrived(ahead)
            assert staged.failures == []
            ahead.done(position)
        assert stager.most_held_bytes == 500


def test_what_was_brought_for_later_makes_room_for_what_is_needed_now(scratch: Path) -> None:
    with stager_of(scratch, _Memory(), limit_bytes=100) as stager:
        later = stager.begin([["s3://b/later-80"]])
        wait_until(lambda: stager.held_bytes == 80, "the later one")
        with stager.begin([["s3://b/now-90"]]) as now:
            assert len(arrived(now).paths) == 1
            assert stager.most_held_bytes <= 100
            now.done(0)
        assert contents(arrived(later)) == [b"x" * 80]


@settings(max_examples=60, deadline=None)
@given(
    bundles=st.lists(st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=4), min_size=1, max_size=4), min_size=1, max_size=6),
    slots=st.integers(1, 4),
    workers=st.integers(1, 8),
)  # fmt: skip
def test_every_mini_batch_comes_whatever_the_sizes(
    tmp_path_factory: pytest.TempPathFactory, bundles: list[list[list[int]]], slots: int, workers: int
) -> None:
    scratch = tmp_path_factory.mktemp("law") / "scratch"
    limit = 100

    def score(number: int) -> None:
        for position, sizes in enumerate(bundles[number]):
            assert [len(data) for data in contents(arrived(aheads[number]))] == sizes
            aheads[number].done(position)
        aheads[number].close()

    with stager_of(scratch, _Memory(), limit_bytes=limit, workers=workers) as stager:
        aheads = [
            stager.begin(
                [[f"s3://b/{b}.{p}.{i}-{size}" for i, size in enumerate(sizes)] for p, sizes in enumerate(bundle)]
            )
            for b, bundle in enumerate(bundles)
        ]
        with ThreadPoolExecutor(slots) as pool:
            list(pool.map(score, range(len(bundles))))
        largest = max(sum(sizes) for bundle in bundles for sizes in bundle)
        assert stager.most_held_bytes <= max(limit, largest)
        assert stager.held_bytes == 0
    assert not scratch.exists()


def test_closing_ends_what_is_on_its_way_and_tells_who_waits(scratch: Path) -> None:
    storage = _Memory(open_at_first=False)
    stager = stager_of(scratch, storage)
    ahead = stager.begin([["s3://b/a-1"]])
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ahead.next, SECONDS)
        wait_until(lambda: storage.asked, "the object to be asked for")
        stager.close()
        with pytest.raises(RunError, match="staging has ended"):
            waiting.result(SECONDS)
    with pytest.raises(RunError, match="staging has ended"):
        stager.begin([])


def test_what_was_stopped_before_it_began_gives_its_place_back(scratch: Path) -> None:
    with stager_of(scratch, _Memory(), workers=1) as stager:

        async def begin_and_end() -> None:
            await stager.end(await stager._begin([["s3://b/a-1"]]))

        for _ in range(3):
            stager.ask(begin_and_end())
        with stager.begin([["s3://b/b-1"]]) as ahead:
            assert len(arrived(ahead).paths) == 1


def test_a_bundle_that_is_given_up_leaves_nothing_and_the_others_go_on(scratch: Path) -> None:
    with stager_of(scratch, _Memory(), limit_bytes=100) as stager, stager.begin([["s3://b/b-90"]]) as other:
        ahead = stager.begin([["s3://b/a-90"], ["s3://b/c-90"]])
        arrived(ahead)
        ahead.close()
        ahead.close()
        assert len(arrived(other).paths) == 1
        assert stager.held_bytes == 90


def test_a_mistake_of_ours_is_raised_and_not_tried_again(scratch: Path) -> None:
    storage = _Memory()
    with stager_of(scratch, storage) as stager, stager.begin([["s3://b/bug"]]) as ahead:
        with pytest.raises(AttributeError, match="a mistake of ours"):
            ahead.next(SECONDS)
        assert storage.asked == ["bug"]


def test_a_disk_that_cannot_be_written_is_no_fault_of_the_item(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        stager_of(tmp_path / "file" / "scratch", _Memory(), patience=QUICK) as stager,
        stager.begin([["s3://b/a-1"]]) as ahead,
    ):
        failure = arrived(ahead).failures[0]
        assert "s3://b/a-1 cannot be kept in" in failure.message
        assert not failure.permanent


class TestBehindABadNetwork:
    @pytest.fixture
    def objects(self) -> dict[str, bytes]:
        return {name: name.encode() * 5000 for name in names(4)}

    @pytest.fixture(params=["s3", "abfs"])
    def road(
        self, request: pytest.FixtureRequest, objects: dict[str, bytes], proxied: Callable[..., Proxy]
    ) -> tuple[Proxy, str, Stores]:
        """A proxy, the root of a storage behind it, and the way there."""
        server = request.getfixturevalue("s3" if request.param == "s3" else "azure")
        server.put("rough", objects)
        proxy = proxied(server.port)
        root = f"{request.param}://rough/"
        return proxy, root, Stores({root: server.behind(proxy if request.param == "s3" else proxy.port)})

    @pytest.mark.parametrize(
        "faults",
        [[BUSY, BUSY, BUSY], [TOO_MANY], [BROKEN], [Fault(408)], [RESET, RESET], [TRUNCATED, BUSY], [STALL]],
        ids=str,
    )
    def test_what_passes_is_tried_again_and_does_not_surface(
        self, road: tuple[Proxy, str, Stores], scratch: Path, objects: dict[str, bytes], faults: list[Fault]
    ) -> None:
        proxy, root, stores = road
        proxy.will("/001.txt", *faults)
        with (
            Stager(scratch, stores, patience=replace(QUICK, silence_seconds=1) if STALL in faults else QUICK) as stager,
            stager.begin([[root + name] for name in objects]) as ahead,
        ):
            staged = [arrived(ahead) for _ in objects]
            assert [one.failures for one in staged] == [[]] * 4
            assert b"".join(data for one in staged for data in contents(one)) == b"".join(objects.values())
        assert proxy.gets("/001.txt") == 1 + len(faults)

    @pytest.mark.parametrize(
        ("fault", "sentence"),
        [
            (GONE, "{root}in/001.txt is not there any more (404). It was when the run was planned"),
            (FORBIDDEN, "{root}in/001.txt may not be read: 403"),
        ],
    )
    def test_what_is_gone_or_forbidden_fails_at_once_and_alone(
        self, road: tuple[Proxy, str, Stores], scratch: Path, objects: dict[str, bytes], fault: Fault, sentence: str
    ) -> None:
        proxy, root, stores = road
        proxy.will("/001.txt", fault)
        with (
            Stager(scratch, stores, patience=QUICK) as stager,
            stager.begin([[root + name for name in objects]]) as ahead,
        ):
            staged = arrived(ahead)
            assert staged.items == [root + name for name in objects if name != "in/001.txt"]
            (failure,) = staged.failures
            assert failure.item == f"{root}in/001.txt"
            assert failure.message.startswith(sentence.format(root=root))
            assert failure.permanent
        assert proxy.gets("/001.txt") == 1

    def test_a_storage_that_stays_down_fails_the_item_when_its_budget_is_spent(
        self, road: tuple[Proxy, str, Stores], scratch: Path
    ) -> None:
        proxy, root, stores = road
        proxy.will("/001.txt", *[BUSY] * 4)
        with Stager(scratch, stores, patience=QUICK) as stager, stager.begin([[f"{root}in/001.txt"]]) as ahead:
            (failure,) = arrived(ahead).failures
            assert failure.message.startswith(f"{root}in/001.txt could not be read in 4 attempts over ")
            assert "s: 503" in failure.message
            assert not failure.permanent
        assert proxy.gets("/001.txt") == 4

    def test_a_file_is_there_whole_or_not_at_all(self, road: tuple[Proxy, str, Stores], scratch: Path) -> None:
        proxy, root, stores = road
        proxy.will("/001.txt", STALL)
        with Stager(scratch, stores, patience=QUICK) as stager, stager.begin([[f"{root}in/001.txt"]]) as ahead:
            wait_until(lambda: proxy.gets("/001.txt"), "the request")
            assert ahead.next(0.2) is None
            assert list(scratch.rglob("*.txt")) == []


def test_a_deleted_object_fails_alone(s3: S3Server, azure: AzureServer, scratch: Path) -> None:
    s3.put("deleted", {"a": b"a", "b": b"b"})
    s3.remove("deleted", "a")
    azure.put("deleted", {"b": b"b"})
    stores = Stores({"s3://deleted": s3.options, "abfs://deleted": azure.options, "s3://no-bucket": s3.options})
    items = ["s3://deleted/a", "s3://deleted/b", "abfs://deleted/a", "abfs://deleted/b", "s3://no-bucket/a"]
    with Stager(scratch, stores) as stager, stager.begin([items]) as ahead:
        staged = arrived(ahead)
        assert contents(staged) == [b"b", b"b"]
        assert [(one.item, one.permanent) for one in staged.failures] == [
            ("s3://deleted/a", True), ("abfs://deleted/a", True), ("s3://no-bucket/a", True),
        ]  # fmt: skip
        assert "404 NoSuchKey" in staged.failures[0].message


def test_no_secret_stands_in_a_failure(scratch: Path, s3: S3Server) -> None:
    s3.put("private", {"a.csv": b"1"})
    address, stores = Stores.of(f"{s3.url}/private/a.csv?token=TOPSECRET")
    with Stager(scratch, stores) as stager, stager.begin([[address.uri]]) as ahead:
        (failure,) = arrived(ahead).failures
        assert "may not be read: 403" in failure.message
        assert "TOPSECRET" not in failure.message


def test_options_that_cannot_be_filled_in_fail_the_items_that_need_them(scratch: Path) -> None:
    stores = Stores({"s3://b": {"key": "${env:NOT_SET}", "secret": "x"}}, {})
    with Stager(scratch, stores) as stager, stager.begin([["s3://b/a"]]) as ahead:
        (failure,) = arrived(ahead).failures
        assert "the environment variable NOT_SET is not set" in failure.message
        assert failure.permanent


def test_all_slots_of_a_worker_share_it(s3: S3Server, scratch: Path) -> None:
    objects = {name: name.encode() * 100 for name in names(60)}
    s3.put("shared", objects)
    uris = [f"s3://shared/{name}" for name in objects]

    def score(slot: int) -> list[bytes]:
        found = []
        with stager.begin([uris[number : number + 5] for number in range(slot * 20, slot * 20 + 20, 5)]) as ahead:
            for position in range(4):
                found += contents(arrived(ahead))
                ahead.done(position)
        return found

    with (
        Stager(scratch, Stores({"s3://shared": s3.options}), limit_bytes=8000) as stager,
        ThreadPoolExecutor(3) as slots,
    ):
        assert [data for slot in slots.map(score, range(3)) for data in slot] == list(objects.values())
        assert stager.most_held_bytes <= 8000


def _tasks() -> list[str]:
    """Our own coroutines that still run."""

    async def ours() -> list[str]:
        return [str(task) for task in asyncio.all_tasks() if "Stager" in str(task)]

    return asyncio.run_coroutine_threadsafe(ours(), event_loop()).result()
