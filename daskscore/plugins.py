"""Implementations by name: ours, then those that installed packages register, then `package.module:attribute`."""

from __future__ import annotations

import difflib
import importlib
from importlib.metadata import entry_points
from typing import Any

from daskscore.errors import ConfigError

BUILT_IN = {
    "input": {"local": "daskscore.inputs.local:LocalFiles"},
    "sink": {
        "append_row": "daskscore.sinks.append_row:AppendRow",
        "summary_only": "daskscore.sinks.summary_only:SummaryOnly",
    },
    "cluster": {
        "local": "daskscore.clusters.local:start",
        "existing": "daskscore.clusters.existing:connect",
        "slurm": "daskscore.clusters.jobqueue:slurm",
        "pbs": "daskscore.clusters.jobqueue:pbs",
        "sge": "daskscore.clusters.jobqueue:sge",
        "lsf": "daskscore.clusters.jobqueue:lsf",
        "htcondor": "daskscore.clusters.jobqueue:htcondor",
        "oar": "daskscore.clusters.jobqueue:oar",
        "gateway": "daskscore.clusters.gateway:start",
        "mpi": "daskscore.clusters.mpi:start",
        "ssh": "daskscore.clusters.ssh:start",
    },
}


def find(kind: str, name: str) -> Any:
    """The implementation of that kind and name; entry points are in the groups `daskscore.input`, `.sink`, `.cluster`."""
    if target := BUILT_IN[kind].get(name):
        return _attribute(target)
    registered = {point.name: point for point in entry_points(group=f"daskscore.{kind}")}
    if point := registered.get(name):
        return _load(kind, name, point.value)
    if ":" in name:
        return _load(kind, name, name)
    known = [*BUILT_IN[kind], *registered]
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {nearest[0]}?" if nearest else f"Known are {', '.join(known)}, and package.module:attribute"
    raise ConfigError(f"{kind}: there is none called {name}. {hint}")


def _load(kind: str, name: str, target: str) -> Any:
    """What somebody else has written; whatever its import raises is told as theirs."""
    try:
        found = _attribute(target)
    except Exception as error:
        raise ConfigError(
            f"{kind}: {name} cannot be loaded: {type(error).__name__}: {error}. "
            f"It is read as package.module:attribute, and must be importable where daskscore runs"
        ) from error
    if not callable(found):
        raise ConfigError(f"{kind}: {name} is no function or class, but {found!r}. Name one that can be called")
    return found


def _attribute(target: str) -> Any:
    module, _, path = target.partition(":")
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found
