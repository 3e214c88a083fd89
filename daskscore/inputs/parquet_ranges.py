"""Which bytes of a Parquet file a piece needs, so that a copy with these and holes in between can be read in its place."""

from __future__ import annotations

from typing import IO

from daskscore.core.tables import Piece, Reading

_TAIL = 8
"""The length of what describes the file, and four letters."""


def ranges_of(piece: Piece, reading: Reading, file: IO[bytes]) -> list[tuple[int, int]]:
    """From and to of each stretch, in order: what describes the file, and the piece's columns in its row groups.

    `file` need be open for no more than this; raises pyarrow.ArrowInvalid where it is no Parquet file.
    """
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(file)
    size = file.seek(0, 2)
    file.seek(size - _TAIL)
    described = int.from_bytes(file.read(4), "little") + _TAIL
    wanted = {column.name for column in reading.stored}
    found = [(0, 4), (size - described, size)]
    first, last = piece["groups"]
    for number in range(first, last + 1):
        group = metadata.row_group(number)
        for index in range(group.num_columns):
            chunk = group.column(index)
            if chunk.path_in_schema.split(".")[0] in wanted:
                dictionary = chunk.dictionary_page_offset
                start = chunk.data_page_offset if dictionary is None else min(dictionary, chunk.data_page_offset)
                found.append((start, start + chunk.total_compressed_size))
    return _joined(sorted(found))


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Stretches that touch are one."""
    found: list[tuple[int, int]] = []
    for start, stop in ranges:
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        else:
            found.append((start, stop))
    return found
