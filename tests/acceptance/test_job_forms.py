from __future__ import annotations

import json
import textwrap

import pytest

from tests.support import Workbench

SCRIPT = """
import argparse, os
parser = argparse.ArgumentParser()
parser.add_argument("--suffix")
options, _ = parser.parse_known_args()
def run(mini_batch):
    return [os.path.basename(path) + options.suffix for path in mini_batch]
"""

PIPELINE = """
type: pipeline
settings:
  default_compute: azureml:cpu-cluster
inputs:
  texts: {type: uri_folder, path: ./in}
jobs:
  first:
    type: parallel
    mini_batch_size: "1"
    inputs: {data: "${{parent.inputs.texts}}"}
    outputs: {rows: {type: uri_file}}
    input_data: ${{inputs.data}}
    task:
      type: run_function
      code: ./src
      entry_script: score.py
      environment: azureml:env:1
      program_arguments: --suffix .1
      append_row_to: ${{outputs.rows}}
  second:
    type: parallel
    mini_batch_size: "1"
    inputs: {data: "${{parent.jobs.first.outputs.rows}}"}
    outputs: {rows: {type: uri_file}}
    input_data: ${{inputs.data}}
    task:
      type: run_function
      code: ./src
      entry_script: score.py
      environment: azureml:env:1
      program_arguments: --suffix .2
      append_row_to: ${{outputs.rows}}
"""


@pytest.fixture
def pipeline(bench: Workbench) -> Workbench:
    bench.inputs("a", "b")
    (bench.folder / "src").mkdir()
    bench.script(SCRIPT, name="src/score.py")
    (bench.folder / "pipeline.yml").write_text(textwrap.dedent(PIPELINE))
    return bench


def command(bench: Workbench, *words: str) -> list[str]:
    return ["run", "pipeline.yml", "--output", str(bench.output), *words]


def test_the_parallel_steps_of_a_pipeline_run_one_after_the_other(pipeline: Workbench) -> None:
    done = pipeline.daskscore(*command(pipeline))
    assert done.code == 0, done.stderr
    assert (pipeline.output / "first" / "rows").read_text() == "a.1\nb.1\n"
    assert (pipeline.output / "second" / "rows").read_text() == "rows.2\n"


def test_what_means_nothing_here_is_named_in_one_warning(pipeline: Workbench) -> None:
    done = pipeline.daskscore(*command(pipeline))
    assert done.stderr.count("settings.default_compute") == 1
    assert "environment: azureml:env:1 is not made here" in done.stderr


def test_strict_refuses_what_means_nothing_here(pipeline: Workbench) -> None:
    done = pipeline.daskscore(*command(pipeline, "--strict"))
    assert done.code == 2
    assert "settings.default_compute" in done.stderr
    assert not pipeline.output.exists()


def test_a_key_of_the_file_can_be_replaced_by_its_dotted_name(pipeline: Workbench) -> None:
    done = pipeline.daskscore(*command(pipeline, "--set", "jobs.first.task.program_arguments=--suffix .x"))
    assert (pipeline.output / "first" / "rows").read_text() == "a.x\nb.x\n", done.stderr


def test_a_step_that_fails_ends_the_file(pipeline: Workbench) -> None:
    pipeline.script("def run(mini_batch):\n    raise ValueError('no')\n", name="src/score.py")
    done = pipeline.daskscore(*command(pipeline))
    assert done.code == 1
    assert not (pipeline.output / "second").exists()


def test_settings_beside_the_script_say_how_frames_are_written(bench: Workbench) -> None:
    """CONTRACT 2.5."""
    bench.script("import pandas as pd\ndef run(mini_batch):\n    return pd.DataFrame({'a': [1], 'b': ['x y']})\n")
    bench.inputs("a")
    options = {"append_row": {"pandas.DataFrame.to_csv": {"sep": ",", "index": True}}}
    (bench.folder / "parallel_run_step.settings.json").write_text(json.dumps(options))
    assert bench.run().rows == ["0,1,x y"]


def test_registered_data_is_an_input_by_its_name(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """CONTRACT 5.3."""
    monkeypatch.setenv("DASKSCORE_WORKSPACE", str(bench.folder / "workspace.db"))
    data = bench.inputs("a", "b").rename(bench.folder / "texts")
    assert bench.daskscore("data", "create", "--name", "texts", "--path", data).code == 0
    bench.script("import os\ndef run(mini_batch):\n    return [os.path.basename(path) for path in mini_batch]\n")
    for name in ("azureml:texts:1", "azureml:texts@latest", "data:texts"):
        assert bench.run("--input", name, "--overwrite").rows == ["a", "b"]


def test_an_unknown_name_lists_the_registered_ones(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASKSCORE_WORKSPACE", str(bench.folder / "workspace.db"))
    data = bench.inputs("a").rename(bench.folder / "texts")
    bench.daskscore("data", "create", "--name", "texts", "--path", data)
    bench.script("def run(mini_batch):\n    return mini_batch\n")
    done = bench.run("--input", "azureml:text:1")
    assert done.code == 2
    assert "texts" in done.stderr


def test_strict_refuses_an_environment_that_is_not_made(pipeline: Workbench) -> None:
    path = pipeline.folder / "pipeline.yml"
    path.write_text(path.read_text().replace("settings:\n  default_compute: azureml:cpu-cluster\n", ""))
    done = pipeline.daskscore(*command(pipeline, "--strict"))
    assert done.code == 2
    assert "environment: azureml:env:1 is not made here" in done.stderr
