"""What ParallelRunConfig and ParallelRunStep (v1) allow, in their own words, and the YAML that the first one saves."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from daskscore.config import RESERVED_ARGUMENTS
from daskscore.errors import ConfigError
from daskscore.jobfiles import environments, meaningless, row_settings, run_settings
from daskscore.jobfiles.interface import Form, Translated
from daskscore.jobfiles.reading import Section, located, whole
from daskscore.jobfiles.sizes import mini_batch_size

ROOT = "parallel_run_config"
SETTINGS = (
    "entry_script",
    "source_directory",
    "mini_batch_size",
    "partition_keys",
    "error_threshold",
    "allowed_failed_count",
    "allowed_failed_percent",
    "output_action",
    "append_row_file_name",
    "logging_level",
    "node_count",
    "process_count_per_node",
    "run_invocation_timeout",
    "run_max_try",
    "environment_variables",
)
"""Parameters that are keys of JobConfig, by the same name and with the same default."""

KNOWN = (*SETTINGS, *meaningless.keys(meaningless.RUN_CONFIG), "description", "environment")
MOST_NODES = 2**31 - 1
FILE_NAME = re.compile(r'[~"#%&*:<>?\/\\{|}]+')


def check(given: Mapping[str, Any], *, most_nodes: int = MOST_NODES) -> dict[str, Any]:
    """The settings among the parameters of a ParallelRunConfig; raises ConfigError in the reference's words."""
    _check_threshold("error_threshold", given.get("error_threshold"))
    action = given.get("output_action")
    if not isinstance(action, str) or action.lower() not in ("summary_only", "append_row"):
        raise ConfigError("Parameter output_action must be summary_only or append_row.")
    nodes = whole(given.get("node_count"))
    if nodes is None or not 1 <= nodes <= most_nodes:
        raise ConfigError(f"node_count '{given.get('node_count')}' is not between 1 and max_nodes {most_nodes}.")
    if not isinstance(given.get("entry_script"), str) or not given["entry_script"]:
        raise ConfigError("Parameter entry_script is required. It is the path of a Python file")
    for key in ("process_count_per_node", "run_invocation_timeout", "run_max_try"):
        number = whole(given.get(key))
        if given.get(key) is not None and (number is None or number < 1):
            raise ConfigError(f"Parameter {key} must be an integer greater than 0.")
    _check_failed(given)
    _check_division(given)
    file_name = given.get("append_row_file_name")
    if file_name is not None and (not isinstance(file_name, str) or FILE_NAME.search(file_name)):
        raise ConfigError("Parameter append_row_file_name must be a valid UNIX file name.")
    return {key: _value(key, given[key]) for key in SETTINGS if given.get(key) is not None}


def _value(key: str, value: Any) -> Any:
    if key == "mini_batch_size":
        return mini_batch_size(value)
    if key in ("node_count", "process_count_per_node", "run_invocation_timeout", "run_max_try"):
        return whole(value)
    return value.lower() if key == "output_action" else value


def _check_threshold(key: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < -1:
        raise ConfigError(f"{key} '{value}' is not an int value greater than or equal to -1.")


def _check_failed(given: Mapping[str, Any]) -> None:
    if given.get("allowed_failed_count") is not None:
        _check_threshold("allowed_failed_count", given["allowed_failed_count"])
    percent = given.get("allowed_failed_percent")
    if percent is None:
        return
    if isinstance(percent, bool) or not isinstance(percent, (int, float)):
        raise ConfigError(f"allowed_failed_percent '{percent}' is not an int or float.")
    if not 0 <= percent <= 100:
        raise ConfigError(f"allowed_failed_percent '{percent}' is not between 0 and 100.")


def _check_division(given: Mapping[str, Any]) -> None:
    size, keys = given.get("mini_batch_size"), given.get("partition_keys")
    if size is not None and keys is not None:
        raise ConfigError(
            "Parameters mini_batch_size and partition_keys are mutually exclusive, because they specify different ways "
            "to partition the input datasets into mini-batches."
        )
    if size is not None:
        try:
            mini_batch_size(size)
        except ValueError as error:
            raise ConfigError(str(error)) from None
    if keys is not None and not isinstance(keys, list):
        raise ConfigError("Parameter partition_keys must be of type list.")
    for key in keys or ():
        if not isinstance(key, str):
            raise ConfigError(f"Element {key} in partition_keys is not a str.")


def check_source(source_directory: str | Path | None, entry_script: str) -> None:
    """The script stands where it is said to; without a source directory it is looked for later."""
    if source_directory is None:
        return
    folder = Path(source_directory)
    if not folder.exists():
        raise ConfigError(f"The value '{source_directory}' specified in source_directory doesn't exist.")
    if not folder.is_dir():
        raise ConfigError(f"The value '{source_directory}' specified in source_directory is not a directory.")
    script = folder / entry_script
    if not script.exists():
        raise ConfigError(f"The value '{entry_script}' specified in entry_script doesn't exist.")
    if not script.is_file():
        raise ConfigError(f"The value '{entry_script}' specified in entry_script is not a file.")


def check_arguments(arguments: Sequence[Any]) -> None:
    """Keyword arguments only, and none that the step itself has."""
    if arguments and not (isinstance(arguments[0], str) and arguments[0].startswith("-")):
        raise ConfigError(
            f"Found invalid argument '{arguments[0]}'. As your arguments will be merged with reserved argument, you can "
            "only use keyword argument."
        )
    for word in arguments:
        name = word[2:].partition("=")[0] if isinstance(word, str) and word.startswith("--") else ""
        if name in RESERVED_ARGUMENTS:
            raise ConfigError(
                f"'{name}' is a reserved argument in ParallelRunStep, please use another argument name instead."
            )


def translate_config(document: Section, *, output: Path, inputs: tuple[str, ...]) -> Translated:
    """A YAML file with `parallel_run_config` at its root; the data and the output are the caller's."""
    section = document.section(ROOT)
    ignored = [*document.unknown((ROOT,)), *section.unknown(KNOWN)]
    ignored += meaningless.found_in(section, meaningless.RUN_CONFIG)
    try:
        settings = check({key: section.raw(key) for key in section.names()})
    except ConfigError as error:
        raise ConfigError(f"{section.source}: {ROOT}: {error}") from None
    source = _source(section, settings["entry_script"])
    rows, rows_ignored = row_settings.beside(source)
    own = run_settings.environment_variables(section) or {}
    if variables := {**environments.variables(section.raw("environment")), **own}:
        settings["environment_variables"] = variables
    given = {
        **rows,
        **settings,
        "entry_script": settings["entry_script"]
        if section.has("source_directory")
        else Path(settings["entry_script"]).name,
        "source_directory": source,
        "output": output,
        **({"inputs": list(inputs)} if inputs else {}),
    }
    return Translated(
        form=Form.PARALLEL_RUN_CONFIG,
        name=Path(section.source).stem,
        settings=given,
        ignored=(*ignored, *rows_ignored),
        environment=environments.environment(section),
        about={"description": section.raw("description")} if section.has("description") else {},
    )


def _source(section: Section, entry_script: str) -> Path:
    """The folder of the script; what is relative is relative to the YAML file."""
    if section.has("source_directory"):
        return Path(located(str(section.raw("source_directory")), section.folder))
    return Path(located(entry_script, section.folder)).parent
