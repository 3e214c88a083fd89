"""Values and paths, in whatever object the user's code carries them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daskscore.errors import ConfigError
from daskscore.jobfiles.reading import located, scalar

WANTED = "str, Path, a mapping with a path, or an object with one"
DEPTH = 4
"""A parameter that holds a named data set that holds a path: deeper, nobody nests them."""


@dataclass(frozen=True, slots=True)
class PipelineParameter:
    """A value with a name, to be replaced when a step is run."""

    name: str
    default_value: Any


def is_parameter(value: Any) -> bool:
    return hasattr(value, "default_value") and hasattr(value, "name")


def value_of(value: Any, values: Mapping[str, Any]) -> Any:
    """A PipelineParameter's value; a number in a text, as its default often is, is the number."""
    if not is_parameter(value):
        return value
    found = values.get(value.name, value.default_value)
    return scalar(found) if isinstance(found, str) else found


def path_of(value: Any, values: Mapping[str, Any]) -> str:
    """The path in whatever carries it: a text, a data set, one that was given a name, a parameter."""
    seen = value
    for _ in range(DEPTH):
        seen = value_of(seen, values)
        if isinstance(seen, (str, os.PathLike)):
            return located(os.fspath(seen), Path.cwd())
        seen = _held(seen)
    raise ConfigError(f"Step input must be of any type: {WANTED}, found {type(value)}")


def _held(carrier: Any) -> Any:
    if isinstance(carrier, Mapping):
        return carrier.get("path")
    return getattr(carrier, "path", None) or getattr(carrier, "dataset", None)


def kind_of(entry: Any) -> str:
    """Files or tables, as far as it can be seen."""
    if isinstance(entry, Mapping):
        return "tabular" if entry.get("type") in ("tabular", "mltable") else "file"
    inner = getattr(entry, "dataset", None)
    if inner is not None:
        return kind_of(inner)
    if is_parameter(entry):
        return kind_of(entry.default_value)
    named = str(getattr(entry, "type", "") or type(entry).__name__).lower()
    return "tabular" if "tabular" in named or named == "mltable" else "file"


def as_input(entry: Any, values: Mapping[str, Any]) -> str | dict[str, Any]:
    """An entry of JobConfig.inputs; a mapping is one already, and keeps what else it says."""
    path = path_of(entry, values)
    if isinstance(entry, Mapping):
        return {**entry, "path": path}
    if kind_of(entry) == "file":
        return path
    return {"path": path, "type": "mltable" if getattr(entry, "type", None) == "mltable" else "tabular"}
