"""What `run()` is given: the mini-batch, and what is known about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


class MiniBatch(list[str]):
    """The items of one mini-batch; a list, so that a script may return it as it is."""

    task_id: int

    def __init__(self, items: list[str], task_id: int) -> None:
        super().__init__(items)
        self.task_id = task_id

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"'MiniBatch' object has no attribute {name!r}: it is a list of paths. For a DataFrame of records, say "
            "type: tabular of the input"
        )


@dataclass(slots=True)
class MiniBatchContext:
    """The second argument of a `run` that takes one."""

    minibatch_index: int
    retry_count: int
    """0 on the first try."""
    partition_key_value: dict[str, Any] = field(default_factory=dict)
    dataset: Any = None
