"""This machine: a scheduler inside the driver, one worker process per node."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import dask
from distributed import Client, LocalCluster

from daskscore.clusters.interface import Started, Wanted
from daskscore.errors import ConfigError

SETTINGS = {
    # Which mini-batch is to blame is the ledger's decision: Dask must not rerun bundles on its own.
    "distributed.scheduler.allowed-failures": 0,
    # A worker that hangs is replaced within a minute, not five.
    "distributed.scheduler.worker-ttl": "60s",
    # The next bundle waits at the worker, not a round trip away.
    "distributed.scheduler.worker-saturation": 2.0,
    # Workers hold no data of ours.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
}


@contextmanager
def start(wanted: Wanted) -> Iterator[Started]:
    """Workers of our own on loopback; all of it is gone when the block ends."""
    if wanted.options:
        raise ConfigError(f"cluster: local takes no option {next(iter(wanted.options))}. Remove it")
    scratch = tempfile.mkdtemp(prefix="daskscore-")
    try:
        with (
            dask.config.set({**SETTINGS, "temporary-directory": scratch}),
            LocalCluster(
                n_workers=wanted.node_count,
                threads_per_worker=wanted.process_count_per_node,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                worker_dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": False},
                local_directory=scratch,
                memory_limit=0,
                silence_logs=logging.CRITICAL,
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield Started(client, own=True, scratch=scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
