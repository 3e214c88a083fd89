"""This machine: a scheduler inside the driver, one worker process per node."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, ClassVar

import dask
from distributed import Client, LocalCluster, Nanny
from distributed.security import Security

from daskscore.clusters import settings
from daskscore.clusters.interface import Started, Wanted
from daskscore.clusters.security import temporary
from daskscore.errors import ConfigError, RunError
from daskscore.worker.nursery import Nursery, passing_folder


def start(wanted: Wanted) -> AbstractContextManager[Started]:
    """Workers of our own on loopback; all of it is gone when the block ends."""
    options = dict(wanted.options)
    secure = options.pop("security", None)
    if secure not in (None, "temporary"):
        raise ConfigError(
            "cluster: local: security: can be temporary, and nothing else: a certificate for this run alone"
        )
    if options:
        raise ConfigError(f"cluster: local takes no option {next(iter(options))}. Known is security")
    return _started(wanted, temporary("local", "tls") if secure else None)


@contextmanager
def _started(wanted: Wanted, security: Security | None) -> Iterator[Started]:
    scratch = passing_folder()
    keeper = Nursery(environment=os.environ, remove_at_end=[(scratch, 0)])
    try:
        os.mkdir(scratch, 0o700)
        with (
            dask.config.set({**settings.SCHEDULER, **settings.WORKER, "temporary-directory": scratch}),
            ExitStack() as stack,
        ):
            try:
                cluster = stack.enter_context(_cluster(wanted, scratch, security))
                client = stack.enter_context(Client(cluster, set_as_default=False))
            except (OSError, RuntimeError) as error:
                raise RunError(f"the Dask workers of this machine could not be started: {error}") from error
            yield Started(client, own=True, scratch=scratch)
    finally:
        keeper.close()
        shutil.rmtree(scratch, ignore_errors=True)  # where somebody has killed the keeper


def _cluster(wanted: Wanted, scratch: str, security: Security | None) -> LocalCluster:
    return LocalCluster(
        n_workers=wanted.node_count,
        threads_per_worker=wanted.process_count_per_node,
        worker_class=LoneNanny,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        local_directory=scratch,
        security=security,
        memory_limit=0,
        silence_logs=logging.CRITICAL,
    )


class LoneNanny(Nanny):
    """Starts a worker that does not import the caller's main module.

    Workers are spawned by multiprocessing, which runs the main script once more in each; a script that calls
    `daskscore.run` without `if __name__ == "__main__"` would start itself again and again.
    """

    _starting: ClassVar[int] = 0
    _hidden: ClassVar[dict[str, Any]] = {}

    async def instantiate(self) -> Any:
        main = vars(sys.modules["__main__"])
        if not LoneNanny._starting:
            LoneNanny._hidden = {name: main.pop(name) for name in ("__spec__", "__file__") if name in main}
            main["__spec__"] = None  # multiprocessing reads it and expects it to be there
        LoneNanny._starting += 1
        try:
            return await super().instantiate()
        finally:
            LoneNanny._starting -= 1
            if not LoneNanny._starting:
                main.update(LoneNanny._hidden)
