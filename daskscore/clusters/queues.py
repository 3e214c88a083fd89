"""Batch schedulers by the words of their commands: what stands in a queue, and how jobs are taken out of it."""

from __future__ import annotations

import json
import os
import pwd
import re
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from daskscore.errors import RunError

ASK_SECONDS = 10.0
"""How long a queue may take to say what stands in it."""


class Phase(Enum):
    """Where a job is; one that will never run again is not told of at all."""

    PENDING = "pending"
    RUNNING = "running"
    STUCK = "stuck"
    """It stays in the queue, and somebody has to take it out."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a queue says of one job."""

    phase: Phase
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Queue:
    """The commands of one kind of batch scheduler."""

    submit: str
    """The command that a machine has from which jobs can be asked for."""
    ask: tuple[str, ...]
    """Lists the jobs of `{user}`."""
    read: Callable[[str], dict[str, Standing]]
    """What that command has printed, by the number of the job."""
    cancel: tuple[str, ...]
    """Numbers of jobs follow."""
    cancel_named: tuple[str, ...]
    """Cancels all jobs that are called `{name}`."""
    settles_seconds: float = 3.0
    """For so long a job that was asked for may not be listed yet."""

    def standings(self) -> dict[str, Standing]:
        """The jobs of this user; raises a CommandFailed."""
        user = pwd.getpwuid(os.getuid()).pw_name
        return self.read(command([word.format(user=user) for word in self.ask], ASK_SECONDS))

    def named(self, name: str) -> list[str]:
        """What cancels all jobs with that name."""
        return [word.format(name=name) for word in self.cancel_named]


class CommandFailed(RunError):
    """A command of the batch scheduler gave no answer, or a bad one: its own words."""


def command(words: Sequence[str], seconds: float) -> str:
    """What it prints. A Ctrl-C of the user's does not reach it."""
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise CommandFailed(f"{words[0]} cannot be started: {error.strerror}") from None
    with process:
        try:
            printed, complaint = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise CommandFailed(f"{words[0]} gave no answer within {seconds:g} s") from None
    if process.returncode:
        said = " ".join((complaint.strip() or printed.strip()).splitlines()[-5:])
        raise CommandFailed(said if words[0] in said else f"{words[0]}: {said or f'exit code {process.returncode}'}")
    return printed


def _slurm(printed: str) -> dict[str, Standing]:
    """Lines like `12|PENDING|Resources`."""
    pending = ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "SUSPENDED", "STOPPED")
    running = ("RUNNING", "CONFIGURING", "RESIZING", "SIGNALING")
    found = {}
    for line in printed.splitlines():
        number, state, reason = (*line.strip().split("|", 2), "", "")[:3]
        if state in pending:
            plain = "" if state == "PENDING" else state.lower()
            found[number] = Standing(Phase.PENDING, plain if reason in ("", "None") else reason)
        elif state in running:
            found[number] = Standing(Phase.RUNNING)
    return found


def _sge(printed: str) -> dict[str, Standing]:
    """A table with the number first and the letters of the state fifth, like `qw`."""
    found = {}
    for words in map(str.split, printed.splitlines()):
        if len(words) < 5 or not words[0].isdigit() or "d" in words[4]:
            continue
        state = words[4]
        if "E" in state:
            found[words[0]] = Standing(Phase.STUCK, f"its state is {state}; qstat -j {words[0]} says why")
        elif set(state) & set("rt") and not set(state) & set("sST"):
            found[words[0]] = Standing(Phase.RUNNING)
        else:
            found[words[0]] = Standing(Phase.PENDING, {"qw": ""}.get(state, state))
    return found


def _pbs(printed: str) -> dict[str, Standing]:
    """A table with the number first, and the letter of the state before the queue's name at the end."""
    found = {}
    for line in printed.splitlines():
        words = line.split()
        if len(words) < 5 or not (number := re.match(r"\d+", words[0])):
            continue
        if words[-2] in "QHWTS":
            reason = {"H": "held", "W": "waits for its time", "S": "suspended"}.get(words[-2], "")
            found[number[0]] = Standing(Phase.PENDING, reason)
        elif words[-2] in "RB":
            found[number[0]] = Standing(Phase.RUNNING)
    return found


def _lsf(printed: str) -> dict[str, Standing]:
    """Lines like `12 PEND`."""
    found = {}
    for words in map(str.split, printed.splitlines()):
        if len(words) < 2 or not words[0].isdigit():
            continue
        if words[1] in ("PEND", "PSUSP", "USUSP", "SSUSP", "WAIT"):
            found[words[0]] = Standing(Phase.PENDING, "suspended" if words[1].endswith("SUSP") else "")
        elif words[1] in ("RUN", "PROV", "UNKWN"):
            found[words[0]] = Standing(Phase.RUNNING)
    return found


def _htcondor(printed: str) -> dict[str, Standing]:
    """Lines like `12 0 5 why it is held`."""
    found = {}
    for line in printed.splitlines():
        cluster, process, state, reason = (*line.split(None, 3), "", "", "", "")[:4]
        number = f"{cluster}.{process}"
        if state in ("1", "7"):
            found[number] = Standing(Phase.PENDING, "suspended" if state == "7" else "")
        elif state in ("2", "6"):
            found[number] = Standing(Phase.RUNNING)
        elif state == "5":
            found[number] = Standing(Phase.STUCK, f"it is held: {reason}")
    return found


def _oar(printed: str) -> dict[str, Standing]:
    """A JSON object by number."""
    found = {}
    for number, job in (json.loads(printed) if printed.strip() else {}).items():
        if job.get("state") in ("Waiting", "Hold", "toLaunch", "toAckReservation", "Suspended"):
            found[number] = Standing(Phase.PENDING, {"Waiting": ""}.get(job["state"], job["state"].lower()))
        elif job.get("state") in ("Launching", "Running", "Resuming"):
            found[number] = Standing(Phase.RUNNING)
    return found


QUEUES = {
    "slurm": Queue(
        submit="sbatch",
        ask=("squeue", "--noheader", "--user={user}", "--format=%i|%T|%r"),
        read=_slurm,
        cancel=("scancel",),
        cancel_named=("scancel", "--name={name}"),
    ),
    "pbs": Queue(
        submit="qsub",
        ask=("qstat",),
        read=_pbs,
        cancel=("qdel",),
        cancel_named=("sh", "-c", "qselect -N {name} | xargs -r qdel"),
    ),
    "sge": Queue(
        submit="qsub",
        ask=("qstat", "-u", "{user}"),
        read=_sge,
        cancel=("qdel",),
        cancel_named=("qdel", "{name}"),
    ),
    "lsf": Queue(
        submit="bsub",
        ask=("sh", "-c", "bjobs -noheader -o 'jobid stat' 2>&1 || bjobs 2>&1 | grep -q 'No unfinished job'"),
        read=_lsf,
        cancel=("bkill",),
        cancel_named=("bkill", "-J", "{name}", "0"),
        settles_seconds=30.0,
    ),
    "htcondor": Queue(
        submit="condor_submit",
        ask=("condor_q", "{user}", "-af", "ClusterId", "ProcId", "JobStatus", "HoldReason"),
        read=_htcondor,
        cancel=("condor_rm",),
        cancel_named=("condor_rm", "-constraint", 'regexp("^{name}-", JobBatchName)'),
        settles_seconds=10.0,
    ),
    "oar": Queue(
        submit="oarsub",
        ask=("oarstat", "-u", "{user}", "-J"),
        read=_oar,
        cancel=("oardel",),
        cancel_named=("oardel", "--sql", "job_name='{name}'"),
    ),
}
