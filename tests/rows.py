"""Rows on their whole way in one process: what `run()` returned, the blocks of a part, the assembled file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from daskscore.scorer.rows import RowFormat
from daskscore.sinks.append_row import AppendRow
from daskscore.sinks.interface import Piece

CSV = RowFormat(format="csv", separator=",", header=True)
PARQUET = RowFormat(format="parquet")


def assembled(folder: Path, how: RowFormat, *results: Any, parts: int = 1, joined: bool = False) -> Path:
    """The file of some mini-batches' results; their rows stand in some parts, as neighbours or each by itself."""
    folder.mkdir(exist_ok=True)
    pieces: list[Piece] = []
    for number, result in enumerate(results):
        part, data = folder / f"part{number % parts}", how.render(result).data
        with part.open("ab") as file:
            offset = file.tell()
            file.write(data)
        if data:
            pieces.append(Piece(part, offset, len(data)))
    sink = AppendRow(folder / "rows", folder, asdict(how))
    return Path(sink.assemble(iter(_joined(pieces) if joined else pieces), header=None))


def _joined(pieces: Iterable[Piece]) -> list[Piece]:
    """Neighbours as one, like the account has them."""
    found: list[Piece] = []
    for piece in pieces:
        if found and found[-1].part == piece.part and found[-1].offset + found[-1].length == piece.offset:
            found[-1] = found[-1]._replace(length=found[-1].length + piece.length)
        else:
            found.append(piece)
    return found
