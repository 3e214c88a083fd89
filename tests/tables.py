"""What tests of tabular inputs share: cut files into pieces, read the pieces, and put them together again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import pandas

from daskscore.core.tables import Piece, Reading, Size
from daskscore.inputs.table_options import TableOptions
from daskscore.inputs.tables import decide_reading, table_pieces
from daskscore.scorer.tables import BadRecord, Reader

TEXT = pandas.Series([], dtype="str").dtype
"""Of a column of texts: `str` since pandas 3, `object` before."""


def opener(path: str) -> IO[bytes]:
    return open(path, "rb")


class Cut(NamedTuple):
    """An input, cut and read."""

    reading: Reading
    pieces: list[Piece]
    frames: list[pandas.DataFrame]
    bad: list[BadRecord]

    @property
    def whole(self) -> pandas.DataFrame:
        return pandas.concat(self.frames, ignore_index=True)


def cut(files: Path | Sequence[Path], size: str | Size, **options: Any) -> Cut:
    """As driver and scorer do it, with the reading and the pieces written down as JSON in between."""
    names = [str(file) for file in ([files] if isinstance(files, Path) else files)]
    reading = decide_reading(names, TableOptions.parse(options), opener)
    size = Size.parse(size) if isinstance(size, str) else size
    pieces: list[Piece] = json.loads(json.dumps(list(table_pieces(names, reading, size, opener))))
    reader = Reader([Reading.from_json(reading.to_json())])
    tables = [reader.read(piece) for piece in pieces]
    reader.close()
    for piece, table in zip(pieces, tables, strict=True):
        assert piece["items"] == len(table.frame) + (len(table.bad) if reading.on_bad_record == "skip" else 0)
        assert [str(dtype) for dtype in table.frame.dtypes] == [str(dtype) for dtype in tables[0].frame.dtypes]
    return Cut(reading, pieces, [table.frame for table in tables], [bad for table in tables for bad in table.bad])


def assert_each_record_once(pieces: Sequence[Piece]) -> None:
    """Pieces follow each other in their file and leave no record out."""
    next_row: dict[str, int] = {}
    for piece in pieces:
        assert piece["row"] == next_row.get(piece["file"], 0)
        assert piece["items"] > 0
        next_row[piece["file"]] = piece["row"] + piece["items"]
