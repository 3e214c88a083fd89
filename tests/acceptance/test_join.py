"""`join`: each result beside what it is the result of, from the command line to the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.support import Finished, Workbench

LENGTHS = """
import pandas

def run(mini_batch):
    if any(path.endswith("bad") for path in mini_batch):
        raise ValueError("it is bad")
    return pandas.DataFrame({"length": [len(open(path).read()) for path in mini_batch], "seen": True})
"""
LABELS = """
import pandas

def run(mini_batch):
    label = ["old" if age > 50 else "young" for age in mini_batch.pop("age")]
    mini_batch.drop(mini_batch.index, inplace=True)
    return pandas.DataFrame({"label": label, "p": 0.5})
"""
"""Its mini-batch is empty in the end, and the rows stand beside what it was given all the same."""

PEOPLE = {
    "a.csv": "id,age,name\n7,40,Ann\n8,60,Bo B\n9,51,Cy\n",
    "b.csv": "id,age,name\n5,20,Di\n",
}
OLD = ["young", "old", "old", "young"]


def people(bench: Workbench, script: str = LABELS, **files: str) -> None:
    bench.script(script)
    (bench.folder / "people").mkdir()
    for name, text in {**PEOPLE, **files}.items():
        (bench.folder / "people" / name).write_text(text)


def score(bench: Workbench, *settings: str, ends: int = 0, entry: str = "{path: people, type: tabular}") -> Finished:
    words = [word for setting in settings for word in ("--set", setting)]
    done = bench.run("--input", entry, "--process-count-per-node", "2", *words)
    assert done.code == ends, done.stderr
    return done


def lengths(bench: Workbench, *settings: str, ends: int = 0) -> Finished:
    words = [word for setting in settings for word in ("--set", setting)]
    done = bench.run("--process-count-per-node", "2", "--mini-batch-size", "2", *words)
    assert done.code == ends, done.stderr
    return done


def table(done: Finished, name: str = "parallel_run_step.csv") -> dict[str, list[Any]]:
    return {str(key): values for key, values in pd.read_csv(done.output / name).to_dict("list").items()}


@pytest.mark.usefixtures("nothing_left_behind")
def test_rows_and_failed_items_name_each_file_once(bench: Workbench) -> None:
    folder = bench.inputs("a", "bb", "c bad", "d bad", "eee")
    bench.script(LENGTHS)
    done = lengths(bench, "join=key", "append_row_format=csv")
    rows = table(done)
    assert list(rows) == ["item", "length", "seen"]
    assert list(zip(rows["item"], rows["length"], strict=True)) == [
        (str(folder / name), len(name)) for name in ("a", "bb", "eee")
    ]
    failed = [failed["item"] for failed in done.failed_items]
    assert sorted([*rows["item"], *failed]) == [str(path) for path in sorted(folder.iterdir())]


def test_a_path_with_a_blank_is_quoted_in_text(bench: Workbench) -> None:
    folder = bench.inputs("an item", "b")
    bench.script("def run(mini_batch):\n    return ['cat' for _ in mini_batch]\n")
    assert lengths(bench, "join=key").rows == [f'"{folder}/an item" cat', f"{folder}/b cat"]


@pytest.mark.usefixtures("nothing_left_behind")
def test_the_key_of_a_record_counts_through_all_mini_batches_of_its_file(bench: Workbench) -> None:
    people(bench)
    done = score(bench, "join=key", "append_row_format=csv", "mini_batch_size=2 rows")
    assert done.report["mini_batches"]["total"] == 3
    rows = table(done)
    assert [Path(file).name for file in rows["file"]] == ["a.csv", "a.csv", "a.csv", "b.csv"]
    assert (rows["row"], rows["label"]) == ([0, 1, 2, 0], OLD)


def test_a_record_that_was_skipped_moves_no_result(bench: Workbench) -> None:
    people(bench, **{"c.csv": "id,age,name\n1,70,Ed\n2,80,Flo,too,many\n3,30,Gil\n"})
    entry = "{path: people/c.csv, type: tabular, on_bad_record: skip}"
    done = score(bench, "join=key", "append_row_format=csv", entry=entry)
    assert (table(done)["row"], table(done)["label"]) == ([0, 2], ["old", "young"])
    assert [item["item"].endswith("c.csv line 3") for item in done.failed_items] == [True]


def test_columns_of_the_input_stand_before_the_results(bench: Workbench) -> None:
    people(bench)
    done = score(bench, "join=input", "columns={in: [name, id], out: [label]}")
    assert done.rows == ["Ann 7 young", '"Bo B" 8 old', "Cy 9 old", "Di 5 young"]


def test_the_columns_of_the_input_keep_their_types_in_parquet(bench: Workbench) -> None:
    people(bench)
    done = score(bench, "join=input", "append_row_format=parquet", "mini_batch_size=2 rows")
    frame = pd.read_parquet(done.output / "parallel_run_step.parquet")
    assert list(frame.columns) == ["id", "age", "name", "label", "p"]
    assert (frame["id"].dtype.kind, frame["age"].tolist(), frame["label"].tolist()) == ("i", [40, 60, 51, 20], OLD)


def test_records_that_are_brought_together_by_keys_keep_their_columns(bench: Workbench) -> None:
    people(bench, **{"b.csv": "id,age,name\n5,20,Ann\n"})
    done = score(bench, "join=input", "columns={in: [name, id], out: [label]}", "partition_keys=[name]")
    assert sorted(done.rows) == ['"Bo B" 8 old', "Ann 5 young", "Ann 7 young", "Cy 9 old"]


@pytest.mark.usefixtures("nothing_left_behind")
def test_a_mini_batch_that_is_tried_again_stands_there_once(bench: Workbench) -> None:
    folder = bench.inputs("a", "b", "c")
    bench.script(
        """
        def run(mini_batch, context):
            if context.retry_count == 0:
                mini_batch.clear()
                raise ValueError("not yet")
            return [{"tries": context.retry_count} for _ in mini_batch]
        """
    )
    assert lengths(bench, "join=key").rows == [f"{folder}/{name} 1" for name in "abc"]


def test_a_job_of_azure_can_be_joined_too(bench: Workbench) -> None:
    folder = bench.inputs("a", "b")
    bench.script("def run(mini_batch):\n    return ['cat' for _ in mini_batch]\n", "code.py")
    text = "{entry_script: code.py, error_threshold: 0, output_action: append_row, node_count: 1}"
    (bench.folder / "job.yml").write_text(f"parallel_run_config: {text}\n")
    done = bench.run("job.yml", "--set", "join=key")
    assert (done.code, done.rows) == (0, [f"{folder}/a cat", f"{folder}/b cat"]), done.stderr


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("[]", "join: key needs one result for each item, in order: run() returned 0 for 1"),
        ("[1, 2]", "join: key needs one result for each item, in order: run() returned 2 for 1"),
        ("{'a': 1}", "join needs a list, an array or a DataFrame, and run() returned a dict"),
        ("[{'item': 1}]", "join: key adds a column item, and run() returned one of that name"),
    ],
)
def test_results_that_belong_to_no_item_are_not_written(bench: Workbench, result: str, message: str) -> None:
    bench.inputs("a")
    bench.script(f"def run(mini_batch):\n    return {result}\n")
    done = lengths(bench, "join=key", "run_max_try=1", ends=1)
    assert [(item["kind"], message in item["message"]) for item in done.failed_items] == [("bad_output", True)]
    assert message in done.stderr
    assert not (done.output / "parallel_run_step.txt").exists()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("{in: [height]}", "columns.in: the input has no column height. It has id, age, name"),
        ("{out: [lable]}", "columns.out: what run() returned has no column lable. It has label, p"),
    ],
)
def test_a_column_that_is_not_there_is_named(bench: Workbench, columns: str, message: str) -> None:
    people(bench)
    done = bench.run(
        *("--input", "{path: people, type: tabular}", "--set", "join=input", "--set", f"columns={columns}"),
        *("--set", "run_max_try=1"),
    )
    assert done.code in (1, 2)
    assert message in done.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["join=kye"], "join"),
        (["join=input"], "join: input writes the columns of records"),
        (["columns={out: [p]}"], "Say join: input or join: key too"),
        (["join=key", "columns={in: [id]}"], "which join: key does not write. Say join: input"),
    ],
)
def test_a_join_that_cannot_be_is_refused_before_any_work(bench: Workbench, settings: list[str], message: str) -> None:
    bench.inputs("a")
    bench.script(LENGTHS)
    assert message in lengths(bench, *settings, ends=2).stderr
    assert not (bench.output / "report.json").exists()


def test_file_and_row_of_records_that_were_sorted_by_keys_are_refused(bench: Workbench) -> None:
    people(bench)
    done = score(bench, "join=key", "partition_keys=[name]", ends=2)
    assert "records that are sorted by partition_keys are in neither any more. Say join: input" in done.stderr


def test_a_resume_does_not_go_on_with_another_join(bench: Workbench) -> None:
    bench.inputs("a", "bb", "c", "d bad")
    bench.script(LENGTHS)
    lengths(bench, "join=key", "error_threshold=0", ends=1)
    done = bench.run("--mini-batch-size", "2", "--resume", "--set", "error_threshold=0")
    assert done.code == 2
    assert "join" in done.stderr


def test_rows_of_a_join_as_lines_of_json(bench: Workbench) -> None:
    folder = bench.inputs("a", "bb")
    bench.script("def run(mini_batch):\n    return [{'n': len(open(path).read())} for path in mini_batch]\n")
    done = lengths(bench, "join=key", "append_row_format=jsonl")
    path = next(path for path in done.output.iterdir() if path.name.startswith("parallel_run_step"))
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"item": str(folder / name), "n": len(name)} for name in ("a", "bb")
    ]
