"""What the scorers of one machine share: its GPUs, one for each as far as they go, and its processors."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path

import dask.config
from dask.system import cpu_count

VISIBLE = "CUDA_VISIBLE_DEVICES"
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""How many threads the libraries of numbers start; each takes all processors where nobody says."""


class Gpus:
    """Which are free; a scorer takes some before it starts, and gives them back when it has ended."""

    def __init__(self, names: list[str], each: int) -> None:
        self._free = list(names)
        self._each = each
        self._lock = threading.Lock()

    def take(self) -> list[str]:
        """The lowest that are free; none where there are not enough for one more scorer."""
        with self._lock:
            if not self._each or len(self._free) < self._each:
                return []
            taken, self._free = self._free[: self._each], self._free[self._each :]
            return taken

    def give_back(self, taken: list[str]) -> None:
        with self._lock:
            self._free = sorted([*self._free, *taken], key=_number)


def gpus_here(declared: int | None, environment: Mapping[str, str] = os.environ) -> list[str]:
    """The GPUs of this machine by the names that CUDA knows: those that are declared, visible, or found."""
    if environment.get(VISIBLE) is not None:
        names = [name.strip() for name in environment[VISIBLE].split(",") if name.strip() not in ("", "-1")]
        return names if declared is None else names[:declared]
    if declared is not None:
        return [str(number) for number in range(declared)]
    found = [path.name for path in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
    return [str(number) for number in range(len(found))]


def threads_each(slots: int, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """So many threads that all slots together have work for the machine, where the user has not said otherwise.

    What Dask's nanny has put there (one thread) is no word of the user's.
    """
    by_nanny = dask.config.get("distributed.nanny.pre-spawn-environ", {}) or {}
    number = str(max(1, (cpu_count() or 1) // max(slots, 1)))
    return {
        name: number for name in THREADS if name not in environment or environment[name] == str(by_nanny.get(name, ""))
    }


def _number(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdigit() else (0, name)
