"""What a scoring script may say about its items and about its troubles. Nothing is imported here: scorers are light."""

from __future__ import annotations

__all__ = ["Failed", "Retry"]


class Failed:
    """In the place of an item's result: there is none, and this is why. The mini-batch's other rows are kept.

    return [score(item) if usable(item) else daskscore.Failed("no face in the picture") for item in mini_batch]
    """

    __slots__ = ("reason",)

    def __init__(self, reason: object = "the script says so") -> None:
        self.reason = str(reason)

    def __repr__(self) -> str:
        return f"Failed({self.reason!r})"


class Retry(Exception):
    """Raised by run(): what it needs is not there for the moment. The mini-batch is tried again later.

    Other mini-batches have the process meanwhile, and it counts as none of the job's tries (`run_max_try`).
    """

    def __init__(self, reason: object = "it is to be tried again", *, after: float = 0.0) -> None:
        super().__init__(str(reason))
        self.after = float(after)
        """So many seconds at least."""
