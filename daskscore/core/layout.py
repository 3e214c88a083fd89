"""Every path that a run writes, each spelled once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """The output folder of one run."""

    output: Path

    # What the user came for.
    def rows(self, file_name: str) -> Path:
        return self.output / file_name

    @property
    def failed_items(self) -> Path:
        return self.output / "failed_items.jsonl"

    @property
    def report(self) -> Path:
        return self.output / "report.json"

    @property
    def metrics(self) -> Path:
        return self.output / "metrics.jsonl"

    @property
    def logs(self) -> Path:
        return self.output / "logs"

    @property
    def job_report(self) -> Path:
        return self.logs / "sys" / "job_report"

    @property
    def node_logs(self) -> Path:
        """What each node and each of its processes did."""
        return self.logs / "sys" / "node"

    # What the run needs to go on after a crash.
    @property
    def state(self) -> Path:
        return self.output / ".daskscore"

    @property
    def lock(self) -> Path:
        return self.state / "lock"

    @property
    def shared(self) -> Path:
        """Tells a worker that it sees the driver's own folder, and not one of the same name."""
        return self.state / "shared"

    @property
    def job(self) -> Path:
        return self.state / "job.json"

    @property
    def plan(self) -> Path:
        return self.state / "plan"

    @property
    def new_plan(self) -> Path:
        """The plan until it is known that it will be used."""
        return self.state / "plan.new"

    @property
    def journal(self) -> Path:
        return self.state / "journal"

    @property
    def sorted(self) -> Path:
        """Records that did not lie together by their partition keys, and the plan that is made of them."""
        return self.state / "sorted"

    @property
    def parts(self) -> Path:
        return self.state / "parts"

    def part(self, name: str) -> Path:
        return self.parts / name


def error_log(node: str, process: str) -> str:
    """Tracebacks of one scorer, relative to the output folder (like the ones below)."""
    return f"logs/user/error/{node}/{process}.txt"


def stdout_log(node: str, process: str) -> str:
    return f"logs/user/stdout/{node}/{process}.stdout.txt"


def stderr_log(node: str, process: str) -> str:
    return f"logs/user/stderr/{node}/{process}.stderr.txt"


def entry_script_logs(node: str) -> str:
    """The folder for what scripts write with `EntryScript().logger`."""
    return f"logs/user/entry_script_log/{node}"


def metrics_log(node: str, process: str) -> str:
    """What the script logged with `Run.log`, a JSON line each."""
    return f"logs/user/metrics/{node}/{process}.jsonl"


def node_log(node: str) -> str:
    """What the worker did: which scorers it started, and how they ended."""
    return f"logs/sys/node/{node}/_main.txt"


def process_log(node: str, process: str) -> str:
    """Who the process was, and a line for each of its attempts."""
    return f"logs/sys/node/{node}/{process}.txt"


def profile_log(node: str, process: str) -> str:
    """Where the time of a script went, for `python -m pstats`; only where it was asked for."""
    return f"logs/sys/node/{node}/{process}.profile"


def perf_logs(node: str) -> str:
    """The folder for what a node and its processes use."""
    return f"logs/sys/perf/{node}"


def process_name(number: int) -> str:
    """The name of the n-th scorer of a node; a replacement gets a new number."""
    return f"process{number:03d}"
