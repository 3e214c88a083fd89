"""`daskscore show` and `daskscore logs`: from the folder of a run to what happened in it."""

from __future__ import annotations

import json
import os
import re
import shutil
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
    """Three mini-batches; that with b.png fails, twice, and so does each of its items."""
    bench.script(SCRIPT.replace('"b.png" in names', '{"a.png", "b.png"} & {*names}'))
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
    assert len(re.findall(r"failed for good after \d+ attempts: .*/[ab]\.png: raise", said)) == 2
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
    assert said.count('raise ValueError("no such colour")') == 1
    assert re.search(r"^  \d+ failed like this", said, re.MULTILINE)
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
    for words in ((), ("-f",), ("--mini-batch", "2")):
        assert "The run has stopped, as its driver is gone" in tell("logs", bench.output, *words)


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


SHORT = "def run(mini_batch): return []\n"
DIES = "import os\ndef run(mini_batch): os._exit(3)\n"
NOT_READY = "def init(): raise RuntimeError('no model')\ndef run(mini_batch): return mini_batch\n"
SPOILS = """
import os
def run(mini_batch):
    os.write(1, b"\\x1b]0;title\\x07\\x1b[2J" + b"x" * 100_000)
    raise ValueError("bell\\x07 \\x1b[2Jclear \\x1b]0;title\\x07 " + "y" * 5_000)
"""


@pytest.fixture
def ended(bench: Workbench, run: Callable[..., Result]) -> Callable[[str], Path]:
    """The output of a run of two items with this script, which fails."""

    def score(script: str) -> Path:
        bench.script(script)
        bench.inputs("a", "b")
        run("--entry-script", "score.py", "--input", "in", "--output", "out", "--run-max-try", "1", ends=1)
        return bench.output

    return score


@pytest.mark.parametrize("words", [(), ("--errors",), ("-f",), ("-f", "--errors")])
@pytest.mark.parametrize(
    ("script", "cause"),
    [
        (SHORT, "2 × bad_output: run() returned 0 results for the 2 items"),
        (DIES, "2 × crash: the process exited with code 3 in run()"),
    ],
)
def test_failures_without_a_traceback_are_told(
    ended: Callable[[str], Path], words: tuple[str, ...], script: str, cause: str
) -> None:
    assert cause in tell("logs", ended(script), *words)


def test_a_crash_is_told_as_it_comes(ended: Callable[[str], Path]) -> None:
    said = tell("logs", ended(DIES), "-f", "--errors")
    assert re.search(
        r"^driver\| mini batch 0, '.*/in/a': the process exited with code 3 in run\(\)$", said, re.MULTILINE
    )


def test_a_run_that_did_not_come_to_its_items_says_why(ended: Callable[[str], Path]) -> None:
    output = ended(NOT_READY)
    assert re.search(r"^first failure +RuntimeError: no model  \(logs/user/error/", tell("show", output), re.MULTILINE)
    assert "come to its end. The run is Failed. init() keeps failing" in tell("logs", output, "--mini-batch", "0")


@pytest.mark.parametrize("words", [("show",), ("logs",), ("logs", "-f"), ("logs", "--errors"), ("logs", "--item", "a")])
def test_nothing_that_a_script_says_spoils_the_terminal(ended: Callable[[str], Path], words: tuple[str, ...]) -> None:
    said = tell(*words, ended(SPOILS))
    assert "ValueError: bell" in said
    assert [letter for letter in said if not letter.isprintable() and letter != "\n"] == []
    assert max(map(len, said.splitlines())) < 2_200


def test_a_copy_without_the_plan_tells_what_it_has(scored: Path) -> None:
    """As a run publishes it to a storage."""
    shutil.rmtree(scored / ".daskscore")
    assert "ValueError: no such colour" in tell("logs", scored, "--item", "b.png")
    assert "try 1: RUN_DONE" in tell("logs", scored, "--mini-batch", "1")
    assert "others are not known" in tell("logs", scored, "--item", "c.png", ends=2)


def _replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _replace_by_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


TABLE = "logs/sys/job_report/processed_mini-batches.csv"


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("report.json", lambda path: path.write_text("[]")),
        ("failed_items.jsonl", lambda path: os.truncate(path, 300)),
        ("failed_items.jsonl", _replace_by_a_folder),
        ("logs", shutil.rmtree),
        ("logs", lambda path: (shutil.rmtree(path), path.write_text("a file"))),
        (TABLE, lambda path: path.write_bytes(b"x\n0,a,b,c,d,e,f,g,h,i,j,k,l,m\n0,1,\n\xff\n")),
        (TABLE, _replace_by_a_folder),
        ("logs/job_error.txt", _replace_by_a_folder),
        ("logs/job_progress_overview.txt", _replace_by_a_pipe),
        (".daskscore/plan/mini_batches.index", Path.unlink),
        (".daskscore/plan/mini_batches.index", lambda path: os.truncate(path, 5)),
        (".daskscore/plan/mini_batches.jsonl", lambda path: os.truncate(path, 5)),
    ],
)
def test_what_is_damaged_is_named_or_left_out(scored: Path, name: str, damage: Callable[[Path], object]) -> None:
    damage(scored / name)
    for words in ((), ("-f",), ("--errors",), ("--mini-batch", "0"), ("--item", "b.png")):
        _told_or_refused("logs", scored, *words)
    _told_or_refused("show", scored)


def _told_or_refused(*words: str | Path) -> None:
    done = CliRunner().invoke(root, [*map(str, words)])
    assert done.exit_code in (0, 2), done.exception
    assert done.output.strip()


def test_the_first_reader_of_a_pipe_may_leave(scored: Path) -> None:
    command = f"{Workbench(scored).command()[0]} -m daskscore logs {scored} -f | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


def test_tries_of_several_processes_are_told_in_their_order(scored: Path) -> None:
    table = scored / TABLE
    header, *lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join([header, *reversed(lines)]))
    said = tell("logs", scored, "--mini-batch", "0")
    tries = [int(number) for number in re.findall(r"^  try (\d+):", said, re.MULTILINE)]
    assert tries == sorted(tries)
    assert said.count("ValueError(") == 1
    assert json.loads((scored / "failed_items.jsonl").read_text().splitlines()[0])["mini_batch"] == 0
