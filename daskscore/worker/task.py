"""The only functions that daskscore gives to Dask."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from distributed import Worker, get_worker

from daskscore.core.model import Bundle, Outcome
from daskscore.worker.session import Session, plugin_name

if TYPE_CHECKING:
    from daskscore.worker.rooms import Readiness


class SessionGone(Exception):
    """The run has left this worker, or the worker was replaced: what it should score is lost, as with a machine."""


def score_bundle(run: str, bundle: Bundle) -> Outcome:
    """Score a bundle in a free slot of this worker. What the script does to itself is in the outcome, never raised."""
    worker = get_worker()
    return replace(_session(run, worker).score(bundle), address=worker.address)


def ask_to_stop(run: str, dask_worker: Worker) -> None:
    """Called on every worker when the run is interrupted or has failed."""
    _session(run, dask_worker).stop()


def drop_bundle(run: str, bundle: int, dask_worker: Worker) -> None:
    """Called on every worker when another slot was faster with what is in a bundle."""
    _session(run, dask_worker).drop(bundle)


async def last_logs(run: str, dask_worker: Worker) -> dict[str, bytes]:
    """Called on every worker when the run is over, until there are none; in a thread, as its scorers end first."""
    return await asyncio.to_thread(_session(run, dask_worker).last_logs)


def readiness(run: str, dask_worker: Worker) -> Readiness | None:
    """Called on the workers before the first bundle."""
    return _session(run, dask_worker).readiness


async def find_code(run: str, digest: str, dask_worker: Worker) -> str:
    """Called on workers that want the script's folder: the name of the cache that does not have it."""
    code = _session(run, dask_worker).code
    return await asyncio.to_thread(code.find, digest) if code is not None else ""


async def take_code(run: str, offset: int, data: bytes, dask_worker: Worker) -> None:
    """Called on one worker of each such cache, with all bytes of the package in order."""
    code = _session(run, dask_worker).code
    if code is not None:
        await asyncio.to_thread(code.take, offset, data)


async def unpack_code(run: str, digest: str, dask_worker: Worker) -> None:
    """Called on the same workers once all is sent."""
    code = _session(run, dask_worker).code
    if code is not None:
        await asyncio.to_thread(code.unpack, digest)


def refuse_code(run: str, message: str, dask_worker: Worker) -> None:
    """Called on workers that want a folder that cannot be sent."""
    code = _session(run, dask_worker).code
    if code is not None:
        code.refuse(message)


def _session(run: str, worker: Worker) -> Session:
    session = worker.plugins.get(plugin_name(run))
    if not isinstance(session, Session):
        raise SessionGone(f"worker {worker.address} holds no session of run {run}")
    return session
