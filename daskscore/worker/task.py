"""The only functions that daskscore gives to Dask."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from distributed import Worker, get_worker

from daskscore.core.model import Bundle, Outcome
from daskscore.worker.session import Session, plugin_name


class SessionGone(Exception):
    """The run has left this worker, or the worker was replaced: what it should score is lost, as with a machine."""


def score_bundle(run: str, bundle: Bundle) -> Outcome:
    """Score a bundle in a free slot of this worker. What the script does to itself is in the outcome, never raised."""
    worker = get_worker()
    return replace(_session(run, worker).score(bundle), address=worker.address)


def ask_to_stop(run: str, dask_worker: Worker) -> None:
    """Called on every worker when the run is interrupted or has failed."""
    _session(run, dask_worker).stop()


async def last_logs(run: str, dask_worker: Worker) -> dict[str, bytes]:
    """Called on every worker when the run is over, until there are none; in a thread, as its scorers end first."""
    return await asyncio.to_thread(_session(run, dask_worker).last_logs)


def _session(run: str, worker: Worker) -> Session:
    session = worker.plugins.get(plugin_name(run))
    if not isinstance(session, Session):
        raise SessionGone(f"worker {worker.address} holds no session of run {run}")
    return session
