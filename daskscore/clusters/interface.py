"""What every cluster offers: a function that starts it, and a context manager that ends it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from distributed import Client


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a job asks of its cluster, in the job's own words."""

    node_count: int
    process_count_per_node: int
    options: dict[str, Any]
    patience_seconds: float = 600
    """How long the job waits for a first worker, and so at most for the scheduler."""


@dataclass(frozen=True, slots=True)
class Started:
    """A cluster that answers."""

    client: Client
    own: bool = False
    """Its workers were started for this run alone, on this machine."""
    scratch: str = ""
    """A folder of this machine that goes when the run has gone."""


Cluster = Callable[[Wanted], AbstractContextManager[Started]]
"""Called before any work starts, to refuse what it can; the block is entered when there is work, and ends the cluster."""
