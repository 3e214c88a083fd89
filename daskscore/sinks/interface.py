"""What every sink offers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol


class Piece(NamedTuple):
    """Rows that stand in one part, one after the other."""

    part: Path
    offset: int
    length: int


class Sink(Protocol):
    """Made from the job; the scorer's half of it (what a row looks like) is `scorer/rows`."""

    def assemble(self, pieces: Iterable[Piece], *, header: str | None) -> str:
        """Make the output from the rows in plan order, whole or not at all; where the user finds it."""
        ...
