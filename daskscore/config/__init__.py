"""What the user asked for, validated; every error names the key, the value and what would do."""

from __future__ import annotations

from daskscore.config.job import DEFAULT_FILE_NAME, RESERVED_ARGUMENTS, JobConfig
from daskscore.config.loading import NOTHING_GIVEN, load, validate
from daskscore.config.paths import absolute
from daskscore.config.values import parse_bytes

__all__ = [
    "DEFAULT_FILE_NAME",
    "NOTHING_GIVEN",
    "RESERVED_ARGUMENTS",
    "JobConfig",
    "absolute",
    "load",
    "parse_bytes",
    "validate",
]
