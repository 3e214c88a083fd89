"""All rows in one local file, in plan order."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from daskscore.errors import RunError
from daskscore.sinks.interface import Piece

OPEN_PARTS = 64
COPY_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class AppendRow:
    """The file appears under its name when it is complete, and not before."""

    path: Path
    scratch: Path
    """On the same file system as `path`."""

    def assemble(self, pieces: Iterable[Piece], *, header: str | None) -> str:
        unfinished = self.scratch / f"{self.path.name}.unfinished"
        try:
            with unfinished.open("wb") as target:
                if header is not None:
                    target.write(header.encode(errors="surrogateescape"))
                    target.flush()
                _copy_all(pieces, target.fileno())
                os.fsync(target.fileno())
            unfinished.replace(self.path)
        except OSError as error:
            raise RunError(
                f"{error.strerror}: {self.path} could not be assembled. All rows are kept: free some space and run the "
                "same command with --resume"
            ) from error
        finally:
            unfinished.unlink(missing_ok=True)
        return str(self.path)


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
            raise OSError(0, "a part is shorter than its journal says")
        offset += copied
        length -= copied


def _by_hand(source: int, target: int, offset: int, length: int) -> int:
    return os.write(target, os.pread(source, length, offset))


_SENDFILE = hasattr(os, "sendfile") and os.uname().sysname == "Linux"
"""Elsewhere sendfile writes to sockets only."""
