"""A script of async mode, which takes mini-batches with `enqueue` and gives results when it has them, called as `run`.

One mini-batch at a time: it is handed over, and its own result awaited. Within a mini-batch the script may do as much at
once as it likes; several mini-batches at once are several processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

FUNCTIONS = ("enqueue", "get_finished_batch_result", "check_all_tasks_processed")
FIRST_SECONDS, LONGEST_SECONDS = 0.001, 0.1
"""Between two questions for the result."""


class NoResult(Exception):
    """The script says that it is done with a mini-batch, and has not given its result."""


def has_queue(module: ModuleType) -> bool:
    return all(callable(getattr(module, name, None)) for name in FUNCTIONS)


def one_by_one(module: ModuleType, *, takes_context: bool) -> Callable[[Any, Any], Any]:
    """`run(mini_batch, context)` of such a script; `run_invocation_timeout` is the time for a result."""

    def run(mini_batch: Any, context: Any) -> Any:
        module.enqueue(*((mini_batch, context) if takes_context else (mini_batch,)))
        for seconds in _pauses():
            nothing_more = module.check_all_tasks_processed()  # before the question: a result may come in between
            finished = module.get_finished_batch_result() or {}
            for key, found in finished.items():
                if str(key) == str(context.minibatch_index):
                    return _result(found)
            if nothing_more:
                raise NoResult(
                    f"check_all_tasks_processed() is true, and get_finished_batch_result() has nothing for mini-batch "
                    f"{context.minibatch_index}. Its keys must be the minibatch_index of the context; they were: "
                    f"{', '.join(map(repr, finished)) or 'none'}"
                )
            time.sleep(seconds)

    return run


def _result(found: Any) -> Any:
    """What run() would have returned, or raised."""
    if not isinstance(found, Mapping):
        return found
    if (error := found.get("exception")) is not None:
        raise error if isinstance(error, BaseException) else RuntimeError(str(error))
    return found.get("ret")


def _pauses() -> Iterator[float]:
    seconds = FIRST_SECONDS
    while True:
        yield seconds
        seconds = min(2 * seconds, LONGEST_SECONDS)
