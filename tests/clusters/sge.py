"""A real Grid Engine on this machine: one host with some slots, in a root folder of its own, nothing left afterwards."""

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

INSTALLED = Path("/var/lib/gridengine")
TOOLS = Path("/usr/lib/gridengine")
COMMANDS = ("/usr/sbin/sge_qmaster", "/usr/sbin/sge_execd", "/usr/bin/qsub", f"{TOOLS}/spoolinit")
CELL = "default"

BOOTSTRAP = """\
Version: 6.2
admin_user none
default_domain none
ignore_fqdn false
spooling_method berkeleydb
spooling_lib libspoolb
spooling_params {root}/spooldb
binary_path /usr/sbin
qmaster_spool_dir {root}/qmaster
security_mode none
listener_threads 2
worker_threads 2
scheduler_threads 1
"""
GROUP = "group_name @allhosts\nhostlist localhost\n"
QUEUE = """\
qname all.q
hostlist @allhosts
seq_no 0
load_thresholds NONE
suspend_thresholds NONE
nsuspend 1
suspend_interval 00:05:00
priority 0
min_cpu_interval 00:05:00
processors UNDEFINED
qtype BATCH
ckpt_list NONE
pe_list NONE
rerun FALSE
slots {slots}
tmpdir /tmp
shell /bin/bash
prolog NONE
epilog NONE
shell_start_mode unix_behavior
starter_method NONE
suspend_method NONE
resume_method NONE
terminate_method NONE
notify 00:00:60
owner_list NONE
user_lists NONE
xuser_lists NONE
subordinate_list NONE
complex_values NONE
projects NONE
xprojects NONE
calendar NONE
initial_state default
"""
LIMITS = ("rt", "cpu", "fsize", "data", "stack", "core", "rss", "vmem")


@dataclass(frozen=True, slots=True)
class GridEngine:
    """What a user can ask it."""

    slots: int

    def jobs(self, state: str = "") -> list[str]:
        """The numbers of all jobs, or of those in this state."""
        rows = [line.split() for line in queued.said("qstat").splitlines()]
        return [row[0] for row in rows if row and row[0].isdigit() and (not state or row[4] == state)]


@contextmanager
def running(folder: Path, slots: int = 3) -> Iterator[GridEngine]:
    """Until the block ends; a test that needs it is skipped where it, or the right to start it, is missing."""
    missing = [name for name in COMMANDS if shutil.which(name) is None]
    if missing:
        absent(f"Grid Engine is not installed: there is no {', '.join(missing)}")
    if os.getuid() != 0:
        absent("only root can start Grid Engine")
    common = folder / CELL / "common"
    for place in (common, folder / "qmaster/job_scripts", folder / "spooldb", folder / "execd"):
        place.mkdir(parents=True)
    for place in ("bin", "lib", "util", "utilbin"):
        (folder / place).symlink_to(INSTALLED / place)
    host = socket.gethostname()
    (common / "bootstrap").write_text(BOOTSTRAP.format(root=folder))
    (common / "act_qmaster").write_text("localhost\n")
    (common / "host_aliases").write_text(f"localhost {host}\n")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        master, execd = _free_ports(2)
        environment = {"ROOT": folder, "CELL": CELL, "ND": 1, "QMASTER_PORT": master, "EXECD_PORT": execd}
        for name, value in environment.items():
            patch.setenv(f"SGE_{name}", str(value))
        said = stack.enter_context((folder / "said.txt").open("ab"))

        def begin(*words: str) -> None:
            process = stack.enter_context(subprocess.Popen(words, stdout=said, stderr=said))
            stack.callback(queued.stop, process)

        _fill(folder)
        begin("/usr/sbin/sge_qmaster")
        wait_until(lambda: queued.works("qconf", "-sh"), f"the master: {folder}/said.txt", every=0.1)
        _configure(folder, host, slots)
        begin("/usr/sbin/sge_execd")
        wait_until(lambda: "lx-" in queued.said("qhost", "-h", "localhost"), f"the host: {folder}/said.txt", every=0.1)
        stack.callback(queued.said, "qdel", "-u", "root")
        yield GridEngine(slots)


def _fill(folder: Path) -> None:
    """The database of a master that has just been installed."""
    shared = Path("/usr/share/gridengine")
    _must(f"{TOOLS}/spoolinit", "berkeleydb", "libspoolb", f"{folder}/spooldb", "init")
    configuration = folder / "global"
    text = (shared / "default-configuration").read_text()
    kept = [line for line in text.splitlines() if not line.startswith(("execd_spool_dir", "min_uid", "min_gid"))]
    configuration.write_text("\n".join([*kept, f"execd_spool_dir {folder}/execd", "min_uid 0", "min_gid 0", ""]))
    _must(f"{TOOLS}/spooldefaults", "configuration", str(configuration))
    _must(f"{TOOLS}/spooldefaults", "complexes", f"{shared}/util/resources/centry")
    _must(f"{TOOLS}/spooldefaults", "usersets", f"{shared}/util/resources/usersets")
    _must(f"{TOOLS}/spooldefaults", "managers", "root")


def _configure(folder: Path, host: str, slots: int) -> None:
    names = ("load_scaling", "complex_values", "user_lists", "xuser_lists", "projects", "xprojects", "usage_scaling")
    files = {
        "host": "\n".join(["hostname localhost", *(f"{name} NONE" for name in (*names, "report_variables"))]) + "\n",
        "group": GROUP,
        "queue": QUEUE.format(slots=slots) + "".join(f"s_{one} INFINITY\nh_{one} INFINITY\n" for one in LIMITS),
        "schedule": "".join(
            {"schedule_interval": "schedule_interval 0:0:1\n", "load_formula": "load_formula slots\n"}.get(
                line.split()[0], f"{line}\n"
            )
            for line in queued.said("qconf", "-ssconf").splitlines()
        ),
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    for one in ("-ah", "-as"):
        _must("qconf", one, "localhost")
    for one, name in (("-Ae", "host"), ("-Ahgrp", "group"), ("-Aq", "queue"), ("-Msconf", "schedule")):
        _must("qconf", one, str(folder / name))


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _must(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
