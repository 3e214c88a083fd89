"""The blocks of committed rows, in plan order, as often as they are wanted and in little memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from daskscore.core.row_blocks import LENGTHS
from daskscore.sinks.append_row import COPY_BYTES, OPEN_PARTS, SHORT_PART
from daskscore.sinks.interface import Piece

READ_BYTES = 1 << 17


@dataclass(slots=True)
class Body:
    """The rows of a block; to be taken before the next block is asked for."""

    file: BinaryIO
    length: int

    def read(self) -> bytes:
        return _exactly(self.file, self.length)

    def copy(self, target: BinaryIO) -> None:
        left = self.length
        while left:
            left -= target.write(_exactly(self.file, min(left, COPY_BYTES)))


@dataclass(slots=True)
class Blocks:
    parts: list[Path] = field(default_factory=list)
    _pieces: array[int] = field(default_factory=lambda: array("q"))
    """Part, offset and length, one after the other: a million of them are no million objects."""

    @classmethod
    def of(cls, pieces: Iterable[Piece]) -> Blocks:
        blocks = cls()
        numbers: dict[Path, int] = {}
        for piece in pieces:
            number = numbers.setdefault(piece.part, len(numbers))
            blocks._pieces.extend((number, piece.offset, piece.length))
        blocks.parts = list(numbers)
        return blocks

    def __iter__(self) -> Iterator[tuple[bytes, Body]]:
        """Each block's head, and its body."""
        with ExitStack() as stack:
            files: dict[int, BinaryIO] = {}
            for place in range(0, len(self._pieces), 3):
                part, offset, length = self._pieces[place : place + 3]
                if part not in files:
                    if len(files) >= OPEN_PARTS:
                        stack.close()
                        files.clear()
                    files[part] = stack.enter_context(self.parts[part].open("rb", buffering=READ_BYTES))
                yield from _in_piece(files[part], offset, offset + length)


def _in_piece(file: BinaryIO, place: int, stop: int) -> Iterator[tuple[bytes, Body]]:
    while place < stop:
        file.seek(place)
        head_length, body_length = LENGTHS.unpack(_exactly(file, LENGTHS.size))
        place += LENGTHS.size + head_length + body_length
        if place > stop:
            raise OSError(0, SHORT_PART)
        yield _exactly(file, head_length), Body(file, body_length)


def _exactly(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise OSError(0, SHORT_PART)
    return data
