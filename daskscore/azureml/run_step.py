"""ParallelRunStep, with the parameters and the errors of azureml.pipeline.steps."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from daskscore.azureml.execution import execute, folder_for
from daskscore.azureml.parameters import as_input, is_parameter, kind_of, path_of, value_of
from daskscore.azureml.run_config import as_config
from daskscore.errors import ConfigError
from daskscore.jobfiles import Form, Translated, prs, row_settings, switches
from daskscore.jobfiles.reading import did_you_mean

if TYPE_CHECKING:
    from distributed import Client

    from daskscore.core.report import Report

NAME = re.compile(r"[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?")


class _Side(NamedTuple):
    name: str
    given: Any
    path: str


class ParallelRunStep:
    """A ParallelRunConfig with its data; `run` runs it here, or on the cluster of a Dask client."""

    def __init__(
        self,
        name: Any,
        parallel_run_config: Any,
        inputs: Any,
        output: Any = None,
        side_inputs: Sequence[Any] | None = None,
        arguments: Sequence[Any] | None = None,
        allow_reuse: bool = True,
    ) -> None:
        self.name = name
        self.parallel_run_config = as_config(parallel_run_config)
        self.inputs = inputs
        self.output = output
        self.side_inputs = list(side_inputs or [])
        self.arguments = list(arguments or [])
        self.allow_reuse = allow_reuse
        if not isinstance(name, str) or not 3 <= len(name) <= 32 or NAME.fullmatch(name) is None:
            raise ConfigError(
                f"'{name}' is no name for a step. Use 3 to 32 letters, digits and -, beginning with a letter"
            )
        prs.check_arguments(self.arguments)
        said = switches.sort_out([str(word) for word in self.arguments], self._where)
        self._check_inputs(said.settings.get("rank_mini_batch_count", 0))
        if output is None and self.parallel_run_config.settings()["output_action"] == "append_row":
            raise ConfigError("Please specify output parameter.")

    def translated(
        self, output: str | Path | None = None, pipeline_parameters: Mapping[str, Any] | None = None
    ) -> Translated:
        """The keys of JobConfig; relative paths are from the current folder."""
        values = dict(pipeline_parameters or {})
        self._check_parameters(values)
        folder = folder_for(output if output is not None else _output_of(self.output), self._where)
        settings = self.parallel_run_config.settings(values)
        sides = [_Side(_side_name(side, i), side, path_of(side, values)) for i, side in enumerate(self.side_inputs)]
        words = [self._word(word, sides, folder, values) for word in self.arguments]
        said = switches.sort_out(words, self._where)
        rows, rows_ignored = row_settings.beside(settings["source_directory"])
        found = {
            **rows,
            **settings,
            "inputs": [as_input(entry, values) for entry in self.inputs or ()],
            "output": folder,
            "arguments": said.script,
            "side_inputs": {side.name: side.path for side in sides},
            **said.settings,
        }
        return Translated(
            form=Form.PARALLEL_RUN_CONFIG,
            name=self.name,
            settings={key: value for key, value in found.items() if value not in ([], {})},
            ignored=(*said.ignored, *rows_ignored),
            about={"description": self.parallel_run_config.description, "allow_reuse": self.allow_reuse},
        )

    def run(
        self,
        client: Client | None = None,
        output: str | Path | None = None,
        *,
        pipeline_parameters: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Report:
        """Score everything, and return the report; `settings` are what daskscore.run takes, and win."""
        return execute(self.translated(output, pipeline_parameters), self._where, client, settings)

    @property
    def _where(self) -> str:
        return f"ParallelRunStep {self.name}"

    def _word(self, word: Any, sides: Sequence[_Side], folder: Path, values: Mapping[str, Any]) -> str:
        """An argument: data become paths."""
        for side in sides:
            if word is side.given or (isinstance(word, str) and word == side.given):
                return f"${{{{side_inputs.{side.name}}}}}"
        if word is self.output and not isinstance(word, str):
            return str(folder)
        word = value_of(word, values)
        return str(word) if isinstance(word, (str, int, float, os.PathLike)) else path_of(word, values)

    def _check_inputs(self, rank: Any) -> None:
        if not isinstance(self.inputs, (list, tuple)) or not (self.inputs or rank):
            if self.inputs is None and rank:
                return
            raise ConfigError(
                "The parameter 'inputs' must be a list and have at least one element or rank_mini_batch_count must be "
                "greater than zero."
            )
        kinds = {kind_of(entry) for entry in self.inputs}
        if len(kinds) > 1:
            raise ConfigError("All inputs of step must be same type")
        partitioned = self.parallel_run_config.partition_keys is not None
        for entry in self.inputs:
            path_of(entry, {})
            mode = getattr(entry, "mode", None)
            if mode not in (None, "direct") and (kinds == {"tabular"} or partitioned):
                which = "" if kinds == {"tabular"} else " for partitioned dataset"
                raise ConfigError(f"Please ensure input dataset consumption mode is direct{which}")

    def _check_parameters(self, values: Mapping[str, Any]) -> None:
        held = [*self.parallel_run_config.parameters(), *self.arguments, *(self.inputs or ())]
        nested = [*held, *(getattr(value, "dataset", None) for value in held)]
        known = [value.name for value in nested if is_parameter(value)]
        for name in values:
            if name not in known:
                raise ConfigError(f"{self._where}: there is no pipeline parameter {name}. {did_you_mean(name, known)}")


def _output_of(output: Any) -> Any:
    """The folder that an output stands for; one that has only a name is a folder of that name."""
    if isinstance(output, (str, os.PathLike)) or output is None:
        return output
    return getattr(output, "path", None) or getattr(output, "name", None)


def _side_name(side: Any, number: int) -> str:
    name = str(getattr(side, "name", "") or "")
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) else f"side_input_{number}"
