"""What a job file becomes: keys of JobConfig, and beside them everything that has no key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple


class Form(StrEnum):
    """Whose words a job file is written in; each form has its own defaults."""

    DASKSCORE = "daskscore"
    PARALLEL_JOB = "parallel job v2"
    COMPONENT = "component v2"
    PIPELINE_STEP = "pipeline v2 step"
    PARALLEL_RUN_CONFIG = "parallel_run_config v1"
    DEPLOYMENT = "batch deployment"
    ROW_SETTINGS = "settings.json beside the script"


class Ignored(NamedTuple):
    """A key of the file that changes nothing here."""

    key: str
    why: str


@dataclass(frozen=True, slots=True)
class Environment:
    """The Python that a file asks for, as it is written there."""

    reference: str | None = None
    """A registered one: `azureml:name:version`."""
    name: str | None = None
    version: str | None = None
    image: str | None = None
    conda_file: Path | None = None
    conda: Mapping[str, Any] | None = None
    """The packages, where they stand in the job file itself."""
    build: Path | None = None
    """The folder of a Dockerfile."""

    @property
    def made_here(self) -> str | dict[str, Any] | None:
        """What of it can be made on any machine, as the key `environment` of a job; None: nothing, or its file is missing."""
        if self.conda_file is not None and self.conda_file.is_file():
            return str(self.conda_file)
        if self.conda is not None and "dependencies" in self.conda:
            return {key: self.conda[key] for key in ("channels", "dependencies", "variables") if key in self.conda}
        return None

    def __str__(self) -> str:
        parts = (
            self.reference,
            f"image {self.image}" if self.image else None,
            f"conda file {self.conda_file}" if self.conda_file else None,
            "conda packages" if self.conda else None,
            f"Dockerfile in {self.build}" if self.build else None,
        )
        label = f"{self.name}:{self.version}" if self.version else self.name
        return ", ".join(part for part in parts if part) or label or "none"


@dataclass(frozen=True, slots=True)
class Model:
    """The model that a file names: registered, or a local path."""

    reference: str | None = None
    name: str | None = None
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Translated:
    """One job, as JobConfig wants it; `daskscore.run(translated.settings)` runs it."""

    form: Form
    name: str
    settings: dict[str, Any]
    """Keys of JobConfig; local paths are absolute."""
    ignored: tuple[Ignored, ...] = ()
    """For one warning, or with --strict an error."""
    environment: Environment | None = None
    model: Model | None = None
    notes: tuple[str, ...] = ()
    """What was understood differently from what one might expect."""
    needs: tuple[str, ...] = ()
    """Names of the jobs of the same file whose outputs this one reads; they come before it in the list."""
    folders: tuple[Path, ...] = ()
    """To be there before the script starts: it was promised these as its outputs."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Description, tags and the like: for people, not for the run."""


def in_one_warning(source: str | Path, jobs: Iterable[Translated]) -> str:
    """One text that names all that was ignored, or an empty one; the error of --strict as well."""
    lines = [f"  {ignored.key}: {ignored.why}" for job in jobs for ignored in job.ignored]
    if not lines:
        return ""
    keys = "1 key means" if len(lines) == 1 else f"{len(lines)} keys mean"
    return "\n".join([f"{source}: {keys} nothing here:", *lines])
