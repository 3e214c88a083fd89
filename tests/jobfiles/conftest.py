from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from daskscore.errors import ConfigError
from daskscore.jobfiles import Translated, translate

STEP = """
type: parallel
inputs:
  images:
    type: uri_folder
    path: ./images
  model:
    type: uri_folder
    path: ./model
outputs:
  rows:
    type: uri_file
    path: azureml://datastores/${{default_datastore}}/paths/${{name}}/scores.csv
  extra:
    type: uri_folder
input_data: ${{inputs.images}}
task:
  type: run_function
  code: ./src
  entry_script: score.py
  environment: azureml:env:1
  program_arguments: >-
    --model ${{inputs.model}}
  append_row_to: ${{outputs.rows}}
"""

PRS = """
parallel_run_config:
  entry_script: score.py
  error_threshold: 5
  output_action: append_row
  node_count: 2
"""
DEPLOYMENT = """
name: dep
endpoint_name: ep
type: model
model: {name: digits, path: model}
code_configuration: {code: code, scoring_script: driver.py}
"""


@dataclass(frozen=True, slots=True)
class Files:
    """Job files in a folder of their own, and what becomes of them."""

    folder: Path

    @property
    def output(self) -> Path:
        return self.folder / "out"

    def write(self, text: str, name: str = "job.yml") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    def all(
        self, text: str, *, bindings: Mapping[str, Any] | None = None, inputs: Sequence[str] = (), name: str = "job.yml"
    ) -> list[Translated]:
        return translate(self.write(text, name), output=self.output, bindings=bindings, inputs=inputs)

    def one(self, text: str, **options: Any) -> Translated:
        (only,) = self.all(text, **options)
        return only

    def step(self, more: str = "", *, without: Sequence[str] = (), **options: Any) -> Translated:
        """A parallel job that is complete, with lines added and top-level keys left out."""
        return self.one(changed_step(more, without), **options)

    def refusal(self, text: str, **options: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            self.all(text, **options)
        return str(caught.value)


def changed_step(more: str = "", without: Sequence[str] = ()) -> str:
    kept, skipping = [], False
    for line in STEP.splitlines():
        if line and not line.startswith(" "):
            skipping = line.partition(":")[0] in without
        if not skipping:
            kept.append(line)
    return "\n".join(kept) + "\n" + textwrap.dedent(more)


def with_arguments(arguments: str) -> str:
    """A complete parallel job whose script is called with other arguments."""
    return STEP.replace("--model ${{inputs.model}}", arguments or "--x 1")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """The current folder is another one: nothing in a file may be relative to it."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    folder = tmp_path / "jobs"
    folder.mkdir()
    return Files(folder)
