"""The lines of processed_mini-batches.csv, and the ring that keeps the newest when a scorer dies."""

from __future__ import annotations

import csv
import json
import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskscore.core.attempts import COLUMNS, RECENT_BYTES, Recent, detail, failed_line
from daskscore.core.model import Kind
from daskscore.core.planning import count_items, line, line_of_pieces


@pytest.fixture
def memory() -> mmap.mmap:
    return mmap.mmap(-1, RECENT_BYTES)


def field(text: bytes) -> str:
    (only,) = next(csv.reader([text.decode()]))
    return only


@given(st.text(), st.lists(st.text(min_size=1), min_size=1))
def test_a_line_is_one_line_of_csv_whatever_the_message_and_the_names(message: str, names: list[str]) -> None:
    plan = line(names).decode().rstrip("\n")
    text = failed_line(7, 1, "0/process000", 1e9, 3, "RUN_EXCEPTION", Kind.RAISE, message, plan, elapsed=0.5)
    fields = next(csv.reader([text.decode().removesuffix("\n")]))
    assert (text.count(b"\n"), len(fields)) == (1, len(COLUMNS))
    assert fields[:8] == ["7", "2", "0/process000", "2001-09-09T01:46:40.000000", "3", "0", "3", "0.500000"]
    told = json.loads(fields[-1])
    assert told in (names, {"first": names[0], "items": 3})


def test_a_long_mini_batch_is_named_by_its_first_item() -> None:
    names = [f"/data/images of the north/{number}.png" for number in range(1000)]
    assert json.loads(field(detail(0, 1000, line(names).decode()))) == {"first": names[0], "items": 1000}
    keyed = line(names, {"user": "u1"}).decode()
    assert json.loads(field(detail(0, 1000, keyed))) == {"first": names[0], "items": 1000}
    piece = {"input": 0, "file": "/data/" + "long " * 30 + '"quoted".csv', "row": 0, "items": 5}
    pieces = line_of_pieces([piece, piece])  # type: ignore[list-item]  # as much of it as is looked at
    assert json.loads(field(detail(0, 10, pieces.decode()))) == {"first": piece["file"], "items": 10}
    assert count_items(pieces) == 10


def test_a_rank_is_named_by_its_number() -> None:
    assert field(detail(5, 1, "")) == '{"rank":5}'


@given(st.lists(st.integers(1, 9000), max_size=60), st.integers(0, 1 << 40))
def test_what_the_file_lacks_is_still_there(sizes: list[int], start: int) -> None:
    memory = mmap.mmap(-1, RECENT_BYTES)
    recent = Recent(memory)
    recent.begin(start)
    file = b""
    said = b""
    for number, size in enumerate(sizes):
        data = bytes([65 + number % 26]) * size
        if not recent.add(data):
            file += recent.take()
            assert recent.add(data)
        said += data
    reader = Recent(memory)
    assert file + reader.unwritten(start + len(file)) == said
    for written in {len(file), len(said), (len(file) + len(said)) // 2}:  # it died while it wrote
        assert said[:written] + reader.unwritten(start + written) == said


def test_a_file_that_somebody_has_cut_is_not_filled_with_old_bytes(memory: mmap.mmap) -> None:
    recent = Recent(memory)
    recent.begin(10 * RECENT_BYTES)
    recent.add(b"new")
    assert recent.unwritten(0) == b""
    assert recent.unwritten(11 * RECENT_BYTES) == b""
