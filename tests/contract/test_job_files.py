"""Job files, sections 0, 1.15 and 2.1 to 2.5: what each key and each predefined argument becomes."""

from __future__ import annotations

from typing import Any

import pytest

from daskscore.config import JobConfig
from tests.contract.tables import table
from tests.jobfiles.conftest import DEPLOYMENT, PRS, Files, with_arguments


def prs(more: str) -> str:
    return PRS + "".join(f"  {line}\n" for line in more.splitlines())


def settings_of(files: Files, form: str) -> dict[str, Any]:
    """A minimal file of each product, and what JobConfig has where it says nothing."""
    if form == "prs":
        settings = files.one(PRS, inputs=["data"]).settings
    elif form == "parallel":
        settings = files.step().settings
    else:
        settings = files.one(DEPLOYMENT, inputs=["data"]).settings
    defaults = {name: field.get_default(call_default_factory=True) for name, field in JobConfig.model_fields.items()}
    return {**defaults, **settings}


@table(
    "key, form, value",
    ("0 default mini-batch", "mini_batch_size", "prs", None),
    ("0 default mini-batch", "mini_batch_size", "parallel", 1),
    ("0 default mini-batch", "mini_batch_size", "endpoint", 10),
    ("0 default timeout of run()", "run_invocation_timeout", "prs", 60),
    ("0 default timeout of run()", "run_invocation_timeout", "parallel", 60),
    ("0 default timeout of run()", "run_invocation_timeout", "endpoint", 30),
    ("0 default tries", "run_max_try", "prs", 3),
    ("0 default retries", "run_max_try", "parallel", 3),
    ("0 default retries", "run_max_try", "endpoint", 4),
    ("0 default error_threshold", "error_threshold", "parallel", -1),
    ("0 default error_threshold", "error_threshold", "endpoint", -1),
    ("0 default processes, 9 max_concurrency default", "process_count_per_node", "prs", None),
    ("0 default processes, 9 max_concurrency default", "process_count_per_node", "parallel", None),
    ("0 default processes, 9 max_concurrency default", "process_count_per_node", "endpoint", 1),
    ("0 default output file", "append_row_file_name", "prs", "parallel_run_step.txt"),
    ("0 default output file", "append_row_file_name", "parallel", "scores.csv"),
    ("0 default output file", "append_row_file_name", "endpoint", "predictions.csv"),
    ("0 output header", "append_row_header", "prs", False),
    ("0 output header", "append_row_header", "parallel", False),
    ("0 output header", "append_row_header", "endpoint", False),
    ("2.3 mini_batch_error_threshold", "mini_batch_error_threshold", "parallel", -1),
    ("2.3 resources.instance_count", "node_count", "parallel", 1),
    ("2.3 logging_level", "logging_level", "parallel", "INFO"),
    ("2.3 --task_overhead_timeout, 9", "task_overhead_timeout", "parallel", 600),
    ("2.3 --first_task_creation_timeout", "first_task_creation_timeout", "parallel", 600),
    ("2.4 settings.output_action", "output_action", "endpoint", "append_row"),
    ("2.4 settings.logging_level", "logging_level", "endpoint", "INFO"),
    ("2.4 resources.instance_count", "node_count", "endpoint", 1),
)
def test_each_form_has_its_own_defaults(files: Files, key: str, form: str, value: object) -> None:
    assert settings_of(files, form)[key] == value


@table(
    "line, key, value",
    ("2.3 mini_batch_size", "mini_batch_size: '10kb'", "mini_batch_size", "10kb"),
    ("2.3 mini_batch_size", "mini_batch_size: '100 kb'", "mini_batch_size", "100kb"),
    ("2.3 mini_batch_size", "mini_batch_size: '5'", "mini_batch_size", 5),
    ("2.3 partition_keys", "partition_keys: [Store, Brand]", "partition_keys", ["Store", "Brand"]),
    ("2.3 error_threshold", "error_threshold: 5", "error_threshold", 5),
    ("2.3 mini_batch_error_threshold", "mini_batch_error_threshold: 0", "mini_batch_error_threshold", 0),
    ("2.3 logging_level", "logging_level: debug", "logging_level", "DEBUG"),
    ("2.3 resources.instance_count", "resources: {instance_count: 3}", "node_count", 3),
    ("2.3 max_concurrency_per_instance", "max_concurrency_per_instance: 4", "process_count_per_node", 4),
    ("2.3 retry_settings.max_retries, 9", "retry_settings: {max_retries: 5}", "run_max_try", 6),
    ("1.7 max_retries [0, int.max]", "retry_settings: {max_retries: 0}", "run_max_try", 1),
    ("2.3 retry_settings.timeout", "retry_settings: {timeout: 259200}", "run_invocation_timeout", 259200),
    ("2.3 environment_variables", "environment_variables: {A: b}", "environment_variables", {"A": "b"}),
)
def test_a_key_of_a_parallel_job(files: Files, line: str, key: str, value: object) -> None:
    assert files.step(line).settings[key] == value


@table(
    "argument, key, value",
    ("2.3 --error_threshold", "--error_threshold 7", "error_threshold", 7),
    ("2.3 --error_threshold", "--error_threshold -1", "error_threshold", -1),
    ("2.3 --allowed_failed_percent", "--allowed_failed_percent 30", "allowed_failed_percent", 30),
    ("2.3 --task_overhead_timeout", "--task_overhead_timeout 1200", "task_overhead_timeout", 1200),
    ("2.3 --progress_update_timeout", "--progress_update_timeout=600", "progress_update_timeout", 600),
    ("2.3 --first_task_creation_timeout", "--first_task_creation_timeout 60", "first_task_creation_timeout", 60),
    ("1.15 --append_row_dataframe_header", "--append_row_dataframe_header True", "append_row_header", True),
    ("1.15 --append_row_dataframe_header", "--append_row_dataframe_header False", "append_row_header", False),
    ("1.15 --process_count_per_node", "--process_count_per_node 3", "process_count_per_node", 3),
    ("1.15 --rank_mini_batch_count", "--rank_mini_batch_count 8", "rank_mini_batch_count", 8),
)
def test_a_predefined_argument_becomes_a_key(files: Files, argument: str, key: str, value: object) -> None:
    job = files.one(with_arguments(argument))
    assert job.settings[key] == value
    assert argument.split()[0].partition("=")[0] not in job.settings.get("arguments", [])


def test_a_predefined_argument_without_a_key_of_ours_is_named(files: Files) -> None:
    """2.3 --resource_monitor_interval."""
    job = files.one(with_arguments("--resource_monitor_interval 20"))
    if "resource_monitor_interval" in JobConfig.model_fields:
        assert job.settings["resource_monitor_interval"] == 20
    else:
        assert [ignored.key for ignored in job.ignored] == ["task.program_arguments: --resource_monitor_interval"]


@table(
    "argument, words",
    ("2.3 --metrics_name_prefix", "--metrics_name_prefix 01_", ["--metrics_name_prefix", "01_"]),
    ("1.15 --profiling_module", "--profiling_module=cProfile", ["--profiling_module", "cProfile"]),
    ("1.15 --amlbi_async_mode", "--amlbi_async_mode true", ["--amlbi_async_mode", "true"]),
    ("1.15 --amlbi_async_mode", "--amlbi_async_mode", ["--amlbi_async_mode", "True"]),
)
def test_an_argument_that_the_scorer_reads_stays_with_the_script(files: Files, argument: str, words: list[str]) -> None:
    job = files.one(with_arguments(f"{argument} --x 1"))
    assert (job.settings["arguments"], job.ignored) == ([*words, "--x", "1"], ())


@table(
    "argument",
    ("2.3 --copy_logs_to_parent", "--copy_logs_to_parent True"),
    ("2.3 --push_metrics_to_parent", "--push_metrics_to_parent True"),
    ("1.15 --append_row_safe_output", "--append_row_safe_output true"),
    ("1.15 --amlbi_dataframe_mixed_types", "--amlbi_dataframe_mixed_types true"),
    ("1.15 --resume_from", "--resume_from 0f1c"),
)
def test_a_switch_that_means_nothing_here_is_named(files: Files, argument: str) -> None:
    job = files.one(with_arguments(argument))
    assert [argument.split()[0] in ignored.key for ignored in job.ignored] == [True]


def test_the_model_of_a_task_is_brought_to_its_script(files: Files) -> None:
    """2.3 task.model."""
    text = with_arguments("").replace("  entry_script:", "  model: azureml:digits:1\n  entry_script:")
    assert files.one(text).settings["models"] == ["azureml:digits:1"]


def test_partition_keys_win_over_mini_batch_size_in_v2(files: Files) -> None:
    """2.3 partition_keys, 9 "partition_keys with mini_batch_size"."""
    job = files.step("mini_batch_size: '5'\npartition_keys: [Store]")
    assert "mini_batch_size" not in job.settings
    assert any("partition_keys" in note for note in job.notes)


def test_without_append_row_to_a_job_is_summary_only(files: Files) -> None:
    """2.3 append_row_to."""
    assert files.step().settings["output_action"] == "append_row"
    text = files.write("").read_text() + with_arguments("").replace("append_row_to: ${{outputs.rows}}", "")
    assert files.one(text).settings["output_action"] == "summary_only"


def test_an_explicit_zero_of_a_step_is_not_replaced_by_the_component(files: Files) -> None:
    """2.3 "Merge quirk … Not to copy"."""
    files.write(
        """
        type: parallel
        inputs: {data: {type: uri_folder}}
        mini_batch_error_threshold: 5
        retry_settings: {max_retries: 4, timeout: 90}
        input_data: ${{inputs.data}}
        task: {type: run_function, code: ., entry_script: score.py, environment: e}
        """,
        "component.yml",
    )
    job = files.one(
        """
        type: pipeline
        jobs:
          score:
            type: parallel
            component: ./component.yml
            inputs: {data: {path: ./data}}
            mini_batch_error_threshold: 0
            retry_settings: {max_retries: 0}
        """
    )
    assert job.settings["mini_batch_error_threshold"] == 0
    assert job.settings["run_max_try"] == 1
    assert job.settings["run_invocation_timeout"] == 90


@table(
    "more, text",
    (
        "2.1 error_threshold",
        "error_threshold: -2",
        "error_threshold '-2' is not an int value greater than or equal to -1.",
    ),
    ("2.1 output_action", "output_action: append", "Parameter output_action must be summary_only or append_row."),
    ("2.1 node_count", "node_count: 0", "node_count '0' is not between 1 and max_nodes 2147483647."),
    (
        "2.1 process_count_per_node",
        "process_count_per_node: 0",
        "Parameter process_count_per_node must be an integer greater than 0.",
    ),
    ("2.1 mini_batch_size", "mini_batch_size: [1]", "Parameter mini_batch_size must be of type int or str."),
    (
        "2.1 mini_batch_size",
        "mini_batch_size: 10tb",
        r"Parameter mini_batch_size must follow regex rule ^\d+([kKmMgG][bB])*$.",
    ),
    ("2.1 regex quirk", "mini_batch_size: 10KBKB", "mini_batch_size unit must be kb, mb or gb"),
    (
        "2.1 run_invocation_timeout",
        "run_invocation_timeout: 0",
        "Parameter run_invocation_timeout must be an integer greater than 0.",
    ),
    ("2.1 run_max_try", "run_max_try: none", "Parameter run_max_try must be an integer greater than 0."),
    (
        "2.1 append_row_file_name",
        "append_row_file_name: a/b",
        "Parameter append_row_file_name must be a valid UNIX file name.",
    ),
    (
        "2.1 allowed_failed_count",
        "allowed_failed_count: -2",
        "allowed_failed_count '-2' is not an int value greater than or equal to -1.",
    ),
    (
        "2.1 allowed_failed_percent",
        "allowed_failed_percent: much",
        "allowed_failed_percent 'much' is not an int or float.",
    ),
    (
        "2.1 allowed_failed_percent",
        "allowed_failed_percent: 101",
        "allowed_failed_percent '101' is not between 0 and 100.",
    ),
    ("2.1 partition_keys", "partition_keys: Store", "Parameter partition_keys must be of type list."),
    ("2.1 partition_keys", "partition_keys: [1]", "Element 1 in partition_keys is not a str."),
    (
        "2.1 partition_keys",
        "partition_keys: [Store]\nmini_batch_size: 1",
        "Parameters mini_batch_size and partition_keys are mutually exclusive, because they specify different ways to "
        "partition the input datasets into mini-batches.",
    ),
)
def test_the_words_of_parallel_run_config(files: Files, more: str, text: str) -> None:
    key = more.partition(":")[0]
    lines = [line for line in PRS.splitlines() if line.strip().partition(":")[0] != key]
    document = "\n".join([*lines, *(f"  {line}" for line in more.splitlines())])
    assert files.refusal(document, inputs=["data"]).endswith(text)


@table(
    "lines, text",
    (
        "2.3 mini_batch_size",
        "mini_batch_size: 10xb",
        r"Parameter mini_batch_size must follow regex rule ^\d+([kKmMgG][bB])*$.",
    ),
    ("2.3 mini_batch_size", "mini_batch_size: 10kbkb", "mini_batch_size unit must be kb, mb or gb"),
)
def test_the_words_of_a_parallel_job(files: Files, lines: str, text: str) -> None:
    assert files.refusal(with_arguments("") + lines).endswith(text)


@table(
    "lines, text",
    ("2.4 type", "type: modell", "Deployment type must be of type pipeline or model."),
    (
        "2.4 resources",
        "instance_count: 2\nresources: {instance_count: 2}",
        "Can't set instance_count when resources is provided.",
    ),
    (
        "2.4 settings.output_file_name",
        "settings: {output_action: summary_only, output_file_name: a.csv}",
        "When output_action is set to summary_only, the output_file_name need not to be specified.",
    ),
)
def test_the_words_of_a_deployment(files: Files, lines: str, text: str) -> None:
    kept = [line for line in DEPLOYMENT.splitlines() if line.partition(":")[0] != lines.partition(":")[0]]
    assert files.refusal("\n".join([*kept, lines]), inputs=["data"]).endswith(text)


@table(
    "line, key, value",
    ("2.4 max_concurrency_per_instance", "max_concurrency_per_instance: 2", "process_count_per_node", 2),
    ("2.4 error_threshold", "error_threshold: 3", "error_threshold", 3),
    ("2.4 logging_level", "logging_level: warning", "logging_level", "WARNING"),
    ("2.4 mini_batch_size", "mini_batch_size: 2", "mini_batch_size", 2),
    ("2.4 retry_settings.max_retries", "retry_settings: {max_retries: 1}", "run_max_try", 2),
    ("2.4 retry_settings.timeout", "retry_settings: {timeout: 300}", "run_invocation_timeout", 300),
    ("2.4 output_action", "output_action: SummaryOnly", "output_action", "summary_only"),
    ("2.4 output_file_name", "output_file_name: rows.txt", "append_row_file_name", "rows.txt"),
)
@pytest.mark.parametrize("place", ["under settings", "at the root, as without a type"])
def test_a_setting_of_a_deployment(files: Files, line: str, key: str, value: object, place: str) -> None:
    if place == "under settings":
        document = f"{DEPLOYMENT}settings:\n  {line}\n"
    else:
        document = DEPLOYMENT.replace("type: model\n", "") + line
    assert files.one(document, inputs=["data"]).settings[key] == value


@table(
    "model, models",
    ("2.4 model, a path", "{name: digits, path: model}", ["{}/model"]),
    ("2.4 model, a path", "./models/m.pkl", ["{}/models/m.pkl"]),
    ("2.4 model, registered", "azureml:digits:1", ["azureml:digits:1"]),
    ("2.4 model, registered", "azureml:digits@latest", ["azureml:digits@latest"]),
)
def test_the_model_of_a_deployment_is_brought_to_its_script(files: Files, model: str, models: list[str]) -> None:
    text = DEPLOYMENT.replace("{name: digits, path: model}", model)
    settings = files.one(text, inputs=["data"]).settings
    assert settings["models"] == [name.format(files.folder) for name in models]


def test_a_model_folder_that_the_file_names_wins(files: Files) -> None:
    """1.14 AZUREML_MODEL_DIR, 2.4 settings.environment_variables."""
    variables = "settings: {environment_variables: {AZUREML_MODEL_DIR: /models}}"
    settings = files.one(DEPLOYMENT + variables, inputs=["data"]).settings
    assert "models" not in settings
    assert settings["environment_variables"] == {"AZUREML_MODEL_DIR": "/models"}


def test_allowed_failed_keys_of_v1_are_read(files: Files) -> None:
    """2.1 allowed_failed_count and allowed_failed_percent, which the reference's own file lacks."""
    job = files.one(prs("allowed_failed_count: 3\nallowed_failed_percent: 12.5"), inputs=["data"])
    assert (job.settings["allowed_failed_count"], job.settings["allowed_failed_percent"]) == (3, 12.5)


def test_the_settings_beside_the_script_are_read(files: Files) -> None:
    """2.5."""
    files.write(
        '{"append_row": {"pandas.DataFrame.to_csv": {"sep": ",", "index": true}}}',
        "src/parallel_run_step.settings.json",
    )
    settings = files.step().settings
    assert (settings["append_row_separator"], settings["append_row_index"]) == (",", True)
