"""Rows as CSV and as Parquet, from the command line to the file."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from distributed import Client

import daskscore
from tests.support import Workbench

Run = Callable[..., Result]

SCRIPT = """
import os
import pandas

def run(mini_batch):
    names = [os.path.basename(path) for path in mini_batch]
    if names[0] == os.environ.get("BREAKS_AT"):
        raise ValueError("it heals")
    number = int(names[0])
    if number % 9 == 0:
        return [{"name": name, "note": "a, \\"b\\""} for name in names]
    if number % 6 == 0:
        return pandas.DataFrame({"score": [int(name) for name in names], "name": names})
    return pandas.DataFrame({"name": names, "score": [int(name) / 4 for name in names]})
"""
"""Other columns in other mini-batches, and whole numbers among fractions."""


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_left_behind")
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_the_same_bytes_on_any_number_of_slots_in_any_bundles_after_a_resume(
    bench: Workbench, client: Client, form: str
) -> None:
    inputs, script = bench.inputs(*(f"{number:03}" for number in range(60))), bench.script(SCRIPT)
    files = {}
    for slots, bundle_size, resumed in itertools.product((1, 2), (1, "auto"), (False, True)):
        output = bench.folder / f"{slots} slots, bundle size {bundle_size}, resumed: {resumed}"

        def score(resume: bool, **environment: str) -> daskscore.Report:
            return daskscore.run(
                entry_script=script,
                inputs=inputs,
                output=output,  # noqa: B023 - called in this round only
                mini_batch_size=3,
                append_row_format=form,
                process_count_per_node=slots,  # noqa: B023
                bundle_size=bundle_size,  # noqa: B023
                run_max_try=1,
                error_threshold=0,
                environment_variables=environment,
                preflight=False,
                client=client,
                resume=resume,
            )

        if resumed:
            assert score(False, BREAKS_AT="030").status == "Failed"
        report = score(resumed)
        assert (report.status, report.rows, report.warnings) == ("Completed", 60, ())
        files[output.name] = (output / f"parallel_run_step.{form}").read_bytes()
    assert len(set(files.values())) == 1, {name: len(data) for name, data in files.items()}
    path = output / f"parallel_run_step.{form}"
    read = pd.read_csv(path, dtype={"name": str}) if form == "csv" else pd.read_parquet(path)
    assert list(read.columns) == ["name", "note", "score"]
    assert list(read.name) == [f"{number:03}" for number in range(60)]
    scores = {f"{n:03}": n if n // 3 % 2 == 0 else n / 4 for n in range(60) if n // 3 % 3}
    assert {name: score for name, score in zip(read.name, read.score, strict=True) if score == score} == scores


@pytest.fixture
def score(bench: Workbench, run: Run) -> Callable[..., Path]:
    """The file of rows of a script that returns `result` for each of the mini-batches a, b and c."""
    bench.inputs(*"abc")

    def scored(result: str, *words: str, form: str = "csv") -> Path:
        bench.script(
            f"import os\ndef run(mini_batch):\n    name = os.path.basename(mini_batch[0])\n    return {result}\n"
        )
        options = [word for option in (f"append_row_format={form}", *words) for word in ("--set", option)]
        run(*("--entry-script", "score.py", "--input", "in", "--output", "out", "--overwrite"), *options,
            *("--mini-batch-size", "1"))  # fmt: skip
        return bench.output / f"parallel_run_step.{form}"

    return scored


PLACE = "'abc'.index(name)"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([], "name,score\na,0.5\nb,1.5\nc,2.5\n"),
        (["append_row_header=no"], "a,0.5\nb,1.5\nc,2.5\n"),
        (["append_row_separator=;", "append_row_decimal=,"], "name;score\na;0,5\nb;1,5\nc;2,5\n"),
        (["append_row_quoting=all", 'append_row_quote_char="\'"'], "'name','score'\n'a','0.5'\n'b','1.5'\n'c','2.5'\n"),
        (["append_row_quoting=nonnumeric"], '"name","score"\n"a",0.5\n"b",1.5\n"c",2.5\n'),
        (["append_row_float_format=%.2f"], "name,score\na,0.50\nb,1.50\nc,2.50\n"),
        ([r"append_row_line_terminator=\r\n"], "name,score\r\na,0.5\r\nb,1.5\r\nc,2.5\r\n"),
    ],
)
def test_a_csv_file_is_written_as_it_is_wanted(score: Callable[..., Path], options: list[str], text: str) -> None:
    path = score(f"[{{'name': name, 'score': {PLACE} + 0.5}}]", *options)
    assert path.read_bytes().decode() == text


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("append_row_na_rep=-", "- 2020-01-02 x!"),
        ("append_row_date_format=%Y", " 2020 x!"),
        ("append_row_escape_char=!", " 2020-01-02 x!!"),
        ("append_row_quoting=all", '"" "2020-01-02" "x!"'),
    ],
)
def test_the_options_are_those_of_frames_as_text_too(
    score: Callable[..., Path], bench: Workbench, option: str, line: str
) -> None:
    frame = "pandas.DataFrame({'a': [None], 'b': pandas.to_datetime(['2020-01-02']), 'c': ['x!']})"
    score(f"[pandas := __import__('pandas'), {frame}][1]", option, form="text")
    assert (bench.output / "parallel_run_step.txt").read_text().splitlines() == [line] * 3


def test_types_that_do_not_go_together_fail_the_run_and_a_resume_writes_them_as_text(
    bench: Workbench, run: Run
) -> None:
    bench.inputs(*"ab")
    bench.script("import os\ndef run(mini_batch):\n    return [{'x': 1 if mini_batch[0].endswith('a') else 'b'}]\n")
    words = ("--entry-script", "score.py", "--input", "in", "--output", "out", "--mini-batch-size", "1")
    words = (*words, "--set", "append_row_format=parquet")
    failed = run(*words, ends=1)
    assert "column x is int64 in some mini-batches and string in others" in failed.stderr
    attempts = json.loads((bench.output / "report.json").read_text())["attempts"]
    run(*words, "--resume", "--set", "append_row_mixed_types=true")
    assert pq.read_table(bench.output / "parallel_run_step.parquet").to_pydict() == {"x": ["1", "b"]}
    assert json.loads((bench.output / "report.json").read_text())["attempts"] == attempts


def test_what_a_format_cannot_hold_fails_its_mini_batch_alone(bench: Workbench, run: Run) -> None:
    bench.inputs(*"ab")
    bench.script("def run(mini_batch):\n    return [1, 'x'] if mini_batch[0].endswith('b') else ['y']\n")
    run("--entry-script", "score.py", "--input", "in", "--output", "out", "--mini-batch-size", "1",
        "--set", "append_row_format=parquet")  # fmt: skip
    assert pd.read_parquet(bench.output / "parallel_run_step.parquet").value.tolist() == ["y"]
    (line,) = (bench.output / "failed_items.jsonl").read_text().splitlines()
    failure = json.loads(line)
    assert (failure["kind"], failure["attempts"]) == ("bad_output", 3)
    assert "column value of what run() returned cannot stand in a Parquet file" in failure["message"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"append_row_format": "jsonl", "append_row_float_format": "%.2f"},
            "append_row_float_format: is for append_row_format text and csv, and this job's is jsonl. "
            "Remove one of the two",
        ),
        (
            {"append_row_format": "parquet", "append_row_separator": ","},
            "append_row_separator: is for append_row_format text and csv, and this job's is parquet. "
            "Remove one of the two",
        ),
        (
            {"append_row_format": "csv", "append_row_mixed_types": True},
            "append_row_mixed_types: is for append_row_format parquet, and this job's is csv. Remove one of the two",
        ),
        (
            {"append_row_format": "csv", "append_row_quote_char": ","},
            "append_row_quote_char: ',' is the append_row_separator too. Choose another for one",
        ),
    ],
)
def test_an_option_without_effect_is_refused(bench: Workbench, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(daskscore.UsageError) as refused:
        daskscore.run(entry_script=bench.script(""), inputs=bench.inputs("a"), output=bench.output, **settings)
    assert str(refused.value) == message
    assert not os.path.exists(bench.output)


def test_a_scorer_of_csv_rows_imports_neither_pandas_nor_pyarrow(score: Callable[..., Path]) -> None:
    path = score(
        "[{'pandas': 'pandas' in __import__('sys').modules, 'pyarrow': 'pyarrow' in __import__('sys').modules}]"
    )
    assert path.read_text() == "pandas,pyarrow\n" + "False,False\n" * 3
