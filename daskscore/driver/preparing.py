"""Before the first mini-batch is tried: every worker that is there has the script's folder and the job's environment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from daskscore.config import JobConfig
from daskscore.driver.sources import Courier
from daskscore.driver.workers import CALL_SECONDS, NO_ANSWER, Workers, within
from daskscore.errors import RunError
from daskscore.worker.rooms import Readiness
from daskscore.worker.session import Assignment
from daskscore.worker.task import readiness

LOOK_SECONDS = 0.05
LONGEST_LOOK_SECONDS = 2.0
NAMED_NODES = 5


@contextmanager
def prepared(
    workers: Workers,
    assignment: Assignment,
    config: JobConfig,
    scratch: Path,
    *,
    say: Callable[[str], None],
    interrupted: Callable[[], bool],
) -> Iterator[None]:
    """Raises RunError where an environment cannot be made; workers that come later get what they need within the block."""
    sends = assignment.code is not None
    courier = Courier(workers.client, workers.run_id, config, scratch, say) if sends else None
    with courier if courier is not None else nullcontext():
        first_worker = config.first_task_creation_timeout if assignment.recipe is not None else 0.0
        _Preparing(workers, courier, say, interrupted).wait(time.monotonic() + first_worker)
        yield


@dataclass(slots=True)
class _Preparing:
    workers: Workers
    courier: Courier | None
    say: Callable[[str], None]
    interrupted: Callable[[], bool]
    _said: set[str] = field(default_factory=set)

    def wait(self, first_worker_by: float) -> None:
        pause = LOOK_SECONDS
        while not self.interrupted():
            found = self._ask()
            self._tell(found)
            known = all(ready.looked for ready in found.values())
            failed = [ready for ready in found.values() if ready.failure]
            if known and failed:
                raise RunError(_failures(failed))
            wanting = [address for address, ready in found.items() if ready.wants_code]
            if known and not wanting and (found or time.monotonic() > first_worker_by):
                return
            if self.courier is not None and wanting:
                try:
                    self.courier.bring(wanting)
                except NO_ANSWER:
                    self.say("a worker does not answer; it asks for the script's folder again")
                    return
            time.sleep(pause)
            pause = min(1.5 * pause, LONGEST_LOOK_SECONDS)

    def _ask(self) -> dict[str, Readiness]:
        client, run = self.workers.client, self.workers.run_id
        try:
            answers = within(CALL_SECONDS, lambda: client.run(readiness, run, on_error="ignore"))
        except NO_ANSWER:
            return {}
        return {address: ready for address, ready in answers.items() if ready is not None}

    def _tell(self, found: dict[str, Readiness]) -> None:
        """Each thing once."""
        for name in {ready.makes for ready in found.values() if ready.makes}:
            self._say(f"environment {name} is made on the nodes that do not have it; this may take some minutes")
        for note in {note for ready in found.values() for note in ready.notes}:
            self._say(note)

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.say(text)


def _failures(failed: list[Readiness]) -> str:
    """What each node says, the same words once."""
    nodes: dict[str, list[str]] = {}
    for ready in failed:
        nodes.setdefault(ready.failure, []).append(ready.node)
    return "\n\n".join(f"{message}\n(on {_some(sorted(set(names)))})" for message, names in nodes.items())


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED_NODES} more" if len(names) > NAMED_NODES else ""
    return ", ".join(names[:NAMED_NODES]) + more
