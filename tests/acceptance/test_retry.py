"""What failed in a run that is over is scored again, alone, and the output is as if nothing had ever failed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from distributed import Client

import daskscore
from daskscore.core.layout import Layout
from daskscore.driver import journal
from tests import consistency
from tests.servers import S3Server
from tests.support import Finished, Workbench, wait_until

pytest_plugins = ["tests.servers"]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_left_behind")]

SCRIPT = """
    import os, time
    import pandas as pd

    BROKEN = {broken!r}
    CALLS = {calls!r}
    STOP = {stop!r}

    def called(names):
        file = os.open(CALLS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, "".join(f"{{name}}\\n" for name in names).encode())
        os.close(file)

    def score(name):
        for word in BROKEN:
            if word != "short" and word in name:
                os._exit(3) if word == "dead" else None
                raise ValueError(f"{{name}} is {{word}}")
        return name

    def run(mini_batch):
        names = [str(name) for name in mini_batch["name"]] if hasattr(mini_batch, "columns") else [
            os.path.basename(path) for path in mini_batch
        ]
        called(names)
        if STOP and any("bad" in name for name in names):
            open(STOP, "w").close()
            time.sleep(600)
        rows = [score(name) for name in names if not ("short" in name and "short" in BROKEN)]
        return {returns}
"""
TEXTS = "rows"
FRAME = "pd.DataFrame({'name': rows, 'length': [len(row) for row in rows]})"

NAMES = [f"f{n:02d}" for n in range(40)]
NAMES[3], NAMES[10], NAMES[39] = "f03bad", "f10dead", "f39short"
NAMES[24:32] = [f"{name}bad" for name in NAMES[24:32]]
FAILED = ["f03bad", "f10dead", *NAMES[24:32], "f39short"]
AROUND_SHORT = NAMES[32:40]

FORMATS = {
    "text": (TEXTS, ()),
    "header": (FRAME, ("append_row_header=true",)),
    "jsonl": (FRAME, ("append_row_format=jsonl",)),
    "csv": (FRAME, ("append_row_format=csv",)),
    "parquet": (FRAME, ("append_row_format=parquet",)),
}


class Job:
    """A job over files of which some fail, until its script is mended."""

    def __init__(self, bench: Workbench, returns: str = TEXTS, settings: tuple[str, ...] = (), entry: str = "") -> None:
        self.bench = bench
        self.returns = returns
        self.settings = settings
        self.entry = entry
        self.calls = bench.folder / "calls"
        if not entry:
            bench.inputs(*NAMES)

    def script(self, *broken: str, stop: Path | None = None) -> None:
        """These words in a name make it fail."""
        self.calls.unlink(missing_ok=True)
        stops = str(stop) if stop else ""
        text = SCRIPT.format(broken=broken, calls=str(self.calls), stop=stops, returns=self.returns)
        self.bench.script(text)

    @property
    def called(self) -> list[str]:
        """What reached run()."""
        return sorted(self.calls.read_text().split()) if self.calls.exists() else []

    def words(self, *words: str) -> list[str]:
        settings = (*self.settings, "mini_batch_size=8 rows" if self.entry else "mini_batch_size=8")
        entry = ["--input", self.entry] if self.entry else []
        return [*entry, "--process-count-per-node", "2", *(w for s in settings for w in ("--set", s)), *words]

    def run(self, *words: str, ends: int = 0) -> Finished:
        done = self.bench.run(*self.words(*words))
        assert done.code == ends, done.stderr
        return done

    def retry(self, *words: str, ends: int = 0) -> Finished:
        done = self.bench.daskscore("retry", self.bench.output, *words)
        assert done.code == ends, done.stderr
        return done

    def rows(self, folder: Path | None = None) -> bytes:
        folder = folder or self.bench.output
        return (
            folder / json.loads((folder / ".daskscore" / "job.json").read_text())["append_row_file_name"]
        ).read_bytes()

    def check(self, **checks: Any) -> None:
        """What it has left says one thing."""
        lines = "append_row_header=true" not in self.settings
        consistency.check(self.bench.output, rows_are_lines=lines, **checks)

    def rows_without_failures(self) -> bytes:
        """Of the mended script, in another folder."""
        folder = self.bench.folder / "clean"
        self.run("--output", str(folder))
        return self.rows(folder)


def failed_names(done: Finished) -> list[str]:
    return [Path(line["item"]).name for line in done.failed_items]


@pytest.mark.parametrize("form", FORMATS)
def test_it_scores_what_failed_and_merges_it(bench: Workbench, form: str) -> None:
    job = Job(bench, *FORMATS[form])
    job.script("bad", "dead", "short")
    first = job.run()
    assert failed_names(first) == FAILED
    before, tried = first.report["attempts"], first.failed_items[1]["attempts"]

    job.script("dead")
    done = job.retry()
    assert "score.py has changed since" in done.stderr
    assert job.called == sorted([*FAILED[:1], *["f10dead"] * 3, *NAMES[24:32], *AROUND_SHORT])
    assert failed_names(done) == ["f10dead"]
    assert done.report["items"] == {"total": 40, "succeeded": 39, "failed": 1}
    assert done.failed_items[0]["attempts"] == tried + 3
    job.check()

    job.script()
    done = job.retry()
    assert job.called == ["f10dead"]
    assert done.failed_items == []
    assert done.report["items"] == {"total": 40, "succeeded": 40, "failed": 0}
    assert done.report["attempts"] > before
    job.check(rows=job.rows_without_failures())


def test_records_that_failed_are_scored_alone(bench: Workbench) -> None:
    path = bench.folder / "t.csv"
    pd.DataFrame({"name": NAMES, "n": range(40)}).to_csv(path, index=False)
    job = Job(bench, FRAME, ("append_row_format=csv",), entry=f"{{path: {path}, type: tabular}}")
    job.script("bad", "dead")
    assert failed_names(job.run()) == [f"t.csv row {n}" for n in (3, 10, *range(24, 32))]
    job.script()
    assert job.retry().failed_items == []
    assert job.called == sorted([*FAILED[:-1]])
    job.check(rows=job.rows_without_failures())


def test_mini_batches_that_were_given_up_are_scored_anew_as_a_whole(bench: Workbench) -> None:
    job = Job(bench, settings=("on_item_error=fail_mini_batch",))
    job.script("bad")
    assert len(job.run().failed_items) == 16
    job.script()
    done = job.retry()
    assert job.called == sorted(NAMES[:8] + NAMES[24:32])
    job.check(rows=job.rows_without_failures())
    assert done.failed_items == []


def test_a_failed_run_is_scored_to_its_end(bench: Workbench) -> None:
    job = Job(bench, settings=("error_threshold=0",))
    job.script("bad")
    assert job.run(ends=1).report["status"] == "Failed"
    job.script()
    done = bench.run(*job.words("--retry"))
    assert (done.code, done.failed_items) == (0, [])
    job.check(rows=job.rows_without_failures())


def test_thresholds_count_what_still_fails(bench: Workbench) -> None:
    job = Job(bench)
    job.script("bad")
    job.run()
    rows = job.rows()
    job.script("bad", "short")
    done = job.retry("--set", "error_threshold=8", ends=1)
    assert done.report["status"] == "Failed"
    assert "more than error_threshold allows (8)" in done.stderr
    assert job.rows() == rows
    job.check()
    job.script()
    job.retry()
    job.check(rows=job.rows_without_failures())


def test_rows_that_are_only_counted(bench: Workbench) -> None:
    job = Job(bench, settings=("output_action=summary_only", "on_item_error=isolate"))
    job.script("bad", "short")
    job.run()
    job.script()
    done = job.retry()
    assert (done.report["items"]["succeeded"], done.report["rows"], done.failed_items) == (40, 40, [])
    assert job.called == sorted(["f03bad", *NAMES[24:32], *AROUND_SHORT])
    job.check()


@pytest.mark.parametrize("how", ["retry", "--resume"])
@pytest.mark.parametrize("form", ["header", "csv"])
def test_a_driver_that_is_killed_while_it_scores_goes_on(bench: Workbench, form: str, how: str) -> None:
    job = Job(bench, *FORMATS[form])
    job.script("bad", "dead", "short")
    job.run()
    rows = job.rows()
    begun = bench.folder / "begun"
    job.script("dead", stop=begun)
    command = [sys.executable, "-m", "daskscore", "retry", str(bench.output)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as driver:
        wait_until(begun.exists, "a bad item at run()", 60)
        driver.send_signal(signal.SIGKILL)
    assert job.rows() == rows
    job.script()
    done = job.retry() if how == "retry" else job.run("--resume", "--accept-script-change")
    assert done.failed_items == []
    assert not set(job.called) - {*FAILED, *AROUND_SHORT}
    job.check(rows=job.rows_without_failures())


KILLED = """
import os, signal, sys
from importlib import import_module
place, when, *words = sys.argv[1:]
module, name = place.split(":")
owner = import_module(module)
*way, last = name.split(".")
for step in way:
    owner = getattr(owner, step)
real = getattr(owner, last)
def stop(*args, **options):
    if when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    real(*args, **options)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(owner, last, stop)
sys.argv = ["daskscore", *words]
from daskscore.cli import main
main()
"""
INSTANTS = [
    ("daskscore.driver.claim:Claim.store", "after", False),
    ("daskscore.driver.retrying:begin", "before", False),
    ("daskscore.driver.retrying:begin", "after", False),
    ("daskscore.driver.journal:Journal.append", "after", True),
    ("daskscore.driver.results:assemble", "before", True),
    ("daskscore.driver.results:assemble", "after", True),
    ("daskscore.driver.results:write_report", "after", True),
    ("daskscore.driver.results:remove_parts", "before", True),
    ("daskscore.driver.results:remove_parts", "after", True),
]


@pytest.mark.parametrize(("place", "when", "begun"), INSTANTS)
@pytest.mark.parametrize("form", ["header", "parquet"])
def test_a_driver_that_is_killed_at_any_instant_goes_on(
    bench: Workbench, form: str, place: str, when: str, begun: bool
) -> None:
    job = Job(bench, *FORMATS[form])
    job.script("bad", "short")
    job.run()
    job.script()
    words = [sys.executable, "-c", KILLED, place, when, "retry", str(bench.output)]
    assert subprocess.run(words, capture_output=True, timeout=100).returncode == -signal.SIGKILL
    done = job.run("--resume") if begun else job.retry()
    assert done.failed_items == []
    rows = job.rows_without_failures()
    job.check(rows=rows)
    assert "nothing failed" in job.retry().stderr
    assert job.rows() == rows


def test_a_run_in_which_nothing_failed_stays_as_it_is(bench: Workbench) -> None:
    job = Job(bench)
    job.script()
    job.run()
    before = {path: path.stat().st_mtime_ns for path in bench.output.rglob("*") if path.is_file()}
    done = job.retry()
    assert f"nothing failed in {bench.output}" in done.stderr
    assert done.stdout.startswith("Completed: 5 of 5 mini-batches")
    after = {path: path.stat().st_mtime_ns for path in bench.output.rglob("*") if path.is_file()}
    before.pop(Layout(bench.output).lock), after.pop(Layout(bench.output).lock)
    assert before == after


def test_what_cannot_be_retried_says_why(bench: Workbench) -> None:
    job = Job(bench)
    assert "there is no run in" in job.retry(ends=2).stderr
    job.script("bad")
    job.run()
    assert "arguments was [] and is ['--x', '1'] now" in job.retry("--", "--x", "1", ends=2).stderr
    assert "append_row_header was False and is True" in job.retry("--set", "append_row_header=true", ends=2).stderr
    assert "Give one of the two" in job.run("--retry", "--resume", ends=2).stderr
    path = bench.output / "parallel_run_step.txt"
    text = path.read_text()
    path.write_text(text + "more\n")
    assert "it was changed since" in job.retry(ends=2).stderr
    path.write_text(text)
    assert [line["item"] for line in job.retry().failed_items] == bad_items(bench)


def bad_items(bench: Workbench) -> list[str]:
    return [str(bench.folder / "in" / name) for name in NAMES if "bad" in name]


def test_a_run_that_was_interrupted_is_for_resume(bench: Workbench) -> None:
    job = Job(bench)
    begun = bench.folder / "begun"
    job.script(stop=begun)
    with subprocess.Popen(bench.command(*job.words()), stderr=subprocess.DEVNULL) as driver:
        wait_until(begun.exists, "a bad item at run()", 60)
        held = job.retry(ends=2)
        driver.send_signal(signal.SIGKILL)
    assert f"is in use by process {driver.pid}" in held.stderr
    assert "Run it with --resume" in job.retry(ends=2).stderr


def test_settings_that_are_not_kept_are_named(bench: Workbench) -> None:
    job = Job(bench, settings=("environment_variables={TOKEN: s3cret}",))
    job.script("bad")
    job.run()
    assert "s3cret" not in Layout(bench.output).job.read_text()
    done = job.retry(ends=2)
    assert "the environment_variables of the run" in done.stderr
    assert "daskscore run job.yml --retry" in done.stderr
    job.script()
    assert job.run("--retry").failed_items == []


def test_a_cancelled_retry_goes_on_with_another(bench: Workbench) -> None:
    job = Job(bench)
    job.script("bad")
    job.run()
    begun = bench.folder / "begun"
    job.script(stop=begun)
    command = [sys.executable, "-m", "daskscore", "retry", str(bench.output)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as driver:
        wait_until(begun.exists, "a bad item at run()", 60)
        driver.send_signal(signal.SIGINT)
    assert driver.returncode == 130
    job.check(logs_may_lack=True)
    job.script()
    job.retry()
    job.check(rows=job.rows_without_failures(), logs_may_lack=True)


@pytest.mark.parametrize("form", ["header", "csv"])
def test_an_output_in_a_storage_is_retried_on_any_machine(
    bench: Workbench, client: Client, s3: S3Server, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    returns, settings = FORMATS[form]
    job = Job(bench, returns)
    job.script("bad", "short")
    s3.put(f"retry-{form}", {})
    output = {"path": f"s3://retry-{form}/out/", "storage_options": s3.options}
    keys: dict[str, Any] = dict(setting.split("=") for setting in settings)
    how: dict[str, Any] = {"entry_script": bench.folder / "score.py", "inputs": bench.folder / "in", **keys}
    monkeypatch.setenv("DASKSCORE_CACHE", str(bench.folder / "cache"))
    report = daskscore.run(**how, output=output, mini_batch_size=8, client=client)
    assert (report.status, report.items.failed) == ("Completed", 10)
    for number in range(2):
        job.script(*["bad"][number:])
        monkeypatch.setenv("DASKSCORE_CACHE", str(bench.folder / f"cache{number}"))
        report = daskscore.retry(output, client=client)
        assert (report.status, report.items.failed) == ("Completed", [9, 0][number])
    again = daskscore.retry(output, client=client)
    assert (again.status, again.attempts) == ("Completed", report.attempts)
    clean = daskscore.run(**how, output=bench.output, mini_batch_size=8, client=client)
    assert fetched(s3, output, Path(report.output).name) == Path(clean.output).read_bytes()
    assert fetched(s3, output, "failed_items.jsonl") is None


def fetched(s3: S3Server, output: dict[str, Any], name: str) -> bytes | None:
    from daskscore.driver.remote_folder import RemoteFolder

    return RemoteFolder(output["path"], output["storage_options"]).read(name)


def test_many_retries_stand_in_one_journal(bench: Workbench, client: Client) -> None:
    job = Job(bench)
    how: dict[str, Any] = {
        "entry_script": bench.folder / "score.py",
        "inputs": bench.folder / "in",
        "mini_batch_size": 8,
    }
    job.script(*(f"f{n}" for n in range(24, 32)), "f03", "short")
    daskscore.run(**how, output=bench.output, client=client)
    for left in range(31, 23, -1):
        job.script(*(f"f{n}" for n in range(24, left)))
        report = daskscore.retry(bench.output, client=client)
        assert report.items.failed == left - 24
        job.check()
    records = [record["record"] for _, record in journal.read(Layout(bench.output).journal)]
    assert records.count("retry") == 8
    assert (bench.output / "parallel_run_step.txt").read_text().split() == NAMES


def test_the_list_of_failed_items_is_an_input_of_another_run(bench: Workbench) -> None:
    job = Job(bench)
    job.script("bad", "short")
    job.run()
    job.script()
    other = bench.folder / "other"
    words = ["--entry-script", bench.folder / "score.py", "--input", bench.output / "failed_items.jsonl"]
    done = bench.daskscore("run", *words, "--output", other)
    assert done.code == 0, done.stderr
    assert (other / "parallel_run_step.txt").read_text().split() == ["f03bad", *NAMES[24:32], "f39short"]


@pytest.mark.parametrize("form", ["header", "csv"])
def test_a_retry_in_a_storage_whose_driver_is_killed_goes_on_on_its_machine(
    bench: Workbench, client: Client, s3: S3Server, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    returns, settings = FORMATS[form]
    job = Job(bench, returns)
    job.script("bad")
    s3.put(f"killed-{form}", {})
    output = {"path": f"s3://killed-{form}/out/", "storage_options": s3.options}
    keys: dict[str, Any] = dict(setting.split("=") for setting in settings)
    how: dict[str, Any] = {"entry_script": bench.folder / "score.py", "inputs": bench.folder / "in", **keys}
    how |= {"mini_batch_size": 8, "process_count_per_node": 2, "client": client}
    monkeypatch.setenv("DASKSCORE_CACHE", str(bench.folder / "cache"))
    daskscore.run(**how, output=output)
    job.script()
    place = "daskscore.driver.results:assemble"
    words = [sys.executable, "-c", KILLED, place, "before", "retry", json.dumps(output)]
    assert subprocess.run(words, capture_output=True, timeout=100).returncode == -signal.SIGKILL
    assert job.called == sorted([*NAMES[24:32], "f03bad"])
    job.calls.unlink()
    report = daskscore.retry(output, client=client)
    assert (report.status, report.items.failed, job.called) == ("Completed", 0, [])
    clean = daskscore.run(**how, output=bench.output)
    assert fetched(s3, output, Path(report.output).name) == Path(clean.output).read_bytes()
