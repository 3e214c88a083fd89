"""The processes of a run as /proc has them: which is which, how far the run is, what it uses, and what is left."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.torture.jobs import Job
from daskscore.core.layout import Layout

SHM = Path("/dev/shm")
LOOKS = 4
"""In each third of a session, at least: a shorter one tells nothing of growth."""
ON_ITS_WAY = 3
"""Commits."""


def children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, read(task / "children").split())
    return found


def read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def tree(tops: list[int]) -> dict[str, list[int]]:
    """What is below drivers, and the `dask worker` commands of a cluster, by what it is."""
    found: dict[str, list[int]] = defaultdict(list)
    for top in tops:
        for child in children(top):
            words = read(Path(f"/proc/{child}/cmdline"))
            if "spawn_main" in words:
                found["worker"].append(child)
            elif "scorer.guard" in words:
                found["keeper"].append(child)
    for worker in found["worker"]:
        found["nursery"] += [
            child for child in children(worker) if "scorer.guard" in read(Path(f"/proc/{child}/cmdline"))
        ]
    for nursery in found["nursery"]:
        found["guard"] += children(nursery)
    for guard in found["guard"]:
        found["scorer"] += children(guard)
    return dict(found)


def end(pid: int, number: int = signal.SIGKILL) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, by what it has left on the disk."""

    calls: int
    commits: int
    stage: str
    """The furthest of the files that a run writes one after the other."""


STAGES = ("nothing", "lock", "plan", "worker", "journal", "assembling", "rows", "report")


def progress(job: Job) -> Progress:
    layout = Layout(local_folder(job))
    calls = len(os.listdir(job.calls))
    try:
        data = layout.journal.read_bytes()
    except OSError:
        data = b""
    rows = layout.rows(job.shape.rows_name)
    there = {
        "lock": layout.lock.exists(),
        "plan": layout.plan.exists(),
        "worker": layout.node_logs.exists(),
        "journal": bool(data),
        "assembling": (layout.state / f"{job.shape.rows_name}.unfinished").exists(),
        "rows": rows.exists(),
        "report": layout.report.exists(),
    }
    furthest = [name for name, found in there.items() if found]
    return Progress(calls, data.count(b'"record":"commit"'), furthest[-1] if furthest else "nothing")


def local_folder(job: Job) -> Path:
    """The output folder of this machine, which for a remote output is the working folder."""
    if not job.shape.remote_output:
        return job.output
    return next((job.cache / "outputs").glob("*/output"), job.cache / "none yet")


@dataclass(slots=True)
class Usage:
    """What was seen of the processes of one session."""

    peak: dict[str, int] = field(default_factory=dict)
    """KiB, of the largest process of each sort."""
    descriptors: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Of driver and workers, look by look."""

    def look(self, driver: int, found: dict[str, list[int]], *, counts: bool) -> None:
        """`counts` once the run is on its way: while workers start, descriptors become more."""
        for name, pids in {**found, "driver": [driver]}.items():
            for pid in pids:
                if counts and name in ("driver", "worker"):
                    with suppress(OSError):
                        self.descriptors[pid].append(len(os.listdir(f"/proc/{pid}/fd")))
                for line in read(Path(f"/proc/{pid}/status")).splitlines():
                    if line.startswith("VmHWM:"):
                        self.peak[name] = max(self.peak.get(name, 0), int(line.split()[1]))

    def growth(self) -> int:
        """By how many descriptors a process had more, all through its last third, than ever in its first."""
        found = [0]
        for looks in self.descriptors.values():
            third = len(looks) // 3
            if third >= LOOKS:
                found.append(min(looks[-third:-1]) - max(looks[:third]))
        return max(found)


def shared_memory() -> set[str]:
    return {path.name for path in SHM.iterdir()} if SHM.is_dir() else set()
