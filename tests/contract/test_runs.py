"""Whole runs, sections 1.5 to 1.11: what is counted, tried again and given up, and how a script is found and called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daskscore.config import JobConfig
from daskscore.core.health import Health
from tests.contract.tables import table
from tests.support import Finished, Workbench

Score = Callable[..., Finished]

SCRIPT = """
    import os
    def run(mini_batch, ctx):
        names = [os.path.basename(path) for path in mini_batch]
        if names == ["a"]: FIRST
        return names
"""


def spoilt(first: str) -> str:
    """A script that does this with its first mini-batch, of one file."""
    return SCRIPT.replace("FIRST", first)


# 1.5, 1.6: of three mini-batches with an item each; the last number is the exit code.


@table(
    "first, settings, ends",
    ("1.5 error_threshold is not passed by as many", "return []", {"error_threshold": 1}, 0),
    ("1.5 error_threshold is passed by one more", "return []", {"error_threshold": 0}, 1),
    ("1.5 error_threshold -1 ignores", "raise ValueError", {"error_threshold": -1}, 0),
    ("1.5 all items of a failed mini-batch are failed", "raise ValueError", {"error_threshold": 0}, 1),
    ("1.5 more rows than items are no failure", "return names * 2", {"error_threshold": 0}, 0),
    ("1.5 mini_batch_error_threshold, as many", "raise ValueError", {"mini_batch_error_threshold": 1}, 0),
    ("1.5 mini_batch_error_threshold, one more", "raise ValueError", {"mini_batch_error_threshold": 0}, 1),
    ("1.5 (a) a short return with -1 is no failed mini-batch", "return []", {"mini_batch_error_threshold": 0}, 0),
    (
        "1.5 (a) a short return where items are checked is one",
        "return []",
        {"mini_batch_error_threshold": 0, "error_threshold": 5},
        1,
    ),
    ("1.5 allowed_failed_count, as many", "raise ValueError", {"allowed_failed_count": 1}, 0),
    ("1.5 allowed_failed_count, one more", "raise ValueError", {"allowed_failed_count": 0}, 1),
    (
        "1.5 allowed_failed_count counts what fails between tries",
        "1 / ctx.retry_count",
        {"allowed_failed_count": 0, "run_max_try": 3},
        1,
    ),
    (
        "1.5 a try that fails and is made good is no failed item",
        "1 / ctx.retry_count",
        {"error_threshold": 0, "mini_batch_error_threshold": 0, "run_max_try": 2},
        0,
    ),
    ("1.5 allowed_failed_percent, within", "raise ValueError", {"allowed_failed_percent": 34}, 0),
    ("1.5 allowed_failed_percent, above", "raise ValueError", {"allowed_failed_percent": 33}, 1),
    ("1.5 either of both limits", "raise ValueError", {"allowed_failed_percent": 0, "allowed_failed_count": 3}, 1),
)
def test_limits_of_failures(score: Score, first: str, settings: dict[str, Any], ends: int) -> None:
    done = score(spoilt(first), ends=ends, **{"mini_batch_size": 1, "run_max_try": 1, "bundle_size": 1, **settings})
    items = done.report["items"]
    assert items["succeeded"] + items["failed"] + done.report["not_scored"]["items"] == items["total"] == 3


NOTHING = (
    "There is no succeeded mini batch item returned from run(). Please check 'response: run()' in "
    "https://aka.ms/batch-inference-documentation"
)


@table(
    "result, settings, ends",
    ("1.6 append_row without any result fails", "[]", {}, 1),
    ("1.6 summary_only without any result does not", "[]", {"output_action": "summary_only"}, 0),
    ("1.6 all failed", "1 / 0", {"output_action": "summary_only"}, 1),
)
def test_nothing_to_append(score: Score, result: str, settings: dict[str, Any], ends: int) -> None:
    done = score(f"def run(mini_batch): return {result}", ends=ends, **settings)
    assert done.stderr.startswith(NOTHING) == bool(ends)


# 1.7


@table(
    "settings, tries",
    ("1.7 run_max_try is the number of tries", {"run_max_try": 2}, 2),
    ("1.7 three tries by default", {}, 3),
    ("1.7 one try", {"run_max_try": 1}, 1),
)
def test_a_mini_batch_is_tried_so_often(score: Score, bench: Workbench, settings: dict[str, Any], tries: int) -> None:
    done = score(spoilt("open('tries', 'a').write(str(ctx.retry_count)); 1 / 0"), mini_batch_size=1, **settings)
    assert (bench.folder / "tries").read_text() == "012"[:tries]
    assert [(Path(failed["item"]).name, failed["attempts"]) for failed in done.failed_items] == [("a", tries)]


def test_a_short_return_is_not_tried_again(score: Score, bench: Workbench) -> None:
    """1.5 "do not retry short returns"."""
    score(spoilt("open('tries', 'a').write('x'); return []"), mini_batch_size=1)
    assert (bench.folder / "tries").read_text() == "x"


@table(
    "first",
    ("1.7 a row comes once, whatever the tries", "open('x', 'a'); 1 / (ctx.retry_count > 1)"),
    ("1.9 a process that dies is replaced", "ctx.retry_count or os._exit(9)"),
    ("1.9 a process that is killed is replaced", "ctx.retry_count or os.kill(os.getpid(), 9)"),
    ("1.7 a process that does not answer is replaced", "ctx.retry_count or __import__('time').sleep(600)"),
)
def test_what_a_later_try_makes_good_leaves_each_row_once(score: Score, first: str) -> None:
    done = score(spoilt(first), mini_batch_size=1, run_invocation_timeout=0.5)
    assert (done.rows, done.failed_items) == (["a", "b", "c"], [])


def test_an_init_that_keeps_failing_ends_the_run_after_three_tries_of_each_process(
    score: Score, bench: Workbench
) -> None:
    """1.8 1: `3 * process_count_per_node`."""
    done = score(
        "def init():\n    open('tries', 'a').write('x')\n    raise ValueError('no model')\ndef run(m): return m",
        ends=1,
        process_count_per_node=1,
    )
    assert "init() keeps failing: 3 times, on every node" in done.stderr
    assert (bench.folder / "tries").read_text() == "xxx"


# 1.10


SYSTEM = {
    "scoring_module_name": "score.py",
    "mini_batch_size": "10",
    "error_threshold": "-1",
    "output_action": "append_row",
    "logging_level": "INFO",
    "run_invocation_timeout": "60",
    "run_max_try": "3",
    "create_snapshot_at_runtime": "True",
    "append_row_file_name": "parallel_run_step.txt",
}


@pytest.mark.parametrize(("name", "value"), SYSTEM.items(), ids=[f"1.10 --{name}" for name in SYSTEM])
def test_the_systems_own_arguments_are_there(seen: dict[str, str], name: str, value: str) -> None:
    assert seen[name] == value


@pytest.fixture(scope="module")
def seen(client: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a script finds in `sys.argv`, as the module is imported."""
    import daskscore

    folder = tmp_path_factory.mktemp("arguments")
    (folder / "score.py").write_text("import sys\nWORDS = sys.argv[1:]\ndef run(mini_batch): return WORDS\n")
    report = daskscore.run(
        entry_script=folder / "score.py", rank_mini_batch_count=1, output=folder / "out", client=client
    )
    words = Path(report.output).read_text().splitlines()
    return {option.removeprefix("--"): value for option, value in zip(words[::2], words[1::2], strict=True)}


@table(
    "script, settings, rows",
    (
        "1.10 parse_known_args, at import, required",
        "import argparse\nparser = argparse.ArgumentParser(allow_abbrev=False)\n"
        "parser.add_argument('--model', required=True)\nargs, rest = parser.parse_known_args()\n"
        "def run(m): return [args.model]",
        {"arguments": ["--model", "a b"]},
        ["a b"],
    ),
    (
        "1.10 --logging_level is a text",
        "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--logging_level')\n"
        "args, rest = parser.parse_known_args()\ndef run(m): return [args.logging_level.upper()]",
        {"logging_level": "warning"},
        ["WARNING"],
    ),
    (
        "1.11 a sibling",
        "from sibling import name\ndef run(m): return [name]",
        {},
        ["sibling"],
    ),
    (
        "1.11 __file__ resolves siblings",
        "import os\nHERE = os.path.realpath(os.path.join(__file__, '..'))\n"
        "def run(m): return [open(os.path.join(HERE, 'sibling.py')).read()]",
        {},
        ["name = 'sibling'"],
    ),
    ("1.11 a nested path", "", {"entry_script": "package/tasks/deep.py", "source_directory": "."}, ["deep"]),
    ("1.11 a dotted module", "", {"entry_script": "package.main", "source_directory": "."}, ["package.main relative"]),
)
def test_a_script_is_found_and_called(
    score: Score, bench: Workbench, script: str, settings: dict[str, Any], rows: list[str]
) -> None:
    bench.script("name = 'sibling'", "sibling.py")
    (bench.folder / "package" / "tasks").mkdir(parents=True)
    bench.script("", "package/__init__.py")
    bench.script("name = 'relative'", "package/helper.py")
    bench.script("from .helper import name\ndef run(m): return [f'{__name__} {name}']", "package/main.py")
    bench.script("def run(m): return ['deep']", "package/tasks/deep.py")
    assert score(script, rank_mini_batch_count=1, **settings).rows == rows


# 1.15, of what the scorer itself reads among the arguments


def test_metrics_have_the_prefix_that_was_asked_for(score: Score) -> None:
    """2.3 --metrics_name_prefix."""
    done = score(
        "from azureml.core.run import Run\ndef run(m):\n    Run.get_context().log('rows', len(m))\n    return m",
        arguments=["--metrics_name_prefix", "step1_"],
    )
    assert done.report["metrics"]["step1_rows"]["last"] == 3


@pytest.mark.parametrize("module", ["cProfile", "profile"], ids="1.15 --profiling_module {}".format)
def test_a_profile_of_the_script_is_written_beside_the_log_of_its_process(score: Score, module: str) -> None:
    import pstats

    done = score(
        "def init(): pass\ndef slow(item): return item\ndef run(mini_batch): return [slow(item) for item in mini_batch]",
        arguments=["--profiling_module", module],
        process_count_per_node=1,
    )
    (path,) = (done.output / "logs/sys/node").rglob("process000.profile")
    calls = {function: stats[1] for (_, _, function), stats in pstats.Stats(str(path)).stats.items()}  # type: ignore[attr-defined]
    assert (calls["slow"], calls["init"], calls["run"]) == (3, 1, 1)


ASYNC = """
    import threading
    waiting, done, LOCK = {}, {}, threading.Lock()

    def work(index, items, context):
        result = {"ret": [f"{index} {open(item).read()}" for item in items], "mini_batch_context": context, "exception": None}
        if index == 1 and not context.retry_count: result |= {"ret": [], "exception": ValueError("busy")}
        with LOCK:
            done[index] = result

    def enqueue(items, context):
        index = context.minibatch_index
        waiting[index] = threading.Thread(target=work, args=(index, items, context))
        waiting[index].start()

    def check_all_tasks_processed():
        return not get_processing_batch_number()

    def get_finished_batch_result():
        with LOCK:
            found = dict(done)
            done.clear()
        for index in found: waiting.pop(index, None)
        return found

    def get_processing_batch_number():
        return len(waiting)
"""


@table(
    "more, arguments",
    ("1.15 --amlbi_async_mode", "def run(mini_batch): 1 / 0", ["--amlbi_async_mode", "true"]),
    ("1.15 a script with enqueue and without run", "", []),
)
def test_a_script_of_async_mode_is_asked_for_its_results(score: Score, more: str, arguments: list[str]) -> None:
    done = score(f"{ASYNC}\n    {more}\n", mini_batch_size=1, arguments=arguments)
    assert (done.rows, done.failed_items) == (["0 a", "1 b", "2 c"], [])


@table(
    "change, kind, message",
    (
        "1.15 a result that never comes",
        ("with LOCK:\n            done[index] = result", "pass"),
        "timeout",
        "no answer",
    ),
    (
        "1.15 a result of another name",
        ("done[index] =", "waiting.pop(index)\n            done[f'x{index}'] ="),
        "raise",
        "Its keys must be",
    ),
)
def test_a_script_of_async_mode_that_keeps_a_result_to_itself(
    score: Score, change: tuple[str, str], kind: str, message: str
) -> None:
    done = score(ASYNC.replace(*change), ends=1, run_max_try=1, run_invocation_timeout=0.5)
    assert {failed["kind"] for failed in done.failed_items} == {kind}
    assert message in done.failed_items[0]["message"]


# 1.8, 1.9: what a whole run would take minutes for


@table(
    "failures, seconds, hopeless",
    ("1.8 1: a node gives up after 3 × processes", {"a": 6}, 1, True),
    ("1.8 1: not before", {"a": 5}, 1, False),
    ("1.8 2: all nodes, after two minutes, 2 × nodes × processes", {"a": 4, "b": 4}, 121, True),
    ("1.8 2: not within two minutes", {"a": 4, "b": 4}, 119, False),
    ("1.8 2: not with fewer failures", {"a": 4, "b": 3}, 121, False),
)
def test_when_failures_of_init_leave_no_hope(failures: dict[str, int], seconds: float, hopeless: bool) -> None:
    health = Health(slots_per_node=2, failures=dict(failures))
    assert health.hopeless(set(failures), seconds=seconds) == hopeless


def test_an_init_has_three_times_as_long_as_a_run_and_half_a_minute(tmp_path: Path) -> None:
    """1.8 3."""
    job = {"entry_script": "score.py", "inputs": ["in"], "output": str(tmp_path), "run_invocation_timeout": 100}
    assert JobConfig.model_validate(job).init_seconds == 3 * 100 + 30


def test_a_killed_process_is_named_in_the_log_of_its_node(score: Score) -> None:
    """1.9, on purpose in other words: there `process000 exits with returncode -9.`"""
    done = score(spoilt("ctx.retry_count or os.kill(os.getpid(), 9)"), mini_batch_size=1, process_count_per_node=1)
    (log,) = (done.output / "logs/sys/node").glob("*/_main.txt")
    assert "process000 ended: the process was ended by signal 9 (SIGKILL)" in log.read_text()
