from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from daskscore.core.ledger import Ledger
from daskscore.core.model import Bundle, Outcome
from daskscore.core.planning import line
from daskscore.worker.nursery import Nursery
from daskscore.worker.process import Desk
from daskscore.worker.supervisor import Supervisor
from tests.desks import ACTS, desk
from tests.support import processes_with, wait_until


@dataclass
class Slot:
    """A supervisor at a desk of its own; a ledger checks that each outcome covers its bundle exactly."""

    desk: Desk
    supervisor: Supervisor
    stopping: threading.Event
    outcomes: list[Outcome] = field(default_factory=list)
    plan: tuple[list[str], ...] = ()

    def ledger(self, *plan: list[str], max_try: int = 3) -> Ledger:
        """Of a plan with these mini-batches."""
        self.plan = plan
        return Ledger(len(plan), sum(map(len, plan)), max_try, lambda index: len(plan[index]))

    def score(self, ledger: Ledger, size: int = 1000, *, box_seconds: float = 60.0) -> Outcome:
        """What became of the next bundle."""
        number, spans, _ = ledger.hand_out(size)
        lines = b"".join(line(self.plan[index]) for span in spans for index in range(span.first, span.stop))
        outcome = self.supervisor.score(Bundle(number, spans, lines, box_seconds))
        assert ledger.settle(outcome) is not None
        self.outcomes.append(outcome)
        return outcome

    def rows(self) -> list[str]:
        """The rows that all outcomes so far name, in plan order."""
        data = b""
        for segment in sorted(segment for outcome in self.outcomes for segment in outcome.segments):
            with (self.desk.parts / segment.part).open("rb") as part:
                part.seek(segment.offset)
                data += part.read(segment.length)
        return data.decode().splitlines()

    def read(self, log: str) -> str:
        return (self.desk.output / log).read_text()


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    """One nursery for the scorers of all tests in a file; nothing that they started outlives it."""
    mark = f"DASKSCORE_TEST_MARK={secrets.token_hex(8)}"
    nursery = Nursery(environment={**os.environ, **dict([mark.split("=")])})
    yield nursery
    nursery.close()
    wait_until(lambda: not processes_with(mark), f"the end of {processes_with(mark)}")


@pytest.fixture
def make_slot(tmp_path: Path, nursery: Nursery) -> Iterator[Callable[..., Slot]]:
    """Slots at desks like those of `tests.desks.desk`."""
    supervisors: list[Supervisor] = []

    def make(script: str = ACTS, **wishes: Any) -> Slot:
        place = desk(tmp_path, script, **wishes)
        stopping = threading.Event()
        supervisors.append(Supervisor(place, lambda: nursery, stopping.is_set))
        return Slot(place, supervisors[-1], stopping)

    yield make
    for supervisor in supervisors:
        supervisor.end()
