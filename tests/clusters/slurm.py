"""Real Slurm on this machine, in the foreground: some simulated nodes, a munge of its own, nothing left afterwards."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clusters import queued
from tests.servers import absent
from tests.support import wait_until

COMMANDS = ("slurmctld", "slurmd", "munged", "mungekey", "sbatch", "squeue", "scancel", "scontrol")
CPUS = 2
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=10
KillWait=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
PartitionName=batch Nodes=ALL Default=YES MaxTime=01:00:00 State=UP
"""


@dataclass(frozen=True, slots=True)
class Slurm:
    """What a user can ask it."""

    nodes: tuple[str, ...]

    def ask(self, *words: str) -> str:
        done = subprocess.run(words, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout.strip()

    def jobs(self, *states: str) -> list[str]:
        """The numbers of all jobs in the queue, or of those in one of these states."""
        chosen = [f"--states={','.join(states)}"] if states else []
        return self.ask("squeue", "--noheader", "--format=%i", *chosen).splitlines()

    def update(self, node: str, *words: str) -> None:
        self.ask("scontrol", "update", f"NodeName={node}", *words)

    def back(self, node: str) -> None:
        """One that was drained or down; it may have come back by itself."""
        queued.said("scontrol", "update", f"NodeName={node}", "State=RESUME")


@contextmanager
def running(folder: Path, nodes: int = 4) -> Iterator[Slurm]:
    """Until the block ends; a test that needs it is skipped where Slurm, or the right to start it, is missing."""
    missing = [name for name in COMMANDS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    if missing:
        absent(f"Slurm is not installed: there is no {', '.join(missing)}")
    if os.getuid() != 0:
        absent("only root can start Slurm")
    names = tuple(f"n{number}" for number in range(1, nodes + 1))
    _configure(folder, names)
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        patch.setenv("PATH", "/usr/sbin", prepend=os.pathsep)
        said = stack.enter_context((folder / "said.txt").open("ab"))

        def begin(*words: str) -> None:
            process = stack.enter_context(subprocess.Popen(words, stdout=said, stderr=said))
            stack.callback(queued.stop, process)

        munge = str(folder / "munge.socket")
        begin(
            *("munged", "--foreground", "--force", f"--socket={munge}", f"--key-file={folder}/munge.key"),
            *(f"--pid-file={folder}/munge.pid", f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"),
        )
        wait_until(lambda: queued.works("munge", "-n", f"--socket={munge}"), f"munge: {folder}/munge.log")
        begin("slurmctld", "-D", "-c")
        for name in names:
            begin("slurmd", "-D", "-N", name)
        idle = ("sinfo", "--noheader", "--states=idle", "--format=%D")
        wait_until(lambda: queued.said(*idle) == str(nodes), f"the nodes: {folder}/slurmctld.log", every=0.1)
        slurm = Slurm(names)
        stack.callback(queued.said, "scancel", f"--user={os.environ.get('USER', 'root')}")
        yield slurm


def _configure(folder: Path, names: tuple[str, ...]) -> None:
    folder.chmod(0o755)
    ports = _free_ports(1 + len(names))
    host = socket.gethostname().partition(".")[0]
    lines = [CONFIGURATION.format(folder=folder, host=host, port=ports[0])]
    for name, port in zip(names, ports[1:], strict=True):
        (folder / "spool" / name).mkdir(parents=True)
        where = f"NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
        lines.insert(0, f"NodeName={name} {where} CPUs={CPUS} RealMemory=8000 State=UNKNOWN")
    (folder / "state").mkdir()
    (folder / "slurm.conf").write_text("\n".join(lines))
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
    subprocess.run(["/usr/sbin/mungekey", "--create", f"--keyfile={folder}/munge.key"], check=True)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
