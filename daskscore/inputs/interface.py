"""What every input offers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class Input(Protocol):
    """One entry of `inputs:`; made from the entry's options, in the driver."""

    files: bool
    """Items are paths that the scorer can open; otherwise they are words that only the script understands."""

    def items(self) -> Iterator[str]:
        """The items, the same ones in the same order each time; raises InputError for what cannot be read."""
        ...
