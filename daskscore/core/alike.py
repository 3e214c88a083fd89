"""When the first attempts of a job fail so much alike that the rest need not be tried."""

from __future__ import annotations

from dataclasses import dataclass, field

NEARLY_ALL = 0.9
"""Of all attempts so far."""
MINI_BATCHES = 5
"""The failures are spread over so many, or over half as many as there are failures."""
CAUSES = 64
"""More different ones are no single failure."""


@dataclass(slots=True)
class _Cause:
    failures: int = 0
    mini_batches: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Alike:
    """Counts attempts at whole mini-batches until so many have gone well that the script cannot be broken."""

    limit: int
    """So many failures of one fingerprint end the job; less than 1: none do."""
    scored: int = 0
    failed: int = 0
    _causes: dict[str, _Cause] = field(default_factory=dict)

    @property
    def watching(self) -> bool:
        """The share of failures can still become large enough."""
        return self.limit > 0 and self.scored < self.limit and len(self._causes) < CAUSES

    def went_well(self, mini_batches: int) -> None:
        self.scored += mini_batches

    def has_failed(self, mini_batch: int, cause: str) -> bool:
        """One attempt more; whether it was the one too many."""
        if not self.watching:
            return False
        self.failed += 1
        known = self._causes.setdefault(cause, _Cause())
        known.failures += 1
        known.mini_batches.add(mini_batch)
        return (
            known.failures >= self.limit
            and known.failures >= NEARLY_ALL * (self.failed + self.scored)
            and len(known.mini_batches) >= max(MINI_BATCHES, self.limit // 2)
        )
