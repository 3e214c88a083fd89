"""Steps of sorting that are with Dask: never more than keep its workers busy, and sent again when a worker is lost."""

from __future__ import annotations

import asyncio
import queue
import secrets
import time
from collections.abc import Callable
from typing import Any

from distributed import Client, Future

from daskscore.driver.workers import CALL_SECONDS, NO_ANSWER, within
from daskscore.errors import DaskscoreError, InternalError, RunError
from daskscore.worker.sorting import attempt

LOOK_SECONDS = 0.25
SILENCE_SECONDS = 600.0
LOSSES = 5
"""So many workers may be lost with the same step."""
STEPS_PER_THREAD = 2
LOST = ("KilledWorker", "TimeoutError", "CancelledError", "FutureCancelledError", "CommClosedError")


class Flight:
    """The steps of one kind; they may run twice, as what they leave is the same."""

    def __init__(self, client: Client, interrupted: Callable[[], bool], silence_seconds: float) -> None:
        self._client = client
        self._interrupted = interrupted
        self._silence_seconds = silence_seconds
        self._name = f"daskscore-sort-{secrets.token_hex(4)}"
        self._calls: dict[int, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = {}
        self._losses: dict[int, int] = {}
        self._futures: dict[int, Future[Any]] = {}
        self._answers: dict[int, Any] = {}
        self._done: queue.SimpleQueue[tuple[int, Future[Any]]] = queue.SimpleQueue()
        self._given = 0

    def give(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        """Send it as soon as there is room for it."""
        while len(self._futures) >= max(1, STEPS_PER_THREAD * self._threads()):
            self._wait()
        self._calls[self._given] = (function, arguments, named)
        self._send(self._given)
        self._given += 1

    def finish(self) -> list[Any]:
        """What all have answered, in the order in which they were given."""
        while self._futures:
            self._wait()
        return [self._answers[number] for number in range(self._given)]

    def close(self) -> None:
        """Forget those that are on their way."""
        if self._futures:
            self._client.cancel(list(self._futures.values()), force=True)
        for future in self._futures.values():
            future.release()
        self._futures.clear()

    def _send(self, number: int) -> None:
        function, arguments, named = self._calls[number]
        key = f"{self._name}-{number}-{self._losses.get(number, 0)}"
        future = self._client.submit(attempt, function, *arguments, **named, key=key, pure=False, retries=0)
        self._futures[number] = future
        future.add_done_callback(lambda done: self._done.put((number, done)))

    def _wait(self) -> None:
        """For one of them."""
        deadline = time.monotonic() + self._silence_seconds
        while True:
            if self._interrupted():
                raise RunError("interrupted while records were sorted by partition_keys. Start it anew")
            try:
                number, future = self._done.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                if time.monotonic() > deadline:
                    raise RunError(
                        f"no Dask worker has sorted anything by partition_keys for {self._silence_seconds:g} s "
                        f"(the workers have {self._threads()} threads). Look at their logs"
                    ) from None
                continue
            if self._futures.get(number) is future:
                self._take(number, future)
                return

    def _take(self, number: int, future: Future[Any]) -> None:
        try:
            answer = future.result(timeout=CALL_SECONDS)
        except (Exception, asyncio.CancelledError) as error:
            if type(error).__name__ not in LOST:
                raise InternalError(f"a worker could not sort records by partition_keys: {error!r}") from error
            self._lose(number)
            return
        if isinstance(answer, DaskscoreError):
            raise answer
        self._answers[number] = answer
        del self._calls[number], self._futures[number]
        future.release()

    def _lose(self, number: int) -> None:
        self._losses[number] = self._losses.get(number, 0) + 1
        if self._losses[number] > LOSSES:
            raise RunError(
                f"{LOSSES + 1} Dask workers were lost while they sorted the same records by partition_keys. They may need "
                "more memory"
            )
        self._send(number)

    def _threads(self) -> int:
        """Of all workers."""
        try:
            return sum(within(CALL_SECONDS, self._client.nthreads).values())
        except NO_ANSWER as error:
            raise RunError(
                "the Dask scheduler does not answer while records are sorted by partition_keys. Start it anew"
            ) from error
