"""ParallelRunConfig, with the parameters and the errors of azureml.pipeline.steps."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from daskscore.azureml.parameters import PipelineParameter, is_parameter, value_of
from daskscore.errors import ConfigError
from daskscore.jobfiles import environments, prs
from daskscore.jobfiles.reading import load, located


class ParallelRunConfig:
    """How a script is run in parallel; every parameter is checked when the object is made and again when it is used."""

    def __init__(
        self,
        environment: Any,
        entry_script: Any,
        error_threshold: Any,
        output_action: Any,
        compute_target: Any,
        node_count: Any,
        process_count_per_node: Any = None,
        mini_batch_size: Any = None,
        source_directory: str | Path | None = None,
        description: str | None = None,
        logging_level: Any = None,
        run_invocation_timeout: Any = None,
        run_max_try: Any = None,
        append_row_file_name: Any = None,
        allowed_failed_count: Any = None,
        allowed_failed_percent: Any = None,
        partition_keys: Any = None,
        environment_variables: Mapping[str, Any] | None = None,
    ) -> None:
        self.environment = environment
        self.entry_script = entry_script.strip() if isinstance(entry_script, str) else entry_script
        self.error_threshold = error_threshold
        self.output_action = output_action
        self.compute_target = compute_target
        self.node_count = node_count
        self.process_count_per_node = process_count_per_node
        self.mini_batch_size = mini_batch_size
        self.source_directory = source_directory.strip() if isinstance(source_directory, str) else source_directory
        self.description = description
        self.logging_level = "INFO" if logging_level is None else logging_level
        self.run_invocation_timeout = 60 if run_invocation_timeout is None else run_invocation_timeout
        self.run_max_try = 3 if run_max_try is None else run_max_try
        self.append_row_file_name = append_row_file_name
        self.allowed_failed_count = allowed_failed_count
        self.allowed_failed_percent = allowed_failed_percent
        self.partition_keys = partition_keys
        self.environment_variables = dict(environment_variables or {})
        _check_environment(environment)
        self.settings()
        prs.check_source(self.source_directory, self.entry_script)

    def settings(self, pipeline_parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The keys of JobConfig, with each PipelineParameter's value."""
        given = self._plain(pipeline_parameters or {})
        settings = prs.check(given, most_nodes=_most_nodes(self.compute_target))
        script = Path(located(self.entry_script, Path.cwd()))
        if self.source_directory is None:
            return {**settings, "source_directory": script.parent, "entry_script": script.name}
        return {**settings, "source_directory": Path(located(str(self.source_directory), Path.cwd()))}

    def parameters(self) -> list[PipelineParameter]:
        """The values that can be replaced when a step is run."""
        return [value for value in vars(self).values() if is_parameter(value)]

    def save_to_yaml(self, path: str | Path) -> None:
        """All parameters, those for failed mini-batches too, which the reference leaves out."""
        plain = self._plain({})
        folder = Path(path).absolute().parent
        if self.source_directory is not None:
            plain["source_directory"] = os.path.relpath(self.source_directory, folder)
        names = (*prs.SETTINGS, "description")
        values: dict[str, Any] = {name: plain.get(name) for name in names}
        values["compute_target_name"] = _name_of(self.compute_target)
        values["environment"] = _described(self.environment)
        Path(path).write_text(yaml.safe_dump({prs.ROOT: values}, sort_keys=False), encoding="utf-8")

    @staticmethod
    def load_yaml(workspace: Any, path: str | Path) -> ParallelRunConfig:
        """What save_to_yaml wrote; no workspace is asked. Its source directory is relative to the file."""
        document = load(Path(path))
        section = document.section(prs.ROOT)
        if not section.values:
            raise document.wrong(prs.ROOT, "is missing, and all parameters stand below it")
        section.unknown(prs.KNOWN)
        values = {key: section.raw(key) for key in prs.SETTINGS if key in section.values}
        source = values.get("source_directory")
        values["source_directory"] = located(str(source), section.folder) if source is not None else None
        required = {
            key: values.pop(key, None) for key in ("entry_script", "error_threshold", "output_action", "node_count")
        }
        return ParallelRunConfig(
            environment=section.raw("environment"),
            compute_target=section.raw("compute_target_name"),
            description=section.text("description"),
            **required,
            **values,
        )

    def _plain(self, pipeline_parameters: Mapping[str, Any]) -> dict[str, Any]:
        plain = {key: value_of(value, pipeline_parameters) for key, value in vars(self).items()}
        if is_parameter(self.partition_keys):
            plain["partition_keys"] = _json_keys(plain["partition_keys"])
        variables = {**environments.variables(self.environment), **plain["environment_variables"]}
        plain["environment_variables"] = variables or None
        return plain


def as_config(config: Any) -> ParallelRunConfig:
    """One of ours, or one of the reference's own, which has the same attributes."""
    if isinstance(config, ParallelRunConfig):
        return config
    if isinstance(config, (Mapping, str)) or any(
        not hasattr(config, name) for name in ("entry_script", "output_action")
    ):
        raise ConfigError("Param parallel_run_config must be a azureml.pipeline.steps.ParallelRunConfig")
    required = ("environment", "entry_script", "error_threshold", "output_action", "compute_target", "node_count")
    others = {name: getattr(config, name, None) for name in (*prs.SETTINGS, "description") if name not in required}
    return ParallelRunConfig(*(getattr(config, name, None) for name in required), **others)


def _check_environment(environment: Any) -> None:
    if environment is None:
        raise ConfigError("Parameter environment is required. It should be instance of azureml.core.Environment.")
    if not (isinstance(environment, (str, os.PathLike, Mapping)) or hasattr(environment, "name")):
        raise ConfigError(
            f"Parameter environment must be an instance of azureml.core.Environment. The actual value is {environment}."
        )


def _most_nodes(compute_target: Any) -> int:
    scale = getattr(compute_target, "scale_settings", None)
    most = getattr(scale, "maximum_node_count", None) or getattr(compute_target, "max_nodes", None)
    return most if isinstance(most, int) else prs.MOST_NODES


def _json_keys(text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else text
    except ValueError:
        raise ConfigError(
            f"The default of partition_keys is {text!r}, no list as JSON. Write json.dumps([...])"
        ) from None


def _name_of(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else str(getattr(value, "name", value))


def _described(environment: Any) -> Any:
    if isinstance(environment, (str, Mapping)):
        return dict(environment) if isinstance(environment, Mapping) else environment
    if isinstance(environment, os.PathLike):
        return {"conda_file": os.fspath(environment)}
    return {key: str(found) for key in ("name", "version") if (found := getattr(environment, key, None)) is not None}
