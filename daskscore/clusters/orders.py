"""What a job says of its cluster, in the words of dask-jobqueue: refuses what cannot be, starts nothing."""

from __future__ import annotations

import difflib
import inspect
import os
import re
import secrets
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import psutil

from daskscore.clusters import settings
from daskscore.clusters.interface import Wanted
from daskscore.clusters.security import temporary
from daskscore.config.values import parse_bytes
from daskscore.errors import ConfigError

DEATH_SECONDS = 60
"""How long a job waits for its scheduler; one that starts when the driver is gone ends by itself."""

BYTES_PER_PROCESS = 2 << 30
LEAST_WALLTIME = 60


@dataclass(frozen=True, slots=True)
class Kind:
    """What one of dask-jobqueue's clusters calls things."""

    name: str
    cluster: str
    account: str | None = "account"
    """What both project and account become."""
    walltime: bool = True
    directives: tuple[str, ...] = ()
    """Keep the queue from starting a job again by itself: it may take minutes, and another one is asked for at once."""
    always: tuple[tuple[str, Any], ...] = ()
    """What it wants to be told, where nobody has."""

    @property
    def keys(self) -> tuple[str, ...]:
        account = ("project", "account") if self.account else ()
        queue = ("queue", "walltime") if self.walltime else ()
        return (*queue, "memory", *account, "interface", "host", "security", "options")

    def configured(self, name: str) -> Any:
        """What the site's own jobqueue.yaml says."""
        return dask.config.get(f"jobqueue.{self.name}.{name.replace('_', '-')}", None)


KINDS = {
    kind.name: kind
    for kind in (
        Kind("slurm", "SLURMCluster", directives=("--no-requeue",)),
        Kind("pbs", "PBSCluster", directives=("-r n",)),
        Kind("sge", "SGECluster", account="project", directives=("-r n",)),
        Kind("lsf", "LSFCluster", account="project", directives=("-rn",)),
        Kind("htcondor", "HTCondorCluster", account=None, walltime=False, always=(("disk", "1GB"),)),
        Kind(
            "oar", "OARCluster", account="project", always=(("memory_per_core_property_name", "not_applicable"),)
        ),  # without it, there is a warning for each job
    )
}


@dataclass(frozen=True, slots=True)
class Order:
    """A cluster that is ready to be made."""

    make: Any
    """dask-jobqueue's class."""
    options: dict[str, Any]
    name: str
    """Of all jobs of the run, and of no other's."""
    folder: Path
    """Goes with the run: what jobs print, where the user has named no place for it."""
    own_name: bool
    logs: Path


def order(kind: Kind, make: Any, wanted: Wanted) -> Order:
    """The keys of the job and what it has left out; `make` is dask-jobqueue's class."""
    given = dict(wanted.options)
    for key in given:
        if key not in kind.keys:
            near = difflib.get_close_matches(key, kind.keys, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(kind.keys)}"
            raise ConfigError(
                f"cluster: {kind.name} has no key {key}. {hint} What {kind.cluster} takes goes into options"
            )
    options = given.get("options") or {}
    if not isinstance(options, dict):
        raise ConfigError(f"cluster: options is no mapping. Write the names that {kind.cluster} knows, with values")
    job = {**_defaults(kind, wanted), **_from_keys(kind, given), **options}
    _check_names(kind, make, options)

    word = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(5))
    name = str(options.get("job_name") or f"daskscore-{word}")
    folder = _folder(f".daskscore-{word}")
    job = {"job_name": name, "log_directory": str(folder), **job}
    job["worker_extra_args"] = [*_worker_words(kind, job), *_theirs(kind, options, "worker_extra_args")]
    job["job_script_prologue"] = [*_prologue(kind, job), *_theirs(kind, options, "job_script_prologue")]
    if kind.directives:
        job["job_extra_directives"] = [*kind.directives, *_theirs(kind, options, "job_extra_directives")]
    if "security" in given:
        if given["security"] != "temporary":
            raise ConfigError("cluster: security: can be temporary, and nothing else: a certificate for this run alone")
        job |= {"security": temporary(kind.name, "tls"), "shared_temp_directory": str(folder)}
    job["scheduler_options"] = {**_scheduler(kind, given), **_theirs_mapping(kind, options, "scheduler_options")}
    return Order(make, job, name, folder, "job_name" not in options, Path(job["log_directory"]))


def _defaults(kind: Kind, wanted: Wanted) -> dict[str, Any]:
    """What nobody has said; what the site's configuration says stays as it is."""
    processes = wanted.process_count_per_node
    found: dict[str, Any] = {"cores": processes, "processes": 1, "death_timeout": DEATH_SECONDS}
    for name, value in (("memory", BYTES_PER_PROCESS * processes), *kind.always):
        if kind.configured(name) is None:
            found[name] = value
    return found


def _from_keys(kind: Kind, given: dict[str, Any]) -> dict[str, Any]:
    """Our keys, in the words of the cluster's class."""
    found: dict[str, Any] = {}
    for key in ("queue", "interface", "project", "account"):
        if key in given:
            name = kind.account if key in ("project", "account") and kind.account else key
            if not isinstance(given[key], str) or not given[key].strip() or name in found:
                raise ConfigError(f"cluster: {key} is {given[key]!r}. Write one name" + _once(key))
            found[name] = given[key]
    if "memory" in given:
        try:
            found["memory"] = parse_bytes(given["memory"])
        except ValueError:
            found["memory"] = 0
        if not found["memory"]:
            raise ConfigError(f"cluster: memory is {given['memory']!r}. Write a size for one node, like 4GB")
    if "walltime" in given:
        found["walltime"] = _walltime(kind, _seconds(given["walltime"]))
    if "interface" in given and "host" not in given and given["interface"] not in psutil.net_if_addrs():
        known = ", ".join(psutil.net_if_addrs())
        raise ConfigError(
            f"cluster: this machine has no network interface {given['interface']}. It has {known}. Where the nodes "
            "have another one, name this machine's address with host"
        )
    return found


def _once(key: str) -> str:
    return ", under project or account" if key in ("project", "account") else ""


def _seconds(walltime: object) -> int:
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):([0-5]?\d):([0-5]?\d)", walltime if isinstance(walltime, str) else "")
    if match is None:
        hint = 'Write hours, minutes and seconds in quotes, like "01:30:00"; "2-00:00:00" is two days'
        raise ConfigError(f"cluster: walltime is {walltime!r}. {hint}")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if total < LEAST_WALLTIME:
        raise ConfigError(f"cluster: walltime is {walltime}, too short for a worker. Write a minute or more")
    return total


def _walltime(kind: Kind, seconds: int) -> str:
    hours, minutes = divmod(seconds // 60, 60)
    if kind.name == "lsf":
        return f"{hours:02}:{minutes:02}"
    return f"{hours:02}:{minutes:02}:{seconds % 60:02}"


def _check_names(kind: Kind, make: Any, options: dict[str, Any]) -> None:
    known = {
        name
        for place in (*make.__mro__, *make.job_cls.__mro__)
        if place.__module__.startswith("dask_jobqueue") and "__init__" in vars(place)
        for name in inspect.signature(place.__init__).parameters
    } - {"self", "base_class_kwargs", "job_kwargs", "scheduler", "name", "n_workers", "job_cls", "asynchronous", "loop"}
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(str(name), sorted(known), n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(sorted(known))}"
            raise ConfigError(f"cluster: options: {kind.cluster} takes no {name}. {hint}")


def _theirs(kind: Kind, options: dict[str, Any], name: str) -> list[str]:
    found = options[name] if name in options else kind.configured(name) or []
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise ConfigError(f"cluster: options: {name} is {found!r}. Write a list of texts")
    return found


def _theirs_mapping(kind: Kind, options: dict[str, Any], name: str) -> dict[str, Any]:
    found = options[name] if name in options else kind.configured(name) or {}
    if not isinstance(found, dict):
        raise ConfigError(f"cluster: options: {name} is {found!r}. Write names with values")
    return found


def _scheduler(kind: Kind, given: dict[str, Any]) -> dict[str, Any]:
    """Where the scheduler listens: by default on the address by which this machine is known outside."""
    found = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
    return {**found, "host": given["host"]} if "host" in given else found


def _worker_words(kind: Kind, job: dict[str, Any]) -> list[str]:
    words = ["--memory-limit", "0", "--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    try:
        seconds = _seconds(job.get("walltime") or kind.configured("walltime"))
    except ConfigError:
        return words  # in words of the site's own, or none
    # A worker leaves before it is killed, and not all of them at once.
    stagger = min(120, seconds // 20)
    left = seconds - min(300, max(20, seconds // 10)) - stagger
    return [*words, "--lifetime", f"{left}s", "--lifetime-stagger", f"{stagger}s"]


def _prologue(kind: Kind, job: dict[str, Any]) -> list[str]:
    """What the job's shell does before the worker starts."""
    lines = [f"export {name}={value}" for name, value in settings.as_environment(settings.WORKER).items()]
    if kind.name == "htcondor" or "local_directory" in job or kind.configured("local_directory"):
        return lines  # HTCondor has a folder for each job, and removes it
    return [
        *lines,
        'export DASK_TEMPORARY_DIRECTORY="$(mktemp -d "${TMPDIR:-/tmp}/daskscore-XXXXXXXX")"',
        "trap : TERM",  # the shell waits for the worker, which hears of it, too
        "trap 'rm -rf \"$DASK_TEMPORARY_DIRECTORY\"' EXIT",
    ]


def _folder(name: str) -> Path:
    """A folder that the nodes see, too: where the user is, or at home."""
    for place in (Path.cwd(), Path.home()):
        if os.access(place, os.W_OK | os.X_OK):
            return place / name
    raise ConfigError(f"cluster: what jobs print cannot be kept in {Path.cwd()}. Change to a folder that is yours")
