"""Which bytes of a Parquet file a piece needs, so that a copy with these and holes in between can be read in its place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, Any

from daskscore.core.tables import Piece, Reading

TAIL_BYTES = 8
"""The length of what describes the file, and four letters."""


@dataclass(frozen=True, slots=True)
class Footer:
    """What stands at the end of a file and describes it."""

    metadata: Any
    size: int
    """Of the file."""

    @property
    def start(self) -> int:
        return self.size - TAIL_BYTES - int(self.metadata.serialized_size)


def length_of(tail: bytes) -> int:
    """How long the end of a file is that must be read to know it; given its last bytes, at least TAIL_BYTES of them."""
    return int.from_bytes(tail[-TAIL_BYTES:-4], "little") + TAIL_BYTES


def footer_of(file: IO[bytes], size: int) -> Footer:
    """`file` is the Parquet file, or at least its end; raises pyarrow.ArrowInvalid where it is no such thing."""
    import pyarrow.parquet as pq

    return Footer(pq.read_metadata(file), size)


def ranges_of(piece: Piece, reading: Reading, file: IO[bytes]) -> list[tuple[int, int]]:
    """From and to of each stretch, in order: what describes the file, and the piece's columns in its row groups.

    `file` need be open for no more than this; raises pyarrow.ArrowInvalid where it is no Parquet file.
    """
    size = file.seek(0, 2)
    first, last = piece["groups"]
    return ranges_in(footer_of(file, size), reading, first, last)


def ranges_in(footer: Footer, reading: Reading, first: int, last: int) -> list[tuple[int, int]]:
    """The same for all pieces in these row groups, from a footer that was read before."""
    wanted = {column.name for column in reading.stored}
    found = [(0, 4), (footer.start, footer.size)]
    for number in range(first, last + 1):
        group = footer.metadata.row_group(number)
        for index in range(group.num_columns):
            chunk = group.column(index)
            if not wanted.isdisjoint(_possible_names(chunk.path_in_schema)):
                start = min(chunk.dictionary_page_offset or chunk.data_page_offset, chunk.data_page_offset)
                found.append((start, start + chunk.total_compressed_size))
    return joined(found)


def joined(ranges: Iterable[tuple[int, int]], gap: int = 0) -> list[tuple[int, int]]:
    """Stretches in order, those made one that touch or are no further apart than `gap`."""
    found: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if found and start <= found[-1][1] + gap:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        else:
            found.append((start, stop))
    return found


def _possible_names(path: str) -> set[str]:
    """Of the column that a chunk belongs to: a dot may stand in a name, or between a column and what is inside it."""
    words = path.split(".")
    return {".".join(words[:number]) for number in range(1, len(words) + 1)}
