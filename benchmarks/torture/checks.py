"""What must hold after an ordeal."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.torture.faults import Ordeal
from benchmarks.torture.jobs import Job
from benchmarks.torture.storages import Bucket
from benchmarks.torture.watching import Usage
from tests.consistency import contradictions

PEAK_KIB = {"driver": 300 << 10, "worker": 220 << 10, "nursery": 100 << 10, "guard": 100 << 10}
"""More than any of these jobs needs, and less than a leak comes to."""
MORE_DESCRIPTORS = 24


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that must not be."""

    sort: str
    """bytes, items, contradiction, leftovers, hang, ending, memory or descriptors."""
    words: str


def outcome(
    job: Job,
    ordeal: Ordeal,
    *,
    bucket: Bucket | None,
    edition_of: Mapping[str, int],
    gone: frozenset[str],
    logs_may_lack: bool,
) -> tuple[list[Problem], int]:
    """The output against the table; and how many attempts there were."""
    if job.shape.remote_output:
        assert bucket is not None
        bucket.bring("out/", job.output)
        if left := [path for path in job.cache.rglob("*") if path.is_file() and path.suffix != ".lock"]:
            return [Problem("leftovers", f"the working folder is left: {left[:5]}")], 0
    report_file = job.output / "report.json"
    if not report_file.exists():
        return [Problem("items", "there is no report.json")], 0
    report: dict[str, Any] = json.loads(report_file.read_text())
    if report["status"] != "Completed":
        return [Problem("ending", f"the run is {report['status']}: {report['message'][:600]}")], report["attempts"]
    failed = failures(job)
    problems = _items(job, ordeal, failed, report, gone)
    wanted: bytes | None = None
    if job.shape.action == "append_row":
        wanted = _rows(job, frozenset(failed), edition_of)
    found = contradictions(job.output, rows=wanted, logs_may_lack=logs_may_lack)
    name = job.shape.rows_name
    problems += [Problem("bytes" if what.startswith(name) else "contradiction", what) for what in found]
    return problems, report["attempts"]


def failures(job: Job) -> dict[str, str]:
    """The kind of each failed item, by the script's name for it."""
    path = job.output / "failed_items.jsonl"
    found: dict[str, str] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        told = json.loads(line)
        rows = re.fullmatch(r".* rows? (\d+)(?:-(\d+))?", told["item"])
        if job.shape.content == "files" or rows is None:
            names = [Path(told["item"]).name]
        else:
            names = [str(row) for row in range(int(rows[1]), int(rows[2] or rows[1]) + 1)]
        found |= dict.fromkeys(names, told["kind"])
    return found


def _items(
    job: Job, ordeal: Ordeal, failed: Mapping[str, str], report: Mapping[str, Any], gone: frozenset[str]
) -> list[Problem]:
    wanted = job.expected(ordeal.costly, ordeal.hits)
    problems = []
    if missing := set(wanted.fails) - set(failed):
        problems.append(Problem("items", f"did not fail, and must: {_some(missing, job)}"))
    wrong = []
    for item, kind in failed.items():
        allowed = wanted.kinds(item, ordeal.costly) | (frozenset(("input",)) if item in gone else frozenset())
        if kind not in allowed:
            wrong.append(f"{item} as {kind} ({'not at all' if not allowed else ' or '.join(sorted(allowed))})")
    if wrong:
        problems.append(Problem("items", f"{len(wrong)} failed otherwise than they may: {', '.join(wrong[:5])}"))
    if unknown := set(failed) - set(job.items):
        problems.append(Problem("items", f"failed items that nobody knows: {sorted(unknown)[:5]}"))
    total = len(job.items)
    counts = {"total": total, "succeeded": total - len(failed), "failed": len(failed)}
    if report["items"] != counts:
        problems.append(Problem("items", f"report.json has the items {report['items']}, and it is {counts}"))
    if report["failures"] != dict(Counter(failed.values())):
        problems.append(Problem("items", f"report.json has the failures {report['failures']}, and it is {failed}"))
    return problems


def _rows(job: Job, failed: frozenset[str], edition_of: Mapping[str, int]) -> bytes:
    """Of an input that was changed meanwhile, either edition is right: the one that was met is taken over."""
    if not edition_of:
        return job.rows(failed, {})
    path = job.output / job.shape.rows_name
    found = path.read_bytes() if path.exists() else b""
    met = (
        {
            item: edition
            for item, edition in edition_of.items()
            if job.rows(frozenset(job.items) - {item}, {item: edition}).rpartition(b"\n")[0].splitlines()[-1] in found
        }
        if job.shape.format != "parquet"
        else _met_in_parquet(job, path, edition_of)
    )
    return job.rows(failed, met)


def _met_in_parquet(job: Job, path: Path, edition_of: Mapping[str, int]) -> dict[str, int]:
    import pyarrow.parquet

    rows = {row["item"]: row for row in pyarrow.parquet.read_table(path).to_pylist()} if path.exists() else {}
    return {item: edition for item, edition in edition_of.items() if rows.get(item) == job.row(item, edition)}


def _some(items: set[str], job: Job) -> str:
    return ", ".join(
        f"{item} ({' then '.join(job.shape.table.get(item, ['in company']))})" for item in sorted(items)[:5]
    )


def usage(seen: Usage) -> list[Problem]:
    """Memory and descriptors."""
    problems = [
        Problem("memory", f"a {name} held {seen.peak[name] >> 10} MiB")
        for name, limit in PEAK_KIB.items()
        if seen.peak.get(name, 0) > limit
    ]
    if (growth := seen.growth()) > MORE_DESCRIPTORS:
        problems.append(Problem("descriptors", f"a process had {growth} descriptors more at its end"))
    return problems


def words(said: str) -> list[Problem]:
    """A traceback of our own is nothing for users; that of the script stands behind its announcement."""
    ours = said.partition("The first failure:")[0]
    if "Traceback (most recent call last)" in ours or "InternalError" in said or "report it" in said:
        return [Problem("ending", f"it said: {said[-1500:]}")]
    return []
