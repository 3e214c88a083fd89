from __future__ import annotations

import json

import pytest

from daskscore.driver.identity import PLAN_KEYS, ROW_KEYS
from tests.acceptance.bad_input.job import JOB, SCRIPT, Refused, Run, everything_below, rows
from tests.support import Workbench


def test_an_output_that_is_there_is_not_touched_without_a_word(finished: Workbench, refused: Refused) -> None:
    assert refused() == (
        f"output already there: {finished.output}/parallel_run_step.txt. Name another folder with --output, "
        "continue that run with --resume, or replace it with --overwrite"
    )
    assert refused("--resume", "--overwrite") == (
        "--resume continues a run and --overwrite starts it anew. Give one of the two"
    )


def test_overwriting_leaves_nothing_of_the_run_before(finished: Workbench, run: Run) -> None:
    finished.script("def run(mini_batch):\n    return ['new']\n")
    run(*JOB, "--overwrite", "--append-row-file-name", "rows.txt")
    assert (finished.output / "rows.txt").read_text() == "new\n"
    assert not (finished.output / "parallel_run_step.txt").exists()


def test_a_completed_run_that_is_resumed_scores_nothing_again(finished: Workbench, run: Run) -> None:
    attempts = json.loads((finished.output / "report.json").read_text())["attempts"]
    done = run(*JOB, "--mini-batch-size", "1", "--resume")
    assert done.stdout.startswith("Completed: 3 of 3 mini-batches")
    assert json.loads((finished.output / "report.json").read_text())["attempts"] == attempts


def test_resuming_where_nothing_is_begins(bench: Workbench, run: Run) -> None:
    bench.script(SCRIPT)
    bench.inputs("a")
    run(*JOB, "--resume")
    assert rows(bench) == ["a"]


OTHER_SETTINGS = {
    "inputs": ("--input", "in/a"),
    "mini_batch_size": ("--mini-batch-size", "2"),
    "rank_mini_batch_count": ("--rank-mini-batch-count", "3"),
    "entry_script": ("--entry-script", "other.py"),
    "arguments": ("--", "--a", "b"),
    "output_action": ("--output-action", "summary_only"),
    "append_row_format": ("--set", "append_row_format=jsonl"),
    "append_row_separator": ("--set", "append_row_separator=,"),
    "append_row_header": ("--set", "append_row_header=yes"),
    "append_row_index": ("--set", "append_row_index=yes"),
    "append_row_quoting": ("--set", "append_row_quoting=all"),
    "append_row_quote_char": ("--set", "append_row_quote_char=|"),
    "append_row_escape_char": ("--set", "append_row_escape_char=!"),
    "append_row_double_quote": ("--set", "append_row_double_quote=no"),
    "append_row_line_terminator": ("--set", r"append_row_line_terminator=\r\n"),
    "append_row_na_rep": ("--set", "append_row_na_rep=NA"),
    "append_row_float_format": ("--set", "append_row_float_format=%.3f"),
    "append_row_date_format": ("--set", "append_row_date_format=%Y"),
    "append_row_decimal": ("--set", "append_row_decimal=,"),
    "append_row_file_name": ("--append-row-file-name", "rows.txt"),
    "join": ("--set", "join=key"),
}


def test_every_setting_that_shapes_a_run_is_tried_here() -> None:
    elsewhere = {
        "partition_keys",  # see test_partition_keys.py: they exclude a mini_batch_size
        "columns",  # need a join
    }
    assert {*OTHER_SETTINGS} | elsewhere == {*PLAN_KEYS, *ROW_KEYS}


@pytest.mark.parametrize("key", OTHER_SETTINGS)
def test_a_run_is_not_continued_as_another_one(finished: Workbench, run: Run, key: str) -> None:
    """The setting that differs is named with its two values."""
    (finished.folder / "other.py").write_text(SCRIPT)
    before = everything_below(finished.output)
    inputs = ("--input", "in") if key not in ("inputs", "rank_mini_batch_count") else ()
    words = ("--entry-script", "score.py", *inputs, "--output", "out", "--mini-batch-size", "1", "--resume")
    done = run(*words, "--set", "preflight=no", *OTHER_SETTINGS[key], ends=2)
    key = "inputs" if key == "rank_mini_batch_count" else key
    assert done.stderr.startswith(f"daskscore: --resume: the run in {finished.output} is another one: {key} was ")
    assert done.stderr.endswith(" now. Restore it, or start anew with --overwrite\n")
    assert everything_below(finished.output) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [("a", "{}/in/a is gone (it was in mini-batch 0)"), ("bb", "{}/in/bb is new (in mini-batch 2)")],
)
def test_a_run_is_not_continued_with_other_inputs(finished: Workbench, run: Run, name: str, message: str) -> None:
    path = finished.folder / "in" / name
    path.unlink() if path.exists() else path.touch()
    before = everything_below(finished.output)
    assert run(*JOB, "--mini-batch-size", "1", "--resume", ends=2).stderr == (
        f"daskscore: --resume: the inputs are no longer those of the run in {finished.output}: "
        f"{message.format(finished.folder)}. Restore them, or start anew with --overwrite or another --output\n"
    )
    assert everything_below(finished.output) == before


def test_a_run_is_continued_with_a_changed_script_only_when_that_is_said(bench: Workbench, run: Run) -> None:
    bench.script("def run(mini_batch):\n    return [mini_batch[0][-1:] if mini_batch[0][-1:] < 'b' else 1 / 0]\n")
    bench.inputs(*"ab")
    words = (*JOB, "--mini-batch-size", "1", "--run-max-try", "1", "--process-count-per-node", "1")
    run(*words, "--error-threshold", "0", ends=1)
    bench.script("def run(mini_batch):\n    return [mini_batch[0][-1:].upper()]\n")
    assert run(*words, "--resume", ends=2).stderr == (
        f"daskscore: --resume: the run in {bench.output} is another one: score.py has changed since. Restore it, accept "
        "the change for what is not yet scored with --accept-script-change, or start anew with --overwrite\n"
    )
    run(*words, "--resume", "--accept-script-change")
    assert rows(bench) == ["a", "B"]


def test_a_changed_module_is_noticed_as_a_changed_file_is(bench: Workbench, run: Run) -> None:
    (bench.folder / "package").mkdir()
    bench.script(SCRIPT, "package/main.py")
    bench.inputs("a")
    words = ("--entry-script", "package.main", "--input", "in", "--output", "out")
    run(*words)
    bench.script(f"{SCRIPT}# changed", "package/main.py")
    assert "package.main has changed since" in run(*words, "--resume", ends=2).stderr


def test_a_run_whose_settings_are_damaged_can_be_overwritten(finished: Workbench, run: Run) -> None:
    (finished.output / ".daskscore" / "job.json").write_text("{")
    assert "job.json is damaged" in run(*JOB, "--resume", ends=2).stderr
    run(*JOB, "--overwrite")
    assert rows(finished) == ["a", "b", "c"]
