"""What must be on a node before a scorer can start: the script's folder, and the environment that the job names."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from daskscore.worker.cache import Stopped
from daskscore.worker.environments import Environment, Interpreter, Recipe
from daskscore.worker.nursery import NurseryGone
from daskscore.worker.sources import Code, CodeFolder


class Readiness(NamedTuple):
    """What a worker says of its room."""

    node: str
    looked: bool
    """It is known whether the script's folder is here, and whether there is an environment."""
    wants_code: bool
    makes: str
    """The environment that is being made, as it was not kept; empty: none."""
    failure: str
    """Why there will be no environment."""
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Room:
    """Of one worker; safe to use from all slots' threads."""

    code: CodeFolder | None
    environment: Environment | None
    ask: Callable[[], None]
    """Lets the driver know that the script's folder is wanted."""

    def folder(self) -> str:
        """Where the script's folder is; empty where the driver knows. Waits for it; raises InputError."""
        with _Stops():
            return self.code.place(self.ask) if self.code is not None else ""

    def interpreter(self) -> Interpreter | None:
        """The Python of the job; None: the worker's. Waits until it is made; raises InputError."""
        with _Stops():
            return self.environment.interpreter() if self.environment is not None else None

    def readiness(self, node: str) -> Readiness:
        code, environment = self.code, self.environment
        building = environment if environment is not None and not environment.settled and environment.building else None
        return Readiness(
            node,
            looked=(code is None or code.looked) and (environment is None or environment.settled),
            wants_code=code is not None and code.wanted,
            makes=building.recipe.shown if building is not None else "",
            failure=environment.failure if environment is not None else "",
            notes=environment.notes if environment is not None else (),
        )

    def close(self) -> None:
        if self.environment is not None:
            self.environment.close()
        if self.code is not None:
            self.code.close()

    def _begin(self) -> None:
        if self.code is not None:
            self.code.look()
        if self.environment is not None:
            self.environment.make()


def open_room(
    code: Code | None, recipe: Recipe | None, run: str, *, stopping: Callable[[], bool], ask: Callable[[], None]
) -> Room | None:
    """Begin to look and to make, in a thread; None where nothing is needed."""
    if code is None and recipe is None:
        return None
    room = Room(
        CodeFolder(code, stopping) if code is not None else None,
        Environment(recipe, run, stopping) if recipe is not None else None,
        ask,
    )
    threading.Thread(target=room._begin, name="daskscore-room", daemon=True).start()
    return room


class _Stops:
    """A supervisor knows a scorer that could not start because the run was stopped as one that was lost."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Stopped):
            raise NurseryGone from error
