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
    """So many nodes, or at least so many."""
    process_count_per_node: int
    options: dict[str, Any]
    """What the mapping `cluster:` says besides its kind."""
    patience_seconds: float = 600
    """How long the job waits for a first worker, and so at most for the scheduler."""
    most_nodes: int | None = None
    """Where node_count is a range like 2-10: the most that the job may grow to."""
    node_count_given: bool = True
    """Whether the job says it; a cluster that has a number of its own starts that many otherwise."""
    process_count_given: bool = True
    """Whether the job says it; other machines have as many processes as they have processors otherwise."""
    interrupted: Callable[[], bool] = lambda: False
    """Whether somebody wants the run to end, for a cluster that has to be waited for."""


@dataclass(frozen=True, slots=True)
class Started:
    """A cluster that answers."""

    client: Client
    own: bool = False
    """Its workers were started for this run alone, on this machine."""
    scratch: str = ""
    """A folder of this machine that goes when the run has gone."""
    queue: Callable[[], str] | None = None
    """What a queue says of the nodes that are asked for and not there: a sentence, or nothing. Called now and then."""
    notes: tuple[str, ...] = ()
    """What the user is told before any work starts: whose cluster this is, and what on it differs from here."""


Cluster = Callable[[Wanted], AbstractContextManager[Started]]
"""Called before any work starts, to refuse what it can; the block is entered when there is work, and ends the cluster."""
