"""CSV and JSON lines: a file's records as pieces, while it is read once from its start. Called in the driver."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import IO, NamedTuple, cast

from daskscore.core.decoding import DAMAGED, decoded
from daskscore.core.tables import Dialect, Format, Size, compression_of
from daskscore.errors import InputError
from daskscore.inputs.csv_borders import Stretch, stretches

Opener = Callable[[str], IO[bytes]]
"""A file of an input by the name under which it was listed, open at its start."""

LARGEST_RECORD = 1 << 28


class Cut(NamedTuple):
    """Consecutive records of a text."""

    start: int
    stop: int
    items: int
    row: int
    line: int


class Text:
    """What is left to read of one file, and how far it has been read."""

    def __init__(self, file: str, found: Iterator[Stretch], start: int) -> None:
        self.file = file
        self.found = found
        self.start = start
        self.lines = 0
        """That end before `start`."""

    def take_record(self) -> bytes:
        """The next record, with the blank lines and comments before it; nothing where there is none."""
        blocks: list[bytes] = []
        offset = self.start
        for stretch in self.found:
            if len(stretch.ends):
                stop = int(stretch.ends[0])
                blocks.append(stretch.block)
                self.lines += int(stretch.lines.searchsorted(stop, "right"))
                self.start = stop
                lines = stretch.lines[stretch.lines > stop]
                self.found = chain([stretch._replace(ends=stretch.ends[1:], lines=lines)], self.found)
                return b"".join(blocks)[: stop - offset]
            blocks.append(stretch.block)
            self.lines += len(stretch.lines)
            self._check_length(stretch, offset)
        return b""

    def take_bytes(self, number: int) -> tuple[bytes, bool]:
        """Whole records of about so many bytes in all, and whether they were the last; one never closed is left out."""
        blocks: list[bytes] = []
        stop = self.start
        for stretch in self.found:
            blocks.append(stretch.block[max(self.start - stretch.offset, 0) :])
            if len(stretch.ends) and stretch.block:
                enough = int(stretch.ends.searchsorted(self.start + number))
                stop = int(stretch.ends[min(enough, len(stretch.ends) - 1)])
            self._check_length(stretch, stop)
            if stretch.offset + len(stretch.block) >= self.start + number:
                return b"".join(blocks)[: stop - self.start], False
        return b"".join(blocks)[: stop - self.start], True

    def cuts(self, size: Size) -> Iterator[Cut]:
        """The records that are left, each in one piece."""
        start, line = self.start, self.lines + 1
        lines_before = self.lines
        row = waiting = 0
        stop = start
        for stretch in self.found:
            ends, done = stretch.ends, 0
            while True:
                last = done + size.rows - waiting - 1 if size.rows else int(ends.searchsorted(start + size.bytes))
                if last >= len(ends):
                    break
                stop = int(ends[last])
                items = waiting + last + 1 - done
                yield Cut(start, stop, items, row, line)
                row, start, done, waiting = row + items, stop, last + 1, 0
                line = lines_before + int(stretch.lines.searchsorted(stop, "right")) + 1
            waiting += len(ends) - done
            lines_before += len(stretch.lines)
            stop = int(ends[-1]) if len(ends) else stop
            self._check_length(stretch, stop)
        if waiting:
            yield Cut(start, stop, waiting, row, line)

    def _check_length(self, stretch: Stretch, last_end: int) -> None:
        if stretch.offset - last_end > LARGEST_RECORD:
            raise InputError(
                f"{self.file} has a record of more than {LARGEST_RECORD >> 20} MB, from byte {last_end} on: most likely "
                "a quote there is never closed. Mend the file, or say quoting: none if its quotes mean nothing"
            )


@contextmanager
def opened(file: str, format: Format, dialect: Dialect, opener: Opener) -> Iterator[Text]:
    """A file's text, past its byte order mark; what is wrong with its bytes becomes an InputError that names it."""
    compression = compression_of(file)
    try:
        with opener(file) as raw, decoded(raw, compression, dialect.encoding, decompress) as text:
            begun = text.read(len(codecs.BOM_UTF8))
            start = 0
            if begun == codecs.BOM_UTF8 and codecs.lookup(dialect.text_encoding).name.startswith("utf-8"):
                begun, start = b"", len(begun)
            csv = dialect if format is Format.CSV else None
            yield Text(file, stretches(text, csv, start, begun), start)
    except UnicodeError as error:
        raise InputError(f"{file} is no {dialect.encoding} text: {error}. Set encoding to what it is") from error
    except (*DAMAGED, OSError) as error:
        if not compression or getattr(error, "errno", None) is not None:
            raise
        raise InputError(
            f"{file} cannot be decompressed as {compression}: {error}. It is damaged or was not wholly written"
        ) from error


def decompress(file: IO[bytes], compression: str) -> IO[bytes]:
    """The compressions that Arrow knows and the standard library does not."""
    import pyarrow as pa

    return cast(IO[bytes], pa.CompressedInputStream(file, compression))
