"""Import the script in a scorer of this machine, before anything else is started."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from daskscore.core.protocol import Head
from daskscore.errors import ScriptError
from daskscore.worker.nursery import Nursery
from daskscore.worker.supervisor import Desk, Limits, Supervisor


def preflight(settings: Head, environment: Mapping[str, str], limits: Limits) -> None:
    """Raise ScriptError, with the user's own traceback, if the script does not load."""
    with tempfile.TemporaryDirectory(prefix="daskscore-") as folder:
        nursery = Nursery(environment={**os.environ, **environment}, remove_at_end=[(folder, os.getpid())])
        try:
            desk = Desk(
                node="preflight",
                settings={**settings, "only_load": True},
                output=Path(folder),
                parts=Path(folder),
                limits=limits,
                token="preflight",
            )
            failure = Supervisor(desk, lambda: nursery, lambda: False).preflight()
            last_words = _tail(Path(folder) / failure.log) if failure and not failure.traceback else ""
        finally:
            nursery.close()
    if failure is not None:
        more = failure.traceback.rstrip() or last_words
        raise ScriptError(f"{failure.message}" + (f"\n\n{more}" if more else ""))


def _tail(log: Path) -> str:
    try:
        return log.read_text(errors="replace")[-2000:].rstrip() if log.name.endswith("stderr.txt") else ""
    except OSError:
        return ""
