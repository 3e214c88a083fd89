"""A pipeline's parallel steps, their order and their bindings."""

from __future__ import annotations

from daskscore.config import JobConfig
from daskscore.jobfiles import Form
from tests.jobfiles.conftest import Files

COMPONENT = """
$schema: https://example.org/parallelComponent.schema.json
type: parallel
name: scorer
version: 1
inputs:
  data: {type: uri_folder}
  label: {type: string, optional: true}
outputs:
  rows: {type: uri_file}
input_data: ${{inputs.data}}
mini_batch_size: "4"
task:
  type: run_function
  code: ./src
  entry_script: score.py
  environment: {conda_file: ./conda.yml}
  program_arguments: >-
    --out ${{outputs.rows}}
    $[[--label ${{inputs.label}}]]
  append_row_to: ${{outputs.rows}}
"""

PIPELINE = """
type: pipeline
display_name: two steps
settings: {default_compute: azureml:cpu}
inputs:
  images: {type: uri_folder, path: ./images}
  nodes: 2
outputs:
  result: {type: uri_file, path: 'azureml://datastores/d/paths/${{name}}/result.txt'}
jobs:
  second:
    type: parallel
    component: ./parts/scorer.yml
    inputs:
      data: ${{parent.jobs.first.outputs.rows}}
      label: b
    outputs:
      rows: ${{parent.outputs.result}}
  first:
    type: parallel
    component: file:./parts/scorer.yml
    compute: azureml:gpu
    inputs: {data: '${{parent.inputs.images}}'}
    resources: {instance_count: '${{parent.inputs.nodes}}'}
    mini_batch_size: "8"
"""

PREPARED = """
type: pipeline
jobs:
  prepare:
    type: command
    command: python prepare.py --out ${{outputs.images}}
    outputs: {images: {type: mltable}}
  score:
    type: parallel
    component: ./parts/scorer.yml
    inputs:
      data: {path: '${{parent.jobs.prepare.outputs.images}}', mode: ro_mount}
"""


def with_component(files: Files) -> Files:
    files.write(COMPONENT, "parts/scorer.yml")
    return files


def test_steps_come_in_the_order_in_which_they_need_each_other(files: Files) -> None:
    first, second = with_component(files).all(PIPELINE)
    assert (first.name, second.name) == ("first", "second")
    assert (first.needs, second.needs) == ((), ("first",))
    assert first.form is Form.PIPELINE_STEP


def test_a_step_reads_what_the_one_before_has_written(files: Files) -> None:
    first, second = with_component(files).all(PIPELINE)
    assert first.settings["output"] == files.output / "first"
    assert second.settings["inputs"] == [str(files.output / "first" / first.settings["append_row_file_name"])]


def test_a_steps_own_words_go_over_those_of_its_component(files: Files) -> None:
    first, second = with_component(files).all(PIPELINE)
    assert (first.settings["mini_batch_size"], second.settings["mini_batch_size"]) == (8, 4)
    assert first.settings["node_count"] == 2


def test_paths_of_a_component_are_relative_to_its_own_file(files: Files) -> None:
    first, _ = with_component(files).all(PIPELINE)
    assert first.settings["source_directory"] == files.folder / "parts" / "src"
    assert first.settings["inputs"] == [str(files.folder / "images")]
    assert first.environment is not None
    assert first.environment.conda_file == files.folder / "parts" / "conda.yml"


def test_an_optional_group_goes_with_its_input(files: Files) -> None:
    first, second = with_component(files).all(PIPELINE)
    assert "--label" not in first.settings["arguments"]
    assert second.settings["arguments"][-2:] == ["--label", "b"]


def test_an_output_of_the_pipeline_gives_the_steps_output_its_name(files: Files) -> None:
    _, second = with_component(files).all(PIPELINE)
    assert second.settings["append_row_file_name"] == "result.txt"


def test_what_the_pipeline_says_in_vain_is_named_once(files: Files) -> None:
    first, second = with_component(files).all(PIPELINE)
    assert [ignored.key for ignored in first.ignored] == ["settings.default_compute", "jobs.first.compute"]
    assert second.ignored == ()


def test_each_step_is_a_job_that_can_be_run(files: Files) -> None:
    for step in with_component(files).all(PIPELINE):
        JobConfig.model_validate(step.settings)


def test_the_only_parallel_step_has_the_output_folder_for_itself(files: Files) -> None:
    job = with_component(files).one(PREPARED, bindings={"jobs.prepare.outputs.images": "/data/images"})
    assert job.settings["output"] == files.output
    assert job.settings["inputs"] == ["/data/images"]
    assert any(ignored.key == "jobs.prepare" and "command" in ignored.why for ignored in job.ignored)


def test_a_given_output_has_the_type_that_its_step_declares(files: Files) -> None:
    with_component(files).write(COMPONENT.replace("data: {type: uri_folder}", "data: "), "parts/scorer.yml")
    job = files.one(PREPARED, bindings={"jobs.prepare.outputs.images": "/data/images"})
    assert job.settings["inputs"] == [{"path": "/data/images", "type": "mltable", "mode": "ro_mount"}]


def test_the_output_of_a_step_that_does_not_run_here_is_asked_for(files: Files) -> None:
    error = with_component(files).refusal(PREPARED)
    assert "step prepare is a command step" in error
    assert "--set jobs.prepare.outputs.images=PATH" in error


def test_data_named_by_the_caller_are_those_of_the_only_parallel_step(files: Files) -> None:
    job = with_component(files).one(PREPARED, inputs=["/elsewhere/images"])
    assert job.settings["inputs"] == ["/elsewhere/images"]


def test_data_named_by_the_caller_for_two_steps_are_refused(files: Files) -> None:
    assert "2 parallel steps" in with_component(files).refusal(PIPELINE, inputs=["x"])


def test_a_pipelines_input_can_be_given(files: Files) -> None:
    first, _ = with_component(files).all(
        PIPELINE, bindings={"images": "/other", "jobs.first.resources.instance_count": 5}
    )
    assert first.settings["inputs"] == ["/other"]
    assert first.settings["node_count"] == 5


def test_a_step_without_a_type_has_that_of_its_component(files: Files) -> None:
    job = with_component(files).one(PREPARED.replace("    type: parallel\n", ""), inputs=["d"])
    assert job.name == "score"


def test_a_component_can_stand_in_the_step(files: Files) -> None:
    inline = "\n".join("      " + line for line in COMPONENT.strip().splitlines())
    text = "type: pipeline\njobs:\n  score:\n    type: parallel\n    inputs: {data: ./d}\n    component:\n" + inline
    job = files.one(text)
    assert job.settings["source_directory"] == files.folder / "src"
    assert job.settings["inputs"] == [str(files.folder / "d")]


def test_a_pipeline_can_be_an_instance_of_a_component(files: Files) -> None:
    with_component(files).write(PIPELINE.replace(", path: ./images", "").replace("./parts", "."), "parts/pipeline.yml")
    text = (
        "type: pipeline\ncomponent: parts/pipeline.yml\ninputs: {images: {path: ./mine}}\nsettings: {force_rerun: true}"
    )
    first, second = files.all(text)
    assert first.settings["inputs"] == [str(files.folder / "mine")]
    assert first.settings["source_directory"] == files.folder / "parts" / "src"
    assert second.needs == ("first",)


def test_the_deployment_of_a_pipeline_is_its_pipeline(files: Files) -> None:
    with_component(files).write(PIPELINE)
    text = "type: pipeline\nname: dep\nendpoint_name: ep\ncomponent: job.yml\nsettings: {default_compute: c}"
    first, _ = files.all(text, name="deployment.yml")
    assert first.about["name"] == "dep"
    assert {"endpoint_name", "settings.default_compute"} <= {ignored.key for ignored in first.ignored}
