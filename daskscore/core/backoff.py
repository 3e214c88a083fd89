"""How long to wait before something that may pass by itself is tried again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that double, so that a storage in trouble is not made worse; spread, so that many do not come back at once."""

    attempts: int = 12
    seconds: float = 300.0
    """No other attempt begins when this long has passed since the first one."""
    first_pause: float = 0.2
    longest_pause: float = 20.0

    def pause(self, failures: int, elapsed: float, chance: float) -> float | None:
        """Seconds to wait after the n-th failure, between half and all of the pause; None: it was the last attempt.

        `chance` is a random number from 0 to 1.
        """
        if failures >= self.attempts or elapsed >= self.seconds:
            return None
        # 2 ** 30 is long past any pause; a larger power would be no float some day.
        pause = min(self.longest_pause, self.first_pause * 2.0 ** min(failures - 1, 30))
        return pause * (1 + chance) / 2
