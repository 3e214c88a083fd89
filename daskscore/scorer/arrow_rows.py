"""Rows of Parquet, Feather and Arrow files, in Arrow's own memory. Called in the scorer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from daskscore.core.tables import Piece

BATCH_ROWS = 1 << 16
BUFFER_BYTES = 1 << 20


class Changed(Exception):
    """The file no longer has the rows that it had when the run was planned."""


class ParquetRows:
    """One open Parquet file. Pieces of a row group that come in their order cost the reading of the group once."""

    def __init__(self, path: str, columns: list[str]) -> None:
        import pyarrow.parquet as pq

        self.columns = columns
        # Read through small buffers and not by whole column chunks, so that memory does not grow with the row group.
        self.file = pq.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False)
        self.schema = _schema(self.file.schema_arrow, columns)
        self.starts = [0]
        for number in range(self.file.num_row_groups):
            self.starts.append(self.starts[-1] + self.file.metadata.row_group(number).num_rows)
        self.rows = _Forward(iter(()), self.starts[-1])

    def take(self, piece: Piece) -> Any:
        """The piece's rows as an Arrow table."""
        import pyarrow as pa

        first, last = piece["groups"]
        if last + 1 >= len(self.starts):
            raise Changed
        start, stop = (self.starts[first] + row for row in piece["rows"])
        if not self.starts[first] <= self.rows.position <= start:
            self.rows = _Forward(self._batches(first, min(BATCH_ROWS, max(stop - start, 1024))), self.starts[first])
        return pa.Table.from_batches(self.rows.take(start, stop), self.schema)

    def _batches(self, first: int, rows: int) -> Iterator[Any]:
        """From a row group on, one after the other: those further on need not be there."""
        for group in range(first, len(self.starts) - 1):
            yield from self.file.iter_batches(rows, row_groups=[group], columns=self.columns, use_threads=False)

    def close(self) -> None:
        """Let go of the file."""
        self.file.close()


class ArrowRows:
    """One open Arrow or Feather file, mapped into memory: rows that are not compressed are not copied."""

    def __init__(self, path: str, columns: list[str]) -> None:
        import pyarrow as pa

        self.file = pa.memory_map(path)
        self.reader = pa.ipc.open_file(self.file)
        self.columns = columns
        self.schema = _schema(self.reader.schema, columns)
        self.last: tuple[int, Any] = (-1, None)

    def take(self, piece: Piece) -> Any:
        """The piece's rows as an Arrow table."""
        first, last = piece["groups"]
        start, stop = piece["rows"]
        if last >= self.reader.num_record_batches:
            raise Changed
        return self._table(first, last).slice(start, stop - start)

    def take_all(self) -> Any:
        """All rows of the file as an Arrow table."""
        return self._table(0, self.reader.num_record_batches - 1)

    def close(self) -> None:
        """Let go of the file; rows that were taken stay what they are."""
        self.file.close()

    def _table(self, first: int, last: int) -> Any:
        import pyarrow as pa

        return pa.Table.from_batches([self._batch(number) for number in range(first, last + 1)], self.schema)

    def _batch(self, number: int) -> Any:
        """A batch, decompressed once for all the pieces that are cut from it one after the other."""
        if self.last[0] != number:
            self.last = (number, self.reader.get_batch(number).select(self.columns))
        return self.last[1]


class _Forward:
    """Batches of consecutive rows, of which any are taken in order."""

    def __init__(self, batches: Iterator[Any], position: int) -> None:
        self.batches = batches
        self.rest: Any = None
        self.position = position
        """The row that is next."""

    def take(self, start: int, stop: int) -> list[Any]:
        found = []
        while self.position < stop:
            if self.rest is None or not self.rest.num_rows:
                self.rest = next(self.batches, None)
                if self.rest is None:
                    raise Changed
            skipped = min(max(start - self.position, 0), self.rest.num_rows)
            used = min(stop - self.position, self.rest.num_rows)
            if used > skipped:
                found.append(self.rest.slice(skipped, used - skipped))
            self.position += used
            self.rest = self.rest.slice(used)
        return found


def _schema(schema: Any, columns: list[str]) -> Any:
    import pyarrow as pa

    return pa.schema([schema.field(name) for name in columns])
