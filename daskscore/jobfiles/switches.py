"""Program arguments that the reference's own driver reads → keys of JobConfig; all others are the script's."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from daskscore.config import JobConfig
from daskscore.errors import ConfigError
from daskscore.jobfiles.interface import Ignored
from daskscore.jobfiles.reading import scalar

KEYS = {
    "error_threshold": "error_threshold",
    "mini_batch_size": "mini_batch_size",
    "allowed_failed_count": "allowed_failed_count",
    "allowed_failed_percent": "allowed_failed_percent",
    "output_action": "output_action",
    "logging_level": "logging_level",
    "process_count_per_node": "process_count_per_node",
    "run_invocation_timeout": "run_invocation_timeout",
    "run_max_try": "run_max_try",
    "append_row_file_name": "append_row_file_name",
    "partition_keys": "partition_keys",
    "task_overhead_timeout": "task_overhead_timeout",
    "progress_update_timeout": "progress_update_timeout",
    "first_task_creation_timeout": "first_task_creation_timeout",
    "rank_mini_batch_count": "rank_mini_batch_count",
    "append_row_dataframe_header": "append_row_header",
    "resource_monitor_interval": "resource_monitor_interval",
}
"""The driver's words, and ours for the same."""

THE_SCORERS = ("metrics_name_prefix", "profiling_module", "amlbi_async_mode")
"""Stay among the script's arguments, where the scorer finds them."""

MEANINGLESS = {
    "append_row_safe_output": "rows are always written whole and as UTF-8",
    "amlbi_dataframe_mixed_types": "text takes any types; for a Parquet file there is append_row_mixed_types",
    "copy_logs_to_parent": "a run has no parent; its logs are in its output folder",
    "push_metrics_to_parent": "a run has no parent; its metrics are in its output folder",
    "resume_from": "a run continues in its own output folder: --resume",
}
SWITCHES = (*KEYS, *THE_SCORERS, *MEANINGLESS)
FLAGS = (
    "append_row_dataframe_header",
    "append_row_safe_output",
    "amlbi_async_mode",
    "amlbi_dataframe_mixed_types",
    "copy_logs_to_parent",
    "push_metrics_to_parent",
)
"""True where no value follows."""

CUT_OFF = 3
"""So many letters may be missing at a switch's end; with more, it is taken for an argument of the script."""


@dataclass(frozen=True, slots=True)
class Words:
    """A script's own arguments, and what was said to the driver among them."""

    script: list[str]
    settings: dict[str, Any]
    ignored: tuple[Ignored, ...] = ()


def sort_out(words: Sequence[str], where: str, key: str = "arguments") -> Words:
    """The words of program_arguments; `where` they stand begins each error, and their `key` what is named."""
    script: list[str] = []
    settings: dict[str, Any] = {}
    ignored: list[Ignored] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        option, equals, text = word.partition("=")
        name = _switch(option)
        if name is None:
            script.append(word)
            continue
        if not equals and rest and _is_value(rest[0]):
            text = rest.pop(0)
        elif not equals and name in FLAGS:
            text = "True"
        elif not equals:
            raise ConfigError(f"{where}: {option} has no value after it. Write one, like {option} 10")
        if name in THE_SCORERS:
            script += [f"--{name}", text]
        else:
            _carry(name, scalar(text), settings, ignored, where, key)
    return Words(script, settings, tuple(ignored))


def carry_optional(key: str, value: Any, settings: dict[str, Any], ignored: list[Ignored], named: str) -> None:
    """Set a key that not every version of JobConfig has; what has none is named, unless it asks for nothing."""
    if key in JobConfig.model_fields:
        settings[key] = value
    elif value not in (None, False, "", 0):
        ignored.append(Ignored(named, f"daskscore has no key {key}"))


def _carry(name: str, value: Any, settings: dict[str, Any], ignored: list[Ignored], where: str, key: str) -> None:
    if name in MEANINGLESS:
        if value is not False:
            ignored.append(Ignored(f"{key}: --{name}", MEANINGLESS[name]))
    elif name == "rank_mini_batch_count" and value == 0:
        pass
    elif name == "partition_keys":
        settings[name] = _keys(value, where)
    else:
        carry_optional(KEYS[name], value, settings, ignored, f"{key}: --{name}")


def _keys(value: object, where: str) -> list[str]:
    try:
        keys = json.loads(str(value))
    except ValueError:
        keys = None
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ConfigError(
            f'{where}: --partition_keys {value} is no JSON list of names. Write it like \'["Store", "Brand"]\''
        )
    return keys


def _switch(option: str) -> str | None:
    if not option.startswith("--"):
        return None
    name = option[2:]
    if name in SWITCHES:
        return name
    near = [switch for switch in SWITCHES if switch.startswith(name) and len(switch) - len(name) <= CUT_OFF]
    return near[0] if len(near) == 1 and len(name) > CUT_OFF * 2 else None


def _is_value(word: str) -> bool:
    return not word.startswith("-") or re.fullmatch(r"-\d+(\.\d+)?", word) is not None


def near_switches(program_arguments: object) -> list[str]:
    """How words were read that lack the last letters of a switch."""
    words = str(program_arguments or "").split()
    cut = ((word.partition("=")[0], _switch(word.partition("=")[0])) for word in words)
    return [f"{option} is read as --{name}" for option, name in cut if name is not None and option != f"--{name}"]
