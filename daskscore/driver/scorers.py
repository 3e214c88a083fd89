"""What a job's scorers are told: how to call the script, what it finds around it, and how long it may take."""

from __future__ import annotations

import csv
import json

from daskscore.config import JobConfig
from daskscore.core.layout import Layout
from daskscore.core.planning import DEFAULT_ITEMS, Content
from daskscore.core.protocol import Head
from daskscore.driver.job_inputs import JobInputs
from daskscore.driver.models import registered_models
from daskscore.driver.side_inputs import NOTHING, Needed
from daskscore.inputs.addresses import is_remote
from daskscore.inputs.entries import DEFAULT_SIZE
from daskscore.version import VERSION
from daskscore.worker.process import Limits


def _join(config: JobConfig) -> Head | None:
    if config.join == "none" or config.output_action == "summary_only":
        return None
    return {"how": config.join, "inputs": config.columns.get("in", []), "outputs": config.columns.get("out", [])}


def run_id(config: JobConfig) -> str:
    """What a script finds in `Run.get_context().id`."""
    output = config.output["path"] if isinstance(config.output, dict) else config.output
    return str(output).partition("?")[0].rstrip("/").rpartition("/")[2]


def brought(needed: Needed) -> dict[str, str]:
    """The addresses whose local paths only a worker knows, by the names that `script_settings` has for them."""
    found = {f"side_inputs.{name}": place for name, place in needed.side_inputs.items()}
    found |= {_model_name(name, version): place for (name, version), place in needed.models.items()}
    return {name: place for name, place in found.items() if is_remote(place)}


def _model_name(name: str, version: str) -> str:
    return f"models.{name}:{version}"


def _models(needed: Needed) -> dict[str, dict[str, str]]:
    """Paths by name and version; of those that are to be brought, their names in `brought`."""
    models = registered_models()
    for (name, version), place in needed.models.items():
        versions = models.setdefault(name, {})
        versions.pop(version, None)  # what the job names counts as the newest
        versions[version] = _model_name(name, version) if is_remote(place) else place
    return models


def _model_folder(config: JobConfig, needed: Needed) -> str:
    """The first model itself: what a script finds in AZUREML_MODEL_DIR is the folder that holds it."""
    if not needed.models or "AZUREML_MODEL_DIR" in config.environment_variables:
        return ""
    (name, version), place = next(iter(needed.models.items()))
    return _model_name(name, version) if is_remote(place) else place


DEFAULT_SIZES: dict[Content, int | str] = {
    Content.FILES: DEFAULT_ITEMS,
    Content.WORDS: DEFAULT_ITEMS,
    Content.RANK: DEFAULT_ITEMS,
    Content.RECORDS: DEFAULT_SIZE,
}

QUOTING = {
    "minimal": csv.QUOTE_MINIMAL,
    "all": csv.QUOTE_ALL,
    "nonnumeric": csv.QUOTE_NONNUMERIC,
    "none": csv.QUOTE_NONE,
}


def limits(config: JobConfig) -> Limits:
    return Limits(
        run_seconds=config.run_invocation_timeout,
        init_seconds=config.init_seconds,
        overhead_seconds=config.task_overhead_timeout,
        memory_bytes=config.memory_limit_per_process,
        log_bytes=config.log_file_limit,
        monitor_seconds=config.resource_monitor_interval,
        gpus_per_process=config.gpus_per_process,
        gpus_per_node=config.gpus_per_node,
    )


def environment(config: JobConfig, layout: Layout) -> dict[str, str]:
    """Of every scorer; the user's own words win."""
    return {
        # One hash seed for all processes: a script that walks through a set gives the same rows everywhere.
        "PYTHONHASHSEED": "0",
        "AZUREML_BI_OUTPUT_PATH": str(layout.output),
        **config.environment_variables,
    }


def script_settings(config: JobConfig, layout: Layout, inputs: JobInputs, needed: Needed = NOTHING) -> Head:
    return {
        "entry_script": config.entry_script,
        "source_directory": str(config.source_directory),
        "arguments": [*_system_arguments(config, layout, inputs), *map(needed.filled, config.arguments)],
        "logging_level": config.logging_level,
        "content": inputs.content,
        "readings": inputs.readings,
        "only_load": False,
        "place": {
            "run_id": run_id(config),
            "source_directory": str(config.source_directory),
            "logging_level": config.logging_level,
            "models": _models(needed),
            "model_folder": _model_folder(config, needed),
        },
        "rows": rows(config),
        "join": _join(config),
    }


def rows(config: JobConfig) -> Head:
    """How rows are written; told to the scorers, who write them, and to the sink, which puts them together."""
    to_csv = {
        "quoting": QUOTING[config.append_row_quoting],
        "quotechar": config.append_row_quote_char,
        "escapechar": config.append_row_escape_char,
        "doublequote": config.append_row_double_quote,
        "na_rep": config.append_row_na_rep,
        "float_format": config.append_row_float_format,
        "date_format": config.append_row_date_format,
        "decimal": config.append_row_decimal,
    }
    return {
        "write": config.output_action == "append_row",
        "format": config.append_row_format,
        "separator": config.append_row_separator,
        "header": config.append_row_header,
        "index": config.append_row_index,
        "line_terminator": config.append_row_line_terminator,
        "to_csv": to_csv,
        "mixed_types": config.append_row_mixed_types,
    }


def _system_arguments(config: JobConfig, layout: Layout, inputs: JobInputs) -> list[str]:
    """What scripts written for ParallelRunStep find in `sys.argv` before their own arguments."""
    given = {
        "client_sdk_version": VERSION,
        "scoring_module_name": config.entry_script,
        "mini_batch_size": config.mini_batch_size or DEFAULT_SIZES.get(inputs.content),
        "error_threshold": config.error_threshold,
        "output_action": config.output_action,
        "logging_level": config.logging_level,
        "run_invocation_timeout": f"{config.run_invocation_timeout:g}",
        "run_max_try": config.run_max_try,
        "create_snapshot_at_runtime": True,
        "allowed_failed_count": config.allowed_failed_count,
        "allowed_failed_percent": config.allowed_failed_percent,
        "append_row_file_name": config.append_row_file_name,
        "output": layout.output,
        "process_count_per_node": config.process_count_per_node,
        "partition_keys": json.dumps(config.partition_keys) if config.partition_keys else None,
    }
    return [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]
