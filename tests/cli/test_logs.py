"""`daskscore show` and `daskscore logs`: from the folder of a run to what happened in it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from daskscore.cli.root import root
from tests.support import Workbench, wait_until

SCRIPT = """
import os, time
def run(mini_batch):
    names = [os.path.basename(path) for path in mini_batch]
    print("scores", *names)
    if "b.png" in names: raise ValueError("no such colour")
    while os.path.exists("hold") and "c.png" in names: time.sleep(0.01)
    return names
"""
Tell = Callable[..., Result]


def tell(*words: str | Path, ends: int = 0) -> str:
    done = CliRunner().invoke(root, [*map(str, words)])
    assert done.exit_code == ends, done.output
    return done.output


@pytest.fixture
def scored(bench: Workbench, run: Callable[..., Result]) -> Path:
    """Three mini-batches; that with b.png fails, twice."""
    bench.script(SCRIPT)
    bench.inputs("a.png", "b.png", "c.png", "ä 1.png", "e.png")
    run(
        "--entry-script", "score.py", "--input", "in", "--output", "out", "--mini-batch-size", "2", "--run-max-try", "2"
    )
    return bench.output


def test_an_item_leads_to_its_mini_batch_its_traceback_and_what_was_printed(scored: Path) -> None:
    said = tell("logs", scored, "--item", "b.p")
    assert re.search(r"^mini-batch 0: .*in/b\.png$", said, re.MULTILINE)
    for number in (1, 2):
        assert re.search(rf"^  try {number}: RUN_EXCEPTION on \S+/process\d+ at \S+, \S+ s, 0 of 2 items$", said, re.M)
    assert "raise: run() raised ValueError: no such colour" in said
    assert 'raise ValueError("no such colour")' in said
    assert len(re.findall(r"failed for good after 2 attempts: .*/[ab]\.png: raise", said)) == 2
    assert re.search(r"The last lines of .*stdout\.txt:(\n    scores .*)+", said)


def test_a_mini_batch_that_went_well_has_its_attempt(scored: Path) -> None:
    said = tell("logs", scored, "--mini-batch", "1")
    assert "2 items, from " in said
    assert re.search(r"try 1: RUN_DONE on \S+ at \S+, \S+ s, 2 of 2 items", said)
    assert "failed for good" not in said


def test_a_name_that_is_no_ascii_is_found(scored: Path) -> None:
    assert "in/ä 1.png" in tell("logs", scored, "--item", "ä 1")


def test_errors_are_told_once_each(scored: Path) -> None:
    said = tell("logs", scored, "--errors")
    assert said.count("ValueError: no such colour") == 1
    assert "2 failed like this" in said
    assert "Processed" not in said


def test_without_an_option_the_progress_and_the_result_are_told(scored: Path) -> None:
    said = tell("logs", scored)
    assert "Scheduled 3 mini batches" in said
    assert "The run is Completed." in said


def test_a_run_that_is_over_is_followed_to_its_end_at_once(scored: Path) -> None:
    said = tell("logs", scored, "-f")
    assert re.search(r"^\S+/process\d+\| scores a\.png b\.png$", said, re.MULTILINE)
    assert said.rstrip().splitlines()[-1].startswith("Output: ")


def test_a_run_is_shown_in_some_lines(scored: Path) -> None:
    said = tell("show", scored)
    assert re.search(r"^status +Completed$", said, re.MULTILINE)
    assert re.search(r"^mini-batches +2 of 3 succeeded, 1 failed$", said, re.MULTILINE)
    assert re.search(r"^items +3 of 5 succeeded, 2 failed$", said, re.MULTILINE)
    assert re.search(r"^  2 × raise: run\(\) raised ValueError: no such colour  \(logs/user/error/", said, re.MULTILINE)
    assert re.search(r"^  [012]: \d\.\d{3} s, RUN_", said, re.MULTILINE)
    assert f"output        {scored}/parallel_run_step.txt" in said


def test_a_run_is_shown_and_followed_while_it_goes_on(bench: Workbench) -> None:
    bench.script(SCRIPT)
    bench.inputs("a.png", "b.png", "c.png", "d.png")
    hold = bench.folder / "hold"
    hold.touch()
    flags = ("--mini-batch-size", "1", "--process-count-per-node", "1", "--quiet", "--set", "bundle_size=1")
    with (
        subprocess.Popen(bench.command(*flags), cwd=bench.folder, stdout=subprocess.DEVNULL) as driver,
        (bench.folder / "followed.txt").open("w+") as followed,
    ):
        try:
            shown = wait_until(lambda: _shown(bench, "1 of 4 done"), "a run that goes on")
            assert re.search(r"^status +running \(process \d+ on ", shown, re.MULTILINE)
            follow = ["-m", "daskscore", "logs", str(bench.output), "-f"]
            with subprocess.Popen([bench.command()[0], *follow], stdout=followed) as follower:
                wait_until(lambda: "scores c.png" in Path(followed.name).read_text(), "what is printed")
                assert follower.poll() is None
                hold.unlink()
                assert (driver.wait(60), follower.wait(60)) == (0, 0)
        finally:
            hold.unlink(missing_ok=True)
            driver.kill()
    said = Path(followed.name).read_text()
    assert "scores d.png" in said
    assert "The run is Completed." in said


def _shown(bench: Workbench, what: str) -> str:
    done = CliRunner().invoke(root, ["show", str(bench.output)])
    return done.output if what in done.output else ""


def test_a_run_whose_driver_was_killed_is_said_to_be_stopped(bench: Workbench, nothing_left_behind: str) -> None:
    bench.script(SCRIPT)
    bench.inputs("a.png", "b.png", "c.png")
    (bench.folder / "hold").touch()
    flags = ("--mini-batch-size", "1", "--quiet", "--set", "bundle_size=1", "--run-max-try", "1")
    with subprocess.Popen(bench.command(*flags), cwd=bench.folder) as driver:
        wait_until(lambda: _shown(bench, "× raise"), "the failure")
        driver.kill()
    said = tell("show", bench.output)
    assert "stopped: its driver is gone" in said
    assert "--resume" in said
    assert "Scheduled 3" in tell("logs", bench.output, "-f")


@pytest.mark.parametrize("command", ["show", "logs"])
@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("nowhere", "there is no folder nowhere. Name the output folder of a run"),
        ("in", "in holds no run: neither .daskscore/job.json nor report.json is there"),
        ("in/a", "in/a is a file. Name the output folder of a run"),
        ("s3://bucket/out", "s3://bucket/out is an address. A run publishes its logs there when it ends"),
    ],
)
def test_what_is_no_run_is_named(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, command: str, place: str, words: str
) -> None:
    bench.inputs("a")
    monkeypatch.chdir(bench.folder)
    assert words in tell(command, place, ends=2)


def test_what_is_not_in_the_run_is_named(scored: Path) -> None:
    assert "has 'z.png' in its name" in tell("logs", scored, "--item", "z.png", ends=2)
    assert f"mini-batch 3: {scored} has 3, counted from 0" in tell("logs", scored, "--mini-batch", "3", ends=2)
    assert "exclude each other" in tell("logs", scored, "--mini-batch", "0", "--errors", ends=2)
