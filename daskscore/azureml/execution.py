"""Run a translated job from Python, and say once what of it means nothing here."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskscore.errors import ConfigError
from daskscore.jobfiles import Translated, in_one_warning

if TYPE_CHECKING:
    from distributed import Client

    from daskscore.core.report import Report

logger = logging.getLogger("daskscore.azureml")


def execute(job: Translated, source: str, client: Client | None, settings: dict[str, Any]) -> Report:
    """The report of the run; `settings` are keys of JobConfig and arguments of daskscore.run, and win."""
    from daskscore import api

    if warning := in_one_warning(source, [job]):
        logger.warning("%s", warning)
    for folder in job.folders:
        folder.mkdir(parents=True, exist_ok=True)
    return api.run(job.settings, client=client, **settings)


def folder_for(output: object, what: str) -> Path:
    """The output folder, from here."""
    if output is None or not str(output):
        raise ConfigError(f"{what}: there is no output. Name a folder for the results, like .run(output='out')")
    return Path.cwd() / Path(str(output)).expanduser()
