"""What Dask is told where its workers are ours: Dask's own settings, by their names in its configuration."""

from __future__ import annotations

from typing import Any

SCHEDULER: dict[str, Any] = {
    # Which mini-batch is to blame is the ledger's decision: Dask must not rerun bundles on its own.
    "distributed.scheduler.allowed-failures": 0,
    # A worker that hangs is replaced within a minute, not five.
    "distributed.scheduler.worker-ttl": "60s",
    # A worker that is lost is started again, however long that takes: by default Dask gives it up after 15 s.
    "distributed.deploy.lost-worker-timeout": "365 days",
    # The next bundle waits at the worker, not a round trip away.
    "distributed.scheduler.worker-saturation": 2.0,
}

WORKER: dict[str, Any] = {
    # Workers hold no data of ours.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    # Nobody sees Dask's own profile here, and taking it costs a tenth of a core where a node has fifty processes.
    "distributed.worker.profile.enabled": False,
}


def as_environment(settings: dict[str, Any]) -> dict[str, str]:
    """The same, as the variables by which another process's Dask is told."""
    return {
        "DASK_" + name.upper().replace(".", "__").replace("-", "_"): repr(value) for name, value in settings.items()
    }
