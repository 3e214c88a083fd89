"""Files of records at local paths for as long as one task needs them. Runs in the worker."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import get_worker

from daskscore.core.tables import COMPRESSIONS_BY_SUFFIX, Format, Piece, Reading
from daskscore.errors import RunError
from daskscore.inputs.addresses import is_remote
from daskscore.inputs.parquet_ranges import ranges_of
from daskscore.inputs.stores import Stores
from daskscore.inputs.troubles import explain

Bring = Callable[[Piece], tuple[str, int]]
"""Where a piece's file is now, and at which byte of the file that begins; the piece before is not needed any more."""


@contextmanager
def brought(reading: Reading, stores: Stores | None) -> Iterator[Bring]:
    """Files of this machine stay where they are; of others, what the pieces need is copied."""
    if stores is None:
        yield lambda piece: (piece["file"], 0)
        return
    with tempfile.TemporaryDirectory(prefix="records-", dir=get_worker().local_directory) as scratch:
        yield _Copies(reading, stores, Path(scratch))


class _Copies:
    """One at a time."""

    def __init__(self, reading: Reading, stores: Stores, scratch: Path) -> None:
        self.reading = reading
        self.stores = stores
        self.scratch = scratch
        self.number = 0
        self.whole: tuple[str, str] = ("", "")
        """The file that was copied last, if it was copied whole, and where it is."""

    def __call__(self, piece: Piece) -> tuple[str, int]:
        file = piece["file"]
        if not is_remote(file):
            return file, 0
        if file == self.whole[0]:
            return self.whole[1], 0
        for old in self.scratch.iterdir():
            old.unlink()
        self.number += 1
        ending = os.path.splitext(file)[1].lower()
        path = self.scratch / f"{self.number}{ending if ending in COMPRESSIONS_BY_SUFFIX else ''}"
        try:
            return str(path), self._copy(piece, path)
        except Exception as error:
            if not isinstance(error, OSError) and explain(error) is None:
                raise
            raise RunError(f"{file} cannot be read: {self.stores.mask(str(error))}") from None

    def _copy(self, piece: Piece, path: Path) -> int:
        filesystem, source = self.stores.filesystem(piece["file"])
        if "bytes" in piece:
            start, stop = piece["bytes"]
            path.write_bytes(filesystem.cat_file(source, start=start, end=stop))
            return start
        if self.reading.format is Format.PARQUET:
            with filesystem.open(source, "rb") as whole, path.open("wb") as part:
                for start, stop in ranges_of(piece, self.reading, whole):
                    whole.seek(start)
                    part.seek(start)
                    part.write(whole.read(stop - start))
            return 0
        filesystem.get_file(source, str(path))
        self.whole = (piece["file"], str(path))
        return 0
