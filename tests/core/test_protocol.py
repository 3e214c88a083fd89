"""The words between worker and scorer: frames survive any chunking, and a mark is always read whole."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskscore.core.protocol import MARK_BYTES, Frames, Head, Mark, Progress, frame, send, shared_page
from tests.support import wait_until

T = TypeVar("T")

heads = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=3)
frames = st.tuples(heads, st.binary(max_size=50))
numbers = st.integers(-1, 2**62)
records = st.builds(
    Progress,
    words=numbers,
    position=numbers,
    started=st.floats(allow_nan=False),
    done=numbers,
    rows=numbers,
    items=numbers,
    length=numbers,
)

TURN = 8
"""The first bytes of the page say which record is the current one."""


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    try:
        yield ends
    finally:
        for fd in ends:
            os.close(fd)


def told(data: bytes, cuts: list[int]) -> list[tuple[Head, bytes]]:
    """The frames heard from a pipe that brings `data` cut into pieces."""
    heard = []
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    with pipe() as (reader, writer):
        frames = Frames(reader)
        for start, stop in pairwise(places):
            os.write(writer, data[start:stop])
            frames.fill()
            while said := frames.pop():
                heard.append(said)
    return heard


@given(st.lists(frames, max_size=5), st.lists(st.integers(0), max_size=20))
def test_frames_arrive_whole_and_in_order_whatever_the_chunks(sent: list[tuple[Head, bytes]], cuts: list[int]) -> None:
    assert told(b"".join(frame(*one) for one in sent), cuts) == sent


@given(frames, st.integers(0))
def test_a_torn_frame_is_no_frame(sent: tuple[Head, bytes], cut: int) -> None:
    whole = frame(*sent)
    assert told(whole[: cut % len(whole)], []) == []


def test_read_waits_for_the_rest_of_a_frame() -> None:
    whole = frame({"word": "scored"}, b"rows")
    with pipe() as (reader, writer):
        os.write(writer, whole[:9])
        rest = threading.Timer(0, os.write, (writer, whole[9:]))
        rest.start()
        assert Frames(reader).read() == ({"word": "scored"}, b"rows")
        rest.join()


def test_read_gives_one_frame_at_a_time() -> None:
    with pipe() as (reader, writer):
        os.write(writer, frame({"n": 1}) + frame({"n": 2}))
        frames = Frames(reader)
        assert [frames.read(), frames.read()] == [({"n": 1}, b""), ({"n": 2}, b"")]


@pytest.mark.parametrize("torn", [b"", frame({"word": "scored"}, b"rows")[:-1]], ids=["between frames", "in a frame"])
def test_read_says_none_when_the_writer_is_gone(torn: bytes) -> None:
    reader, writer = os.pipe()
    os.write(writer, torn)
    os.close(writer)
    assert Frames(reader).read() is None
    os.close(reader)


def test_send_writes_all_of_a_frame_that_a_pipe_cannot_hold() -> None:
    body = os.urandom(1 << 20)
    with pipe() as (reader, writer):
        sender = threading.Thread(target=send, args=(writer, {"do": "score"}, body))
        sender.start()
        assert Frames(reader).read() == ({"do": "score"}, body)
        sender.join()


def test_send_goes_on_where_a_signal_interrupted_it() -> None:
    def hear(frames: Frames, sender: int) -> None:
        while (said := frames.pop()) is None:
            signal.pthread_kill(sender, signal.SIGUSR1)
            frames.fill()
        heard.append(said)

    heard: list[tuple[Head, bytes]] = []
    before = signal.signal(signal.SIGUSR1, lambda number, stack: None)
    with pipe() as (reader, writer):
        hearer = threading.Thread(target=hear, args=(Frames(reader), threading.get_ident()))
        hearer.start()
        send(writer, {"do": "score"}, bytes(1 << 20))
        hearer.join()
    signal.signal(signal.SIGUSR1, before)
    assert heard == [({"do": "score"}, bytes(1 << 20))]


# The mark.


def page(content: bytes = bytes(MARK_BYTES)) -> mmap.mmap:
    memory = mmap.mmap(-1, MARK_BYTES)
    memory[:] = content
    return memory


@given(st.lists(records, min_size=1, max_size=5))
def test_the_last_record_written_is_read(written: list[Progress]) -> None:
    mark = Mark(page())
    for record in written:
        mark.write(*record)
    assert Mark(mark.memory).read() == written[-1]


@given(st.lists(records, max_size=3), records, records, st.data())
def test_a_record_that_a_killed_scorer_did_not_finish_is_not_read(
    earlier: list[Progress], last: Progress, unfinished: Progress, data: st.DataObject
) -> None:
    mark = Mark(page())
    for record in [*earlier, last]:
        mark.write(*record)
    before = bytes(mark.memory)
    mark.write(*unfinished)
    reached = data.draw(st.integers(TURN, MARK_BYTES))
    killed = before[:TURN] + bytes(mark.memory)[TURN:reached] + before[reached:]
    assert Mark(page(killed)).read() == last


@given(st.lists(records, max_size=4), st.booleans())
def test_records_leave_the_wish_to_stop_alone(written: list[Progress], asked: bool) -> None:
    mark = Mark(page())
    if asked:
        mark.ask_to_stop()
    for record in written:
        mark.write(*record)
    assert mark.stop_asked == asked


@given(records)
def test_the_wish_to_stop_leaves_the_record_alone(record: Progress) -> None:
    mark = Mark(page())
    mark.write(*record)
    mark.ask_to_stop()
    assert mark.read() == record


def test_a_scorer_that_may_go_on_is_not_asked_to_stop() -> None:
    mark = Mark(page())
    mark.ask_to_stop()
    mark.go_on()
    assert not mark.stop_asked


def test_both_processes_see_the_same_page() -> None:
    fd = shared_page()
    one, other = Mark.open(fd), Mark.open(fd)
    os.close(fd)
    one.write(1, 2, 3.0, 4, 5, 6, 7)
    assert other.read() == Progress(1, 2, 3.0, 4, 5, 6, 7)


def test_a_shared_page_is_zeroed_and_as_large_as_the_mark() -> None:
    fd = shared_page()
    assert os.pread(fd, MARK_BYTES + 1, 0) == bytes(MARK_BYTES)
    os.close(fd)


def test_a_shared_page_is_not_inherited_unless_it_is_passed_on() -> None:
    fd = shared_page()
    assert not os.get_inheritable(fd)
    os.close(fd)


def test_where_there_is_no_memfd_a_page_is_a_file_without_a_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fd = shared_page()
    assert os.fstat(fd).st_size == MARK_BYTES
    assert not list(tmp_path.iterdir())
    os.close(fd)


BUSY_SCORER = """
import sys
from itertools import count
from daskscore.core.protocol import Mark
mark = Mark.open(int(sys.argv[1]))
for n in count(1):
    mark.write(n, n, float(n), n, n, n, n)
"""


@contextmanager
def busy_scorer() -> Iterator[tuple[Mark, subprocess.Popen[bytes]]]:
    """A process that writes record after record, each with the same number everywhere."""
    fd = shared_page()
    scorer = subprocess.Popen([sys.executable, "-c", BUSY_SCORER, str(fd)], pass_fds=[fd])
    mark = Mark.open(fd)
    os.close(fd)
    try:
        wait_until(lambda: mark.read().words, "the first record")
        yield mark, scorer
    finally:
        scorer.kill()
        scorer.wait()
        mark.memory.close()


def watched(look: Callable[[], T], seconds: float) -> Iterator[T]:
    """What is seen in so much time by one who looks again and again."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield look()


def test_records_are_read_whole_while_the_scorer_writes() -> None:
    with busy_scorer() as (mark, _):
        assert all(len(set(record)) == 1 for record in watched(mark.read, seconds=1.5))


def test_records_never_go_back_while_the_scorer_writes() -> None:
    with busy_scorer() as (mark, _):
        assert all(one.words <= other.words for one, other in pairwise(watched(mark.read, seconds=0.5)))


def test_the_switch_to_the_next_record_is_a_single_store() -> None:
    with busy_scorer() as (mark, _):
        turns = watched(lambda: int.from_bytes(mark.memory[:TURN], sys.byteorder), seconds=0.5)
        assert all(one <= other for one, other in pairwise(turns))


def test_a_killed_scorer_leaves_a_whole_record() -> None:
    with busy_scorer() as (mark, scorer):
        scorer.send_signal(signal.SIGKILL)
        scorer.wait()
        assert len(set(mark.read())) == 1
