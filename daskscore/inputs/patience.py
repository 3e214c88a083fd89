"""How long to wait for a storage, and how often to ask it again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from daskscore.core.backoff import Backoff


@dataclass(frozen=True, slots=True)
class Patience:
    """The same for all that is asked in one place; tests give a smaller one."""

    silence_seconds: float = 30.0
    """Without a byte for this long, connection and login included, a storage is asked anew."""
    backoff: Backoff = field(default_factory=Backoff)
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random

    def pause(self, failures: int, first_asked: float) -> float | None:
        """Seconds to wait after the n-th failure; None: that was enough."""
        return self.backoff.pause(failures, self.clock() - first_asked, self.chance())
