"""An input of made-up items, so that a benchmark measures the engine and not a disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Items:
    """`count` short words: `item-0000000`, `item-0000001`, …"""

    count: int
    files: bool = False

    def items(self) -> Iterator[str]:
        return (f"item-{number:07d}" for number in range(self.count))
