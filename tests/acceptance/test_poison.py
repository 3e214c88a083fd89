"""Poison items end to end: they alone fail, each is named with its kind, and all others have their rows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from daskscore.core.layout import Layout
from tests.consistency import check
from tests.servers import S3Server
from tests.support import Finished, Workbench, processes_with, wait_until

pytest_plugins = ["tests.servers"]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_left_behind")]

CALLED = """
import os, time

def called(what):
    calls = os.open(os.environ["CALLS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(calls, f"{what}\\n".encode())
    os.close(calls)
"""
RECORDS = """
def score(n):
    if n == 1234:
        raise ValueError(f"{n} is bad")
    if n == 5678:
        os._exit(3)
    if n == 9012:
        time.sleep(1000)
    return n * n

def run(frame):
    called(len(frame))
    return [f"{n} {score(n)}" for n in frame["n"]]
"""
FILES = """
def score(path):
    name = os.path.basename(path)
    if "bad" in name:
        raise ValueError(f"{name} is bad")
    if "dead" in name:
        os._exit(3)
    return name

def run(mini_batch):
    called(len(mini_batch))
    return [score(path) for path in mini_batch]
"""


class Poisoned:
    """A job that counts each call of run()."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.calls = bench.folder / "calls"

    @property
    def called(self) -> int:
        return len(self.calls.read_bytes().splitlines())

    def words(self, *settings: str, entry: str | None = None) -> list[str]:
        words = ["--process-count-per-node", "2"]
        words += ["--input", entry] if entry else []
        variables = f"environment_variables={{CALLS: {str(self.calls)!r}}}"
        return [*words, *(word for setting in (variables, *settings) for word in ("--set", setting))]

    def score(self, script: str, *settings: str, ends: int = 0, entry: str | None = None, **checks: Any) -> Finished:
        """In one go; what it leaves says one thing."""
        self.bench.script(CALLED + script)
        return self.go_on(*settings, ends=ends, entry=entry, **checks)

    def go_on(self, *settings: str, ends: int = 0, entry: str | None = None, how: str = "", **checks: Any) -> Finished:
        done = self.bench.run(*self.words(*settings, entry=entry), *([how] if how else []))
        assert done.code == ends, done.stderr
        if ends != 2:
            check(done.output, **checks)
        return done


@pytest.fixture
def job(bench: Workbench) -> Poisoned:
    return Poisoned(bench)


def table(bench: Workbench, suffix: str = "csv", rows: int = 10_000) -> str:
    frame = pd.DataFrame({"n": range(rows), "word": [f"word {n}" for n in range(rows)]})
    path = bench.folder / f"t.{suffix}"
    if suffix == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, row_group_size=330)
    return f"{{path: {path}, type: tabular}}"


def failed(done: Finished) -> list[tuple[str, str]]:
    """(item without its folder, kind)"""
    return [(Path(line["item"]).name, line["kind"]) for line in done.failed_items]


def names(number: int, *bad: str) -> list[str]:
    """So many files; those of bad names in places of their own."""
    found = [f"f{index:04d}" for index in range(number)]
    for name in bad:
        found[int(name[:4])] = f"f{name}"
    return found


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_three_records_of_ten_thousand_fail_alone(job: Poisoned, suffix: str) -> None:
    done = job.score(RECORDS, "mini_batch_size=50 rows", "run_invocation_timeout=1", entry=table(job.bench, suffix))
    good = [n for n in range(10_000) if n not in (1234, 5678, 9012)]
    assert done.rows == [f"{n} {n * n}" for n in good]
    assert failed(done) == [
        (f"t.{suffix} row 1234", "raise"),
        (f"t.{suffix} row 5678", "crash"),
        (f"t.{suffix} row 9012", "timeout"),
    ]
    assert [line["mini_batch"] for line in done.failed_items] == [24, 113, 180]
    report = done.report
    assert report["items"] == {"total": 10_000, "succeeded": 9_997, "failed": 3}
    assert (report["mini_batches"]["total"], report["mini_batches"]["failed"]) == (200, 3)
    assert job.called - 200 <= 40
    assert 0 < report["isolation_attempts"] <= 40
    assert all(line["attempts"] >= 3 and (done.output / line["log"]).exists() for line in done.failed_items)


def test_three_files_of_one_large_mini_batch_fail_alone(job: Poisoned) -> None:
    found = names(1000, "0007 bad", "0500 dead", "0999 bad")
    job.bench.inputs(*found)
    done = job.score(FILES, "mini_batch_size=1000")
    assert done.rows == [name for name in found if "bad" not in name and "dead" not in name]
    assert failed(done) == [("f0007 bad", "raise"), ("f0500 dead", "crash"), ("f0999 bad", "raise")]
    assert job.called - 1 <= 60
    assert done.report["mini_batches"] == {"total": 1, "succeeded": 0, "failed": 1}


def test_an_item_that_takes_too_much_memory_fails_alone(job: Poisoned) -> None:
    job.bench.inputs(*names(16, "0011 bad"))
    done = job.score(
        """
        import time

        def run(mini_batch):
            called(len(mini_batch))
            for path in mini_batch:
                if "bad" in path:
                    hoard = bytearray(b"x") * (1 << 30)
                    time.sleep(60)
            return [os.path.basename(path) for path in mini_batch]
        """.replace("\n        ", "\n"),
        "mini_batch_size=16",
        "memory_limit_per_process=400MB",
    )
    assert done.rows == names(16)[:11] + names(16)[12:]
    assert failed(done) == [("f0011 bad", "memory")]


@pytest.mark.parametrize("result", ["object()", "Unspeakable()", "'\\udc80'"])
def test_an_item_whose_result_cannot_be_written_fails_alone(job: Poisoned, result: str) -> None:
    job.bench.inputs(*names(8, "0003 bad"))
    done = job.score(
        f"""
class Unspeakable(dict):
    def items(self):
        raise RuntimeError("no words")
    __iter__ = keys = values = items

def run(mini_batch):
    called(len(mini_batch))
    return [{{"name": os.path.basename(path), "x": {result} if "bad" in path else 1}} for path in mini_batch]
""",
        "mini_batch_size=8",
        "append_row_format=jsonl",
        ends=0,
    )
    rows = [json.loads(line) for line in (done.output / "parallel_run_step.txt").read_text().splitlines()]
    if done.failed_items:
        assert [row["name"] for row in rows] == [name for name in names(8) if name != "f0003"]
        assert failed(done) == [("f0003 bad", "bad_output")]
    else:
        assert len(rows) == 8


DICTIONARIES = """
def run(mini_batch):
    called(len(mini_batch))
    names = [os.path.basename(path) for path in mini_batch]
    if any("bad" in name for name in names):
        raise ValueError("bad")
    return [{"name": name, "number": int(name[1:])} for name in names]
"""
FRAMES = """
import pandas

def run(frame):
    called(len(frame))
    if (frame["n"] % 50 == 7).any():
        raise ValueError("bad")
    return frame.assign(half=frame["n"] / 2)
"""


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_rows_of_divided_mini_batches_in_each_format(job: Poisoned, form: str) -> None:
    found = names(24, "0003 bad", "0012 bad")
    job.bench.inputs(*found)
    done = job.score(DICTIONARIES, "mini_batch_size=8", f"append_row_format={form}")
    path = next(path for path in done.output.iterdir() if path.name.startswith("parallel_run_step"))
    match form:
        case "jsonl":
            rows = [json.loads(line) for line in path.read_text().splitlines()]
        case "csv":
            rows = pd.read_csv(path).to_dict("records")
        case _:
            rows = pd.read_parquet(path).to_dict("records")
    good = [index for index in range(24) if index not in (3, 12)]
    assert rows == [{"name": f"f{index:04d}", "number": index} for index in good]
    assert failed(done) == [("f0003 bad", "raise"), ("f0012 bad", "raise")]


@pytest.mark.parametrize(
    "settings", [["append_row_header=true"], ["append_row_format=csv"], ["append_row_format=parquet"]], ids=str
)
def test_frames_of_divided_mini_batches_have_one_header(job: Poisoned, settings: list[str]) -> None:
    done = job.score(
        FRAMES,
        "mini_batch_size=20 rows",
        *settings,
        entry=table(job.bench, rows=100),
        logs_may_lack=False,
        rows_are_lines="append_row_header=true" not in settings,
    )
    path = next(path for path in done.output.iterdir() if path.name.startswith("parallel_run_step"))
    if path.suffix == ".parquet":
        frame = pd.read_parquet(path)
    else:
        frame = pd.read_csv(path, sep="," if path.suffix == ".csv" else " ")
    assert frame["n"].tolist() == [n for n in range(100) if n % 50 != 7]
    assert list(frame.columns) == ["n", "word", "half"]
    assert failed(done) == [("t.csv row 7", "raise"), ("t.csv row 57", "raise")]


def test_each_result_stands_beside_its_own_file(job: Poisoned) -> None:
    found = names(20, "0003 bad", "0012 dead")
    folder = job.bench.inputs(*found)
    done = job.score(FILES, "mini_batch_size=10", "join=key", "append_row_format=csv")
    frame = pd.read_csv(done.output / "parallel_run_step.csv")
    good = [name for name in found if "bad" not in name and "dead" not in name]
    assert frame["item"].tolist() == [str(folder / name) for name in good]
    assert frame.iloc[:, 1].tolist() == good


def test_each_result_stands_beside_its_own_record(job: Poisoned) -> None:
    done = job.score(
        FRAMES, "mini_batch_size=20 rows", "join=key", "append_row_format=csv", entry=table(job.bench, rows=100)
    )
    frame = pd.read_csv(done.output / "parallel_run_step.csv")
    assert frame["row"].tolist() == frame["n"].tolist() == [n for n in range(100) if n % 50 != 7]


@pytest.mark.parametrize("what", ["files", "records"])
def test_items_of_a_storage_are_brought_for_each_share(job: Poisoned, s3: S3Server, what: str) -> None:
    found = names(24, "0003 bad", "0012 dead")
    text = pd.DataFrame({"n": range(100), "word": "w"}).to_csv(index=False).encode()
    s3.put("poison", {**{f"files/{name}": name.encode() for name in found}, "t.csv": text})
    options = json.dumps(s3.options)
    if what == "files":
        entry = f"{{path: 's3://poison/files/', storage_options: {options}}}"
        done = job.score(FILES, "mini_batch_size=8", entry=entry)
        assert done.rows == [name for name in found if "bad" not in name and "dead" not in name]
        assert failed(done) == [("f0003 bad", "raise"), ("f0012 dead", "crash")]
        assert all(line["item"].startswith("s3://poison/") for line in done.failed_items)
    else:
        entry = f"{{path: 's3://poison/t.csv', type: tabular, storage_options: {options}}}"
        done = job.score(FRAMES, "mini_batch_size=20 rows", "append_row_format=csv", entry=entry)
        frame = pd.read_csv(done.output / "parallel_run_step.csv")
        assert frame["n"].tolist() == [n for n in range(100) if n % 50 != 7]
        assert failed(done) == [("t.csv row 7", "raise"), ("t.csv row 57", "raise")]


HELD = FILES.replace(
    "    called(len(mini_batch))\n",
    """    called(len(mini_batch))
    while len(mini_batch) == 2 and os.path.exists(os.environ["CALLS"] + " hold"):
        time.sleep(0.01)
""",
)


@contextmanager
def started(job: Poisoned, *settings: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [*job.bench.command(), *job.words(*settings)]
    process = subprocess.Popen(command, cwd=job.bench.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_driver_that_is_killed_while_it_divides_leaves_nothing_half(job: Poisoned, nothing_left_behind: str) -> None:
    found = names(40, "0003 bad", "0012 dead", "0013 bad")
    job.bench.inputs(*found)
    job.bench.script(CALLED + HELD)
    hold = job.bench.folder / "calls hold"
    hold.touch()
    with started(job, "mini_batch_size=8") as driver:
        wait_until(lambda: job.calls.exists() and b"2\n" in job.calls.read_bytes(), "a share of two items", 60)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    wait_until(lambda: not processes_with(nothing_left_behind), "the end of the scorers", 30)
    hold.unlink()
    assert Layout(job.bench.output).journal.exists()
    done = job.go_on("mini_batch_size=8", how="--resume")
    assert done.rows == [name for name in found if "bad" not in name and "dead" not in name]
    assert failed(done) == [("f0003 bad", "raise"), ("f0012 dead", "crash"), ("f0013 bad", "raise")]
    assert done.report["items"] == {"total": 40, "succeeded": 37, "failed": 3}


def test_a_run_that_failed_divides_anew_when_it_goes_on(job: Poisoned) -> None:
    found = names(24, "0003 bad", "0012 bad")
    folder = job.bench.inputs(*found)
    failing = job.score(
        FILES.replace('"bad" in name', 'open(path).read() != ""'),
        "mini_batch_size=8",
        "mini_batch_error_threshold=1",
        ends=1,
    )
    assert failing.report["status"] == "Failed"
    for path in folder.iterdir():
        path.write_text("" if "bad" not in path.name else "poison")
    done = job.go_on("mini_batch_size=8", "mini_batch_error_threshold=2", how="--resume")
    assert done.rows == [name for name in found if "bad" not in name]
    assert failed(done) == [("f0003 bad", "raise"), ("f0012 bad", "raise")]
    assert done.report["items"] == {"total": 24, "succeeded": 22, "failed": 2}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("error_threshold=1", "2 items failed, more than error_threshold allows (1)"),
        ("mini_batch_error_threshold=1", "2 mini-batches failed, more than mini_batch_error_threshold allows (1)"),
        ("allowed_failed_count=1", "2 mini-batches are failing, more than allowed_failed_count allows (1)"),
        ("allowed_failed_percent=60", "2 of 3 mini-batches failed, more than allowed_failed_percent allows (60 %)"),
    ],
)
def test_poison_items_pass_thresholds(job: Poisoned, setting: str, message: str) -> None:
    job.bench.inputs(*names(24, "0003 bad", "0012 bad"))
    done = job.score(FILES, "mini_batch_size=8", setting, ends=1)
    assert message in done.report["message"]
    if setting.startswith("error"):
        assert {name for name, _ in failed(done)} >= {"f0003 bad", "f0012 bad"}, "those that the message counts"


@pytest.mark.parametrize(
    "setting",
    ["error_threshold=2", "mini_batch_error_threshold=2", "allowed_failed_count=2", "allowed_failed_percent=67"],
)
def test_poison_items_within_thresholds_fail_no_run(job: Poisoned, setting: str) -> None:
    job.bench.inputs(*names(24, "0003 bad", "0012 bad"))
    done = job.score(FILES, "mini_batch_size=8", setting)
    assert done.report["items"] == {"total": 24, "succeeded": 22, "failed": 2}
    assert done.report["mini_batches"] == {"total": 3, "succeeded": 1, "failed": 2}


def test_a_job_that_wants_whole_mini_batches_gets_them(job: Poisoned) -> None:
    found = names(16, "0003 bad")
    job.bench.inputs(*found)
    done = job.score(FILES, "mini_batch_size=8", "on_item_error=fail_mini_batch")
    assert done.rows == found[8:]
    assert failed(done) == [(name, "raise") for name in found[:8]]
    assert {line["attempts"] for line in done.failed_items} == {3}
    assert (job.called, done.report["isolation_attempts"]) == (4, 0)


def test_attempts_that_are_used_up_are_said_in_each_failure(job: Poisoned) -> None:
    found = names(16, "0012 bad")
    job.bench.inputs(*found)
    done = job.score(FILES, "mini_batch_size=16", "isolation_attempts=2")
    assert (job.called, done.report["isolation_attempts"]) == (4, 2)
    assert done.rows == found[:12]
    assert failed(done) == [(name, "raise") for name in found[12:]]
    assert all("isolation_attempts are used up" in line["message"] for line in done.failed_items)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["on_item_error=isolat"], "on_item_error"),
        (["on_item_error=[isolate]"], "on_item_error"),
        (["isolation_attempts=-2"], "isolation_attempts"),
        (["isolation_attempts=many"], "isolation_attempts"),
        (["on_item_error=isolate", "partition_keys=[n]"], "Remove one of the two"),
    ],
)
def test_values_that_cannot_be_are_refused_before_any_work(job: Poisoned, settings: list[str], message: str) -> None:
    done = job.score(FRAMES, *settings, entry=table(job.bench, rows=10), ends=2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not job.calls.exists()


def test_what_keys_bring_together_is_never_divided(job: Poisoned) -> None:
    done = job.score(FRAMES, "partition_keys=[word]", "append_row_format=csv", entry=table(job.bench, rows=10))
    assert done.report["isolation_attempts"] == 0
    assert done.report["items"]["failed"] == 1


# What an attacker would try.


def test_names_of_any_sort_are_named_as_they_are(job: Poisoned) -> None:
    found = ["a bad\nname", "b bad é\udc80", "c rows 3-4 bad", "d\twell", "e\"'well", "f {well}", "g,well", "-well"]
    job.bench.inputs(*found)
    done = job.score(FILES.replace("return name", "return repr(name)"), "mini_batch_size=8")
    assert sorted(done.rows) == sorted(repr(name) for name in found if "bad" not in name)
    assert sorted(Path(line["item"]).name for line in done.failed_items) == sorted(n for n in found if "bad" in n)


def test_an_item_that_is_there_twice_fails_twice(job: Poisoned) -> None:
    folder = job.bench.inputs("a", "b bad", "c")
    job.bench.script(CALLED + FILES)
    done = job.go_on("mini_batch_size=2", f"inputs=['{folder}', '{folder}', '{folder}/b bad']")
    assert failed(done) == [("b bad", "raise")] * len(done.failed_items)
    assert done.report["items"]["succeeded"] == len(done.rows)


def test_one_may_go_on_with_another_on_item_error(job: Poisoned) -> None:
    found = names(16, "0003 bad", "0012 bad")
    job.bench.inputs(*found)
    job.score(FILES, "mini_batch_size=8", "mini_batch_error_threshold=0", ends=1)
    done = job.go_on("mini_batch_size=8", "on_item_error=fail_mini_batch", how="--resume", ends=1)
    assert len(done.failed_items) == 16
    done = job.go_on("mini_batch_size=8", how="--resume")
    assert done.rows == [name for name in found if "bad" not in name]
    assert len(done.failed_items) == 2


def test_a_generator_that_raises_midway_leaves_no_row_twice(job: Poisoned) -> None:
    found = names(16, "0003 bad", "0012 bad")
    job.bench.inputs(*found)
    script = FILES.replace("return [score(path) for path in mini_batch]", "yield from map(score, mini_batch)")
    done = job.score(script, "mini_batch_size=8")
    assert done.rows == [name for name in found if "bad" not in name]


def test_results_that_are_only_counted(job: Poisoned) -> None:
    job.bench.inputs(*names(16, "0003 bad", "0012 bad"))
    done = job.score(FILES, "mini_batch_size=8", "output_action=summary_only", "on_item_error=isolate")
    assert done.report["items"] == {"total": 16, "succeeded": 14, "failed": 2}
    assert failed(done) == [("f0003 bad", "raise"), ("f0012 bad", "raise")]


def test_values_that_do_not_go_into_one_column_are_the_fault_of_their_mini_batch(job: Poisoned) -> None:
    """Divided, each value would have a column of its own, and the run would fail when they are put together."""
    found = names(16, "0003 bad")
    job.bench.inputs(*found)
    done = job.score(
        """
def run(mini_batch):
    called(len(mini_batch))
    return [{"x": "text" if "bad" in path else 1} for path in mini_batch]
""",
        "mini_batch_size=8",
        "append_row_format=parquet",
    )
    assert {kind for _, kind in failed(done)} == {"bad_output"}


def test_a_single_mini_batch_of_nothing_but_poison_fails_the_run(job: Poisoned) -> None:
    job.bench.inputs(*names(8, *(f"{index:04d} bad" for index in range(8))))
    done = job.score(FILES, "mini_batch_size=8", ends=1)
    assert "no succeeded mini batch item" in done.report["message"]
    assert len(done.failed_items) == 8


def test_a_sum_is_no_result_of_an_item_that_stands_alone(job: Poisoned) -> None:
    """Divided into single items, each sum would look like the one result that `join` wants."""
    job.bench.inputs(*names(8))
    script = "def run(mini_batch):\n    called(len(mini_batch))\n    return [len(mini_batch)]\n"
    done = job.score(script, "mini_batch_size=4", "join=key", ends=1)
    assert {kind for _, kind in failed(done)} == {"bad_output"}
    assert len(done.failed_items) == 8
