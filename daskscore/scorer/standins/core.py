"""`azureml.core`: registered models by name, and the run's metrics."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from daskscore.scorer.standins.place import Place

__all__ = ["Dataset", "Datastore", "Environment", "Experiment", "Model", "Run", "Workspace", "_OfflineRun"]


class Model:
    """Only `get_model_path`: models are registered with `daskscore model create`."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError(
            "Model(...) asks Azure for a model. Use Model.get_model_path(name), and register it here with "
            "`daskscore model create --name NAME --path PATH`"
        )

    @staticmethod
    def get_model_path(model_name: str, version: int | str | None = None, _workspace: Any = None) -> str:
        """Where the model is: registered here, below AZUREML_MODEL_DIR, or a path beside the script."""
        place = Place.here
        versions = place.models.get(model_name, {})
        if versions and (version is None or str(version) in versions):
            return versions[str(version) if version is not None else list(versions)[-1]]
        searched = [os.path.join(folder, model_name) for folder in _folders(place)]
        for path in searched:
            if version is None and os.path.exists(path):
                return path
        raise FileNotFoundError(_not_found(place, model_name, version, searched))


class Run:
    """The run as the script sees it: a place for metrics."""

    _only: Run | None = None

    def __init__(self) -> None:
        self.id = Place.here.run_id
        self.input_datasets: dict[str, Any] = {}
        self.tags: dict[str, str] = {}

    @classmethod
    def get_context(cls, allow_offline: bool = True, used_for_context_manager: bool = False, **_: Any) -> Run:
        """The same object each time in one process."""
        if cls._only is None:
            cls._only = cls()
        return cls._only

    @property
    def parent(self) -> Run:
        return self

    @property
    def experiment(self) -> _RunsExperiment:
        return _RunsExperiment()

    def log(self, name: str, value: Any, description: str = "", step: int | None = None) -> None:
        """A line of `logs/user/metrics/<node>/<process>.jsonl`, with the mini-batch that was being scored."""
        Place.here.log_metric(name, value, "value")

    def log_list(self, name: str, value: Sequence[Any], description: str = "") -> None:
        Place.here.log_metric(name, list(value), "list")

    def log_row(self, name: str, description: str | None = None, **values: Any) -> None:
        Place.here.log_metric(name, values, "row")

    def log_table(self, name: str, value: dict[str, Any], description: str = "") -> None:
        Place.here.log_metric(name, value, "table")

    def flush(self, timeout_seconds: int = 300) -> None:
        """Metrics are written at once."""

    def get_status(self) -> str:
        return "Running"

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"Run.{name} talks to Azure and is not available here. There are id, log, log_list, log_row, log_table, "
            "parent, experiment and input_datasets; files belong into the folder AZUREML_BI_OUTPUT_PATH"
        )


class _OfflineRun(Run):
    """What no run here is: scripts ask, and make themselves a workspace where it is one."""


class _RunsExperiment:
    """What `run.experiment` is asked for."""

    name = "daskscore"

    @property
    def workspace(self) -> Any:
        raise NotImplementedError(
            "run.experiment.workspace is Azure's workspace. Use Model.get_model_path(name) for models and side_inputs for data"
        )


class _Refuses(type):
    """Of classes that may be imported, and not used."""

    _instead: str

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotImplementedError(f"{cls.__name__}.{name} talks to Azure and is not available here. {cls._instead}")

    def __call__(cls, *_: Any, **__: Any) -> Any:
        raise NotImplementedError(f"{cls.__name__}(...) talks to Azure and is not available here. {cls._instead}")


_DATA = "Name the data under inputs or side_inputs of the job"


class Dataset(metaclass=_Refuses):
    _instead = _DATA


class Datastore(metaclass=_Refuses):
    _instead = _DATA


class Environment(metaclass=_Refuses):
    _instead = "The script runs in the Python that runs daskscore"


class Experiment(metaclass=_Refuses):
    _instead = "Use Run.get_context().log for metrics"


class Workspace(metaclass=_Refuses):
    _instead = "Use Model.get_model_path(name) for models, and inputs or side_inputs of the job for data"


def _folders(place: Place) -> list[str]:
    models = os.environ.get("AZUREML_MODEL_DIR")
    return [*([models] if models else []), place.source_directory]


def _not_found(place: Place, name: str, version: int | str | None, searched: list[str]) -> str:
    wanted = name if version is None else f"{name} version {version}"
    known = ", ".join(f"{model} ({', '.join(found)})" for model, found in sorted(place.models.items()))
    return (
        f"Model {wanted} is not registered, and not found at {' or '.join(searched)}. "
        f"Registered models: {known or 'none'}. Register it with `daskscore model create --name {name} --path PATH`"
    )
