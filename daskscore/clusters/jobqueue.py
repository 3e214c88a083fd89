"""The nodes of a batch scheduler, as jobs through dask-jobqueue: one job, with one Dask worker, per node."""

from __future__ import annotations

import asyncio
import importlib
import logging
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from types import ModuleType
from typing import Any

import dask
from distributed import Client

from daskscore.clusters import settings
from daskscore.clusters.aftermath import Aftermath
from daskscore.clusters.fleet import Fleet
from daskscore.clusters.interface import Started, Wanted
from daskscore.clusters.jobs import SUBMIT_SECONDS, Jobs
from daskscore.clusters.orders import KINDS, Order, order
from daskscore.clusters.queues import QUEUES, command
from daskscore.errors import ConfigError, RunError


def start(name: str, wanted: Wanted) -> AbstractContextManager[Started]:
    """Refuse what cannot be; in the block, jobs are asked for, and all of them are gone when it ends."""
    kind = KINDS[name]
    made = order(kind, getattr(_dask_jobqueue(name), kind.cluster), wanted)
    submit = QUEUES[name].submit
    if shutil.which(submit) is None:
        raise ConfigError(
            f"cluster: there is no command {submit} on this machine. Run daskscore where jobs of {name} can be submitted"
        )
    return _started(name, made, wanted)


slurm, pbs, sge, lsf, htcondor, oar = (partial(start, name) for name in KINDS)


def _dask_jobqueue(name: str) -> ModuleType:
    """Its import takes Ctrl-C for itself, and fails in a thread where it cannot; the handler is put back."""
    before = signal.getsignal(signal.SIGINT)
    try:
        module = importlib.import_module("dask_jobqueue")
    except ImportError:
        raise ConfigError(
            f"cluster: {name} needs dask-jobqueue, which is not installed. Install it: pip install 'daskscore[jobqueue]'"
        ) from None
    except ValueError:
        raise ConfigError(
            f"cluster: {name}: dask-jobqueue can only be imported in the main thread. Write import dask_jobqueue there, "
            "before the thread that calls daskscore is started"
        ) from None
    if before is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, before)
    return module


@contextmanager
def _started(kind: str, made: Order, wanted: Wanted) -> Iterator[Started]:
    queue = QUEUES[kind]
    folder = str(made.folder)
    aftermath = Aftermath(kind, made.name if made.own_name else "", folder)
    fleet = Fleet(wanted.node_count, max(wanted.node_count, wanted.most_nodes or 0), queue.settles_seconds)
    ended = False
    try:
        made.folder.mkdir(mode=0o700)
        with dask.config.set({**settings.SCHEDULER, "temporary-directory": folder}), ExitStack() as stack:
            try:
                cluster = stack.enter_context(
                    made.make(job_cls=_job_class(made.make), silence_logs=logging.CRITICAL, **made.options)
                )
                client = stack.enter_context(Client(cluster, set_as_default=False))
            except (OSError, RuntimeError, ValueError) as error:
                raise RunError(f"cluster: the Dask scheduler could not be started: {error}") from error
            jobs = Jobs(cluster, queue, fleet, aftermath, made.name, made.logs)
            stack.callback(jobs.end)
            ended = True
            jobs.begin()
            yield Started(client, queue=jobs.waiting)
    finally:
        if not ended:
            aftermath.close(all_gone=True)
        shutil.rmtree(folder, ignore_errors=True)


def _job_class(make: Any) -> Any:
    """dask-jobqueue's job, whose commands have a deadline and say in their own words why they fail."""

    async def call(words: Sequence[str], *, shell: bool = False, **_: Any) -> str:
        line = ["sh", "-c", *words] if shell else list(words)
        return await asyncio.to_thread(command, line, SUBMIT_SECONDS)

    return type(make.job_cls.__name__, (make.job_cls,), {"_call": staticmethod(call)})
