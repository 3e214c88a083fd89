"""All rows in one local file, in plan order."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from daskscore.errors import RunError
from daskscore.sinks.interface import Piece

OPEN_PARTS = 64
COPY_BYTES = 1 << 24
SHORT_PART = "a part is shorter than its journal says"


@dataclass(frozen=True, slots=True)
class AppendRow:
    """The file appears under its name when it is complete, and not before."""

    path: Path
    scratch: Path
    """On the same file system as `path`."""
    rows: Mapping[str, Any] = field(default_factory=dict)
    """How the scorers write rows; plain lines where nothing is said."""

    def assemble(self, pieces: Iterable[Piece], *, header: str | None) -> str:
        unfinished = self.scratch / f"{self.path.name}.unfinished"
        try:
            with unfinished.open("wb") as target:
                self._write(pieces, target, header)
                target.flush()
                os.fsync(target.fileno())
            unfinished.replace(self.path)
        except OSError as error:
            raise RunError(
                f"{error.strerror or error}: {self.path} could not be assembled. All rows are kept: free some space and run the "
                "same command with --resume"
            ) from error
        finally:
            unfinished.unlink(missing_ok=True)
        return str(self.path)

    def _write(self, pieces: Iterable[Piece], target: BinaryIO, header: str | None) -> None:
        match self.rows.get("format"):
            case "csv":
                from daskscore.sinks import csv_file

                csv_file.write(pieces, target, self.rows)
            case "parquet":
                from daskscore.sinks import parquet_file  # with pyarrow, which other formats do not wait for

                parquet_file.write(pieces, target, mixed_types=self.rows["mixed_types"])
            case _:
                target.write(encoded(header or ""))
                target.flush()
                _copy_all(pieces, target.fileno())


def encoded(header: str) -> bytes:
    """A header as it stands in the file."""
    try:
        return header.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return header.encode(errors="surrogatepass")


def _copy_all(pieces: Iterable[Piece], target: int) -> None:
    """Through the kernel; parts stay open while they are likely to be needed again."""
    with ExitStack() as stack:
        sources: dict[Path, int] = {}
        for piece in pieces:
            if piece.part not in sources:
                if len(sources) >= OPEN_PARTS:
                    stack.close()
                    sources.clear()
                sources[piece.part] = stack.enter_context(piece.part.open("rb", buffering=0)).fileno()
            _copy(sources[piece.part], target, piece.offset, piece.length)


def _copy(source: int, target: int, offset: int, length: int) -> None:
    while length:
        copied = (
            os.sendfile(target, source, offset, min(length, COPY_BYTES))
            if _SENDFILE
            else _by_hand(source, target, offset, min(length, COPY_BYTES))
        )
        if not copied:
            raise OSError(0, SHORT_PART)
        offset += copied
        length -= copied


def _by_hand(source: int, target: int, offset: int, length: int) -> int:
    return os.write(target, os.pread(source, length, offset))


_SENDFILE = hasattr(os, "sendfile") and os.uname().sysname == "Linux"
"""Elsewhere sendfile writes to sockets only."""
