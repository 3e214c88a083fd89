from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from daskscore.core.fingerprints import fingerprint
from daskscore.core.ledger import GivenUp, Settlement
from daskscore.core.model import Failure, ItemFailure, Kind
from daskscore.core.planning import Named
from daskscore.driver import account as accounts
from daskscore.driver.account import Account, commit_record
from daskscore.driver.failures import TRACEBACK_CHARACTERS
from daskscore.driver.journal import Journal, Record

LOG = "logs/user/error/node/process000.txt"
FRAMES = 'Traceback (most recent call last):\n  File "/score.py", line 3, in run\n    raise ValueError(item)'


def raised(index: int, frames: str = FRAMES, last: str = "ValueError: b.png", **changes: Any) -> Failure:
    known: dict[str, Any] = {"seconds": 0.25, "place": "node/process000", "peak_memory": 5 << 20}
    return Failure(index, Kind.RAISE, f"run() raised {last}", LOG, f"{frames}\n{last}\n", **{**known, **changes})


def commit(*failures: Failure, item_failures: tuple[ItemFailure, ...] = ()) -> Record:
    settlement = Settlement(item_failures=item_failures, given_up=tuple(GivenUp(one, 3) for one in failures))
    return commit_record(settlement, seconds=1.0)


def account_of(path: Path, *records: Record) -> Account:
    journal = Journal(path)
    for record in records:
        journal.append(record)
    journal.close()
    return accounts.load(path, parts=path.parent / "parts", items=9, mini_batches=9, count_items=lambda _: 1)


def lines(folder: Path, *records: Record) -> list[dict[str, Any]]:
    """As failed_items.jsonl has them."""
    account = account_of(folder / "journal", *records)
    return list(account.failed_items(lambda index, start=0, stop=None: [Named(f"{index}.png")]))


def test_all_that_is_known_of_a_failure_is_told(tmp_path: Path) -> None:
    failure = raised(1)
    assert lines(tmp_path, commit(failure)) == [
        {
            "item": "1.png",
            "mini_batch": 1,
            "attempts": 3,
            "kind": "raise",
            "message": "run() raised ValueError: b.png",
            "log": LOG,
            "fingerprint": fingerprint(f"raise {failure.message}", failure.traceback),
            "seconds": 0.25,
            "place": "node/process000",
            "peak_memory": 5 << 20,
            "traceback": failure.traceback.rstrip(),
        }
    ]


def test_a_crash_has_its_signal_or_its_exit_code(tmp_path: Path) -> None:
    killed = Failure(0, Kind.CRASH, "killed", LOG, signal=9)
    exited = Failure(1, Kind.CRASH, "exited", LOG, exit_code=0)
    first, second = lines(tmp_path, commit(killed, exited))
    assert (first["signal"], "exit_code" in first) == (9, False)
    assert (second["exit_code"], "signal" in second) == (0, False)


def test_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    (line,) = lines(tmp_path, commit(Failure(0, Kind.LOST, "the worker was lost", "")))
    assert set(line) == {"item", "mini_batch", "attempts", "kind", "message", "log", "fingerprint"}


def test_an_item_without_a_result_has_what_its_mini_batch_took(tmp_path: Path) -> None:
    item = ItemFailure(4, "x", Kind.BAD_OUTPUT, "too few", LOG, seconds=0.5, place="node/process001", peak_memory=7)
    (line,) = lines(tmp_path, commit(item_failures=(item,)))
    assert (line["seconds"], line["place"], line["peak_memory"]) == (0.5, "node/process001", 7)
    assert line["fingerprint"] == fingerprint("bad_output too few", "")
    assert "traceback" not in line


def test_a_failure_of_a_moment_has_its_seconds(tmp_path: Path) -> None:
    (line,) = lines(tmp_path, commit(raised(0, seconds=0.000012)))
    assert line["seconds"] == 0.000012


@pytest.mark.parametrize("last", ["ValueError: b.png", "ValueError: " + "x" * 1_000, "y" * 50_000, ""])
@pytest.mark.parametrize("frames", [FRAMES, FRAMES + '\n  File "/lib.py", line 1, in f' * 500, "z" * 50_000, ""])
def test_a_traceback_keeps_its_end(tmp_path: Path, frames: str, last: str) -> None:
    whole = f"{frames}\n{last}".strip()
    found = lines(tmp_path, commit(raised(0, frames, last)))[0].get("traceback", "")
    assert len(found) <= TRACEBACK_CHARACTERS
    assert found.removeprefix("…\n") in whole
    assert found[-300:] == whole[-300:]
    assert found == whole or len(whole) > TRACEBACK_CHARACTERS - 500


def test_the_frames_of_a_bundle_stand_in_its_record_once() -> None:
    frames = FRAMES + "\n    and so on" * 500
    one, many = (len(json.dumps(commit(*(raised(n, frames, f"E: {n}") for n in range(size))))) for size in (1, 101))
    assert many - one < 100 * 500


def test_each_failure_of_a_bundle_has_its_own_traceback(tmp_path: Path) -> None:
    failures = [raised(n, FRAMES.replace("run", f"f{n % 2}"), f"E: {n}") for n in range(6)]
    assert [line["traceback"] for line in lines(tmp_path, commit(*failures))] == [
        f.traceback.rstrip() for f in failures
    ]


def test_a_journal_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    failure = {"index": 0, "kind": "raise", "message": "run() raised E", "log": LOG, "seconds": 0.0}
    item = {"index": 1, "item": "x", "items": 1, "attempts": 1, "kind": "input", "message": "gone", "log": LOG}
    record = {
        **commit(),
        "item_failures": [item],
        "given_up": [{"attempts": 3, "failure": failure}],
    }
    first, second = lines(tmp_path, record)
    assert first.keys() == second.keys() == {"item", "mini_batch", "attempts", "kind", "message", "log", "fingerprint"}
    assert first["fingerprint"] == fingerprint("raise run() raised E", "")


def test_naming_more_failures_takes_no_more_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "ROWS_AT_HAND", 64)

    def peak(records: int) -> int:
        path = tmp_path / str(records)
        path.mkdir()
        bundles = (commit(*(raised(50 * n + i, FRAMES, f"E: {i}") for i in range(50))) for n in range(records))
        account = account_of(path / "journal", *bundles)
        tracemalloc.start()
        try:
            for _ in account.failed_items(lambda index, start=0, stop=None: [Named(f"{index}.png")]):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = peak(10), peak(60)
    assert many < few + 2_500 * 100  # a line is some times as long
