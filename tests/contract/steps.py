"""Steps of v1 that are right, each to be spoiled in one place, and what the reference's objects look like from here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from daskscore.azureml import ParallelRunConfig, ParallelRunStep
from daskscore.errors import ConfigError

ENVIRONMENT = SimpleNamespace(name="env", version=3)
CLUSTER = SimpleNamespace(name="cpu", max_nodes=4)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Relative paths are from the current folder; a script stands there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "score.py").write_text("def run(mini_batch):\n    return mini_batch\n")
    return tmp_path


def config(**changes: Any) -> ParallelRunConfig:
    given: dict[str, Any] = {
        "environment": ENVIRONMENT,
        "entry_script": "score.py",
        "source_directory": "code",
        "error_threshold": 5,
        "output_action": "append_row",
        "compute_target": CLUSTER,
        "node_count": 2,
    }
    return ParallelRunConfig(**{**given, **changes})


def step(of: ParallelRunConfig | None = None, **changes: Any) -> ParallelRunStep:
    given: dict[str, Any] = {"name": "score-images", "inputs": ["images"], "output": "out"}
    return ParallelRunStep(parallel_run_config=of or config(), **{**given, **changes})


def refusal(make: Any, **changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        make(**changes)
    return str(caught.value)


@dataclass
class DataSet:
    path: str
    name: str = "labels"
    mode: str | None = None


@dataclass
class TabularDataSet(DataSet):
    pass


@dataclass
class Consumption:
    dataset: Any
    name: str = "given"
    mode: str | None = None
