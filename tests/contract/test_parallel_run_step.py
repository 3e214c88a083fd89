"""ParallelRunConfig and ParallelRunStep, sections 2.1 and 2.2: what they refuse, in the words of the reference."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.steps import DataSet, TabularDataSet, config, refusal, step
from tests.contract.steps import here as here
from tests.contract.tables import table

RESERVED = (
    "mini_batch_size",
    "error_threshold",
    "allowed_failed_count",
    "allowed_failed_percent",
    "output",
    "output_action",
    "logging_level",
    "process_count_per_node",
    "run_invocation_timeout",
    "run_max_try",
    "append_row_file_name",
    "partition_keys",
)


@table(
    "changes, text",
    ("2.1 environment", {"environment": None}, "Parameter environment is required. It should be instance of azureml.core.Environment."),
    ("2.1 environment", {"environment": 3}, "Parameter environment must be an instance of azureml.core.Environment. The actual value is 3."),
    ("2.1 error_threshold", {"error_threshold": -2}, "error_threshold '-2' is not an int value greater than or equal to -1."),
    ("2.1 error_threshold", {"error_threshold": "5"}, "error_threshold '5' is not an int value greater than or equal to -1."),
    ("2.1 output_action", {"output_action": "print"}, "Parameter output_action must be summary_only or append_row."),
    ("2.1 node_count", {"node_count": 5}, "node_count '5' is not between 1 and max_nodes 4."),
    ("2.1 process_count_per_node", {"process_count_per_node": 0}, "Parameter process_count_per_node must be an integer greater than 0."),
    ("2.1 mini_batch_size", {"mini_batch_size": 1.5}, "Parameter mini_batch_size must be of type int or str."),
    ("2.1 mini_batch_size", {"mini_batch_size": "5 files"}, r"Parameter mini_batch_size must follow regex rule ^\d+([kKmMgG][bB])*$."),
    ("2.1 mini_batch_size", {"mini_batch_size": "10KBKB"}, "mini_batch_size unit must be kb, mb or gb"),
    ("2.1 run_invocation_timeout", {"run_invocation_timeout": -1}, "Parameter run_invocation_timeout must be an integer greater than 0."),
    ("2.1 run_max_try", {"run_max_try": "often"}, "Parameter run_max_try must be an integer greater than 0."),
    ("2.1 append_row_file_name", {"append_row_file_name": "a?b"}, "Parameter append_row_file_name must be a valid UNIX file name."),
    ("2.1 allowed_failed_count", {"allowed_failed_count": -2}, "allowed_failed_count '-2' is not an int value greater than or equal to -1."),
    ("2.1 allowed_failed_percent", {"allowed_failed_percent": "1"}, "allowed_failed_percent '1' is not an int or float."),
    ("2.1 allowed_failed_percent", {"allowed_failed_percent": 101}, "allowed_failed_percent '101' is not between 0 and 100."),
    ("2.1 partition_keys", {"partition_keys": "Store"}, "Parameter partition_keys must be of type list."),
    ("2.1 partition_keys", {"partition_keys": [1]}, "Element 1 in partition_keys is not a str."),
        (
            "2.1 partition_keys",
            {"partition_keys": ["a"], "mini_batch_size": 1},
            "Parameters mini_batch_size and partition_keys are mutually exclusive, because they specify different ways to "
            "partition the input datasets into mini-batches.",
        ),
    ("2.1 source_directory", {"source_directory": "none"}, "The value 'none' specified in source_directory doesn't exist."),
    ("2.1 source_directory", {"source_directory": "code/score.py"}, "The value 'code/score.py' specified in source_directory is not a directory."),
    ("2.1 entry_script", {"entry_script": "none.py"}, "The value 'none.py' specified in entry_script doesn't exist."),
    ("2.1 entry_script", {"entry_script": "."}, "The value '.' specified in entry_script is not a file."),
)  # fmt: skip
def test_parallel_run_config_refuses_in_the_words_of_the_reference(changes: dict[str, Any], text: str) -> None:
    assert refusal(config, **changes) == text


@table(
    "changes, text",
    ("2.2 name", {"name": "ab"}, "'ab' is no name for a step. Use 3 to 32 letters, digits and -, beginning with a letter"),
    ("2.2 parallel_run_config", {"of": {"a": 1}}, "Param parallel_run_config must be a azureml.pipeline.steps.ParallelRunConfig"),
        (
            "2.2 inputs",
            {"inputs": []},
            "The parameter 'inputs' must be a list and have at least one element or rank_mini_batch_count must be greater than zero.",
        ),
    ("2.2 inputs", {"inputs": ["a", TabularDataSet("b")]}, "All inputs of step must be same type"),
    ("2.2 inputs", {"inputs": [3]}, "Step input must be of any type: str, Path, a mapping with a path, or an object with one, found <class 'int'>"),
    ("2.2 output", {"output": None}, "Please specify output parameter."),
        (
            "2.2 arguments",
            {"arguments": ["model"]},
            "Found invalid argument 'model'. As your arguments will be merged with reserved argument, you can only use keyword argument.",
        ),
        (
            "2.2 arguments",
            {"arguments": ["--x", 1, "--output=here"]},
            "'output' is a reserved argument in ParallelRunStep, please use another argument name instead.",
        ),
    ("2.2 tabular input", {"inputs": [TabularDataSet("b", mode="mount")]}, "Please ensure input dataset consumption mode is direct"),
)  # fmt: skip
def test_parallel_run_step_refuses_in_the_words_of_the_reference(changes: dict[str, Any], text: str) -> None:
    assert refusal(step, **changes) == text


def test_a_partitioned_input_must_be_direct() -> None:
    text = refusal(step, of=config(partition_keys=["a"]), inputs=[DataSet("b", mode="mount")])
    assert text == "Please ensure input dataset consumption mode is direct for partitioned dataset"


@pytest.mark.parametrize("name", RESERVED, ids="2.2 arguments --{}".format)
@pytest.mark.parametrize("word", ["--{}", "--{}=1"])
def test_reserved_arguments_are_refused(name: str, word: str) -> None:
    assert refusal(step, arguments=[word.format(name), "1"]).startswith(f"'{name}' is a reserved argument")


def test_an_argument_with_one_dash_passes() -> None:
    """2.2 arguments: only what begins with -- is checked."""
    assert step(arguments=["-output", "x"]).translated().settings["arguments"] == ["-output", "x"]


def test_capital_letters_in_a_name_pass() -> None:
    """2.2 name, on purpose: the contract has small letters only, and a public sample has others."""
    assert step(name="AutoML-backtest").translated().name == "AutoML-backtest"
