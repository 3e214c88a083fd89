"""Files that are wrong: each error names the file, the key and what would do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daskscore.errors import ConfigError
from daskscore.jobfiles import translate
from daskscore.jobfiles.parallel import KNOWN, KNOWN_BELOW
from tests.jobfiles.conftest import DEPLOYMENT, PRS, STEP, Files, changed_step, with_arguments
from tests.jobfiles.test_pipeline import COMPONENT, PIPELINE


@pytest.mark.parametrize(
    ("more", "without", "error"),
    [
        ("mini_batch_sise: 5", [], "job.yml: mini_batch_sise: there is no such key. Did you mean mini_batch_size?"),
        ("error_threshold: many", [], "job.yml: error_threshold: is 'many'. Write a whole number, at least -1"),
        ("error_threshold: true", [], "error_threshold: is True"),
        ("error_threshold: 1.5", [], "error_threshold: is 1.5"),
        ("retry_settings: 3", [], "retry_settings: is 3. Write a mapping"),
        ("retry_settings: {max_retries: -1}", [], "retry_settings.max_retries: is -1"),
        (
            "retry_settings: {max_retry: 1}",
            [],
            "retry_settings.max_retry: there is no such key. Did you mean max_retries?",
        ),
        ("retry_settings: {timeout: 0}", [], "retry_settings.timeout: is 0. Write seconds"),
        ("retry_settings: {timeout: 259201}", [], "retry_settings.timeout: is 259201"),
        ("retry_settings: {timeout: .nan}", [], "retry_settings.timeout: is nan"),
        ("resources: {instance_count: 0}", [], "resources.instance_count: is 0"),
        ("resources: {instance_cout: 1}", [], "Did you mean instance_count?"),
        ("max_concurrency_per_instance: x", [], "max_concurrency_per_instance: is 'x'"),
        ("mini_batch_size: [1]", [], "mini_batch_size: is [1]. Parameter mini_batch_size must be of type int or str."),
        ("partition_keys: Store", [], "partition_keys: is 'Store'. Write a list of names"),
        ("partition_keys: []", [], "partition_keys: is []"),
        ("environment_variables: [A]", [], "environment_variables: is ['A']"),
        ("input_data: images", ["input_data"], "input_data: is 'images'. Name one of the inputs"),
        ("input_data: ${{inputs.image}}", ["input_data"], "there is no input image. Did you mean images?"),
        ("", ["input_data"], "input_data: is missing"),
        ("", ["inputs"], "there is no input model. There are none"),
        ("task: run", ["task"], "task: is 'run'"),
        ("task: {type: model}", ["task"], "task.type: is model, and only run_function runs here"),
        ("task: {entry_script: a.py, code: 'azureml:code:1'}", ["task"], "task.code: is azureml:code:1"),
        ("task: {code: .}", ["task"], "task.entry_script: is missing"),
        (
            "task: {entry_script: a.py, append_row_to: rows}",
            ["task"],
            "task.append_row_to: is 'rows', which is no output",
        ),
        ("task: {entry_script: a.py, environment: 3}", ["task"], "task.environment: is 3"),
        ("inputs: {images: [1]}", ["inputs"], "inputs.images: is [1]. Write a value"),
        ("inputs: {images: {type: uri_foldr, path: x}, model: x}", ["inputs"], "Did you mean uri_folder?"),
        ("inputs: {images: 3, model: x}", ["inputs"], "input_data: is 3, which is no data"),
        ("outputs: {rows: 3}", ["outputs"], "outputs.rows: is 3"),
        ("outputs: {'../rows': {type: uri_file}, rows: }", ["outputs"], "is no name for an output"),
        ("outputs: {rows: {path: '${{parent.outputs.x}}'}}", ["outputs"], "this job is in no pipeline"),
        ("name: [1]", [], "name: is [1]. Write a text"),
    ],
)
def test_a_wrong_key(files: Files, more: str, without: list[str], error: str) -> None:
    assert error in files.refusal(changed_step(more, without))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("--m ${{inputs.modle}}", "task.program_arguments: there is no input modle. Did you mean model?"),
        ("--m ${{outputs.row}}", "there is no output row. Did you mean rows?"),
        ("--m ${{inputs.model", "without its }}"),
        ("--m ${{parent.inputs.x}}", "is neither an input nor an output"),
        ("--m ${{}}", "is neither an input nor an output"),
        ("$[[--m ${{inputs.model}}", "without its ]]"),
        ("--m 'a", "cannot be split into words"),
        ("--allowed_failed_percent", "--allowed_failed_percent has no value after it"),
        ("--allowed_failed_percent --x 1", "--allowed_failed_percent has no value after it"),
        ("--partition_keys Store", "no JSON list of names"),
    ],
)
def test_wrong_program_arguments(files: Files, arguments: str, error: str) -> None:
    assert error in files.refusal(with_arguments(arguments))


def test_an_unknown_key_far_from_all_others_is_named_in_the_warning(files: Files) -> None:
    job = files.step("zzz: 1")
    assert [(ignored.key, ignored.why) for ignored in job.ignored] == [("zzz", "there is no such key")]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"inputs.image": "x"}, "there is no inputs.image in the file. Did you mean inputs.images?"),
        ({"images": "${{inputs.model}}"}, "stands for nothing in a given value"),
        ({"inputs.images": [1]}, "given value: inputs.images: is [1]"),
        ({"resources.instance_cout": 1}, "Did you mean instance_count?"),
        ({"input_data.x": 1}, "has no keys"),
    ],
)
def test_a_wrong_given_value(files: Files, given: dict[str, Any], error: str) -> None:
    assert error in files.refusal(STEP, bindings=given)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("parent.inputs.images", "parent.inputs.image", "the pipeline has no input image. Did you mean images?"),
        ("parent.jobs.first.", "parent.jobs.fist.", "the pipeline has no step fist. Did you mean first?"),
        ("jobs.first.outputs.rows", "jobs.first.outputs.row", "there is no output row. Did you mean rows?"),
        ("jobs.first.outputs.rows", "jobs.second.outputs.rows", "wait for each other: second → second"),
        ("parent.inputs.images", "parent.jobs.second.outputs.rows", "wait for each other: second → first → second"),
        ("parent.outputs.result", "parent.outputs.results", "the pipeline has no output results. Did you mean result?"),
        ("parent.inputs.nodes", "parent.nodes", "${{parent.nodes}} stands for nothing"),
        ("  first:\n", "  ../first:\n", "is no name for a step"),
        ("component: ./parts/scorer.yml", "component: azureml:scorer:1", "registered elsewhere"),
        ("component: ./parts/scorer.yml", "component: ./parts/none.yml", "jobs.second.component: job file"),
        ("component: ./parts/scorer.yml", "component: [1]", "jobs.second.component: is [1]"),
        ("display_name: two steps", "displayname: x", "Did you mean display_name?"),
        ("{default_compute: azureml:cpu}", "{default_computer: c}", "Did you mean default_compute?"),
        (
            "images: {type: uri_folder, path: ./images}",
            "images: {path: '${{parent.inputs.nodes}}'}",
            "has a value of its own",
        ),
    ],
)
def test_a_wrong_pipeline(files: Files, old: str, new: str, error: str) -> None:
    files.write(COMPONENT, "parts/scorer.yml")
    assert old in PIPELINE
    assert error in files.refusal(PIPELINE.replace(old, new))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("type: pipeline\njobs: {a: {type: command}, b: {type: sweep}}", "Its steps: a (command), b (sweep)"),
        ("type: pipeline", "has no parallel step"),
        ("type: pipeline\njobs: [1]", "jobs: is [1]"),
        ("type: pipeline\njobs: {a: }", "jobs.a: is empty"),
        ("type: pipeline\ncomponent: job.yml", "A pipeline cannot hold itself"),
        ("jobs: {a: {type: parallel}}", "type: is missing. A file with jobs is of type: pipeline"),
        ("type: paralel", "Did you mean parallel?"),
        ("type: command\ncommand: ls", "type: is command, and only parallel jobs"),
        ("type: zzz", "Write parallel or pipeline"),
        ("$schema: x", "type: is missing. Write type: parallel, pipeline or model"),
        ("pipeline: {steps: {}}", "is a pipeline of v1"),
        ("- a", "a list, not a mapping"),
        ("", "is empty, not a mapping"),
        ("type: pipeline\nendpoint_name: e\njob_definition: azureml:j", "job_definition: is 'azureml:j'"),
        ("parallel_run_config: [1]", "parallel_run_config: is [1]"),
        (PRS + "  node_cout: 3", "parallel_run_config.node_cout: there is no such key. Did you mean node_count?"),
        (DEPLOYMENT + "setings: {}", "Did you mean settings?"),
        (
            DEPLOYMENT + "settings: {mini_batch_size: 10kb}",
            "settings.mini_batch_size: is '10kb', and a deployment counts files",
        ),
        (DEPLOYMENT + "settings: {output_action: print}", "settings.output_action: is print"),
        (DEPLOYMENT.replace("scoring_script: driver.py", ""), "code_configuration.scoring_script: is missing"),
        (DEPLOYMENT.replace("code: code", "code: 'https://x/y'"), "code_configuration.code: is https://x/y"),
    ],
)
def test_a_wrong_file(files: Files, text: str, error: str) -> None:
    assert error in files.refusal(text)


def test_a_pipeline_that_holds_itself_by_another_file_is_refused(files: Files) -> None:
    files.write("type: pipeline\ncomponent: job.yml", "other.yml")
    assert "A pipeline cannot hold itself" in files.refusal("type: pipeline\ncomponent: other.yml")


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"append_row": 3}', '{"append_row": {"pandas.DataFrame.to_csv": [1]}}', "\0"]
)
def test_settings_beside_the_script_that_are_wrong_name_their_file(files: Files, text: str) -> None:
    files.write(text, "src/parallel_run_step.settings.json")
    assert str(files.folder / "src" / "parallel_run_step.settings.json") in files.refusal(STEP)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        translate(tmp_path / "none.yml", output="out")


WORDS = st.sampled_from(
    ["", "a", "5", "-1", "10kb", "azureml:x:1", "https://h/p", "./p", "../p", "${{inputs.images}}", "${{inputs.x}}", "${{", "$[[a]]",
     "${{outputs.rows}}", "${{parent.inputs.x}}", "${{parent.jobs.a.outputs.rows}}", "uri_file", "mltable", "parallel", "\x00", "é\ue000"]
)  # fmt: skip
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-3, 10**12), st.floats(), WORDS)
KEYS = st.sampled_from(
    sorted(
        {
            *KNOWN,
            *(key for keys in KNOWN_BELOW.values() for key in keys),
            "images",
            "rows",
            "model",
            "jobs",
            "settings",
            "path",
            "a",
        }
    )
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


@pytest.mark.parametrize("base", ["parallel", "pipeline", "deployment", "run config"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_file_brings_anything_but_an_answer_or_a_refusal(files: Files, base: str, data: st.DataObject) -> None:
    """Whatever stands in a file, there are jobs or a ConfigError, and every job's output is below the output folder."""
    import yaml

    texts = {"parallel": STEP, "pipeline": PIPELINE, "deployment": DEPLOYMENT, "run config": PRS}
    files.write(COMPONENT, "parts/scorer.yml")
    document = yaml.safe_load(texts[base])
    for _ in range(data.draw(st.integers(1, 3))):
        holder = document
        while True:
            inner = [value for value in holder.values() if isinstance(value, dict) and value]
            if not inner or data.draw(st.booleans()):
                break
            holder = data.draw(st.sampled_from(inner))
        key = data.draw(st.one_of(st.sampled_from(sorted(map(str, holder))), KEYS))
        holder[key] = data.draw(VALUES)
    path = files.write(json.dumps(document, allow_nan=True), "any.yml")
    try:
        jobs = translate(path, output=files.output, inputs=data.draw(st.sampled_from([(), ("d",)])))
    except ConfigError:
        return
    for job in jobs:
        assert Path(job.settings["output"]).is_relative_to(files.output)
        assert all(folder.is_relative_to(files.output) for folder in job.folders)
