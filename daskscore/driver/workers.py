"""What the driver asks of Dask and of the workers of a run; each question has a deadline."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future as Promise
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from distributed import Client, Future

from daskscore.core.model import Bundle, Outcome
from daskscore.errors import RunError
from daskscore.worker.session import Assignment, Session, plugin_name
from daskscore.worker.task import ask_to_stop, drop_bundle, last_logs, score_bundle

CALL_SECONDS = 30.0
STOP_SECONDS = 15.0
WELCOMES = 5
"""So often all workers are told of a run, if some are lost meanwhile."""
NO_ANSWER = (TimeoutError, OSError)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Workers:
    """The workers of one run, present and future."""

    client: Client
    run_id: str
    most_slots: int | None
    """Of one worker; None: as many as it has threads."""

    @property
    def address(self) -> str:
        """Of their scheduler."""
        return str(self.client.scheduler.address) if self.client.scheduler is not None else "its address"

    def welcome(self, assignment: Assignment) -> None:
        """Every worker that is there, or comes later, gets what it needs to score."""
        for _ in range(WELCOMES - 1):
            try:
                within(4 * CALL_SECONDS, lambda: self.client.register_plugin(Session(assignment)))
                return
            except TimeoutError:
                break
            except OSError:  # a worker was lost while it was told; whether the scheduler lives is asked first
                self._ask(self.client.nthreads)
        self._ask(lambda: self.client.register_plugin(Session(assignment)), 4 * CALL_SECONDS)

    def slots(self) -> dict[str, int]:
        """How many scorers each worker can hold, by address."""
        threads: dict[str, int] = self._ask(self.client.nthreads)
        most = self.most_slots
        return {address: min(n, most) if most else n for address, n in threads.items()}

    def submit(self, bundle: Bundle, addresses: list[str] | None) -> Future[Outcome]:
        """Send a bundle to any worker, or to one of these as long as one of them is there."""
        key = f"daskscore-{self.run_id}-{bundle.id}"
        return self.client.submit(
            score_bundle,
            self.run_id,
            bundle,
            key=key,
            pure=False,
            retries=0,
            workers=addresses,
            allow_other_workers=addresses is not None,
        )

    def drop(self, bundle: int, future: Future[Outcome]) -> None:
        """Nobody waits for this bundle any more; does not wait either."""
        future.release()
        call = partial(self.client.run, drop_bundle, self.run_id, bundle, on_error="ignore")
        threading.Thread(target=_quietly, args=[call], name="daskscore-drop", daemon=True).start()

    def outcomes(self, futures: list[Future[Outcome]]) -> dict[int, Outcome]:
        """What came back, by bundle; a worker that died between the word and its result leaves a gap."""
        try:
            found: list[Outcome] = within(CALL_SECONDS, lambda: self.client.gather(futures, errors="skip"))
        except NO_ANSWER:
            return {}
        return {outcome.bundle: outcome for outcome in found}

    def ask_to_stop(self) -> bool:
        """Finish what is in hand, start nothing else; whether all have heard it."""
        try:
            within(STOP_SECONDS, lambda: self.client.run(ask_to_stop, self.run_id, on_error="ignore"))
        except NO_ANSWER:
            return False
        return True

    def last_logs(self) -> Iterator[dict[str, bytes]]:
        """What workers without a shared disk have not sent yet, some of it at a time."""
        while True:
            try:
                answers = within(CALL_SECONDS, lambda: self.client.run(last_logs, self.run_id, on_error="ignore"))
            except NO_ANSWER:
                return
            sent = [logs for logs in answers.values() if logs]
            if not sent:
                return
            yield from sent

    def farewell(self) -> None:
        """End all scorers of the run and leave the workers as they were.

        A worker that does not answer ends its scorers by itself: when they idle, or when it goes.
        """
        try:
            within(CALL_SECONDS, lambda: self.client.unregister_worker_plugin(plugin_name(self.run_id)))
        except NO_ANSWER:
            return

    def _ask(self, call: Callable[[], T], seconds: float = CALL_SECONDS) -> T:
        try:
            return within(seconds, call)
        except NO_ANSWER as error:
            raise RunError(
                f"the Dask scheduler at {self.address} does not answer: {str(error) or f'no word in {seconds:g} s'}. "
                "What is committed is kept: run the same command with --resume"
            ) from error


def _quietly(call: Callable[[], object]) -> None:
    with suppress(*NO_ANSWER):
        within(CALL_SECONDS, call)


def within(seconds: float, call: Callable[[], T]) -> T:
    """The answer of a call that may block; TimeoutError when it takes longer (the call is left to itself)."""
    promise: Promise[T] = Promise()

    def keep() -> None:
        try:
            promise.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised where the answer is waited for
            promise.set_exception(error)

    threading.Thread(target=keep, name="daskscore-question", daemon=True).start()
    return promise.result(seconds)
