"""The file of a process has each of its attempts once, whatever ends it."""

from __future__ import annotations

import csv
import mmap
from collections.abc import Callable
from pathlib import Path

import pytest

from daskscore.core.attempts import COLUMNS, RECENT_BYTES, Recent
from daskscore.core.layout import process_log
from daskscore.worker.attempts import AttemptFile
from tests.worker.conftest import Slot

MakeSlot = Callable[..., Slot]


def attempts(slot: Slot, process: str = "process000") -> list[list[str]]:
    """Mini-batch, try, succeeded, status and kind of each."""
    lines = csv.DictReader(line for line in slot.read(process_log("node", process)).splitlines() if line[0] != "#")
    assert tuple(lines.fieldnames or ()) == COLUMNS
    names = ("Mini-batch Id", "Picked Count", "Succeeded", "Status", "Error Category")
    return [[line[name] for name in names] for line in lines]


@pytest.mark.parametrize(("act", "kind"), [("exit", "crash"), ("segfault", "crash"), ("spin", "timeout")])
def test_what_a_dead_scorer_had_not_written_is_there(make_slot: MakeSlot, act: str, kind: str) -> None:
    slot = make_slot(run_seconds=0.5)
    slot.score(slot.ledger(["a"], ["b", "short"], [act], ["d"]))
    status = "RUN_TIMEOUT" if kind == "timeout" else "RUN_EXCEPTION"
    assert attempts(slot) == [
        ["0", "1", "1", "RUN_DONE", ""],
        ["1", "1", "1", "RUN_DONE", "bad_output"],
        ["2", "1", "0", status, kind],
    ]
    text = slot.read(process_log("node", "process000"))
    assert "\n# 3 mini-batches: 2 done, 1 failed; 4 items: 2 succeeded, 2 failed\n# ended " in text


def test_the_number_of_the_try_is_told(make_slot: MakeSlot) -> None:
    slot = make_slot()
    ledger = slot.ledger(["once"], ["exit"])
    slot.score(ledger)
    slot.score(ledger)
    first = [["0", "1", "0", "RUN_EXCEPTION", "raise"], ["1", "1", "0", "RUN_EXCEPTION", "crash"]]
    second = [["0", "2", "1", "RUN_DONE", ""], ["1", "2", "0", "RUN_EXCEPTION", "crash"]]
    assert [attempts(slot), attempts(slot, "process001")] == [first, second]


def test_more_lines_than_the_memory_holds_are_all_written(make_slot: MakeSlot) -> None:
    slot = make_slot()
    plan = [[f"item {number}" + "x" * 500] for number in range(3000)]
    slot.score(slot.ledger(*plan, ["exit"]), size=3001)
    assert [line[0] for line in attempts(slot)] == list(map(str, range(3001)))


def test_a_line_that_the_account_contradicts_is_dropped(tmp_path: Path) -> None:
    recent = Recent(mmap.mmap(-1, RECENT_BYTES))
    file = AttemptFile(tmp_path / "process000.txt", "node", "process000", recent)
    recent.begin(0)
    recent.add(b"6,1,done\n")
    recent.add(b"7,1,done\n")
    file.rescue(unsettled=7)
    file.close("killed")
    first, *rest = file.path.read_text().splitlines()
    assert (first, [line[0] for line in rest]) == ("6,1,done", ["#", "#"])


def test_the_node_says_what_it_did(make_slot: MakeSlot) -> None:
    slot = make_slot()
    slot.score(slot.ledger(["exit"]))
    said = [line.split("|") for line in slot.read("logs/sys/node/node/_main.txt").splitlines()]
    assert [(line[1], line[4].partition(" (")[0].partition(": ")[0]) for line in said] == [
        ("INFO", "process000 was started"),
        ("INFO", "process000 is ready"),
        ("WARNING", "process000 ended"),
    ]
