"""`azureml_user.parallel_run`: the helper that ParallelRunStep gives to its scripts."""

from __future__ import annotations

import logging
import os

from daskscore.scorer.standins.place import Place

__all__ = ["EntryScript"]


class EntryScript:
    """One object per process: `EntryScript()` gives the same one each time."""

    _only: EntryScript | None = None

    def __new__(cls) -> EntryScript:
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    @property
    def logger(self) -> logging.Logger:
        """Writes `logs/user/entry_script_log/<node>/<process>.log.txt`."""
        place = Place.here
        logger = logging.getLogger("daskscore.entry_script")
        if not logger.handlers:
            os.makedirs(place.log_folder, exist_ok=True)
            handler = logging.FileHandler(os.path.join(place.log_folder, f"{place.process}.log.txt"), encoding="utf-8")
            handler.setFormatter(logging.Formatter("%(asctime)s|%(levelname)s|%(process)d|%(thread)d|%(message)s"))
            logger.addHandler(handler)
            logger.setLevel(place.logging_level)
            logger.propagate = False
        return logger

    @property
    def log_dir(self) -> str:
        """A folder for log files of the script's own; the script makes it."""
        return Place.here.log_folder

    @property
    def agent_name(self) -> str:
        """`process000` and so on."""
        return Place.here.process

    @property
    def output_dir(self) -> str:
        return Place.here.output

    @property
    def working_dir(self) -> str:
        return Place.here.source_directory
