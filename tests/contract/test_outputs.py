"""The file of rows, sections 3.1 to 3.7: its bytes, its name and place, and what happens when it is there already."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from tests.contract.tables import table
from tests.support import Finished, Workbench
from tests.worker.conftest import Slot

Score = Callable[..., Finished]
Run = Callable[..., Result]

FRAME = "import pandas as pd, datetime as dt\ndef run(m): return pd.DataFrame({})"


def written(done: Finished) -> bytes:
    return (done.output / "parallel_run_step.txt").read_bytes()


@table(
    "script, data",
    ("3.1 one line per element", "def run(m): return ['x', 1, 1.5, None, True]", "x\n1\n1.5\nNone\nTrue\n"),
    ("3.1 no quoting, nothing added", "def run(m): return ['a: 1', 'a,b', '\"q\"', '']", 'a: 1\na,b\n"q"\n\n'),
    ("3.1 dicts are no JSON", "def run(m): return [{'a': None}]", "{'a': None}\n"),
    ("3.1 line breaks are not escaped", "def run(m): return ['a\\nb']", "a\nb\n"),
    ("3.2 a space, no header, no index", FRAME.format("{'b': [1, 2], 'a': ['x', 'y']}"), "1 x\n2 y\n"),
    ("3.2 index", FRAME.format("{'a': [1]}, index=['row']"), "1\n"),
    ("3.2 quotes where a field has the separator", FRAME.format("{'a': ['x y', 'q\"q']}"), '"x y"\n"q""q"\n'),
    ("3.2 NaN is empty", FRAME.format("{'a': [1, 2], 'b': [None, 0.5], 'c': [3, 4]}"), "1  3\n2 0.5 4\n"),
    ("3.2 floats", FRAME.format("{'a': [0.1, 1e-9, 2.0]}"), "0.1\n1e-09\n2.0\n"),
    ("3.2 dates", FRAME.format("{'a': [pd.Timestamp('2020-01-01')]}"), "2020-01-01\n"),
    ("3.2 times", FRAME.format("{'a': [pd.Timestamp('2020-01-01 10:00')]}"), '"2020-01-01 10:00:00"\n'),
    ("3.2 UTF-8", FRAME.format("{'a': ['Größe', '数']}"), "Größe\n数\n"),
)
def test_the_bytes_of_the_rows(make_slot: Callable[..., Slot], script: str, data: str) -> None:
    slot = make_slot(script)
    outcome = slot.score(slot.ledger(["a"]))
    assert outcome.failures == ()
    (segment,) = outcome.segments
    assert (slot.desk.parts / segment.part).read_bytes() == data.encode()


@table(
    "more, data",
    ("3.4 --append_row_dataframe_header True", {"append_row_header": True}, "a b\n1 x y\n2 z\n"),
    ("3.4 the header once, however many mini-batches", {"append_row_header": True, "count": 3}, "a b\n" + 3 * "1 x y\n2 z\n"),
    ("3.4 sep", {"settings": {"sep": ","}}, "1,x y\n2,z\n"),
    ("2.5 sep and index", {"settings": {"sep": ",", "index": True}}, "0,1,x y\n1,2,z\n"),
    ("2.5 quoting", {"settings": {"quoting": 1}}, '"1" "x y"\n"2" "z"\n'),
)  # fmt: skip
def test_how_a_data_frame_is_written_can_be_changed(
    score: Score, bench: Workbench, more: dict[str, Any], data: str
) -> None:
    script = FRAME.format("{'a': [1, 2], 'b': ['x y', 'z']}")
    if "settings" in more:
        options = {"append_row": {"pandas.DataFrame.to_csv": more["settings"]}}
        (bench.folder / "parallel_run_step.settings.json").write_text(json.dumps(options))
    header = {"append_row_header": True} if "append_row_header" in more else {}
    data = data if '"' in data or "," in data else data.replace("x y", '"x y"')
    done = score(script, rank_mini_batch_count=more.get("count", 1), **header)
    assert written(done).decode() == data


# 3.3: the same script and data as a job of each form.


LIST = "import os\ndef run(m): return [f'{os.path.basename(path)} 1' for path in m]\n"
FRAMES = "import os, pandas\ndef run(m): return pandas.DataFrame({'n': [os.path.basename(p) for p in m], 'x': 1})\n"
FORMS = {
    "v1": "parallel_run_config: {{entry_script: score.py, error_threshold: -1, output_action: append_row, node_count: 1{}}}",
    "v2": """
        type: parallel
        inputs: {{data: {{type: uri_folder, path: ./in}}}}
        outputs: {{rows: {{type: uri_file{}}}}}
        input_data: ${{{{inputs.data}}}}
        task: {{type: run_function, code: ., entry_script: score.py, environment: e, append_row_to: "${{{{outputs.rows}}}}"}}
        """,
    "endpoint": """
        name: dep
        endpoint_name: ep
        model: {{path: ./model}}
        code_configuration: {{code: ., scoring_script: score.py}}
        settings: {{mini_batch_size: 1{}}}
        """,
}


def job_file(bench: Workbench, form: str, more: str = "") -> None:
    bench.script(FRAMES if form == "endpoint" else LIST)
    bench.inputs("a", "b", "c")
    (bench.folder / "model").mkdir(exist_ok=True)
    (bench.folder / "job.yml").write_text(textwrap.dedent(FORMS[form]).format(more))


@table(
    "form, more, name",
    ("3.3 v1", "v1", "", "parallel_run_step.txt"),
    ("3.3 v1 append_row_file_name", "v1", ", append_row_file_name: scores.txt", "scores.txt"),
    ("3.3 v2, the output's own path", "v2", ", path: 'azureml://datastores/d/paths/${{name}}/all.csv'", "all.csv"),
    ("3.3 endpoint, spaces despite its ending", "endpoint", "", "predictions.csv"),
    ("3.3 endpoint output_file_name", "endpoint", ", output_file_name: mine.txt", "mine.txt"),
)
def test_the_file_of_rows_has_its_name_and_is_in_order(
    bench: Workbench, run: Run, form: str, more: str, name: str
) -> None:
    job_file(bench, form, more)
    words = () if form == "v2" else ("--input", "in")
    run("job.yml", "--output", "out", *words, "--set", "preflight=no")
    assert (bench.output / name).read_bytes() == b"a 1\nb 1\nc 1\n"


def test_the_file_of_rows_appears_with_the_end_of_the_run(score: Score, bench: Workbench) -> None:
    """3.3 "the output file appears only at job end"."""
    done = score(
        "import os\ndef run(m): return [os.path.exists(os.path.join(os.environ['AZUREML_BI_OUTPUT_PATH'], "
        "'parallel_run_step.txt'))] * len(m)",
        mini_batch_size=1,
    )
    assert done.rows == ["False"] * 3


def test_a_model_without_a_script_is_refused(bench: Workbench, run: Run) -> None:
    """3.5, on purpose: a model is not run without a script."""
    job_file(bench, "endpoint")
    path = bench.folder / "job.yml"
    path.write_text(path.read_text().replace("code_configuration: {code: ., scoring_script: score.py}\n", ""))
    refused = run("job.yml", "--output", "out", "--input", "in", ends=2)
    assert "a model without a script is not run from its file. Name a script with init() and run()" in refused.stderr


@table(
    "folder",
    ("3.6 AZUREML_BI_OUTPUT_PATH", "os.environ['AZUREML_BI_OUTPUT_PATH']"),
    ("3.6 --output", "sys.argv[sys.argv.index('--output') + 1]"),
    ("3.6 EntryScript().output_dir", "__import__('azureml_user.parallel_run').parallel_run.EntryScript().output_dir"),
)
def test_a_script_of_summary_only_writes_its_own_files(score: Score, folder: str) -> None:
    done = score(
        f"""
        import os, sys
        def run(mini_batch):
            for path in mini_batch:
                name = os.path.basename(path)
                with open(os.path.join({folder}, f"{{name}}.parquet"), "x") as file: file.write(name)
            return mini_batch
        """,
        output_action="summary_only",
    )
    assert sorted(path.name for path in done.output.glob("*.*")) == [
        *(".daskscore", "a.parquet", "b.parquet", "c.parquet", "report.json")
    ]
    assert done.report["items"] == {"total": 3, "succeeded": 3, "failed": 0}


@pytest.mark.parametrize("form", FORMS, ids="3.7 {}".format)
def test_an_output_that_is_there_is_never_touched(bench: Workbench, run: Run, form: str) -> None:
    """3.7, on purpose: said at once, where the reference ends without a result and without a message."""
    job_file(bench, form)
    words = ("job.yml", "--output", "out", "--set", "preflight=no", *(() if form == "v2" else ("--input", "in")))
    run(*words)
    rows = {path: path.read_bytes() for path in bench.output.glob("*") if path.is_file()}
    refused = run(*words, ends=2)
    assert "--overwrite" in refused.stderr
    assert {path: path.read_bytes() for path in rows} == rows
