"""The outputs that a parallel job names, and where each is below the output folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from daskscore.config import DEFAULT_FILE_NAME
from daskscore.jobfiles.expressions import NoMeaning, filled, sole
from daskscore.jobfiles.reading import Section, did_you_mean, shown

NAMED_OUTPUTS = "named-outputs"
"""The folder of all outputs but the rows, as a download from the reference lays them out."""

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Output:
    """One output, and where it is here."""

    name: str
    path: Path
    type: str
    written: str | None
    """Where the file wants it."""

    @property
    def is_file(self) -> bool:
        return self.type == "uri_file"

    @property
    def folder(self) -> Path:
        return self.path.parent if self.is_file else self.path


@dataclass(frozen=True, slots=True)
class Outputs:
    """The outputs of one job."""

    job: str
    folder: Path
    section: Section
    rows: str | None
    """The name of the one that takes the rows."""
    parent_output: Callable[[str], Mapping[str, Any]]
    """What a pipeline says about one of its own outputs."""

    def find(self, name: str) -> Output:
        known = self.section.names()
        if name not in known:
            raise NoMeaning(f"there is no output {name}. {did_you_mean(name, known)}")
        if not NAME.fullmatch(name):
            raise self.section.wrong(name, "is no name for an output. Use letters, digits and _")
        spec = _spec(self.section, name, self.parent_output)
        written = str(spec["path"]) if spec.get("path") is not None else None
        try:
            file_name = self._file_name(written, name) if written else None
        except NoMeaning as error:
            raise self.section.wrong(name, str(error)) from None
        kind = str(spec["type"]).lower() if spec.get("type") else None
        if kind is None:
            kind = "uri_file" if file_name is not None and "." in file_name else "uri_folder"
        path = self.folder / NAMED_OUTPUTS / name
        if kind == "uri_file":
            path = (self.folder if name == self.rows else path) / (file_name or name)
        return Output(name, path, kind, written)

    def all(self) -> list[Output]:
        return [self.find(name) for name in self.section.names()]

    def folders(self) -> list[Path]:
        """What must be there before the script starts; that of the rows is made by the run itself."""
        return [output.folder for output in self.all() if output.name != self.rows or not output.is_file]

    @property
    def rows_file(self) -> str:
        """The name of the file with the rows; in a folder the reference's own name for it."""
        rows = self.find(self.rows) if self.rows is not None else None
        return rows.path.name if rows is not None and rows.is_file else DEFAULT_FILE_NAME

    def _file_name(self, path: str, name: str) -> str | None:
        """The last part of a path; `${{name}}` is the job, `${{output_name}}` the output."""
        known = {"name": self.job, "output_name": name}
        text = filled(path, lambda reference: known.get(reference, reference.rpartition(".")[2]))
        return None if text.endswith("/") else PurePosixPath(text).name or None


def _spec(section: Section, name: str, parent_output: Callable[[str], Mapping[str, Any]]) -> dict[str, Any]:
    """What is said about an output: by the component, by the step, and by the pipeline that it is bound to."""
    below = section.below
    spec = _spec(below, name, parent_output) if below is not None and name in below.names() else {}
    own = section.values.get(name)
    if isinstance(own, Mapping):
        spec |= {str(key): value for key, value in own.items() if value is not None}
    elif isinstance(own, str):
        spec["path"] = own
    elif own is not None:
        raise section.wrong(name, f"is {shown(own)}. Write a mapping with a type")
    reference = (sole(str(spec["path"])) or "") if spec.get("path") is not None else ""
    if reference.startswith("parent.outputs."):
        del spec["path"]
        try:
            spec |= parent_output(reference.removeprefix("parent.outputs."))
        except NoMeaning as error:
            raise section.wrong(name, str(error)) from None
    return spec
