"""The reference's Python: its parameters and errors (CONTRACT 2.1 to 2.3), and the jobs that come of it."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from daskscore import api
from daskscore.azureml import (
    Input,
    Output,
    Parallel,
    ParallelRunConfig,
    ParallelRunStep,
    PipelineParameter,
    RetrySettings,
    RunFunction,
    parallel_run_function,
)
from daskscore.config import JobConfig
from daskscore.errors import ConfigError
from daskscore.jobfiles import translate
from tests.contract.steps import Consumption, DataSet, TabularDataSet, config, refusal, step
from tests.contract.steps import here as here
from tests.support import Workbench


@dataclass
class Recorder:
    """Stands in for daskscore.run."""

    calls: list[tuple[Any, dict[str, Any]]] = field(default_factory=list)

    def __call__(self, job: Any, **options: Any) -> str:
        self.calls.append((job, options))
        return "report"


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(api, "run", recorder)
    return recorder


# ParallelRunConfig, CONTRACT 2.1


def test_parallel_run_config_has_the_defaults_of_the_reference() -> None:
    """CONTRACT 2.1, section 0."""
    job = JobConfig.model_validate(step().translated().settings)
    assert (job.run_invocation_timeout, job.run_max_try, job.logging_level) == (60, 3, "INFO")
    assert (job.mini_batch_size, job.process_count_per_node) == (None, None)
    assert job.append_row_file_name == "parallel_run_step.txt"


def test_output_action_is_case_insensitive() -> None:
    assert config(output_action="Append_Row").settings()["output_action"] == "append_row"


def test_parameters_in_the_order_of_the_reference() -> None:
    made = ParallelRunConfig(
        "env", "code/score.py", -1, "summary_only", "cpu", 1, 2, "10", None, "text", "DEBUG", 30, 2
    )
    settings = made.settings()
    assert (settings["process_count_per_node"], settings["mini_batch_size"]) == (2, 10)
    assert (settings["run_invocation_timeout"], settings["run_max_try"]) == (30, 2)
    assert (settings["source_directory"], settings["entry_script"]) == (Path.cwd() / "code", "score.py")


def test_what_is_changed_after_the_object_was_made_counts() -> None:
    made = config()
    made.environment_variables = {"A": "b"}
    assert made.settings()["environment_variables"] == {"A": "b"}


def test_variables_of_the_environment_count_below_those_of_the_config(here: Path) -> None:
    made = config(environment=SimpleNamespace(name="env", environment_variables={"A": "1", "B": "1"}))
    assert made.settings()["environment_variables"] == {"A": "1", "B": "1"}
    made.environment_variables = {"B": "2"}
    made.save_to_yaml("config.yml")
    assert made.settings()["environment_variables"] == {"A": "1", "B": "2"}
    assert ParallelRunConfig.load_yaml(None, "config.yml").settings() == made.settings()


def test_yaml_keeps_every_parameter(here: Path) -> None:
    """CONTRACT 2.1: the reference loses allowed_failed_*; here they are kept."""
    made = config(allowed_failed_count=2, allowed_failed_percent=5.5, mini_batch_size="1KB", description="all images")
    (here / "deeper").mkdir()
    made.save_to_yaml("deeper/config.yml")
    loaded = ParallelRunConfig.load_yaml(None, "deeper/config.yml")
    assert loaded.settings() == made.settings()
    assert loaded.description == "all images"


def test_saved_yaml_is_a_job_file(here: Path) -> None:
    made = config(partition_keys=["Store"])
    made.save_to_yaml("config.yml")
    (job,) = translate("config.yml", output="out", inputs=["images"])
    assert {**job.settings, "inputs": None, "output": None} == {**made.settings(), "inputs": None, "output": None}
    assert str(job.environment) == "env:3"


def test_yaml_without_its_root_is_refused(here: Path) -> None:
    (here / "config.yml").write_text("error_threshold: 1\n")
    with pytest.raises(ConfigError, match=r"parallel_run_config: is missing"):
        ParallelRunConfig.load_yaml(None, "config.yml")


# ParallelRunStep, CONTRACT 2.2


def test_a_step_is_a_job() -> None:
    job = JobConfig.model_validate(step(arguments=["--threshold", 0.5]).translated().settings)
    assert job.inputs == [str(Path.cwd() / "images")]
    assert job.output == Path.cwd() / "out"
    assert job.arguments == ["--threshold", "0.5"]
    assert (job.node_count, job.error_threshold) == (2, 5)


def test_summary_only_needs_no_output_until_it_runs() -> None:
    made = step(of=config(output_action="summary_only"), output=None)
    assert "Name a folder for the results" in refusal(made.translated)
    assert made.translated(output="there").settings["output"] == Path.cwd() / "there"


def test_an_output_with_only_a_name_is_a_folder_of_that_name() -> None:
    assert step(output=SimpleNamespace(name="inferences")).translated().settings["output"] == Path.cwd() / "inferences"


@pytest.mark.parametrize(
    "given",
    [
        DataSet("images"),
        Consumption(DataSet("images")),
        Consumption(PipelineParameter("data", DataSet("images"))),
        PipelineParameter("data", "images"),
        Path("images"),
    ],
)
def test_an_input_may_come_in_many_wrappings(given: Any) -> None:
    assert step(inputs=[given]).translated().settings["inputs"] == [str(Path.cwd() / "images")]


def test_a_table_says_so() -> None:
    settings = step(inputs=[Consumption(TabularDataSet("t.csv"), mode="direct")]).translated().settings
    assert settings["inputs"] == [{"path": str(Path.cwd() / "t.csv"), "type": "tabular"}]


def test_an_input_that_says_how_it_is_divided_keeps_what_it_says(here: Path) -> None:
    """CONTRACT 1.2: a partitioned dataset has a partition_format."""
    given = {"path": "waves", "partition_format": "/{user}/{genres}.wav"}
    settings = step(of=config(partition_keys=["user"]), inputs=[given]).translated().settings
    assert settings["inputs"] == [{"path": str(here / "waves"), "partition_format": "/{user}/{genres}.wav"}]
    table = {"path": PipelineParameter("data", "t.csv"), "type": "tabular"}
    assert step(inputs=[table]).translated().settings["inputs"] == [{"path": str(here / "t.csv"), "type": "tabular"}]
    assert refusal(step, inputs=["images", table]) == "All inputs of step must be same type"
    assert "Step input must be of any type" in refusal(step, inputs=[{"type": "tabular"}])


def test_side_inputs_become_paths_in_the_arguments() -> None:
    labels = DataSet("labels.txt")
    made = step(side_inputs=[labels, "lookup"], arguments=["--labels", labels, "--lookup", "lookup"])
    settings = made.translated().settings
    assert settings["arguments"] == ["--labels", "${{side_inputs.labels}}", "--lookup", "${{side_inputs.side_input_1}}"]
    assert settings["side_inputs"] == {
        "labels": str(Path.cwd() / "labels.txt"),
        "side_input_1": str(Path.cwd() / "lookup"),
    }


def test_the_output_in_an_argument_is_its_folder() -> None:
    output = SimpleNamespace(name="forecasts")
    settings = step(output=output, arguments=["--output-dir", output]).translated().settings
    assert settings["arguments"] == ["--output-dir", str(Path.cwd() / "forecasts")]


def test_switches_among_the_arguments_are_the_systems() -> None:
    """CONTRACT 1.15, 3.4."""
    settings = step(arguments=["--append_row_dataframe_header", True, "--x", 1]).translated().settings
    assert settings["append_row_header"] is True
    assert settings["arguments"] == ["--x", "1"]


def test_a_step_of_ranks_has_no_inputs() -> None:
    """CONTRACT 1.2, 2.2."""
    settings = step(inputs=[], arguments=["--rank_mini_batch_count", 8]).translated().settings
    assert settings["rank_mini_batch_count"] == 8
    assert JobConfig.model_validate(settings).inputs == []


def test_pipeline_parameters_can_be_replaced() -> None:
    """CONTRACT 2.1 PipelineParameter-able."""
    made = step(
        of=config(
            mini_batch_size=PipelineParameter("batch_size_param", "5"),
            process_count_per_node=PipelineParameter("process_count_param", 2),
        ),
        inputs=[Consumption(PipelineParameter("data_param", "images"))],
    )
    assert made.translated().settings["mini_batch_size"] == 5
    settings = made.translated(pipeline_parameters={"batch_size_param": "1", "data_param": "other"}).settings
    assert (settings["mini_batch_size"], settings["process_count_per_node"]) == (1, 2)
    assert settings["inputs"] == [str(Path.cwd() / "other")]
    assert "Did you mean batch_size_param?" in refusal(made.translated, pipeline_parameters={"batch_size_parm": 1})


def test_partition_keys_as_a_parameter_are_json() -> None:
    made = config(partition_keys=PipelineParameter("keys", json.dumps(["a", "b"])))
    assert made.settings()["partition_keys"] == ["a", "b"]
    assert "no list as JSON" in refusal(config, partition_keys=PipelineParameter("keys", "a,b"))


def test_a_config_of_the_references_own_class_will_do() -> None:
    theirs = SimpleNamespace(**vars(config(run_max_try=7)))
    assert ParallelRunStep("abc", theirs, ["images"], "out").translated().settings["run_max_try"] == 7


def test_run_hands_the_job_to_daskscore_run(recorder: Recorder) -> None:
    assert step().run(client="client", output="there", run_max_try=9, overwrite=True) == "report"  # type: ignore[arg-type]
    ((job, options),) = recorder.calls
    assert job["output"] == Path.cwd() / "there"
    assert options == {"client": "client", "run_max_try": 9, "overwrite": True}


def test_run_says_once_what_means_nothing(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "daskscore.azureml"):
        step(arguments=["--copy_logs_to_parent", "True"]).run()
    (record,) = caplog.records
    assert "ParallelRunStep score-images: 1 key means nothing here:" in record.message


# parallel_run_function, CONTRACT 2.3


def scoring(**changes: Any) -> Parallel:
    given: dict[str, Any] = {
        "name": "score",
        "display_name": "Score images",
        "inputs": {
            "images": Input(type="uri_folder", mode="ro_mount", description="what is cut into mini-batches"),
            "model": Input(type="uri_folder"),
            "label": Input(type="string", optional=True),
        },
        "outputs": {"rows": Output(type="uri_file"), "extra": Output(type="uri_folder")},
        "input_data": "${{inputs.images}}",
        "mini_batch_size": "5",
        "instance_count": 2,
        "max_concurrency_per_instance": 1,
        "retry_settings": {"max_retries": 1, "timeout": 30},
        "task": RunFunction(
            code="./code",
            entry_script="score.py",
            environment=SimpleNamespace(name=None, image="image", conda_file="conda.yml"),
            program_arguments="--model ${{inputs.model}} --extra ${{outputs.extra}} --allowed_failed_percent 30 "
            "$[[--label ${{inputs.label}}]]",
            append_row_to="${{outputs.rows}}",
        ),
    }
    return parallel_run_function(**{**given, **changes})


def test_a_parallel_step_is_a_job() -> None:
    translated = scoring()(images="images", model=Input(path="model", type="uri_folder")).translated("out")
    job = JobConfig.model_validate(translated.settings)
    assert job.inputs == [str(Path.cwd() / "images")]
    assert job.side_inputs == {"model": str(Path.cwd() / "model")}
    assert job.arguments == [
        "--model",
        "${{side_inputs.model}}",
        "--extra",
        str(Path.cwd() / "out/named-outputs/extra"),
    ]
    assert (job.mini_batch_size, job.node_count, job.process_count_per_node) == (5, 2, 1)
    assert (job.run_max_try, job.run_invocation_timeout, job.allowed_failed_percent) == (2, 30, 30)
    assert str(translated.environment) == f"image image, conda file {Path.cwd() / 'conda.yml'}"
    assert translated.about["display_name"] == "Score images"


def test_settings_of_a_step_can_be_changed() -> None:
    made = scoring()(images="images", model="model", label="cat")
    made.resources.instance_count = 3
    made.max_concurrency_per_instance = 2
    made.mini_batch_error_threshold = 0
    made.retry_settings = RetrySettings(max_retries=0)
    made.outputs.rows.path = "azureml://datastores/${{default_datastore}}/paths/${{name}}/returns.csv"
    settings = made.translated("out").settings
    assert (settings["node_count"], settings["process_count_per_node"]) == (3, 2)
    assert (settings["mini_batch_error_threshold"], settings["run_max_try"]) == (0, 1)
    assert settings["append_row_file_name"] == "returns.csv"
    assert settings["arguments"][-2:] == ["--label", "cat"]


def test_settings_that_were_given_as_mappings_can_be_changed() -> None:
    made = scoring(instance_count=None, resources={"instance_count": 2, "properties": {"a": 1}})
    step = made(images="images", model="model")
    step.retry_settings.timeout = 100
    step.resources.instance_count = 3
    settings = step.translated("out").settings
    assert (settings["run_invocation_timeout"], settings["run_max_try"], settings["node_count"]) == (100, 2, 3)
    assert made(images="images", model="model").translated("out").settings["run_invocation_timeout"] == 30


@pytest.mark.parametrize(
    ("changes", "key", "meant"),
    [
        ({"retry_settings": RetrySettings(max_retry=1)}, "retry_settings.max_retry", "max_retries"),
        ({"retry_settings": {"time_out": 1}}, "retry_settings.time_out", "timeout"),
        ({"task": RunFunction(entry_script="s.py", program_argument="--x 1")}, "task.program_argument", "program_a"),
    ],
)
def test_a_word_that_a_part_of_a_step_does_not_know_is_an_error(changes: Any, key: str, meant: str) -> None:
    message = refusal(scoring(**changes)(images="a", model="m").translated, output="out")
    assert f"{key}: there is no such key. Did you mean {meant}" in message


def test_calls_of_one_function_do_not_change_each_other() -> None:
    function = scoring()
    one, other = function(images="a", model="m"), function(images="b", model="m")
    one.resources.instance_count = 9
    one.inputs.images.mode = "download"
    assert other.translated("out").settings["node_count"] == 2
    assert other.translated("out").settings["inputs"] == [str(Path.cwd() / "b")]
    assert function.inputs.images.mode == "ro_mount"


def test_a_table_in_direct_mode() -> None:
    function = scoring(
        inputs={"images": Input(type="mltable"), "model": Input(), "label": Input(type="string", optional=True)}
    )
    made = function(images=Path("table"), model="m")
    made.inputs.images.mode = "direct"
    assert made.translated("out").settings["inputs"] == [
        {"path": str(Path.cwd() / "table"), "type": "mltable", "mode": "direct"}
    ]


def test_an_unknown_input_names_the_nearest() -> None:
    assert "Did you mean images?" in refusal(scoring(), image="x")


def test_an_input_without_a_value_is_asked_for() -> None:
    assert "inputs.model" in refusal(scoring()(images="a").translated, output="out")


def test_a_parameter_that_nobody_knows_is_named() -> None:
    """CONTRACT: official samples pass some, and the reference drops them silently."""
    translated = scoring(item_error_threshold=-1, zzz=1)(images="a", model="m").translated("out")
    whys = {ignored.key: ignored.why for ignored in translated.ignored}
    assert "Did you mean" in whys["item_error_threshold"]
    assert "zzz" in whys


def test_instance_count_and_resources_exclude_each_other() -> None:
    """CONTRACT 2.3 resources."""
    assert refusal(scoring, resources={"instance_count": 2}) == "instance_count and resources are mutually exclusive"


def test_a_function_without_a_task_is_refused() -> None:
    assert "task is missing" in refusal(scoring, task=None)


def test_the_output_of_a_step_that_ran_is_the_input_of_the_next(recorder: Recorder, here: Path) -> None:
    first = scoring()(images="a", model="m")
    second = scoring()(images=first.outputs.rows, model="m")
    assert "has not run" in refusal(second.translated, output="two")
    first.run(output="one")
    assert (here / "one" / "named-outputs" / "extra").is_dir()
    assert second.translated("two").settings["inputs"] == [str(here / "one" / "rows")]


def test_a_run_needs_an_output() -> None:
    assert "Name a folder for the results, like .run(output='out')" in refusal(scoring()(images="a", model="m").run)


# For real


@pytest.fixture
def bench(here: Path) -> Workbench:
    bench = Workbench(here)
    bench.inputs("a.txt", "b.txt", "c.txt")
    return bench


def test_a_parallel_step_runs_here_with_its_model_and_its_folder(bench: Workbench, here: Path) -> None:
    (here / "model").mkdir()
    (here / "model" / "name.txt").write_text("best")
    (here / "code" / "score.py").write_text(
        "import argparse\n"
        "from pathlib import Path\n"
        "parser = argparse.ArgumentParser(allow_abbrev=False)\n"
        "parser.add_argument('--model', type=Path)\n"
        "parser.add_argument('--extra', type=Path)\n"
        "args, _ = parser.parse_known_args()\n"
        "def run(mini_batch):\n"
        "    for path in map(Path, mini_batch):\n"
        "        (args.extra / path.name).write_text('seen')\n"
        "    return [(args.model / 'name.txt').read_text() + ' ' + Path(path).name for path in mini_batch]\n"
    )
    made = scoring(instance_count=1)(images=bench.inputs(), model="model")
    assert made.run(output="out").status == "Completed"
    assert (here / "out" / "rows").read_text().splitlines() == ["best a.txt", "best b.txt", "best c.txt"]
    assert len(list((here / "out" / "named-outputs" / "extra").iterdir())) == 3
