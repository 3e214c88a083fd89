"""A good job, which each test here spoils in one place, and what it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import Result

from tests.support import Workbench

Run = Callable[..., Result]
"""`daskscore run …`; its keyword `ends` is the exit code."""

Refused = Callable[..., str]
"""The message of a job that ends before any work has started."""

JOB = ("--entry-script", "score.py", "--input", "in", "--output", "out")
SCRIPT = "import os\ndef run(mini_batch):\n    return [os.path.basename(path) for path in mini_batch]\n"


def everything_below(folder: Path) -> dict[str, bytes]:
    """All files and folders, but for the lock that each driver takes."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
        if path.name != "lock"
    }


def rows(bench: Workbench) -> list[str]:
    return (bench.output / "parallel_run_step.txt").read_text(errors="surrogateescape").splitlines()


def failed_items(bench: Workbench) -> list[dict[str, Any]]:
    path = bench.output / "failed_items.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
