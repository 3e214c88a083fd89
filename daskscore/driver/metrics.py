"""What scripts logged with `Run.log`: one file for the run, and a summary for its report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from daskscore.core.layout import Layout


def gather(layout: Layout) -> dict[str, Any]:
    """Put all processes' lines into metrics.jsonl; of each metric, how often it was logged and what it came to."""
    files = sorted((layout.logs / "user" / "metrics").rglob("*.jsonl"))
    layout.metrics.unlink(missing_ok=True)
    if not files:
        return {}
    summary: dict[str, Any] = {}
    with layout.metrics.open("w", encoding="utf-8") as target:
        for line in _whole_lines(files):
            target.write(line)
            entry = json.loads(line)
            _add(summary.setdefault(entry["name"], {"count": 0}), entry["value"])
    return summary


def _whole_lines(files: list[Path]) -> Iterator[str]:
    """A process that was killed may have left half a line."""
    for file in files:
        with file.open(encoding="utf-8") as lines:
            yield from (line for line in lines if line.endswith("\n"))


def _add(metric: dict[str, Any], value: Any) -> None:
    metric["count"] += 1
    metric["last"] = value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        metric["min"] = min(metric.get("min", value), value)
        metric["max"] = max(metric.get("max", value), value)
        metric["sum"] = metric.get("sum", 0) + value
