"""Everything daskscore says when it cannot go on, and the exit code each becomes.

    DaskscoreError                 1   the run failed
    ├── UsageError                 2   found before any work started
    │   ├── ConfigError                a key of the job, a flag, or a value
    │   ├── InputError                 the data named by `inputs`
    │   ├── ScriptError                the entry script does not load
    │   └── OutputError                the output is taken, foreign or not writable
    ├── RunError                   1   the run cannot go on; what is committed is kept
    └── InternalError              1   a mistake of daskscore itself

An interrupted run is no error: it ends with a report whose status is `Canceled`, and exit code 130.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "DaskscoreError",
    "InputError",
    "InternalError",
    "OutputError",
    "RunError",
    "ScriptError",
    "UsageError",
]


class DaskscoreError(Exception):
    """What happened, to what, and what to do next: the text is shown to the user as it is."""

    exit_code = 1


class UsageError(DaskscoreError):
    """Something the user can mend before any work starts."""

    exit_code = 2


class ConfigError(UsageError):
    """A key, a flag or a value of the job is not usable."""


class InputError(UsageError):
    """The data named by `inputs` cannot be read or is empty."""


class ScriptError(UsageError):
    """The entry script does not load, or has no usable `run`."""


class OutputError(UsageError):
    """The output folder is taken, belongs to another job, or cannot be written."""


class RunError(DaskscoreError):
    """The run cannot go on; what is committed is kept and `--resume` continues it."""


class InternalError(DaskscoreError):
    """Parts of daskscore disagree with each other; please report it."""
