"""Import the script in a scorer of this machine, before anything else is started."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from daskscore.core.layout import stderr_log
from daskscore.core.model import InitFailure
from daskscore.core.protocol import Head
from daskscore.errors import ScriptError
from daskscore.worker.nursery import Nursery, passing_folder
from daskscore.worker.process import Desk, Limits
from daskscore.worker.supervisor import Supervisor

LAST_WORDS_BYTES = 4000
OURS = str(Path(__file__).parents[1]) + os.sep


def preflight(
    settings: Head, environment: Mapping[str, str], limits: Limits, *, stopping: Callable[[], bool] = lambda: False
) -> None:
    """Raise ScriptError, with the user's own traceback, if the script does not load."""
    folder = Path(passing_folder())
    nursery = Nursery(environment={**os.environ, **environment}, remove_at_end=[(str(folder), 0)])
    try:
        folder.mkdir(0o700)
        desk = Desk(
            node="preflight",
            settings={**settings, "only_load": True},
            output=folder,
            parts=folder,
            limits=limits,
            token="preflight",
        )
        failure = Supervisor(desk, lambda: nursery, stopping).preflight()
        if failure is not None:
            raise ScriptError(_words(failure, folder))
    finally:
        nursery.close()
        shutil.rmtree(folder, ignore_errors=True)  # where the script has killed the nursery


def _words(failure: InitFailure, folder: Path) -> str:
    """Why it does not load, then the traceback; for a script that ended its process, what it printed before."""
    trace = failure.traceback.rstrip()
    trace = trace if "\n" in trace else ""  # the message has said it
    ended = not trace or trace.rpartition("\n")[2].startswith("SystemExit")
    last_words = _last_words(folder / stderr_log("preflight", Path(failure.log).name.split(".")[0])) if ended else ""
    return "\n\n".join(part for part in (failure.message, last_words or trace) if part)


def _last_words(log: Path) -> str:
    """The end of its standard error, without our own frames in a crash's traceback."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LAST_WORDS_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    ours = (f'  File "{OURS}', '  File "<frozen importlib', '  File "<string>"')
    return "\n".join(line for line in lines if not line.startswith(ours)).strip()
