"""parallel_run_function and what goes into it, with the parameters of azure.ai.ml.parallel."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskscore.azureml.execution import execute, folder_for
from daskscore.errors import ConfigError
from daskscore.jobfiles import Form, Ignored, Translated
from daskscore.jobfiles.parallel import KNOWN, ParallelJob, Place
from daskscore.jobfiles.reading import Section, did_you_mean, nearest
from daskscore.jobfiles.values import LITERALS, Bindings, no_parent, no_parent_output

if TYPE_CHECKING:
    from distributed import Client

    from daskscore.core.report import Report

RESOURCES = ("instance_count", "instance_type", "docker_args", "shm_size")
ENVIRONMENT = ("name", "version", "image", "conda_file", "build")


class Input:
    """Data or a literal: what a step is given, or says that it wants."""

    def __init__(
        self,
        *,
        type: str = "uri_folder",
        path: Any = None,
        mode: str | None = None,
        default: str | int | float | bool | None = None,
        optional: bool | None = None,
        description: str | None = None,
        **others: Any,
    ) -> None:
        self.type, self.path, self.mode = type, path, mode
        self.default, self.optional, self.description = default, optional, description
        self.others = others


class Output:
    """Where a step's results go; once the step has run, the next one can take it as its input."""

    def __init__(
        self,
        *,
        type: str = "uri_folder",
        path: str | None = None,
        mode: str | None = None,
        description: str | None = None,
        **others: Any,
    ) -> None:
        self.type, self.path, self.mode, self.description = type, path, mode, description
        self.others = others
        self.made: str | None = None
        """Where it is here, once it is."""


class RetrySettings:
    def __init__(self, *, timeout: Any = None, max_retries: Any = None, **others: Any) -> None:
        self.timeout, self.max_retries, self.others = timeout, max_retries, others


class RunFunction:
    """The script, and what it is called with."""

    def __init__(
        self,
        *,
        code: Any = None,
        entry_script: str | None = None,
        program_arguments: str | None = None,
        model: Any = None,
        append_row_to: str | None = None,
        environment: Any = None,
        **others: Any,
    ) -> None:
        self.code, self.entry_script, self.program_arguments = code, entry_script, program_arguments
        self.model, self.append_row_to, self.environment = model, append_row_to, environment
        self.others = others


class Ports(dict[str, Any]):
    """Inputs or outputs by name; a name can be written as an attribute too."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in self:
            raise AttributeError(f"there is no {name}. {did_you_mean(name, self)}")
        return self[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


class Resources:
    """Machines; only their number counts here."""

    def __init__(self, **given: Any) -> None:
        for name in RESOURCES:
            setattr(self, name, given.pop(name, None))
        self.others = given


class Parallel:
    """A parallel step: call it with inputs, change its settings, run it."""

    def __init__(self, settings: Mapping[str, Any], others: Mapping[str, Any]) -> None:
        self.name: str = settings.get("name") or "parallel"
        self.inputs = Ports(settings.get("inputs") or {})
        self.outputs = Ports(settings.get("outputs") or {})
        self.resources = _as_object(settings.get("resources"), Resources)
        self.task = settings.get("task")
        self.retry_settings = _as_object(settings.get("retry_settings"), RetrySettings)
        self.environment_variables = settings.get("environment_variables")
        self.mini_batch_size = settings.get("mini_batch_size")
        self.partition_keys = settings.get("partition_keys")
        self.input_data = settings.get("input_data")
        self.error_threshold = settings.get("error_threshold")
        self.mini_batch_error_threshold = settings.get("mini_batch_error_threshold")
        self.max_concurrency_per_instance = settings.get("max_concurrency_per_instance")
        self.logging_level = settings.get("logging_level")
        self.compute = settings.get("compute")
        self.identity = settings.get("identity")
        self.properties = settings.get("properties")
        self.about = {key: settings[key] for key in ABOUT if settings.get(key) is not None}
        self._others = dict(others)

    def __call__(self, **given: Any) -> Parallel:
        """The same step with these inputs."""
        step = copy.copy(self)
        step.inputs = Ports({name: copy.copy(port) for name, port in self.inputs.items()})
        step.outputs = Ports({name: copy.copy(port) for name, port in self.outputs.items()})
        step.resources = copy.copy(self.resources)
        step.retry_settings = copy.copy(self.retry_settings)
        for name, value in given.items():
            if name not in self.inputs:
                raise ConfigError(f"{self._where}: there is no input {name}. {did_you_mean(name, self.inputs)}")
            step.inputs[name] = _bound(self.inputs[name], value)
        return step

    def translated(self, output: str | Path | None = None) -> Translated:
        """The keys of JobConfig; relative paths are from the current folder."""
        job = self._job(folder_for(output, self._where))
        translated = job.translate()
        ignored = [Ignored(name, _no_parameter(name)) for name in self._others]
        return replace(translated, ignored=(*translated.ignored, *ignored), about={**self.about, **translated.about})

    def run(self, client: Client | None = None, output: str | Path | None = None, **settings: Any) -> Report:
        """Score everything, and return the report; `settings` are what daskscore.run takes, and win."""
        report = execute(self.translated(output), self._where, client, settings)
        job = self._job(folder_for(output, self._where))
        for name, port in self.outputs.items():
            if isinstance(port, Output):
                port.made = job.output(name).path
        return report

    @property
    def _where(self) -> str:
        return f"parallel_run_function {self.name}"

    def _job(self, output: Path) -> ParallelJob:
        values = {
            "name": self.name,
            "inputs": {name: _port(port) for name, port in self.inputs.items()},
            "outputs": {name: _port(port) for name, port in self.outputs.items()},
            "task": _task(self.task),
            "resources": _all_fields(self.resources, (*RESOURCES, "properties")),
            "retry_settings": _all_fields(self.retry_settings, ("timeout", "max_retries")),
            "identity": type(self.identity).__name__ if self.identity is not None else None,
            **{key: getattr(self, key) for key in PLAIN},
        }
        section = Section(values, self._where, Path.cwd())
        place = Place(output, Bindings(), no_parent, no_parent_output)
        return ParallelJob(section, self.name, Form.PARALLEL_JOB, place)


ABOUT = ("display_name", "description", "tags", "experiment_name", "version", "is_deterministic")
PLAIN = (
    "environment_variables",
    "mini_batch_size",
    "partition_keys",
    "input_data",
    "error_threshold",
    "mini_batch_error_threshold",
    "max_concurrency_per_instance",
    "logging_level",
    "compute",
    "properties",
)


def parallel_run_function(
    *,
    name: str | None = None,
    description: str | None = None,
    tags: Mapping[str, Any] | None = None,
    properties: Mapping[str, Any] | None = None,
    display_name: str | None = None,
    experiment_name: str | None = None,
    compute: str | None = None,
    retry_settings: Any = None,
    environment_variables: Mapping[str, Any] | None = None,
    logging_level: str | None = None,
    max_concurrency_per_instance: Any = None,
    error_threshold: Any = None,
    mini_batch_error_threshold: Any = None,
    task: Any = None,
    mini_batch_size: Any = None,
    partition_keys: Any = None,
    input_data: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    outputs: Mapping[str, Any] | None = None,
    instance_count: Any = None,
    instance_type: Any = None,
    docker_args: Any = None,
    shm_size: Any = None,
    identity: Any = None,
    is_deterministic: bool = True,
    **others: Any,
) -> Parallel:
    """A parallel step; `others` are named when it runs and count for nothing, as in the reference."""
    given = dict(locals())
    others = given.pop("others")
    machines = {key: given.pop(key) for key in RESOURCES}
    if others.get("resources") is not None and any(value is not None for value in machines.values()):
        raise ConfigError("instance_count and resources are mutually exclusive")
    given["resources"] = others.pop("resources", None) or Resources(**machines)
    given["version"] = others.pop("version", None)
    if task is None:
        raise ConfigError(f"parallel_run_function {name}: task is missing. Give a RunFunction with the script")
    return Parallel(given, others)


def _no_parameter(name: str) -> str:
    near = nearest(name, KNOWN)
    return "parallel_run_function has no such parameter" + (f". Did you mean {near}?" if near else "")


def _bound(declared: Any, value: Any) -> Any:
    """An input with its value: what the step says about it holds where the value says nothing."""
    if isinstance(value, Output) or hasattr(value, "path"):
        kind, mode = getattr(value, "type", None), getattr(value, "mode", None)
        if isinstance(value, Output):
            # The output's own mode is about writing.
            mode = None
        found = value if isinstance(value, Output) else value.path
        return Input(
            type=kind or getattr(declared, "type", None) or "uri_folder",
            path=found,
            mode=mode or getattr(declared, "mode", None),
        )
    if not hasattr(declared, "type"):
        return value
    bound = copy.copy(declared)
    if isinstance(value, os.PathLike) or declared.type not in LITERALS:
        bound.path = value
    else:
        bound.default = value
    return bound


def _port(port: Any) -> Any:
    """An input or output as a job file writes it."""
    if port is None or isinstance(port, (str, int, float, bool, Mapping)):
        return port
    found = _fields(port, ("type", "path", "mode", "default", "optional"))
    path = found.get("path")
    if isinstance(path, Output):
        if path.made is None:
            raise ConfigError("an output of another step is an input here, and that step has not run. Run it first")
        found["path"] = path.made
    elif isinstance(path, os.PathLike):
        found["path"] = os.fspath(path)
    return found


def _task(task: Any) -> Any:
    found = _all_fields(
        task, ("type", "code", "entry_script", "program_arguments", "model", "append_row_to", "environment")
    )
    if isinstance(found.get("code"), os.PathLike):
        found["code"] = os.fspath(found["code"])
    environment = found.get("environment")
    if environment is not None and not isinstance(environment, (str, Mapping)):
        found["environment"] = _fields(environment, ENVIRONMENT)
    return found


def _as_object(given: Any, kind: type[Any]) -> Any:
    """With attributes that can be set, where a mapping was given or nothing."""
    return kind(**(given or {})) if given is None or isinstance(given, Mapping) else given


def _all_fields(value: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """With what was given and nobody knows, so that it is named."""
    return {**_fields(value, names), **(getattr(value, "others", None) or {})}


def _fields(value: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """The same of a mapping and of an object."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return dict(value)
    return {name: found for name in names if (found := getattr(value, name, None)) is not None}
