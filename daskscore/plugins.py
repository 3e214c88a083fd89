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
    },
}


def find(kind: str, name: str) -> Any:
    """The implementation of that kind and name; entry points are in the groups `daskscore.input`, `.sink`, `.cluster`."""
    if target := BUILT_IN[kind].get(name):
        return _load(target)
    registered = {point.name: point for point in entry_points(group=f"daskscore.{kind}")}
    if point := registered.get(name):
        return point.load()
    if ":" in name:
        try:
            return _load(name)
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"{kind} {name} cannot be loaded: {error}. It is read as package.module:attribute"
            ) from error
    known = [*BUILT_IN[kind], *registered]
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {nearest[0]}?" if nearest else f"Known are {', '.join(known)}, and package.module:attribute."
    raise ConfigError(f"there is no {kind} called {name}. {hint}")


def _load(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
