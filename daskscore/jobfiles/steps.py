"""The jobs that a command asks for: of one file of any form, with the command's own words on top, validated."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daskscore.config import JobConfig
from daskscore.config import load as load_own
from daskscore.errors import ConfigError
from daskscore.jobfiles import row_settings
from daskscore.jobfiles.interface import Form, Translated, in_one_warning
from daskscore.jobfiles.reading import load as read
from daskscore.jobfiles.translation import is_ours, translate

CURRENT = "current"
"""The Python that runs daskscore, as an environment."""


@dataclass(frozen=True, slots=True)
class Step:
    """One job that is ready to run."""

    name: str
    config: JobConfig
    needs: tuple[str, ...] = ()
    """Names of the steps whose outputs it reads."""
    folders: tuple[Path, ...] = ()
    """To be made before it starts."""
    notes: tuple[str, ...] = ()
    """What the user should know: what was ignored, and what was understood differently."""


def steps(
    job: str | os.PathLike[str] | Mapping[str, Any] | JobConfig | None,
    overrides: Mapping[str, Any],
    *,
    strict: bool = False,
    environment: str | None = None,
) -> list[Step]:
    """The jobs in the order of their needs; with `strict`, a key that cannot mean anything here is an error.

    Of an environment that a foreign file names, its conda file is used; `environment` replaces it, like any override.
    """
    if environment is not None:
        overrides = {**overrides, "environment": environment}
    if isinstance(job, (str, os.PathLike)) and not _is_own_file(Path(job)):
        return _foreign(Path(job), dict(overrides), strict=strict)
    config = load_own(job, overrides)
    rows, ignored = row_settings.beside(config.source_directory)
    unset = {key: value for key, value in rows.items() if key not in config.model_fields_set}
    if unset:
        config = load_own(config, unset)
    notes = _notes(config.source_directory / row_settings.FILE_NAME, [_of_rows(ignored)] if ignored else [], strict)
    return [Step(Path(config.entry_script).stem, config, notes=(*notes, *_name_note(config)))]


def _name_note(config: JobConfig) -> tuple[str, ...]:
    """The end of a file's name changes nothing, and some expect that it does."""
    for ending in ("csv", "parquet", "jsonl"):
        if config.append_row_file_name.lower().endswith(f".{ending}") and config.append_row_format == "text":
            return (
                f"append_row_file_name ends with .{ending}, and the rows are text all the same. For {ending}, say "
                f"append_row_format: {ending}",
            )
    return ()


def _is_own_file(path: Path) -> bool:
    """Also where it cannot be read: the loader of our own files says why."""
    try:
        return path.name != row_settings.FILE_NAME and is_ours(read(path))
    except ConfigError:
        return True


def _foreign(path: Path, overrides: dict[str, Any], *, strict: bool) -> list[Step]:
    bindings = {key: overrides.pop(key) for key in list(overrides) if "." in key}
    output, inputs = overrides.pop("output", None), overrides.pop("inputs", ())
    data = inputs if isinstance(inputs, (list, tuple)) else [inputs]
    jobs = translate(path, output=output, bindings=bindings, inputs=[str(entry) for entry in data])
    warning = _notes(path, jobs, strict)
    for job in jobs:
        if strict and "environment" not in overrides and job.environment and job.environment.made_here is None:
            (note,) = _environment_note(job, overrides)
            raise ConfigError(f"{path}: {note}; run without --strict, or remove it from the file")
    found = [
        Step(
            name=job.name,
            config=load_own(_with_environment(job), overrides),
            needs=job.needs,
            folders=job.folders,
            notes=(*job.notes, *_environment_note(job, overrides)),
        )
        for job in jobs
    ]
    first, *others = found
    return [Step(first.name, first.config, first.needs, first.folders, (*warning, *first.notes)), *others]


def _notes(source: Path, jobs: list[Translated], strict: bool) -> tuple[str, ...]:
    warning = in_one_warning(source, jobs)
    if warning and strict:
        raise ConfigError(f"{warning}\nRemove them, or run without --strict")
    return (warning,) if warning else ()


def _with_environment(job: Translated) -> dict[str, Any]:
    made = job.environment.made_here if job.environment is not None else None
    return {**job.settings, "environment": made} if made is not None else job.settings


def _environment_note(job: Translated, overrides: Mapping[str, Any]) -> tuple[str, ...]:
    wanted = job.environment
    if wanted is None:
        return ()
    current = str(overrides.get("environment", "")).strip().lower() == CURRENT
    if "environment" in overrides and not current:
        return (f"environment: {wanted} is replaced by {overrides['environment']}",)
    if wanted.made_here is not None and not current:
        left_out = " and ".join(
            word for word, given in (("its image", wanted.image), ("its Dockerfile", wanted.build)) if given
        )
        return (f"environment: of {wanted} the packages are used, and not {left_out}",) if left_out else ()
    here = f"environment: {job.environment} is not made here; the script runs in the Python at hand, {sys.executable}"
    return (here if current else f"{here}. Install what it needs there, and say --environment current",)


def _of_rows(ignored: list[Any]) -> Translated:
    return Translated(Form.ROW_SETTINGS, row_settings.FILE_NAME, {}, tuple(ignored))
