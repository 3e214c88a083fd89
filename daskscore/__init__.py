"""Batch scoring on Dask: a script with init() and run(mini_batch), more data than one loop can score, one exact output.

Names are loaded when they are first used, because a scorer imports this package too.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daskscore.api import retry, run
    from daskscore.config import JobConfig
    from daskscore.core.report import Report
    from daskscore.errors import ConfigError, DaskscoreError, InputError, OutputError, RunError, ScriptError, UsageError
    from daskscore.native import read, score
    from daskscore.scripts import Failed, Retry
    from daskscore.worker.crews import MiniBatchError

_HOMES = {
    "retry": "daskscore.api",
    "run": "daskscore.api",
    "read": "daskscore.native",
    "score": "daskscore.native",
    "JobConfig": "daskscore.config",
    "Report": "daskscore.core.report",
    "Retry": "daskscore.scripts",
    "ConfigError": "daskscore.errors",
    "DaskscoreError": "daskscore.errors",
    "Failed": "daskscore.scripts",
    "InputError": "daskscore.errors",
    "MiniBatchError": "daskscore.worker.crews",
    "OutputError": "daskscore.errors",
    "RunError": "daskscore.errors",
    "ScriptError": "daskscore.errors",
    "UsageError": "daskscore.errors",
}

__all__ = [
    "ConfigError",
    "DaskscoreError",
    "Failed",
    "InputError",
    "JobConfig",
    "MiniBatchError",
    "OutputError",
    "Report",
    "Retry",
    "RunError",
    "ScriptError",
    "UsageError",
    "read",
    "retry",
    "run",
    "score",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from daskscore.version import VERSION

        return VERSION
    if name not in _HOMES:
        raise AttributeError(f"module 'daskscore' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
