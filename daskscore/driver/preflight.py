"""Import the script in a scorer of this machine, before anything else is started."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from daskscore.core.layout import stderr_log
from daskscore.core.model import InitFailure
from daskscore.core.protocol import Head
from daskscore.errors import InputError, RunError, ScriptError
from daskscore.worker.nursery import Nursery, passing_folder
from daskscore.worker.process import Desk, Limits
from daskscore.worker.supervisor import Supervisor

if TYPE_CHECKING:
    from daskscore.worker.environments import Interpreter, Recipe

LAST_WORDS_BYTES = 4000
OURS = str(Path(__file__).parents[1]) + os.sep


def preflight(
    settings: Head,
    environment: Mapping[str, str],
    limits: Limits,
    *,
    stopping: Callable[[], bool] = lambda: False,
    recipe: Recipe | None = None,
    works_here: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Raise ScriptError, with the user's own traceback, if the script does not load.

    It runs in the job's environment, too. One that cannot be made is a RunError, unless the work is done elsewhere: other
    machines may well be able to make it, so nothing is known here.
    """
    with ExitStack() as held:
        try:
            interpreter = _interpreter(recipe, stopping, held, say) if recipe is not None else None
        except InputError as error:
            if works_here:
                raise RunError(str(error)) from None
            return
        if not stopping():
            _load(settings, environment, limits, stopping, interpreter)


def _interpreter(
    recipe: Recipe, stopping: Callable[[], bool], held: ExitStack, say: Callable[[str], None]
) -> Interpreter | None:
    from daskscore.worker.cache import Stopped
    from daskscore.worker.environments import make

    try:
        interpreter, kept = make(recipe, f"preflight {os.getpid()}", stopping, say)
    except Stopped:
        return None
    if kept is not None:
        held.callback(kept.close)
    return interpreter


def _load(
    settings: Head,
    environment: Mapping[str, str],
    limits: Limits,
    stopping: Callable[[], bool],
    interpreter: Interpreter | None,
) -> None:
    folder = Path(passing_folder())
    inherited = interpreter.environment(os.environ) if interpreter is not None else dict(os.environ)
    nursery = Nursery(
        environment=inherited | dict(environment),
        remove_at_end=[(str(folder), 0)],
        python=interpreter.python if interpreter is not None else None,
    )
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
