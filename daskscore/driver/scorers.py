"""What a job's scorers are told: how to call the script, what it finds around it, and how long it may take."""

from __future__ import annotations

from daskscore.config import JobConfig
from daskscore.core.layout import Layout
from daskscore.core.protocol import Head
from daskscore.driver.models import registered_models
from daskscore.version import VERSION
from daskscore.worker.process import Limits


def limits(config: JobConfig) -> Limits:
    return Limits(
        run_seconds=config.run_invocation_timeout,
        init_seconds=config.init_seconds,
        overhead_seconds=config.task_overhead_timeout,
        memory_bytes=config.memory_limit_per_process,
    )


def environment(config: JobConfig, layout: Layout) -> dict[str, str]:
    """Of every scorer; the user's own words win."""
    return {
        # One hash seed for all processes: a script that walks through a set gives the same rows everywhere.
        "PYTHONHASHSEED": "0",
        "AZUREML_BI_OUTPUT_PATH": str(layout.output),
        **config.environment_variables,
    }


def script_settings(config: JobConfig, layout: Layout, *, files: bool) -> Head:
    side_inputs = {f"${{{{side_inputs.{name}}}}}": str(path) for name, path in config.side_inputs.items()}
    arguments = []
    for word in config.arguments:
        for reference, path in side_inputs.items():
            word = word.replace(reference, path)
        arguments.append(word)
    return {
        "entry_script": config.entry_script,
        "source_directory": str(config.source_directory),
        "arguments": [*_system_arguments(config, layout), *arguments],
        "logging_level": config.logging_level,
        "rank": config.rank_mini_batch_count is not None,
        "files": files,
        "only_load": False,
        "place": {
            "run_id": layout.output.name,
            "source_directory": str(config.source_directory),
            "logging_level": config.logging_level,
            "models": registered_models(),
        },
        "rows": {
            "write": config.output_action == "append_row",
            "format": config.append_row_format,
            "separator": config.append_row_separator,
            "header": config.append_row_header,
            "index": config.append_row_index,
        },
    }


def _system_arguments(config: JobConfig, layout: Layout) -> list[str]:
    """What scripts written for ParallelRunStep find in `sys.argv` before their own arguments."""
    given = {
        "client_sdk_version": VERSION,
        "scoring_module_name": config.entry_script,
        "mini_batch_size": config.mini_batch_size,
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
    }
    return [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]
