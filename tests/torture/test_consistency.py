"""The checker of what a run leaves sees each contradiction."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.consistency import check, contradictions
from tests.support import Workbench

NAMES = [f"item {number:02}" for number in range(12)]
ROWS = "".join(f"{name}\n" for name in NAMES if name != "item 05").encode()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run in which one item of twelve has failed."""
    bench = Workbench(tmp_path_factory.mktemp("bench"))
    bench.script(
        """
        import os
        def run(mini_batch):
            names = [os.path.basename(path) for path in mini_batch]
            if "item 05" in names:
                raise ValueError("five")
            return names
        """
    )
    bench.inputs(*NAMES)
    done = bench.run("--mini-batch-size", "1", "--process-count-per-node", "1", "--run-max-try", "2")
    assert done.code == 0, done.stderr
    return done.output


@pytest.fixture
def output(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "out"))


def test_a_run_that_went_well_does_not_contradict_itself(whole: Path) -> None:
    check(whole, rows=ROWS)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found) + "\n")


def replaced(path: Path, old: str, new: str, times: int = -1) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, times))


def without_line(path: Path, word: str) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if word not in line))


TABLE = "logs/sys/job_report/processed_mini-batches.csv"
RESULT = "logs/job_result.txt"
TAMPERED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no report": (lambda out: (out / "report.json").unlink(), "no report.json"),
    "a count": (
        lambda out: edit(out / "report.json", lambda r: r["items"].update(succeeded=12)),
        "-1 items are neither",
    ),
    "kinds": (lambda out: edit(out / "report.json", lambda r: r.update(failures={"crash": 1})), "has the kinds"),
    "a message": (lambda out: edit(out / "report.json", lambda r: r.update(message="why")), "with the message"),
    "attempts": (lambda out: edit(out / "report.json", lambda r: r.update(attempts=99)), "journal has 13 attempts"),
    "a failed item too few": (lambda out: (out / "failed_items.jsonl").write_text(""), "names 0 items"),
    "a foreign item": (
        lambda out: replaced(out / "failed_items.jsonl", "item 05", "item 06"),
        "is not in mini-batch 5",
    ),
    "a log": (lambda out: edit(out / "failed_items.jsonl", lambda i: i.update(log="logs/none")), "which is not there"),
    "a row too few": (lambda out: without_line(out / "parallel_run_step.txt", "item 03"), "1 missing (item 03)"),
    "a row twice": (
        lambda out: replaced(out / "parallel_run_step.txt", "item 03\n", "item 03\nitem 03\n"),
        "1 too many (item 03)",
    ),
    "another order": (
        lambda out: replaced(out / "parallel_run_step.txt", "item 03\nitem 04", "item 04\nitem 03"),
        "in another order",
    ),
    "no rows": (lambda out: (out / "parallel_run_step.txt").unlink(), "is not there"),
    "a torn journal": (
        lambda out: (out / ".daskscore/journal").write_bytes((out / ".daskscore/journal").read_bytes()[:-20]),
        "journal ends with None",
    ),
    "a journal twice": (
        lambda out: (out / ".daskscore/journal").write_bytes((out / ".daskscore/journal").read_bytes() * 2),
        "settles 12 mini-batches twice",
    ),
    "an attempt too few": (lambda out: without_line(out / TABLE, "item 07"), "no RUN_DONE for 1 mini-batches"),
    "no failed attempt": (lambda out: without_line(out / TABLE, "item 05"), "no failed attempt of 1 mini-batches"),
    "a broken line": (lambda out: replaced(out / TABLE, ",RUN_DONE", "", 1), "1 broken lines"),
    "another result": (lambda out: replaced(out / RESULT, "Completed", "Failed"), "job_result.txt says"),
    "no output in the result": (lambda out: replaced(out / RESULT, "Output: ", "Out: "), "names no output"),
    "no result": (lambda out: (out / RESULT).unlink(), "no logs/job_result.txt"),
    "a strange file": (lambda out: (out / "strange").touch(), "holds strange"),
    "a strange state": (lambda out: (out / ".daskscore/passing").mkdir(), "holds passing"),
    "an unfinished file": (lambda out: (out / "logs/.a.unfinished").touch(), "unfinished files"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_contradiction_is_seen(output: Path, what: str) -> None:
    tamper, words = TAMPERED[what]
    tamper(output)
    found = contradictions(output, rows=ROWS)
    assert any(words in text for text in found), found
    with pytest.raises(AssertionError, match="contradicts itself"):
        check(output, rows=ROWS)
