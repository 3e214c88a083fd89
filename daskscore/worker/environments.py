"""The Python that a job's scorers run in: made once per node and content, and kept for the runs to come."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daskscore.errors import InputError
from daskscore.worker import cache
from daskscore.worker.cache import Held, Note, Stopped, cache_folder, hold

KIND = "environments"
BUILD_SECONDS = 3600.0
OLDEST_PYTHON = (3, 11)
"""Of the scorer itself."""

NOT_INHERITED = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "__PYVENV_LAUNCHER__")
"""What would bring the worker's own packages into another environment."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an environment is made of, as the driver has read it."""

    shown: str
    """What the user calls it."""
    python: str = ""
    """An interpreter that is there already; nothing else is needed then."""
    requirements: tuple[str, ...] = ()
    """Texts of requirements files; the first one names the others as `{1}`, `{2}` and so on."""
    conda: tuple[str, ...] = ()
    """Packages of a conda file, without python and pip."""
    channels: tuple[str, ...] = ()
    wanted_python: str = ""
    """A version as conda has it, like `=3.12` or `>=3.11`; empty: any."""
    variables: Mapping[str, str] = field(default_factory=dict)
    of_conda: bool = False
    beside: tuple[str, ...] = ()
    """Hashes of the local files that the requirements name."""
    folder: str = ""
    """Where it stands on the driver's machine."""
    needs: tuple[str, ...] = ()
    """What must be importable for the job's own sake, like pandas."""

    @property
    def content(self) -> str:
        """The hash of all that it is made of."""
        made_of = [self.requirements, self.conda, self.channels, self.wanted_python, self.of_conda, self.beside]
        return _hash([self.python, *made_of, dict(self.variables)])

    @property
    def digest(self) -> str:
        """The same with the Python that makes it."""
        return _hash([self.content, sys.version, os.path.realpath(sys.executable), platform.machine()])


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that scorers can run in."""

    python: str
    prefix: str = ""
    """Of an environment; empty where it is a plain interpreter."""
    variables: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """As if it had been activated."""
        found = {name: value for name, value in inherited.items() if name not in NOT_INHERITED}
        folder = os.path.dirname(self.python)
        found["PATH"] = os.pathsep.join(filter(None, (folder, found.get("PATH", ""))))
        if self.prefix:
            conda = os.path.isdir(os.path.join(self.prefix, "conda-meta"))
            found["CONDA_PREFIX" if conda else "VIRTUAL_ENV"] = self.prefix
        return {**found, **self.variables}


def _hash(words: list[Any]) -> str:
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()[:32]


class Environment:
    """One recipe on one worker; a thread makes it, and others wait for that."""

    def __init__(self, recipe: Recipe, run: str, stopping: Callable[[], bool]) -> None:
        self.recipe = recipe
        self._run = run
        self._stopping = stopping
        self._closing = threading.Event()
        self._settled = threading.Event()
        self._held: Held | None = None
        self._found: Interpreter | None = None
        self.failure = ""
        self.building = False
        """It was not kept from an earlier run."""

    def make(self) -> None:
        """Called once, in a thread."""
        try:
            self._found, self._held = make(self.recipe, self._run, self._stops, self._note_building)
        except Stopped:
            self.failure = "the run was stopped before its environment was made"
        except (OSError, InputError) as error:
            self.failure = str(error)
        except BaseException as error:
            self.failure = f"environment {self.recipe.shown} cannot be made: {error!r}"
            raise
        finally:
            self._settled.set()

    @property
    def settled(self) -> bool:
        return self._settled.is_set()

    @property
    def notes(self) -> tuple[str, ...]:
        return self._found.notes if self._found is not None else ()

    def interpreter(self) -> Interpreter:
        """Once it is made."""
        while not self._settled.wait(cache.LOOK_SECONDS):
            if self._stops():
                raise Stopped
        if self._found is None:
            raise InputError(self.failure)
        return self._found

    def close(self) -> None:
        self._closing.set()
        self._settled.wait()
        if self._held is not None:
            self._held.close()
            self._held = None

    def _note_building(self, _: str) -> None:
        self.building = True

    def _stops(self) -> bool:
        return self._closing.is_set() or self._stopping()


def make(
    recipe: Recipe, run: str, stopping: Callable[[], bool], say: Callable[[str], None] = lambda _: None
) -> tuple[Interpreter, Held | None]:
    """Raises InputError with the installer's own last lines; a node tries once per run."""
    from daskscore.worker import installing

    if recipe.python:
        installing.check(recipe.python, recipe, recipe.python)
        return Interpreter(recipe.python, _prefix_of(recipe.python)), None
    folder, digest = cache_folder(KIND), recipe.digest
    failed = folder / f"{digest}.failed"

    def build(place: Path, lock: int) -> Note:
        if (before := _failure(failed, run)) is not None:
            raise InputError(before)
        began = time.monotonic()
        say(f"environment {recipe.shown} is made; it is kept for later runs")
        try:
            made = installing.build(recipe, place, lock, stopping, began + BUILD_SECONDS)
        except InputError as error:
            _keep_failure(failed, run, str(error))
            raise
        failed.unlink(missing_ok=True)
        return {"shown": recipe.shown, "seconds": round(time.monotonic() - began, 1), **made}

    cache.prune(folder)
    what = f"environment {recipe.shown}"
    kept = hold(folder, digest, build, what=what, stopping=stopping, seconds=BUILD_SECONDS + 60)
    python = str(kept.path / "bin" / "python")
    try:
        installing.check(python, recipe, recipe.shown)
    except BaseException:
        kept.close()
        raise
    notes = tuple(kept.note.get("notes", ()))
    return Interpreter(python, str(kept.path), dict(recipe.variables), notes), kept


def _prefix_of(python: str) -> str:
    prefix = os.path.dirname(os.path.dirname(os.path.abspath(python)))
    is_one = any(os.path.exists(os.path.join(prefix, name)) for name in ("pyvenv.cfg", "conda-meta"))
    return prefix if is_one else ""


def _failure(path: Path, run: str) -> str | None:
    """What another worker of this run has been told here, or will be until this run is over."""
    try:
        before: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return str(before["message"]) if before.get("run") == run else None


def _keep_failure(path: Path, run: str, message: str) -> None:
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    unfinished.write_text(json.dumps({"run": run, "message": message}))
    unfinished.replace(path)
