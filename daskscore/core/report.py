"""The account of a run, as `report.json` has it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from daskscore.core.model import Status


@dataclass(frozen=True, slots=True)
class Count:
    """total = succeeded + failed, unless the run was stopped early; then the rest is in `not_scored` of the report."""

    total: int
    succeeded: int
    failed: int

    @property
    def rest(self) -> int:
        return self.total - self.succeeded - self.failed


@dataclass(frozen=True, slots=True)
class Report:
    """How a run ended. What it scored stands in `output`, what it could not in `failed_items.jsonl`."""

    status: Status
    items: Count
    mini_batches: Count
    rows: int
    attempts: int
    lost_attempts: int
    seconds: float
    output: str
    """The file of rows, or for summary_only the output folder."""
    folder: str
    """The output folder, where logs and failed_items.jsonl are."""
    isolation_attempts: int = 0
    """Of the attempts, those at parts of mini-batches that had kept failing."""
    message: str = ""
    """Why the run failed or stopped; empty when it is Completed."""
    traceback: str = ""
    """The first traceback of the user's script, if there was one."""
    log: str = ""
    """Where that traceback stands."""
    failures: dict[str, int] = field(default_factory=dict)
    """Failed items by kind."""
    warnings: tuple[str, ...] = ()
    metrics: dict[str, Any] = field(default_factory=dict)
    """What the script logged with Run.log, by name: count, last, and for numbers min, max and sum."""

    @property
    def not_scored(self) -> dict[str, int]:
        """What a run that was stopped early has not come to."""
        return {"items": self.items.rest, "mini_batches": self.mini_batches.rest}

    @property
    def exit_code(self) -> int:
        return {Status.COMPLETED: 0, Status.FAILED: 1, Status.CANCELED: 130}[self.status]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"warnings": list(self.warnings), "not_scored": self.not_scored}
