"""The processes that mpirun has started: rank 0 is the driver, with the scheduler; the others are workers.

Every rank runs the same command. Rank 0 goes on with it; the others stay in `attend`, do what rank 0 says until its
process ends, and end then. Where rank 0 has its machine to itself, a worker is started there too.

    others → rank 0    Machine, once; DONE, when the worker of a run has ended
    rank 0 → others    Orders, when a run begins; END_OF_RUN; at last FAREWELL
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask
from distributed import Client, LocalCluster
from distributed.security import Security
from distributed.utils import silence_logging_cmgr

from daskscore.clusters import ranks, settings
from daskscore.clusters.hosted import cause
from daskscore.clusters.interface import Started, Wanted
from daskscore.clusters.local import LoneNanny
from daskscore.clusters.security import in_words, temporary
from daskscore.errors import ConfigError, RunError
from daskscore.worker.nursery import Nursery, passing_folder

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

LOOK_SECONDS = 0.1
"""How often a rank looks for a word: to wait in MPI itself would keep a processor busy."""

PATIENCE_SECONDS = 120.0
"""How long the other ranks may take to say their first word."""

LAUNCHERS = ("OMPI_", "PMIX_", "PMI_", "PRTE_", "MV2_")
"""Variables that would make a script that uses MPI itself take its scorer for a rank of ours."""

DONE_SECONDS = 20.0
"""How long the workers may take to end."""

DONE = "done"
END_OF_RUN = "end of run"
FAREWELL = "farewell"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a rank runs, and the processors that it may use."""

    name: str
    processors: frozenset[int]


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker needs."""

    scheduler: str
    security: dict[str, Any]
    threads: int


@dataclass(slots=True)
class _World:
    """All ranks, as this one sees them."""

    comm: Intracomm
    machines: dict[int, Machine]
    """By rank, in rank 0."""

    def tell(self, word: object) -> None:
        for rank in range(1, self.comm.Get_size()):
            self.comm.send(word, dest=rank)

    def hear(self, seconds: float) -> dict[int, Any]:
        """A word of each of the others, as far as they have said one within so many seconds."""
        heard: dict[int, Any] = {}
        deadline = time.monotonic() + seconds
        while len(heard) < self.comm.Get_size() - 1 and time.monotonic() < deadline:
            for rank in range(1, self.comm.Get_size()):
                if rank not in heard and self.comm.iprobe(source=rank):
                    heard[rank] = self.comm.recv(source=rank)
            time.sleep(LOOK_SECONDS if len(heard) < self.comm.Get_size() - 1 else 0)
        return heard


_world: _World | None = None
"""MPI can be entered once in a process."""


def attend() -> None:
    """Returns in rank 0, and where there is no mpirun; any other rank serves until rank 0 ends, and exits."""
    global _world
    rank = ranks.rank()
    if rank is None or _world is not None:
        return
    comm = _entered()
    if comm.Get_rank() == 0:
        _world = _World(comm, {0: _machine()})
        atexit.register(_world.tell, FAREWELL)
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # rank 0 hears it too, commits what is done, and ends us
    comm.send(_machine(), dest=0)
    try:
        while isinstance(word := _next_word(comm), Orders):
            asyncio.run(_work(comm, word))
            comm.send(DONE, dest=0)
    except Exception as error:  # noqa: BLE001 - to end alone would leave rank 0, and mpirun, waiting for us
        sys.stderr.write(f"daskscore: rank {rank} on {socket.gethostname()}: {cause(error)}\n")
        sys.stderr.flush()
        comm.Abort(1)
    raise SystemExit(0)


def _entered() -> Intracomm:
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ConfigError(
            f"cluster: mpi needs the package mpi4py, and the MPI of this mpirun: {error}. "
            "Install it: pip install 'daskscore[mpi]'"
        ) from None
    for name in [name for name in os.environ if name.startswith(LAUNCHERS)]:
        del os.environ[name]
    return MPI.COMM_WORLD


def _machine() -> Machine:
    mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return Machine(socket.gethostname(), frozenset(mine))


def _next_word(comm: Intracomm) -> object:
    while not comm.iprobe(source=0):
        time.sleep(LOOK_SECONDS)
    return comm.recv(source=0)


async def _work(comm: Intracomm, orders: Orders) -> None:
    """A worker, until the run is over."""
    scratch = passing_folder()
    keeper = Nursery(environment=os.environ, remove_at_end=[(scratch, 0)])
    try:
        os.mkdir(scratch, 0o700)
        wishes = {**settings.WORKER, "temporary-directory": scratch}
        with dask.config.set(wishes), silence_logging_cmgr(logging.CRITICAL):
            async with LoneNanny(
                orders.scheduler,
                name=f"rank-{comm.Get_rank()}",
                nthreads=orders.threads,
                security=Security(**orders.security),
                local_directory=scratch,
                dashboard_address="127.0.0.1:0",
                memory_limit=0,
                silence_logs=logging.CRITICAL,
            ):
                while not comm.iprobe(source=0):
                    await asyncio.sleep(LOOK_SECONDS)
                comm.recv(source=0)
    finally:
        keeper.close()
        shutil.rmtree(scratch, ignore_errors=True)  # where somebody has killed the keeper


def start(wanted: Wanted) -> AbstractContextManager[Started]:
    """Called in rank 0."""
    options = dict(wanted.options)
    interface = options.pop("interface", None)
    if options:
        raise ConfigError(f"cluster: mpi takes no option {next(iter(options))}. Known is interface")
    if _world is None:
        raise ConfigError(
            "cluster: mpi: this process was not started by mpirun. Write mpirun -n 4 daskscore run job.yml --cluster mpi, "
            "or choose another cluster"
        )
    _hear_all(_world)
    workers = _workers(_world.machines)
    if wanted.node_count_given and wanted.node_count > len(workers):
        raise ConfigError(
            f"node_count: the job wants {wanted.node_count} nodes, and mpirun has started {len(workers)} "
            f"worker{'' if len(workers) == 1 else 's'}. Start more ranks, or leave out node_count to use all there are"
        )
    if wanted.process_count_given:
        workers = dict.fromkeys(workers, wanted.process_count_per_node)
    return _started(_world, workers, interface, temporary("mpi", "mpi"))


def _hear_all(world: _World) -> None:
    if len(world.machines) == world.comm.Get_size():
        return
    world.machines.update(world.hear(PATIENCE_SECONDS))
    for rank in range(world.comm.Get_size()):
        if rank not in world.machines:
            raise RunError(
                f"rank {rank} has not come to the run within {PATIENCE_SECONDS:g} s. Does every rank run the same "
                "command, on a machine where daskscore is installed?"
            )


def _workers(machines: dict[int, Machine]) -> dict[int, int]:
    """The ranks that work, with their threads: the processors of a machine are shared among those that run there."""
    alone = all(machine.name != machines[0].name for rank, machine in machines.items() if rank)
    working = {rank: machine for rank, machine in machines.items() if rank or alone}
    threads = {}
    for rank, machine in working.items():
        peers = [other.processors for other in working.values() if other.name == machine.name]
        threads[rank] = max(1, len(frozenset().union(*peers)) // len(peers))
    return threads


@contextmanager
def _started(world: _World, workers: dict[int, int], interface: str | None, security: Security) -> Iterator[Started]:
    one_machine = len({machine.name for machine in world.machines.values()}) == 1
    scratch = passing_folder()
    keeper = Nursery(environment=os.environ, remove_at_end=[(scratch, 0)])
    try:
        os.mkdir(scratch, 0o700)
        wishes = {**settings.SCHEDULER, **settings.WORKER, "temporary-directory": scratch}
        with dask.config.set(wishes), ExitStack() as stack:
            try:
                cluster = stack.enter_context(
                    LocalCluster(
                        name="daskscore",
                        n_workers=1 if 0 in workers else 0,
                        threads_per_worker=workers.get(0, 1),
                        worker_class=LoneNanny,
                        host="127.0.0.1" if one_machine and interface is None else None,
                        interface=interface,
                        protocol="tls://",
                        security=security,
                        dashboard_address="127.0.0.1:0",
                        worker_dashboard_address="127.0.0.1:0",
                        scheduler_kwargs={"dashboard": False},
                        local_directory=scratch,
                        memory_limit=0,
                        silence_logs=logging.CRITICAL,
                    )
                )
                client = stack.enter_context(Client(cluster, set_as_default=False))
            except (OSError, RuntimeError, ValueError) as error:
                raise RunError(f"the Dask scheduler of rank 0 could not be started: {error}") from error
            for rank in range(1, world.comm.Get_size()):
                orders = Orders(client.scheduler.address, in_words(security), workers[rank])
                world.comm.send(orders, dest=rank)
            try:
                yield Started(client)
            finally:
                world.tell(END_OF_RUN)
                world.hear(DONE_SECONDS)
    finally:
        keeper.close()
        shutil.rmtree(scratch, ignore_errors=True)  # where somebody has killed the keeper
