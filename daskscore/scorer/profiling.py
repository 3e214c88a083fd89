"""Where a script's time goes: `--profiling_module cProfile`."""

from __future__ import annotations

import cProfile
import os
from collections.abc import Callable
from typing import Any

MODULES = ("cProfile", "profile")
"""Both are counted by the first: it says the same, and can be stopped between two calls."""


class Profiled:
    """Functions whose calls are counted together, until `write`."""

    def __init__(self, path: str) -> None:
        self._profile = cProfile.Profile()
        self._path = path

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            self._profile.enable()
            try:
                return function(*given)
            finally:
                self._profile.disable()

        return call

    def at_the_end(self, shutdown: Callable[[], Any] | None) -> Callable[[], None]:
        """`shutdown()`, and then the file, for `python -m pstats`; a scorer that is killed leaves none."""

        def end() -> None:
            try:
                if shutdown is not None:
                    self.counted(shutdown)()
            finally:
                os.makedirs(os.path.dirname(self._path), exist_ok=True)
                self._profile.dump_stats(self._path)

        return end
