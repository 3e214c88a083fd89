"""The table "When it does not work" of the README, row by row: each job is broken in that way and run, and the last lines
that are printed say what happened, what to do next, and where the log is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.acceptance.bad_input.conftest import like_other_users as like_other_users
from tests.acceptance.bad_input.job import Run
from tests.support import Workbench

README = (Path(__file__).parents[3] / "README.md").read_text()
LAST_LINES = 10

GOOD = "import os\ndef run(mini_batch): return [os.path.basename(path) for path in mini_batch]\n"
SCRIPT = ("--entry-script", "score.py", "--output", "out", "--process-count-per-node", "1")
JOB = (*SCRIPT, "--input", "in")
DEPLOYMENT = "name: dep\nendpoint_name: ep\nmodel: {path: score.py}\ncode_configuration: {code: .}\n"

RESUME = "once the cause is mended, run the same command with --resume"
LOG = re.compile(r"^Its log: (.+)$", re.MULTILINE)


class Broken(NamedTuple):
    """A job, how it ends, and what must stand in its last lines besides what the README shows."""

    symptom: str
    words: tuple[str, ...]
    ends: int
    told: tuple[str, ...]
    script: str = GOOD

    @property
    def has_log(self) -> bool:
        """What is found before any work starts has left no log."""
        return self.ends == 1


BROKEN = (
    Broken(
        "cannot be cut into the same mini-batches twice",
        (*SCRIPT, "--input", "mssql://host/sales"),
        2,
        ("mssql://", "is a database", "Export them to Parquet or CSV files and name those"),
    ),
    Broken(
        "there is no data called",
        (*SCRIPT, "--input", "azureml:texts:1"),
        2,
        ("texts", "daskscore data create"),
    ),
    Broken(
        "code_configuration.scoring_script: is missing",
        ("job.yml", "--input", "in", "--output", "out"),
        2,
        ("job.yml: ", "Name a script with init() and run()"),
    ),
    Broken(
        "No module named",
        JOB,
        2,
        ("cannot load score.py: ModuleNotFoundError: No module named 'tensorflow_of_2019'. Install it for ", "put it into source_directory"),
        script="import tensorflow_of_2019\n" + GOOD,
    ),
    Broken(
        "is a reserved argument in ParallelRunStep",
        (*JOB, "--", "--logging_level", "DEBUG"),
        2,
        ("'--logging_level' is", "use another argument name", "the job's own key logging_level"),
    ),
    Broken(
        "error: unrecognized arguments: --client_sdk_version",
        JOB,
        2,
        ("The script ended its own process", "use parse_known_args()"),
        script="import argparse\nargs = argparse.ArgumentParser().parse_args()\n" + GOOD,
    ),
    Broken(
        "init() keeps failing",
        JOB,
        1,
        ("FileNotFoundError: [Errno 2] No such file or directory: 'model/model.pkl'", 'score.py", line 1, in init'),
        script="def init(): open('model/model.pkl')\n" + GOOD,
    ),
    Broken(
        "run() gave no answer within",
        (*JOB, "--run-invocation-timeout", "0.2", "--run-max-try", "1"),
        1,
        ("mini-batch 0: run() gave no answer within 0.2 s", "raise run_invocation_timeout, or make mini_batch_size smaller"),
        script="import time\ndef run(mini_batch): time.sleep(600)\n",
    ),
    Broken(
        "There is no succeeded mini batch item returned from run()",
        JOB,
        1,
        ("Please check 'response: run()'", "2 items (2 bad_output), named in {out}/failed_items.jsonl"),
        script="def run(mini_batch): return []\n",
    ),
    Broken(
        "The actual type of output is",
        JOB,
        1,
        ("should return a list or a pandas DataFrame", "is NoneType"),
        script="def run(mini_batch): print('scored')\n",
    ),
    Broken(
        "more than memory_limit_per_process",
        (*JOB, "--set", "memory_limit_per_process=200MB", "--run-max-try", "1"),
        1,
        ("mini-batch 0: the process held ", "raise memory_limit_per_process"),
        script="import time\ndef run(mini_batch):\n    held = b'x' * (400 << 20)\n    time.sleep(600)\n",
    ),
    Broken(
        "the machine may be out of memory",
        (*JOB, "--run-max-try", "1"),
        1,
        ("signal 9 (SIGKILL) in run()", "make process_count_per_node or mini_batch_size smaller"),
        script="import os\ndef run(mini_batch): os.kill(os.getpid(), 9)\n",
    ),
    Broken(
        "No such file or directory",
        JOB,
        1,
        ("FileNotFoundError", "'results/a'", "line 3, in run"),
        script="import os\ndef run(mini_batch):\n    open(f'results/{os.path.basename(mini_batch[0])}', 'w')\n",
    ),
    Broken("output already there", JOB, 2, ("out", "--resume", "--overwrite")),
)  # fmt: skip


def table() -> list[list[str]]:
    section = README.split("## When it does not work")[1].split("\n## ")[0]
    return [re.split(r" \| ", row.strip("| ")) for row in re.findall(r"^\| `.*", section, re.MULTILINE)]


def test_the_readme_lists_these_symptoms_and_no_others() -> None:
    printed = [row[0].strip("`") for row in table()]
    assert printed == [broken.symptom for broken in BROKEN] + ["Permission denied"]


@pytest.mark.parametrize("broken", BROKEN, ids=[broken.symptom for broken in BROKEN])
def test_the_last_lines_say_what_happened_and_what_to_do(
    bench: Workbench, run: Run, monkeypatch: pytest.MonkeyPatch, broken: Broken
) -> None:
    monkeypatch.setenv("DASKSCORE_WORKSPACE", str(bench.folder / "workspace.db"))
    bench.inputs("a", "b")
    bench.script(broken.script)
    (bench.folder / "job.yml").write_text(DEPLOYMENT)
    if broken.symptom == "output already there":
        run(*broken.words)
    done = run(*broken.words, ends=broken.ends)
    last = "\n".join(done.output.rstrip().splitlines()[-LAST_LINES:])
    assert broken.symptom in done.output
    for words in broken.told:
        assert words.format(out=bench.output) in last
    if broken.has_log:
        assert RESUME in last
        log = LOG.search(last)
        assert Path(log[1]).is_file() if log is not None else "failed_items.jsonl" in last


def test_a_place_that_may_not_be_written_is_named(bench: Workbench, like_other_users: Callable[..., Any]) -> None:
    bench.inputs("a")
    bench.script(GOOD)
    bench.folder.chmod(0o500)
    done = like_other_users()
    bench.folder.chmod(0o700)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    for words in (f"output {bench.output} cannot be written: Permission denied", "another folder with --output"):
        assert words in line
