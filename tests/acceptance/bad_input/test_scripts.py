from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.bad_input.job import JOB, SCRIPT, Refused, Run, failed_items
from tests.support import DEADLINE_SECONDS, Workbench, wait_until

BAD_OUTPUT = (
    "The run() method in the entry script should return a list or a pandas DataFrame. The length of returned result is "
    "considered as succeeded number of items. For --output_action=append_row, the returned result is what to write into "
    "the result file. The actual type of output is {}."
)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "def score(x): ...",
            "score.py has no function run(mini_batch). Define it: it is given the items of one mini-batch and returns a "
            "list or a pandas DataFrame",
        ),
        (
            "def Run(mini_batch): ...",
            "score.py has no function run(mini_batch). Define it: it is given the items of one mini-batch and returns a "
            "list or a pandas DataFrame. Is Run meant to be it?",
        ),
        (
            "run = 3",
            "score.py has no function run(mini_batch). Define it: it is given the items of one mini-batch and returns a "
            "list or a pandas DataFrame",
        ),
        (
            "def run(): ...",
            "run() in score.py cannot be called with a mini-batch. Declare run(mini_batch) or run(mini_batch, "
            "mini_batch_context)",
        ),
        (
            "def run(a, b, c): ...",
            "run(a, b, c) in score.py cannot be called with a mini-batch. Declare run(mini_batch) or run(mini_batch, "
            "mini_batch_context)",
        ),
        (
            "def run(mini_batch, *, model): ...",
            "run(mini_batch, *, model) in score.py cannot be called with a mini-batch. Declare run(mini_batch) or "
            "run(mini_batch, mini_batch_context)",
        ),
        (
            "async def run(mini_batch): ...",
            "run in score.py is async. Make it a plain function; it may use asyncio.run inside",
        ),
        (
            f"async def init(): ...\n{SCRIPT}",
            "init in score.py is async. Make it a plain function; it may use asyncio.run inside",
        ),
        (
            f"def init(model): ...\n{SCRIPT}",
            "init(model) in score.py cannot be called without arguments. Declare init()",
        ),
        (f"init = 3\n{SCRIPT}", "init in score.py is no function. Rename it, or make it a function init()"),
        (
            f"def shutdown(x): ...\n{SCRIPT}",
            "shutdown(x) in score.py cannot be called without arguments. Declare shutdown()",
        ),
        ("\0", "cannot load score.py: SyntaxError: source code string cannot contain null bytes"),
        (
            "import os\nos._exit(3)",
            "cannot load score.py: the process exited with code 3 while the script was imported",
        ),
    ],
)
def test_a_script_that_cannot_be_used(bench: Workbench, refused: Refused, source: str, message: str) -> None:
    bench.inputs("a")
    bench.script(source)
    assert refused() == message


@pytest.mark.parametrize(
    ("source", "message", "trace"),
    [
        (
            "def run(mini_batch):\n    return [\n",
            "cannot load score.py: SyntaxError: '[' was never closed (score.py, line 2)",
            "  File \"{}\", line 2\n    return [\n           ^\nSyntaxError: '[' was never closed",
        ),
        (
            "x = 1 / 0\n",
            "cannot load score.py: ZeroDivisionError: division by zero",
            'Traceback (most recent call last):\n  File "{}", line 1, in <module>\n    x = 1 / 0\n',
        ),
        (
            "import no_such_module\n",
            "cannot load score.py: ModuleNotFoundError: No module named 'no_such_module'. "
            f"Install it for {sys.executable}, or put it into source_directory",
            'Traceback (most recent call last):\n  File "{}", line 1, in <module>\n    import no_such_module\n',
        ),
        (
            "import os.none\n",
            "cannot load score.py: ModuleNotFoundError: No module named 'os.none'; 'os' is not a package",
            'Traceback (most recent call last):\n  File "{}", line 1, in <module>\n    import os.none\n',
        ),
        (
            "import sys\nprint('no model', file=sys.stderr)\nsys.exit(1)\n",
            "cannot load score.py: SystemExit: 1. The script ended its own process. "
            "Its sys.argv holds ParallelRunStep's arguments before its own: use parse_known_args(). "
            "If it lacks an argument, give it after --, or in the key arguments",
            "no model",
        ),
        (
            "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--model', required=True)\n"
            "parser.parse_known_args()",
            "cannot load score.py: SystemExit: 2. The script ended its own process. "
            "Its sys.argv holds ParallelRunStep's arguments before its own: use parse_known_args(). "
            "If it lacks an argument, give it after --, or in the key arguments",
            "usage: score.py [-h] --model MODEL\nscore.py: error: the following arguments are required: --model",
        ),
        (
            "import sys\nprint('o' * 300_000)\nprint('e' * 300_000, file=sys.stderr)\n1 / 0",
            "cannot load score.py: ZeroDivisionError: division by zero",
            'Traceback (most recent call last):\n  File "{}", line 4, in <module>\n    1 / 0\n',
        ),
        (
            "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)",
            "cannot load score.py: the process was ended by signal 11 (SIGSEGV) while the script was imported",
            "Fatal Python error: Segmentation fault\n\nCurrent thread 0x",
        ),
    ],
    ids=["syntax", "exception", "module", "submodule", "exit", "argparse", "floods", "segfault"],
)
def test_a_script_that_does_not_load_shows_its_own_traceback(
    bench: Workbench, refused: Refused, source: str, message: str, trace: str
) -> None:
    bench.inputs("a")
    script = bench.script(source)
    first, second = refused().split("\n\n", 1)
    assert first == message
    assert second.startswith(trace.format(script))
    assert len(second) < 2000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "entry_script score.py does not exist: there is no such file in {}. Did you mean scores.py?"),
        (["--entry-script", "folder.py"], "entry_script folder.py is a folder. Name the Python file in it"),
        (
            ["--entry-script", "src/score.py"],
            "the script's folder {}/src cannot be entered: No such file or directory. "
            "Check entry_script and source_directory; the folder must be there on every machine",
        ),
        (
            ["--entry-script", "score.txt"],
            "{}/score.txt is no Python file. entry_script names a .py file, or a module like package.module",
        ),
        (
            ["--entry-script", "no_package.main"],
            "No module named 'no_package' in {} or among the installed ones. entry_script is no_package.main: "
            "name a file, like score.py, or a module that can be imported from source_directory",
        ),
        (
            ["--source-directory", "none"],
            "the script's folder {}/none cannot be entered: No such file or directory. "
            "Check entry_script and source_directory; the folder must be there on every machine",
        ),
        (
            ["--source-directory", "scores.py"],
            "the script's folder {}/scores.py cannot be entered: Not a directory. "
            "Check entry_script and source_directory; the folder must be there on every machine",
        ),
        (
            ["--entry-script", "job.yml"],
            "entry_script: job.yml is no Python file. A job file is named without a flag: daskscore run job.yml",
        ),
    ],
)
def test_a_script_that_is_not_there(bench: Workbench, refused: Refused, words: list[str], message: str) -> None:
    bench.inputs("a")
    bench.script(SCRIPT, "scores.py")
    bench.script(SCRIPT, "score.txt")
    (bench.folder / "folder.py").mkdir()
    assert refused(*words) == message.format(bench.folder)


def test_an_import_that_never_ends_has_a_deadline(bench: Workbench, refused: Refused) -> None:
    bench.inputs("a")
    bench.script("while True: pass")
    message = "cannot load score.py: it takes more than 0.3 s (init_timeout)"
    told = refused("--set", "init_timeout=0.3")
    assert told.startswith(f"{message}\n\n")
    assert told.endswith(f'(most recent call last):\n  File "{bench.folder}/score.py", line 1, in <module>\n{message}')


@pytest.mark.usefixtures("nothing_left_behind")
def test_an_import_that_never_ends_can_be_interrupted(bench: Workbench) -> None:
    bench.inputs("a")
    bench.script("open('began', 'w')\nwhile True: pass")
    with subprocess.Popen(bench.command(), cwd=bench.folder, stderr=subprocess.PIPE, text=True) as driver:
        wait_until((bench.folder / "began").exists, "the import")
        driver.send_signal(signal.SIGINT)
        _, stderr = driver.communicate(timeout=DEADLINE_SECONDS)
    assert (driver.returncode, stderr) == (130, "daskscore: interrupted before any work started\n")
    assert not bench.output.exists()


def test_a_mistake_in_the_inputs_does_not_wait_for_the_import(bench: Workbench, refused: Refused) -> None:
    bench.script("while True: pass")
    assert refused().startswith(f"input {bench.folder}/in does not exist")


def test_an_unreadable_script(bench: Workbench, like_other_users: Callable[..., Any]) -> None:
    bench.inputs("a")
    bench.script(SCRIPT).chmod(0)
    done = like_other_users()
    assert (done.returncode, done.stderr) == (
        2,
        f"daskscore: cannot load score.py: PermissionError: [Errno 13] Permission denied: '{bench.folder}/score.py'\n",
    )


# Failures that only the run can find.


def test_an_init_that_raises_ends_the_run_with_its_traceback(bench: Workbench) -> None:
    """On a cluster of its own with two nodes: each gives up after three tries."""
    script = bench.script(
        """
        def init():
            with open("tries", "a") as file:
                file.write("once\\n")
            raise ValueError("no model")
        def run(mini_batch):
            return mini_batch
        """
    )
    bench.inputs(*"abc")
    done = bench.run("--node-count", "2", "--process-count-per-node", "1", "--mini-batch-size", "1")
    assert done.code == 1
    told = re.search(r"init\(\) keeps failing: (\d+) times, on every node", done.stderr)
    assert told is not None
    assert 6 <= int(told[1]) <= len((bench.folder / "tries").read_text().split())
    for node in ("0", "1"):
        assert f"node {node}: cannot run init(): ValueError: no model" in done.stderr
    *_, trace, log = done.stderr.rstrip().split("\n\n")
    assert trace.startswith(f'Traceback (most recent call last):\n  File "{script}", line 5, in init\n')
    assert trace.endswith("\nValueError: no model")
    assert "ValueError: no model" in Path(log.removeprefix("Its log: ")).read_text()
    assert done.report["mini_batches"] == {"total": 3, "succeeded": 0, "failed": 0}


def test_an_init_that_never_returns_is_a_failure_of_init(bench: Workbench, run: Run) -> None:
    bench.inputs("a")
    bench.script("def init():\n    while True: pass\n" + SCRIPT)
    done = run(*JOB, "--set", "init_timeout=0.2", "--process-count-per-node", "1", ends=1)
    assert "init() keeps failing: " in done.stderr
    assert "cannot run init(): it takes more than 0.2 s (init_timeout)" in done.stderr


def test_a_return_that_has_no_rows_is_told_in_the_words_of_parallel_run_step(bench: Workbench, run: Run) -> None:
    bench.inputs("NoneType", "dict", "good", "int", "str")
    bench.script(
        """
        import os
        RESULTS = {"NoneType": None, "dict": {}, "good": ["row"], "int": 1, "str": "row"}
        def run(mini_batch):
            return RESULTS[os.path.basename(mini_batch[0])]
        """
    )
    run(*JOB, "--mini-batch-size", "1", "--run-max-try", "1")
    found = {os.path.basename(item["item"]): (item["kind"], item["message"]) for item in failed_items(bench)}
    assert found == {name: ("bad_output", BAD_OUTPUT.format(name)) for name in ("NoneType", "dict", "int", "str")}
