from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import fsspec
import numpy
import pandas
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from daskscore.core.backoff import Backoff
from daskscore.core.tables import Piece, Reading
from daskscore.inputs.addresses import Address
from daskscore.inputs.patience import Patience
from daskscore.inputs.storages import RANGE_BYTES, Body, Range
from daskscore.inputs.stores import Stores
from daskscore.scorer.tables import Reader
from daskscore.worker import items as items_module
from daskscore.worker import pieces as pieces_module
from daskscore.worker.items import NotStaged, Part, Shared, Wanted
from daskscore.worker.pieces import CannotPlan, PieceParts, first_byte_of
from daskscore.worker.staging import Ahead, Staged, Stager
from tests.servers import BROKEN, BUSY, GONE, RESET, STALL, TRUNCATED, AzureServer, Fault, Proxy, S3Server
from tests.support import wait_until
from tests.tables import Cut, cut

pytest_plugins = ["tests.servers"]

SECONDS = 20.0
QUICK = Patience(SECONDS, Backoff(attempts=4, seconds=SECONDS, first_pause=0.01))
LONG = bytes(range(251)) * (2 * RANGE_BYTES // 251 + 1000)
SHORT = LONG[:100_000]
STORAGES = ["s3", "abfs", "http", "memory"]
AUTHORIZED = {"headers": {"Authorization": "AWS4-HMAC-SHA256 Credential=k/1/us-east-1/s3/"}}


class Place(NamedTuple):
    """A storage, and how to put objects there."""

    root: str
    stores: Stores
    put: Callable[[str, bytes], None]
    proxy: Proxy | None = None

    def gets(self, name: str) -> int:
        assert self.proxy is not None
        return self.proxy.gets(name)


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """Empty after each test: what is brought goes again, however it ended."""
    folder = tmp_path / "scratch"
    yield folder
    assert not folder.exists()


@pytest.fixture(params=STORAGES)
def place(request: pytest.FixtureRequest) -> Place:
    return _place(request, request.param)


@pytest.fixture(params=["s3", "abfs", "http"])
def road(request: pytest.FixtureRequest, proxied: Callable[..., Proxy]) -> Place:
    """A storage behind a bad network."""
    return _place(request, request.param, proxied)


def _place(request: pytest.FixtureRequest, kind: str, proxied: Callable[..., Proxy] | None = None) -> Place:
    if kind == "memory":
        memory = fsspec.filesystem("memory")
        return Place("memory://parts/", Stores(), lambda name, data: memory.pipe(f"/parts/{name}", data))
    server: S3Server | AzureServer = request.getfixturevalue("azure" if kind == "abfs" else "s3")
    proxy = proxied(server.port) if proxied else None
    root = "abfs://parts/" if kind == "abfs" else "s3://parts/"
    if isinstance(server, AzureServer):
        options = server.behind(proxy.port if proxy else server.port)
    else:
        options = server.behind(proxy) if proxy else server.options
    if kind == "http":
        root, options = f"{proxy.url if proxy else server.url}/parts/", AUTHORIZED  # type: ignore[union-attr]
    return Place(root, Stores({root: options}), lambda name, data: server.put("parts", {name: data}), proxy)


def arrived(ahead: Ahead) -> Staged:
    staged = ahead.next(SECONDS)
    assert staged is not None, f"waited for {ahead.missing()}"
    return staged


def failure_of(ahead: Ahead) -> NotStaged:
    (failure,) = arrived(ahead).failures
    return failure


class TestAPart:
    @pytest.mark.parametrize(
        "wanted",
        [(0, 1), (5, 105), (0, len(LONG)), (RANGE_BYTES - 1, 2 * RANGE_BYTES + 7), (len(LONG) - 1, len(LONG))],
        ids=str,
    )
    def test_holds_the_bytes_of_its_range_and_no_others(self, place: Place, scratch: Path, wanted: Range) -> None:
        place.put("a.csv", LONG)
        part = Part(f"{place.root}a.csv", (wanted,))
        with Stager(scratch, place.stores, patience=QUICK) as stager, stager.begin([[part]]) as ahead:
            staged = arrived(ahead)
            assert staged.failures == []
            assert staged.items == [part.uri]
            assert Path(staged.paths[0]).name == "a.csv"
            assert Path(staged.paths[0]).read_bytes() == LONG[wanted[0] : wanted[1]]
            assert stager.held_bytes == stager.most_held_bytes == wanted[1] - wanted[0]

    def test_with_a_size_has_its_ranges_in_their_places_and_holes_between(self, place: Place, scratch: Path) -> None:
        place.put("a.bin", LONG)
        ranges = ((0, 4), (3_000_000, 3_000_100), (len(LONG) - 9, len(LONG)))
        part = Part(f"{place.root}a.bin", ranges, len(LONG))
        with Stager(scratch, place.stores, patience=QUICK) as stager, stager.begin([[part]]) as ahead:
            path = Path(arrived(ahead).paths[0])
            expected = bytearray(len(LONG))
            for start, stop in ranges:
                expected[start:stop] = LONG[start:stop]
            assert path.read_bytes() == expected
            assert path.stat().st_blocks * 512 < 100_000
            assert stager.held_bytes == 4 + 100 + 9

    @pytest.mark.parametrize("wanted", [(10, 101), (100, 101), (1000, 2000)], ids=str)
    @pytest.mark.parametrize("size", [None, 2000])
    def test_of_an_object_that_has_become_shorter_fails_for_good(
        self, place: Place, scratch: Path, wanted: Range, size: int | None
    ) -> None:
        place.put("short.csv", b"x" * 100)
        part = Part(f"{place.root}short.csv", (wanted,), size)
        with Stager(scratch, place.stores, patience=QUICK) as stager, stager.begin([[part]]) as ahead:
            failure = failure_of(ahead)
            assert failure.item == part.uri
            assert failure.permanent
            assert failure.message == (
                f"{part.uri} has changed since the run was planned (it ends before byte {wanted[1]}). "
                "Start the job anew without --resume"
            )
            assert (stager.retries, stager.held_bytes) == (0, 0)

    def test_of_an_object_that_has_become_longer_fails_for_good(self, place: Place, scratch: Path) -> None:
        place.put("long.bin", b"x" * 101)
        part = Part(f"{place.root}long.bin", ((5, 10), (20, 30)), 100)
        with Stager(scratch, place.stores, patience=QUICK) as stager, stager.begin([[part]]) as ahead:
            failure = failure_of(ahead)
            assert failure.permanent
            assert "(it has 101 bytes and had 100)" in failure.message

    @pytest.mark.parametrize(
        "faults", [[BUSY, BUSY], [BROKEN], [Fault(408)], [RESET], [TRUNCATED, TRUNCATED, BUSY]], ids=str
    )
    @pytest.mark.parametrize("size", [None, len(LONG)])
    def test_is_asked_for_again_when_the_network_fails(
        self, road: Place, scratch: Path, faults: list[Fault], size: int | None
    ) -> None:
        road.put("rough.csv", LONG)
        assert road.proxy is not None
        road.proxy.will("/rough.csv", *faults)
        part = Part(f"{road.root}rough.csv", ((1000, 90_000),), size)
        with Stager(scratch, road.stores, patience=QUICK) as stager, stager.begin([[part]]) as ahead:
            staged = arrived(ahead)
            assert staged.failures == []
            assert Path(staged.paths[0]).read_bytes()[-89_000 if size is None else 1000 :][:89_000] == LONG[1000:90_000]
            assert stager.held_bytes == stager.most_held_bytes == 89_000
        assert road.gets("/rough.csv") == 1 + len(faults)

    def test_that_stalls_is_asked_for_again(self, road: Place, scratch: Path) -> None:
        road.put("stall.csv", LONG)
        assert road.proxy is not None
        road.proxy.will("/stall.csv", STALL)
        hasty = Patience(1.0, QUICK.backoff)
        with (
            Stager(scratch, road.stores, patience=hasty) as stager,
            stager.begin([[Part(f"{road.root}stall.csv", ((7, 70_000),))]]) as ahead,
        ):
            assert Path(arrived(ahead).paths[0]).read_bytes() == LONG[7:70_000]

    def test_of_an_object_that_is_gone_fails_like_the_object(self, road: Place, scratch: Path) -> None:
        road.put("gone.csv", LONG)
        assert road.proxy is not None
        road.proxy.will("/gone.csv", GONE)
        part = Part(f"{road.root}gone.csv", ((7, 70),))
        with Stager(scratch, road.stores, patience=QUICK) as stager, stager.begin([[part]]) as ahead:
            failure = failure_of(ahead)
            assert failure.message.startswith(f"{part.uri} is not there any more (404")
            assert failure.permanent

    @pytest.mark.parametrize(
        ("ranges", "size"),
        [((), None), ((), 9), (((0, 0),), None), (((4, 2),), 9), (((-1, 2),), None), (((0, 4), (2, 6)), 9),
         (((0, 2), (4, 6)), None), (((0, 10),), 9)],
    )  # fmt: skip
    def test_that_makes_no_sense_is_refused(self, ranges: tuple[Range, ...], size: int | None) -> None:
        with pytest.raises(ValueError, match="are no ranges of an object"):
            Part("s3://b/a", ranges, size)


class _Whole(BaseHTTPRequestHandler):
    """A web server that knows nothing of ranges, or does with them what its paths say."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        odd = "odd" in self.path
        self.send_response(206 if odd else 200)
        if odd:
            self.send_header("Content-Range", f"bytes 0-99/{len(LONG)}")
        body = LONG[:100] if odd else LONG
        if "unknown" not in self.path:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except ConnectionError:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


@pytest.fixture
def web() -> Iterator[tuple[str, list[str]]]:
    """Its address, and what it was asked for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Whole)
    server.daemon_threads = True
    asked: list[str] = []
    server.asked = asked  # type: ignore[attr-defined]
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", asked
    server.shutdown()
    server.server_close()


class TestAServerThatKnowsNoRanges:
    @pytest.mark.parametrize("name", ["a.csv", "unknown.csv"])
    @pytest.mark.parametrize("wanted", [(0, 10), (300_000, 600_001), (len(LONG) - 1, len(LONG))], ids=str)
    def test_gives_a_part_all_the_same(
        self, web: tuple[str, list[str]], scratch: Path, name: str, wanted: Range
    ) -> None:
        with (
            Stager(scratch, Stores(), patience=QUICK) as stager,
            stager.begin([[Part(web[0] + name, (wanted,))]]) as ahead,
        ):
            assert Path(arrived(ahead).paths[0]).read_bytes() == LONG[wanted[0] : wanted[1]]
            assert stager.most_held_bytes == wanted[1] - wanted[0]

    def test_says_when_an_object_has_become_shorter(self, web: tuple[str, list[str]], scratch: Path) -> None:
        part = Part(f"{web[0]}a.csv", ((0, len(LONG) + 1),))
        with Stager(scratch, Stores(), patience=QUICK) as stager, stager.begin([[part]]) as ahead:
            assert "has changed since the run was planned" in failure_of(ahead).message

    def test_that_sends_another_range_is_found_out(self, web: tuple[str, list[str]], scratch: Path) -> None:
        part = Part(f"{web[0]}odd.csv", ((0, 200),))
        with Stager(scratch, Stores(), patience=QUICK) as stager, stager.begin([[part]]) as ahead:
            failure = failure_of(ahead)
            assert f"bytes=0-199 was asked for, and bytes 0-99/{len(LONG)} was sent" in failure.message
            assert failure.permanent

    def test_is_asked_for_whole_objects_once_that_is_known(self, web: tuple[str, list[str]], scratch: Path) -> None:
        uri = f"{web[0]}a.csv"
        stores = Stores()
        text, reading = _text_piece(uri, (10, 20))
        parts = PieceParts(stores)
        assert parts.wanted(text, reading) == Part(uri, ((10, 20),))
        with Stager(scratch, stores, patience=QUICK) as stager, stager.begin([[Part(uri, ((10, 20),))]]) as ahead:
            arrived(ahead)
        assert parts.wanted(text, reading) == Shared(uri)
        assert parts.wanted(*_text_piece("http://elsewhere/a.csv", (10, 20))) == Part(
            "http://elsewhere/a.csv", ((10, 20),)
        )

    def test_is_asked_for_whole_parquet_files(self, web: tuple[str, list[str]], tmp_path: Path) -> None:
        found = _parquet(tmp_path / "a.parquet")
        parts = PieceParts(Stores(), patience=QUICK)
        uri = f"{web[0]}a.parquet"
        assert parts.wanted(_at(found.pieces[0], uri), found.reading) == Shared(uri)


class _Fake:
    """A storage whose objects are as long as their names say; some are another version each time, or break off once.

    It can be held up, and be down.
    """

    endpoint = "here"
    can_list = False

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.may_go = threading.Event()
        self.may_go.set()
        self.down = False
        self.breaks = 0
        """How many of the next requests meet a broken connection."""

    def storage(self, address: Address) -> _Fake:
        return self

    opened = storage

    def mask(self, text: str) -> str:
        return text

    def cuts(self, address: Address) -> bool:
        return True

    @asynccontextmanager
    async def open(self, address: Address, wanted: Range | None = None) -> AsyncIterator[Body]:
        self.asked.append(address.path)
        if self.down:
            raise PermissionError("down")
        if self.breaks:
            self.breaks -= 1
            raise ConnectionResetError
        while not self.may_go.is_set():
            await asyncio.sleep(0.001)
        size = int(address.path.rpartition("-")[2])
        start, stop = wanted or (0, size)
        torn = "torn" in address.path and len(self.asked) == 1
        rest = [b"x" * ((stop - start) // (2 if torn else 1))]

        async def chunk() -> bytes:
            await asyncio.sleep(0)
            return rest.pop() if rest else b""

        known = None if "unknown" in address.path else stop - start
        yield Body(known, chunk, size, f"{len(self.asked)}" if "restless" in address.path else "1")


def stager_of(scratch: Path, storage: _Fake, **rest: Any) -> Stager:
    return Stager(scratch, storage, **rest)  # type: ignore[arg-type]


def test_ranges_of_different_versions_do_not_come_together(scratch: Path) -> None:
    with stager_of(scratch, _Fake()) as stager:
        with stager.begin([[Part("s3://b/calm-100", ((0, 9), (50, 60)), 100)]]) as ahead:
            assert arrived(ahead).failures == []
        with stager.begin([[Part("s3://b/restless-100", ((0, 9), (50, 60)), 100)]]) as ahead:
            failure = failure_of(ahead)
            assert "(it has become another one while it was read)" in failure.message
            assert failure.permanent


@pytest.mark.parametrize("size", [None, 100])
def test_a_body_that_ends_too_early_is_asked_for_again(scratch: Path, size: int | None) -> None:
    storage = _Fake()
    with (
        stager_of(scratch, storage, patience=QUICK) as stager,
        stager.begin([[Part("s3://b/torn-100", ((10, 90),), size)]]) as ahead,
    ):
        assert _filled(arrived(ahead).paths[0]) == 80
        assert stager.retries == 1


def test_a_part_of_a_local_file_is_a_mistake(tmp_path: Path, scratch: Path) -> None:
    with stager_of(scratch, _Fake()) as stager, pytest.raises(ValueError, match="is on this machine"):
        stager.begin([[Part(str(tmp_path / "a"), ((0, 9),))]])


PARQUET = Part("s3://b/p-500", ((0, 4), (490, 498)), 500)


class TestSharing:
    def test_what_several_mini_batches_read_from_comes_once_and_stays(self, road: Place, scratch: Path) -> None:
        road.put("shared.csv.gz", SHORT)
        road.put("own.csv", b"own")
        shared, own = Shared(f"{road.root}shared.csv.gz"), f"{road.root}own.csv"
        with (
            Stager(scratch, road.stores, patience=QUICK) as stager,
            stager.begin([[shared], [shared, own, shared], [own], [shared], [own]]) as ahead,
        ):
            staged = [arrived(ahead) for _ in range(5)]
            path = staged[0].paths[0]
            assert [one.paths.count(path) for one in staged] == [1, 2, 0, 1, 0]
            assert staged[1].items == [shared.uri, own, shared.uri]
            for position in (0, 1, 2):
                ahead.done(position)
                assert Path(path).read_bytes() == SHORT
            assert stager.held_bytes == len(SHORT) + 3
            ahead.done(3)
            assert Path(path).read_bytes() == SHORT
            ahead.done(4)
            assert stager.held_bytes == len(SHORT)
        assert road.gets("/shared.csv.gz") == 1
        assert road.gets("/own.csv") == 3

    def test_equal_parts_are_one_and_others_are_not(self, scratch: Path) -> None:
        storage = _Fake()
        equal = [[Part("s3://b/a-100", ((0, 10),))], [Part("s3://b/a-100", ((0, 10),))]]
        other = [[Part("s3://b/a-100", ((0, 11),))], [Part("s3://b/a-100", ((0, 10),), 100)]]
        with stager_of(scratch, storage) as stager, stager.begin(equal + other) as ahead:
            paths = [arrived(ahead).paths[0] for _ in range(4)]
            assert len(set(paths)) == len(storage.asked) == 3
            assert stager.held_bytes == 10 + 11 + 10

    def test_outlives_its_bundle_at_the_same_path(self, scratch: Path) -> None:
        storage = _Fake()
        with stager_of(scratch, storage) as stager:
            paths = set()
            for _ in range(5):
                with stager.begin([[Shared("s3://b/a-9"), PARQUET], ["s3://b/own-7"]]) as ahead:
                    paths.add(tuple(arrived(ahead).paths))
                    arrived(ahead)
                assert stager.held_bytes == 9 + 12
        assert len(paths) == 1
        assert sorted(storage.asked) == ["a-9", *["own-7"] * 5, "p-500", "p-500"]
        assert stager.held_bytes == 0

    def test_stays_with_the_bundles_that_want_it_when_another_one_ends(self, scratch: Path) -> None:
        storage = _Fake()
        with stager_of(scratch, storage) as stager, stager.begin([[Shared("s3://b/a-9")]]) as other:
            with stager.begin([[Shared("s3://b/a-9")]]) as one:
                path = arrived(one).paths[0]
            assert arrived(other).paths == [path]
            assert _filled(path) == 9
        assert storage.asked == ["a-9"]

    def test_is_found_on_its_way(self, scratch: Path) -> None:
        storage = _Fake()
        storage.may_go.clear()
        with stager_of(scratch, storage) as stager, ThreadPoolExecutor(2) as slots:
            aheads = [stager.begin([[Shared("s3://b/a-9")]]) for _ in range(3)]
            wait_until(lambda: storage.asked, "the object to be asked for")
            aheads[0].close()
            found = [slots.submit(arrived, ahead) for ahead in aheads[1:]]
            storage.may_go.set()
            assert len({one.result().paths[0] for one in found}) == 1
        assert storage.asked == ["a-9"]

    def test_that_is_stopped_on_its_way_comes_for_whoever_wants_it_meanwhile(self, scratch: Path) -> None:
        storage = _Fake()
        storage.may_go.clear()
        with stager_of(scratch, storage) as stager:
            ahead = stager.begin([[Shared("s3://b/a-9")]])
            wait_until(lambda: storage.asked, "the object to be asked for")

            async def end_and_begin() -> Ahead:
                ending = asyncio.ensure_future(stager.end(ahead._queue))
                await asyncio.sleep(0)
                assert not ending.done()
                return Ahead(stager, await stager._begin([[Shared("s3://b/a-9")]]))

            other = stager.ask(end_and_begin())
            storage.may_go.set()
            assert _filled(arrived(other).paths[0]) == 9
        assert storage.asked == ["a-9", "a-9"]

    def test_that_nobody_wants_any_more_does_not_come(self, scratch: Path) -> None:
        storage = _Fake()
        storage.may_go.clear()
        with stager_of(scratch, storage) as stager:
            ahead = stager.begin([[Shared("s3://b/a-9")]])
            wait_until(lambda: storage.asked, "the object to be asked for")
            ahead.close()
            assert (stager.held_bytes, stager.brought_items) == (0, 0)
            assert list(scratch.rglob("*")) == []

    def test_bytes_of_a_text_are_one_mini_batch_s_own(self, scratch: Path) -> None:
        with stager_of(scratch, _Fake()) as stager, stager.begin([[Part("s3://b/a-100", ((0, 9),))]]) as ahead:
            arrived(ahead)
            ahead.done(0)
            assert stager.held_bytes == 0

    def test_the_least_recently_used_makes_room_first_for_what_comes_ahead(self, scratch: Path) -> None:
        storage = _Fake()
        with stager_of(scratch, storage, limit_bytes=100) as stager:
            for name in ("old-40", "new-40", "old-40", "mid-20"):
                with stager.begin([[Shared(f"s3://b/{name}")]]) as ahead:
                    arrived(ahead)
            with stager.begin([["s3://b/own-30"]]):
                wait_until(lambda: stager.brought_items == 4, "what nobody has asked for yet")
                assert sorted(Path(path).name for path in _files(scratch)) == ["mid-20", "old-40", "own-30"]
                assert stager.held_bytes == 90
            for name in ("old-40", "mid-20", "new-40"):
                with stager.begin([[Shared(f"s3://b/{name}")]]) as ahead:
                    assert _filled(arrived(ahead).paths[0]) == int(name[-2:])
        assert [storage.asked.count(name) for name in ("old-40", "mid-20", "new-40")] == [1, 1, 2]
        assert stager.most_held_bytes <= 100

    def test_what_is_larger_than_the_limit_stays_until_anything_else_comes(self, scratch: Path) -> None:
        with stager_of(scratch, _Fake(), limit_bytes=100) as stager:
            for _ in range(3):
                with stager.begin([[Shared("s3://b/large-300")]]) as ahead:
                    arrived(ahead)
            assert stager.brought_items == 1
            with stager.begin([["s3://b/own-1"]]) as ahead:
                arrived(ahead)
                assert stager.held_bytes == 1

    def test_what_a_slot_reads_is_not_dropped_for_a_bundle_that_began_earlier(self, scratch: Path) -> None:
        with (
            stager_of(scratch, _Fake(), limit_bytes=100) as stager,
            stager.begin([[Shared("s3://b/x-80")], ["s3://b/own-90"]]) as earlier,
            stager.begin([[Shared("s3://b/x-80")]]) as later,
        ):
            arrived(earlier)
            path = arrived(later).paths[0]
            earlier.done(0)
            assert earlier.next(0.05) is None
            assert _filled(path) == 80
            later.done(0)
            assert len(arrived(earlier).paths) == 1
            assert not Path(path).exists()

    def test_no_more_are_kept_than_are_worth_it(self, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(items_module, "SPARE_ITEMS", 3)
        storage = _Fake()
        with stager_of(scratch, storage) as stager:
            for name in (*"abcde", *"cdeab"):
                with stager.begin([[Shared(f"s3://b/{name}-1")]]) as ahead:
                    arrived(ahead)
            assert stager.held_bytes == 3
        assert storage.asked == [f"{name}-1" for name in "abcdeab"]

    def test_what_made_room_has_all_its_attempts_when_it_comes_again(self, scratch: Path) -> None:
        storage = _Fake()
        with stager_of(scratch, storage, limit_bytes=100, patience=QUICK) as stager:
            storage.breaks = 3
            first = stager.begin([[Shared("s3://b/first-80")]] * 2)
            wait_until(lambda: stager.brought_items == 1, "the first one")
            with stager.begin([["s3://b/now-90"]]) as now:
                arrived(now)
                storage.breaks = 3
            assert arrived(first).failures == []
        assert storage.asked.count("first-80") == 8

    def test_a_pause_between_attempts_holds_for_all_bundles(self, scratch: Path) -> None:
        storage = _Fake()
        storage.may_go.clear()
        slow = Patience(SECONDS, Backoff(attempts=4, seconds=10_000, first_pause=1000))
        with stager_of(scratch, storage, patience=slow, workers=1) as stager:
            stager.begin([["s3://b/own-1"], [Shared("s3://b/a-9")]])
            wait_until(lambda: storage.asked, "the first one to be asked for")
            stager.begin([[Shared("s3://b/a-9")], ["s3://b/own-2"]])
            storage.breaks = 1
            storage.may_go.set()
            wait_until(lambda: stager.brought_items == 2, "all but what they share")
            stager.begin([[Shared("s3://b/a-9")], ["s3://b/own-3"]])
            wait_until(lambda: stager.brought_items == 3, "all but what they share")
        assert storage.asked == ["own-1", "a-9", "own-2", "own-3"]

    def test_closing_waits_for_what_a_slot_is_stopping(self, scratch: Path) -> None:
        storage = _Fake()
        storage.may_go.clear()
        with stager_of(scratch, storage) as stager:
            ahead = stager.begin([[Shared("s3://b/a-9")]])
            wait_until(lambda: storage.asked, "the object to be asked for")

            async def end_and_close() -> None:
                ending = asyncio.ensure_future(stager.end(ahead._queue))
                await asyncio.sleep(0)
                assert not ending.done()
                await stager._close()
                assert not stager._coming

            stager.ask(end_and_close())

    def test_a_later_bundle_tries_again_what_did_not_come(self, scratch: Path) -> None:
        storage = _Fake()
        storage.down = True
        with stager_of(scratch, storage, patience=QUICK) as stager, stager.begin([[Shared("s3://b/a-9")]] * 2) as one:
            first = failure_of(one)
            storage.down = False
            with stager.begin([[Shared("s3://b/a-9")]]) as other:
                assert arrived(other).failures == []
            assert failure_of(one) == first

    def test_what_does_not_come_fails_for_all_who_want_it(self, road: Place, scratch: Path) -> None:
        road.put("none", b"")
        bundle = [[Shared(f"{road.root}missing.gz")], [Shared(f"{road.root}missing.gz")]]
        with Stager(scratch, road.stores, patience=QUICK) as stager, stager.begin(bundle) as ahead:
            assert failure_of(ahead) == failure_of(ahead)
        assert road.gets("/missing.gz") == 1

    def test_a_local_file_stays_where_it_is(self, tmp_path: Path, scratch: Path) -> None:
        path = tmp_path / "a.gz"
        path.write_text("a")
        with stager_of(scratch, _Fake()) as stager, stager.begin([[Shared(str(path))]] * 2) as ahead:
            assert arrived(ahead).paths == arrived(ahead).paths == [str(path)]
            ahead.done(0)
            ahead.done(1)
        assert path.read_text() == "a"

    def test_what_will_be_used_again_is_not_dropped_for_a_bundle_that_began_later(self, scratch: Path) -> None:
        storage = _Fake()
        with (
            stager_of(scratch, storage, limit_bytes=100) as stager,
            stager.begin([[Shared("s3://b/first-80")]] * 3) as first,
            stager.begin([["s3://b/later-90"]]) as later,
        ):
            arrived(first)
            first.done(0)
            assert later.next(0.05) is None
            arrived(first)
            first.done(1)
            arrived(first)
            first.done(2)
            assert len(arrived(later).paths) == 1
        assert storage.asked.count("first-80") == 1

    def test_what_was_not_used_yet_makes_room(self, scratch: Path) -> None:
        with stager_of(scratch, _Fake(), limit_bytes=100) as stager:
            first = stager.begin([[Shared("s3://b/first-80")]] * 2)
            wait_until(lambda: stager.held_bytes == 80, "the first one")
            with stager.begin([["s3://b/later-90"]]) as later:
                assert len(arrived(later).paths) == 1
            assert len(arrived(first).paths) == 1
            assert stager.most_held_bytes <= 100


def test_what_is_larger_than_the_limit_is_not_kept_waiting_by_what_comes_after(scratch: Path) -> None:
    bundle = [["s3://b/a-30", "s3://b/unknown-80"], ["s3://b/b-26"]]
    with stager_of(scratch, _Fake(), limit_bytes=100) as stager, stager.begin(bundle) as ahead:
        assert len(arrived(ahead).paths) == 2
        ahead.done(0)
        assert len(arrived(ahead).paths) == 1


SIZES = st.integers(1, 60)
KEPT = [
    *(Shared(f"s3://b/{name}") for name in ("x-50", "y-70", "unknown-80")),
    Part("s3://b/p-500", ((0, 30), (90, 120)), 500),
]
WANTED = st.one_of(
    SIZES.map(lambda size: f"s3://b/own-{size}"),
    SIZES.map(lambda size: f"s3://b/unknown-{size}"),
    st.sampled_from(KEPT),
    st.just(Part("s3://b/p-500", ((0, 30),))),
)


def bytes_of(wanted: Wanted) -> int:
    if isinstance(wanted, Part):
        return sum(stop - start for start, stop in wanted.ranges)
    assert isinstance(wanted, str | Shared)
    return int((wanted if isinstance(wanted, str) else wanted.uri).rpartition("-")[2])


@settings(max_examples=100, deadline=None)
@given(
    bundles=st.lists(st.lists(st.lists(WANTED, max_size=4), min_size=1, max_size=6), min_size=1, max_size=5),
    slots=st.integers(1, 4),
    workers=st.integers(1, 8),
    at_a_time=st.integers(1, 2),
    early=st.integers(0, 5),
    scored=st.integers(0, 6),
)
def test_every_mini_batch_comes_whatever_is_shared(
    tmp_path_factory: pytest.TempPathFactory,
    bundles: list[list[list[Wanted]]],
    slots: int,
    workers: int,
    at_a_time: int,
    early: int,
    scored: int,
) -> None:
    """Some bundles are begun ahead, the others when a slot gets to them; some are given up in the middle."""
    scratch = tmp_path_factory.mktemp("law") / "scratch"
    limit = 100 * at_a_time
    worth = [[_unique(batch) for batch in bundle] for bundle in bundles]

    def score(number: int) -> None:
        with aheads.get(number) or stager.begin(bundles[number]) as ahead:
            for position, batch in enumerate(bundles[number] if number % 2 else bundles[number][:scored]):
                staged = arrived(ahead)
                assert [_filled(path) for path in staged.paths] == [bytes_of(one) for one in batch]
                stager.ask(_add_up(stager))
                ahead.done(position)

    with stager_of(scratch, _Fake(), limit_bytes=limit, workers=workers) as stager:
        aheads = {number: stager.begin(bundle) for number, bundle in enumerate(bundles[:early])}
        with ThreadPoolExecutor(slots) as pool:
            list(pool.map(score, range(len(bundles))))
        largest = max(size for bundle in worth for size in bundle)
        assert stager.most_held_bytes <= max(limit, largest)
        assert stager.held_bytes == stager._common.spare_bytes == sum(map(_filled, _files(scratch)))
    assert stager.held_bytes == stager._common.spare_bytes == 0
    assert not scratch.exists()


@settings(max_examples=50, deadline=None)
@given(
    bundles=st.lists(st.lists(st.lists(WANTED, max_size=4), min_size=1, max_size=6), min_size=1, max_size=5),
    slots=st.integers(1, 4),
    early=st.integers(0, 5),
)
def test_what_is_shared_comes_once_where_there_is_room(
    tmp_path_factory: pytest.TempPathFactory, bundles: list[list[list[Wanted]]], slots: int, early: int
) -> None:
    storage = _Fake()
    found: set[tuple[Wanted, str]] = set()

    def score(number: int) -> None:
        with aheads.get(number) or stager.begin(bundles[number]) as ahead:
            for position, batch in enumerate(bundles[number]):
                found.update(zip(batch, arrived(ahead).paths, strict=True))
                ahead.done(position)

    with stager_of(tmp_path_factory.mktemp("law") / "scratch", storage) as stager:
        aheads = {number: stager.begin(bundle) for number, bundle in enumerate(bundles[:early])}
        with ThreadPoolExecutor(slots) as pool:
            list(pool.map(score, range(len(bundles))))
    kept = {one for one in KEPT if any(one in batch for bundle in bundles for batch in bundle)}
    assert {wanted for wanted, _ in found if wanted in KEPT} == kept
    assert len({pair for pair in found if pair[0] in KEPT}) == len(kept)
    assert all(storage.asked.count(name) <= 1 for name in ("x-50", "y-70", "unknown-80"))


async def _add_up(stager: Stager) -> None:
    """What is held is that of all items together, and nobody wants what is spare."""
    common = stager._common
    items = {item for queue in stager._queues for batch in queue.batches for item in batch.items}
    items |= {*common._items.values(), *common._spare, *stager._coming}
    assert stager.held_bytes == sum(item.held for item in items)
    assert common.spare_bytes == sum(item.held for item in common._spare)
    assert not any(item.batches for item in common._spare)


def _files(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file()]


def _unique(batch: list[Wanted]) -> int:
    return sum(bytes_of(one) for one in batch if isinstance(one, str)) + sum(
        bytes_of(one) for one in {one for one in batch if not isinstance(one, str)}
    )


def _filled(path: str) -> int:
    return Path(path).read_bytes().count(b"x")


# Pieces of tables


def _frame(rows: int = 3000) -> pandas.DataFrame:
    numbers = numpy.arange(rows)
    noise = numpy.random.default_rng(0)
    return pandas.DataFrame(
        {
            "a": numbers,
            "wide": [noise.bytes(300).hex() for _ in numbers],
            "a.b": numbers * 7,
            "text": [f"é {number}" for number in numbers],
            "list": [[number, 1] for number in numbers],
        }
    )


def _parquet(path: Path, size: str = "400 rows", **options: Any) -> Cut:
    _frame().to_parquet(path, row_group_size=300)
    return cut(path, size, **options)


def _at(piece: Piece, uri: str) -> Piece:
    moved = piece.copy()
    moved["file"] = uri
    return moved


def _text_piece(uri: str, wanted: Range) -> tuple[Piece, Reading]:
    reading = Reading.from_json(
        '{"format": "csv", "columns": [], "header_rule": "first_row", "on_bad_record": "fail", "dialect": {}}'
    )
    return {"input": 0, "file": uri, "items": 1, "row": 0, "bytes": list(wanted)}, reading


def _scored(place: Place, scratch: Path, found: Cut, uri: str) -> tuple[list[pandas.DataFrame], list[Wanted], int]:
    """What the scorer reads of each piece, what was wanted for that, and how many bytes came."""
    moved = [_at(piece, uri) for piece in found.pieces]
    wanted = PieceParts(place.stores, patience=QUICK).all_wanted([(piece, found.reading) for piece in moved])
    reader = Reader([found.reading])
    frames = []
    with (
        Stager(scratch, place.stores, patience=QUICK) as stager,
        stager.begin([one] for one in wanted) as ahead,
    ):
        for piece, one in zip(moved, wanted, strict=True):
            staged = arrived(ahead)
            assert not isinstance(one, NotStaged)
            assert staged.failures == []
            frames.append(reader.read(piece, staged.paths[0], first_byte_of(one)).frame)
            ahead.done(staged.position)
        brought = stager.brought_bytes
    reader.close()
    return frames, wanted, brought


def _assert_same(frames: list[pandas.DataFrame], expected: list[pandas.DataFrame]) -> None:
    for frame, want in zip(frames, expected, strict=True):
        assert_frame_equal(frame, want)


class TestPieces:
    @pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
    def test_of_text_are_read_from_their_own_bytes(
        self, place: Place, tmp_path: Path, scratch: Path, name: str
    ) -> None:
        path = tmp_path / name
        data = _frame().drop(columns=["list"])
        data.to_csv(path, index=False) if name == "a.csv" else data.to_json(path, orient="records", lines=True)
        found = cut(path, "100kb")
        place.put(name, path.read_bytes())
        frames, _, brought = _scored(place, scratch, found, place.root + name)
        _assert_same(frames, found.frames)
        assert len(frames) > 5
        assert brought == sum(piece["bytes"][1] - piece["bytes"][0] for piece in found.pieces)

    @pytest.mark.parametrize("columns", [None, ["text", "list"], ["a.b"]])
    def test_of_parquet_are_read_from_a_copy_with_holes(
        self,
        place: Place,
        tmp_path: Path,
        scratch: Path,
        columns: list[str] | None,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(pieces_module, "GAP_BYTES", 0)
        monkeypatch.setattr(pieces_module, "RUN_BYTES", 0)
        found = _parquet(tmp_path / "a.parquet", **({"columns": columns} if columns else {}))
        place.put("a.parquet", (tmp_path / "a.parquet").read_bytes())
        frames, wanted, brought = _scored(place, scratch, found, f"{place.root}a.parquet")
        _assert_same(frames, found.frames)
        size = (tmp_path / "a.parquet").stat().st_size
        assert all(isinstance(one, Part) and one.size == size for one in wanted)
        if columns:
            assert brought < size

    @pytest.mark.parametrize("name", ["a.csv.gz", "a.arrow"])
    def test_that_cannot_be_cut_share_the_whole_object(
        self, road: Place, tmp_path: Path, scratch: Path, name: str
    ) -> None:
        path = tmp_path / name
        if name == "a.arrow":
            pyarrow.feather.write_feather(_frame(), str(path), chunksize=100)
        else:
            path.write_bytes(gzip.compress(_frame().to_csv(index=False).encode()))
        found = cut(path, "100kb")
        road.put(name, path.read_bytes())
        frames, wanted, brought = _scored(road, scratch, found, road.root + name)
        _assert_same(frames, found.frames)
        assert set(wanted) == {Shared(road.root + name)}
        assert len(wanted) > 5
        assert brought == path.stat().st_size
        assert road.gets(f"/{name}") == 1

    def test_of_different_bundles_are_read_on_from_where_the_last_one_ended(
        self, road: Place, tmp_path: Path, scratch: Path
    ) -> None:
        path = tmp_path / "a.csv.gz"
        path.write_bytes(gzip.compress(_frame().to_csv(index=False).encode()))
        found = cut(path, "100kb")
        road.put("bundles.csv.gz", path.read_bytes())
        reader = Reader([found.reading])
        frames, opened = [], set()
        with Stager(scratch, road.stores, patience=QUICK) as stager:
            for piece in found.pieces:
                with stager.begin([[Shared(f"{road.root}bundles.csv.gz")]]) as ahead:
                    frames.append(reader.read(piece, arrived(ahead).paths[0]).frame)
                opened.add(reader.open_file)
        reader.close()
        _assert_same(frames, found.frames)
        assert len(frames) > 5
        assert len(opened) == 1
        assert road.gets("/bundles.csv.gz") == 1

    def test_that_are_local_stay_where_they_are(self, tmp_path: Path) -> None:
        found = _parquet(tmp_path / "a.parquet")
        parts = PieceParts(Stores())
        assert parts.wanted(found.pieces[0], found.reading) == str(tmp_path / "a.parquet")
        assert first_byte_of(str(tmp_path / "a.parquet")) == 0


class TestParquetPieces:
    def test_read_the_end_of_a_file_once(self, road: Place, tmp_path: Path) -> None:
        found = _parquet(tmp_path / "a.parquet", columns=["a"])
        data = (tmp_path / "a.parquet").read_bytes()
        for name in ("one.parquet", "other.parquet"):
            road.put(name, data)
        parts = PieceParts(road.stores, patience=QUICK)
        pieces = [
            (_at(piece, road.root + name), found.reading)
            for name in ("one.parquet", "other.parquet")
            for piece in found.pieces
        ]
        with ThreadPoolExecutor(4) as slots:
            several = list(slots.map(lambda _: parts.all_wanted(pieces), range(8)))
        assert all(each == several[0] for each in several)
        assert road.gets("/one.parquet") == road.gets("/other.parquet") == 2

    def test_forget_the_ends_of_files_that_were_not_used_for_long(self, road: Place, tmp_path: Path) -> None:
        found = _parquet(tmp_path / "a.parquet")
        parts = PieceParts(road.stores, patience=QUICK, kept=1)
        for name in ("old.parquet", "new.parquet", "old.parquet", "old.parquet"):
            road.put(name, (tmp_path / "a.parquet").read_bytes())
            parts.wanted(_at(found.pieces[0], road.root + name), found.reading)
        assert road.gets("/old.parquet") == 4
        assert road.gets("/new.parquet") == 2

    def test_find_the_beginning_of_a_long_footer(self, place: Place, tmp_path: Path, scratch: Path) -> None:
        path = tmp_path / "a.parquet"
        table = pyarrow.table({"a": range(100)}).replace_schema_metadata({"note": "x" * 300_000})
        pyarrow.parquet.write_table(table, path, row_group_size=10)
        found = cut(path, "25 rows")
        place.put("long.parquet", path.read_bytes())
        frames, _, _ = _scored(place, scratch, found, f"{place.root}long.parquet")
        _assert_same(frames, found.frames)

    def test_with_row_groups_in_common_share_what_is_brought(
        self, road: Place, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pieces_module, "GAP_BYTES", 0)
        path = tmp_path / "a.parquet"
        _frame().to_parquet(path, row_group_size=600)
        found = cut(path, "100 rows")
        road.put("groups.parquet", path.read_bytes())
        uri = f"{road.root}groups.parquet"
        frames, wanted, brought = _scored(road, scratch, found, uri)
        _assert_same(frames, found.frames)
        assert [len(set(wanted[at : at + 6])) for at in range(0, 30, 6)] == [1] * 5
        assert len(set(wanted)) == 5
        assert brought < path.stat().st_size * 1.2

    @pytest.mark.parametrize(("most", "parts"), [(1 << 30, 1), (0, 10)])
    def test_that_cross_borders_are_brought_together_as_far_as_they_are_small(
        self, place: Place, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, most: int, parts: int
    ) -> None:
        monkeypatch.setattr(pieces_module, "RUN_BYTES", most)
        path = tmp_path / "a.parquet"
        _frame().to_parquet(path, row_group_size=300)
        found = cut(path, "97 rows")
        place.put("borders.parquet", path.read_bytes())
        frames, wanted, _ = _scored(place, scratch, found, f"{place.root}borders.parquet")
        _assert_same(frames, found.frames)
        assert len(set(wanted)) == parts

    @pytest.mark.parametrize("faults", [[BUSY, BUSY], [TRUNCATED], [RESET, BROKEN]], ids=str)
    def test_ask_again_when_the_network_fails(self, road: Place, tmp_path: Path, faults: list[Fault]) -> None:
        found = _parquet(tmp_path / "a.parquet")
        road.put("again.parquet", (tmp_path / "a.parquet").read_bytes())
        assert road.proxy is not None
        road.proxy.will("/again.parquet", *faults)
        parts = PieceParts(road.stores, patience=QUICK)
        assert isinstance(parts.wanted(_at(found.pieces[0], f"{road.root}again.parquet"), found.reading), Part)

    def test_of_a_storage_that_stays_down_may_be_tried_later(self, road: Place, tmp_path: Path) -> None:
        found = _parquet(tmp_path / "a.parquet")
        road.put("down.parquet", (tmp_path / "a.parquet").read_bytes())
        assert road.proxy is not None
        road.proxy.will("/down.parquet", *[BUSY] * 4)
        uri = f"{road.root}down.parquet"
        parts = PieceParts(road.stores, patience=QUICK)
        with pytest.raises(CannotPlan, match=f"{uri} could not be read in 4 attempts over .*: 503") as caught:
            parts.wanted(_at(found.pieces[0], uri), found.reading)
        assert not caught.value.permanent
        assert isinstance(parts.wanted(_at(found.pieces[0], uri), found.reading), Part)

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("none.parquet", "is not there any more"),
            ("empty.parquet", "has changed since the run was planned (it ends before byte 4)"),
            ("short.parquet", "has changed since the run was planned (it cannot be read as a Parquet file: "),
            ("text.parquet", "has changed since the run was planned (it cannot be read as a Parquet file: "),
            ("liar.parquet", "has changed since the run was planned (it cannot be read as a Parquet file: "),
            ("less.parquet", "has changed since the run was planned (its row groups are others)"),
        ],
    )
    def test_of_a_file_that_is_another_one_fail_for_good(
        self, place: Place, tmp_path: Path, scratch: Path, name: str, words: str
    ) -> None:
        found = _parquet(tmp_path / "a.parquet")
        _frame(10).to_parquet(tmp_path / "less.parquet")
        content = {
            "empty.parquet": b"",
            "short.parquet": b"PAR1",
            "text.parquet": b"a,b\n" * 50_000,
            "liar.parquet": b"PAR1" + b"x" * 100_000 + (90_000).to_bytes(4, "little") + b"PAR1",
            "less.parquet": (tmp_path / "less.parquet").read_bytes(),
        }
        place.put(name if name in content else "other", content.get(name, b""))
        piece = _at(found.pieces[-1], place.root + name)
        parts = PieceParts(place.stores, patience=QUICK)
        (wanted,) = parts.all_wanted([(piece, found.reading)])
        with Stager(scratch, place.stores) as stager, stager.begin([[wanted]]) as ahead:
            failure = failure_of(ahead)
        assert failure == wanted
        assert f"{place.root}{name} {words}" in failure.message
        assert failure.permanent
