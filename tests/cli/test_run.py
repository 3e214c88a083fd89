from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from distributed import Client

import daskscore
from daskscore.cli.root import root
from daskscore.config import NOTHING_GIVEN
from tests.support import DEADLINE_SECONDS, Workbench

TELLS_ITS_ARGUMENTS = """
import sys
ARGUMENTS = sys.argv[sys.argv.index("--output") + 2 :]
def run(mini_batch):
    return [repr(ARGUMENTS)]
"""
Run = Callable[..., Result]


def rows(folder: Path) -> list[str]:
    return (folder / "parallel_run_step.txt").read_text().splitlines()


def arguments(bench: Workbench) -> Any:
    """What the script of the last run was given."""
    (row,) = rows(bench.output)
    return ast.literal_eval(row)


def test_the_three_doors_lead_to_the_same_result(bench: Workbench, run: Run, client: Client) -> None:
    bench.script("def run(mini_batch):\n    return [f'{len(mini_batch)} {open(path).read()}' for path in mini_batch]\n")
    bench.inputs(*"abcde")
    (bench.folder / "job.yml").write_text("entry_script: score.py\ninputs: in\noutput: file\nmini_batch_size: 2\n")
    run("job.yml")
    run("--entry-script", "score.py", "--input", "in", "--output", "flags", "--mini-batch-size", "2")
    returned = daskscore.run(entry_script="score.py", inputs="in", output="python", mini_batch_size=2, client=client)
    reports = []
    for folder in ("file", "flags", "python"):
        assert rows(bench.folder / folder) == ["2 a", "2 b", "2 c", "2 d", "1 e"]
        report = json.loads((bench.folder / folder / "report.json").read_text())
        reports.append({key: value for key, value in report.items() if key not in ("seconds", "output", "folder")})
    assert reports[0] == reports[1] == reports[2]
    assert returned.items.succeeded == reports[0]["items"]["succeeded"] == 5


def test_flags_override_assignments_and_both_override_the_file(bench: Workbench, run: Run) -> None:
    bench.script("def run(mini_batch):\n    return [str(len(mini_batch))] * len(mini_batch)\n")
    bench.inputs(*"abcdef")
    (bench.folder / "job.yml").write_text("entry_script: score.py\ninputs: in\noutput: out\nmini_batch_size: 1\n")
    for words, expected in [
        ((), "1"),
        (("--set", "mini_batch_size=2"), "2"),
        (("--set", "mini-batch-size=2", "--set", "mini_batch_size=6"), "6"),
        (("--mini-batch-size", "3", "--set", "mini_batch_size=2"), "3"),
    ]:
        run("job.yml", "--overwrite", *words)
        assert rows(bench.output) == [expected] * 6


def test_several_inputs_stand_in_the_order_of_their_flags(bench: Workbench, run: Run) -> None:
    bench.script("def run(mini_batch):\n    return [open(path).read() for path in mini_batch]\n")
    bench.inputs(*"abc")
    run("--entry-script", "score.py", "--output", "out", "--input", "in/c", "--input", "in/[ab]")
    assert rows(bench.output) == ["c", "a", "b"]


# What stands after --.


@pytest.mark.parametrize(
    "words",
    [
        ["--threshold", "0.5"],
        ["data.csv"],
        ["job.yml"],
        ["--resume", "--quiet", "--help", "-h"],
        ["--input", "in", "--set", "a=b"],
        ["--entry-script=other.py"],
        ["a", "--", "b", "--"],
        ["", " ", "a b", "ünï", "*"],
    ],
)
@pytest.mark.parametrize("with_file", [True, False])
def test_all_words_after_two_dashes_are_the_scripts(
    bench: Workbench, run: Run, words: list[str], with_file: bool
) -> None:
    bench.script(TELLS_ITS_ARGUMENTS)
    (bench.folder / "job.yml").write_text("{entry_script: score.py, rank_mini_batch_count: 1, output: out}")
    flags = ["--entry-script", "score.py", "--rank-mini-batch-count", "1", "--output", "out"]
    run(*(["job.yml"] if with_file else flags), "--set", "preflight=no", "--", *words)
    assert arguments(bench) == words


def test_words_after_two_dashes_replace_those_of_the_file(bench: Workbench, run: Run) -> None:
    bench.script(TELLS_ITS_ARGUMENTS)
    (bench.folder / "job.yml").write_text(
        "{entry_script: score.py, rank_mini_batch_count: 1, output: out, arguments: [--a, 1.10]}"
    )
    run("job.yml")
    assert arguments(bench) == ["--a", "1.10"]
    run("job.yml", "--overwrite", "--", "--b")
    assert arguments(bench) == ["--b"]
    run("job.yml", "--overwrite", "--")
    assert arguments(bench) == ["--a", "1.10"]


def test_a_reserved_word_after_two_dashes_is_refused(bench: Workbench, run: Run) -> None:
    bench.script(TELLS_ITS_ARGUMENTS)
    flags = ["--entry-script", "score.py", "--rank-mini-batch-count", "1", "--output", "out"]
    assert "arguments: '--output=x' is a reserved argument" in run(*flags, "--", "--output=x", ends=2).stderr


# What is said about a command that cannot be run.


def test_nothing_given_says_how_to_begin() -> None:
    done = CliRunner().invoke(root, ["run"])
    assert (done.exit_code, done.stderr) == (2, f"daskscore: {NOTHING_GIVEN}\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.yml", "b.yml"], "one job file at a time: b.yml is too much. A script's arguments stand after --"),
        (
            ["--input", "1.png", "2.png", "3.png"],
            "2 words belong to no flag: 2.png, 3.png, … If a shell made them of a pattern, put it in quotes",
        ),
        (["--mini-batchsize", "3"], "No such option '--mini-batchsize'. (Did you mean one of: '--mini-batch-size'"),
        (["--mini_batch_size", "3"], "No such option '--mini_batch_size'. Did you mean '--mini-batch-size'?"),
        (["--output"], "Option '--output' requires an argument"),
    ],
)
def test_a_command_line_that_click_cannot_read(words: list[str], message: str) -> None:
    done = CliRunner().invoke(root, ["run", *words])
    assert done.exit_code == 2
    assert message in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.yml"], "job file none.yml cannot be read: No such file or directory. Check the path"),
        (["--set", "mini_batch=3"], "mini_batch: there is no such key. Did you mean mini_batch_size?"),
        (["--set", "mini_batch_size"], "--set mini_batch_size: there is no = in it. Write it like --set run_max_try=5"),
        (["--set", "resume=true"], "resume: there is no such key. Here it is --resume on the command line"),
        (["--set", "job=x"], "job: there is no such key."),
        (
            ["--error-threshold", "-2"],
            "error_threshold: '-2' is not usable. Write a whole number, or -1 for any number",
        ),
    ],
)
def test_a_job_that_cannot_be_read(run: Run, words: list[str], message: str) -> None:
    done = run("--output", "out", *words, ends=2)
    assert message in done.stderr
    assert done.stderr.startswith("daskscore: ")
    assert not done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["job.yml"], "job.yml is no command. A job is run with: daskscore run job.yml"),
        (["rnu"], "No such command 'rnu'. Did you mean 'run'?"),
        (["--verison"], "No such option '--verison'. Did you mean '--version'?"),
    ],
)
def test_a_word_that_is_no_command(words: list[str], message: str) -> None:
    done = CliRunner().invoke(root, words)
    assert done.exit_code == 2
    assert message in done.stderr


def test_help_names_the_script_arguments_and_the_exit_codes() -> None:
    assert "[JOB] [-- ARGUMENTS OF THE SCRIPT]" in CliRunner().invoke(root, ["run", "--help"]).stdout
    assert "Exit codes: 0 completed; 1 failed; 2 bad usage" in CliRunner().invoke(root, ["--help"]).stdout


# What is said at the end.


def test_a_completed_run_says_what_was_done_and_where_it_is(bench: Workbench, run: Run) -> None:
    bench.script("def run(mini_batch):\n    return mini_batch[1:]\n")
    bench.inputs(*"abc")
    done = run("--entry-script", "score.py", "--input", "in", "--output", "out", "--quiet")
    assert done.stdout.startswith("Completed: 1 of 1 mini-batches, 2 of 3 items, 2 rows in ")
    assert done.stdout.splitlines()[1:] == [
        f"output: {bench.output}/parallel_run_step.txt",
        f"failed: 1 items (1 bad_output), named in {bench.output}/failed_items.jsonl",
        f"Once the cause is mended, `daskscore retry {bench.output}` scores only these again.",
    ]
    assert not done.stderr


def test_a_failed_run_ends_with_the_users_traceback_and_its_log(bench: Workbench, run: Run) -> None:
    script = bench.script("def run(mini_batch):\n    return 1 / 0\n")
    bench.inputs("a")
    done = run("--entry-script", "score.py", "--input", "in", "--output", "out", ends=1)
    assert (
        "What succeeded is kept: once the cause is mended, run the same command with --resume (and --accept-"
        in done.stdout
    )
    *before, last = done.stderr.rstrip().splitlines()
    trace = before[before.index("Traceback (most recent call last):") :]
    assert trace[1:3] == [f'  File "{script}", line 2, in run', "    return 1 / 0"]
    assert trace[-2:] == ["ZeroDivisionError: division by zero", ""]
    log = Path(last.removeprefix("Its log: "))
    assert "ZeroDivisionError: division by zero" in log.read_text()


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_folder_whose_name_cannot_be_printed_is_printed_all_the_same(bench: Workbench, encoding: str) -> None:
    bench.script("def run(mini_batch):\n    return ['row']\n")
    name = os.fsdecode(b"o\xffu\xc3\xbct")
    words = ["--entry-script", "score.py", "--rank-mini-batch-count", "1", "--output", name]
    done = subprocess.run(
        [sys.executable, "-m", "daskscore", "run", *words],
        cwd=bench.folder,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=DEADLINE_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert b"output: " in done.stdout
    assert rows(bench.folder / name) == ["row"]
