"""The pieces of a tabular input as the DataFrames that `run()` is given. Called in the scorer, once per mini-batch.

Files are local here. A piece needs no more of its file than its own bytes or row groups; where the worker has brought
only those, it says at which byte of the file they begin, or hands over the rows as an Arrow file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from daskscore.core.decoding import DAMAGED, decoded, skip
from daskscore.core.partition_formats import hive_values, path_columns, path_values
from daskscore.core.sorted_rows import AS_JSON
from daskscore.core.tables import Format, OnBadRecord, Piece, Reading, compression_of
from daskscore.scorer.arrow_frames import frame_of
from daskscore.scorer.arrow_rows import ArrowRows, Changed, ParquetRows
from daskscore.scorer.delimited import CsvParser
from daskscore.scorer.fitting import Bad, Misfit, series_of_texts
from daskscore.scorer.json_lines import JsonParser

if TYPE_CHECKING:
    import pandas


class BadRecord(NamedTuple):
    """A record that the script does not see, or sees mended."""

    row: int
    """Its number in its file, from 0."""
    place: str
    """Like `data/a.csv line 12`."""
    reason: str


class Table(NamedTuple):
    """What a piece holds."""

    frame: pandas.DataFrame
    bad: list[BadRecord]


class Unreadable(Exception):
    """A piece cannot be read; the text says why and what to do. It is no fault of the script."""


class Reader:
    """Reads the pieces of all inputs of a job; `readings` is in the order of the inputs.

    Keeps the file of the last piece open: the next one most often begins where that one ended.
    """

    def __init__(self, readings: Sequence[Reading]) -> None:
        self.readings = readings
        self.open_path = ""
        self.open_file: ParquetRows | ArrowRows | _Text | None = None
        self.csv: CsvParser | None = None

    def read(self, piece: Piece, path: str = "", first_byte: int = 0) -> Table:
        """The piece's records; raises Unreadable, and for a bad record too where `on_bad_record` is fail.

        `path`: where the file is, if not at its own name; its first byte here is `first_byte` of the file.
        """
        reading = self.readings[piece["input"]]
        path = os.path.join(reading.folder, path or piece["file"])
        try:
            if reading.format in (Format.PARQUET, Format.ARROW):
                frame, bad = frame_of(self._take_rows(piece, reading, path), reading)
            else:
                frame, bad = self._parse(self._text(piece, reading, path, first_byte), piece, reading)
        except (OSError, *DAMAGED) as error:
            self.close()
            raise Unreadable(f"{piece['file']} cannot be read: {error}") from error
        except Changed:
            self.close()
            raise _changed(piece) from None
        except Misfit as misfit:
            raise Unreadable(
                f"{piece['file']}: column {misfit} holds something that is not as dtypes: says, or as was sampled from "
                f"{reading.sample}. Declare it as str"
            ) from misfit
        return self._finish(frame, bad, piece, reading)

    def read_arrow(self, piece: Piece, path: str) -> Table:
        """The piece's records out of an Arrow file that holds these and no others."""
        reading = self.readings[piece["input"]]
        rows = ArrowRows(path, [column.name for column in reading.stored])
        frame, bad = frame_of(rows.take_all(), reading)
        rows.close()
        return self._finish(frame, bad, piece, reading)

    def close(self) -> None:
        """Let go of the file of the last piece."""
        if self.open_file is not None:
            self.open_file.close()
        self.open_path, self.open_file = "", None

    def _take_rows(self, piece: Piece, reading: Reading, path: str) -> Any:
        try:
            return self._rows(reading, path).take(piece)
        except (KeyError, ValueError) as error:
            raise OSError(f"{error} (it could when the run was planned)") from error

    def _rows(self, reading: Reading, path: str) -> ParquetRows | ArrowRows:
        if path != self.open_path or not isinstance(self.open_file, (ParquetRows, ArrowRows)):
            self.close()
            columns = [column.name for column in reading.stored]
            rows = ParquetRows(path, columns) if reading.format is Format.PARQUET else ArrowRows(path, columns)
            self.open_path, self.open_file = path, rows
            return rows
        return self.open_file

    def _text(self, piece: Piece, reading: Reading, path: str, first_byte: int) -> bytes:
        if "bytes" in piece:
            start, stop = piece["bytes"]
            with open(path, "rb", buffering=0) as file:
                file.seek(start - first_byte)
                text = file.read(stop - start)
        else:
            start, stop = piece["decoded"]
            stream = self.open_file
            if path != self.open_path or not isinstance(stream, _Text) or stream.position > start:
                self.close()
                stream = _Text(path, reading.dialect.encoding)
                self.open_path, self.open_file = path, stream
            text = stream.take(start, stop)
        if len(text) < stop - start:
            raise Changed
        return text

    def _parse(self, text: bytes, piece: Piece, reading: Reading) -> tuple[pandas.DataFrame, list[Bad]]:
        if reading.format is Format.JSONL:
            return JsonParser(reading).read(text)
        names = tuple(piece.get("header", reading.header))
        if self.csv is None or self.csv.reading is not reading or self.csv.names != names:
            self.csv = CsvParser(reading, names)
        frame, examined = self.csv.read(text, piece["items"])
        return frame, examined.bad

    def _finish(self, frame: pandas.DataFrame, found: list[Bad], piece: Piece, reading: Reading) -> Table:
        bad = [_named(each, piece) for each in found]
        if bad and reading.on_bad_record is OnBadRecord.FAIL:
            others = f" ({len(bad) - 1} other bad records in this mini-batch)" if bad[1:] else ""
            raise Unreadable(f"{bad[0].place}: {bad[0].reason}{others}. Mend it, or say on_bad_record: skip or keep")
        dropped = 0 if reading.on_bad_record is OnBadRecord.KEEP else len(bad)
        if len(frame) + dropped != piece["items"]:
            raise _changed(piece)
        try:
            return Table(_in_order(frame, piece, reading), bad)
        except Misfit as misfit:
            raise Unreadable(
                f"{piece['file']}: the value of column {misfit} in its name is not what dtypes: says. Declare it as str"
            ) from None


def joined(frames: Sequence[pandas.DataFrame]) -> pandas.DataFrame:
    """Pieces of one mini-batch, one after the other; their columns and dtypes are the same."""
    import pandas

    named = any(name is not None for name in frames[0].index.names)
    return pandas.concat(frames, ignore_index=not named)


class _Text:
    """The text of a file that cannot be cut, read forward."""

    def __init__(self, path: str, encoding: str) -> None:
        self.file = open(path, "rb")  # noqa: SIM115  # closed by Reader.close
        self.text = decoded(self.file, compression_of(path), encoding, _decompress)
        self.position = 0

    def take(self, start: int, stop: int) -> bytes:
        self.position += skip(self.text, start - self.position)
        found = []
        while self.position < stop and (read := self.text.read(stop - self.position)):
            found.append(read)
            self.position += len(read)
        return b"".join(found)

    def close(self) -> None:
        self.file.close()


def _decompress(file: IO[bytes], compression: str) -> IO[bytes]:
    import pyarrow as pa

    return cast(IO[bytes], pa.CompressedInputStream(file, compression))


def _in_order(frame: pandas.DataFrame, piece: Piece, reading: Reading) -> pandas.DataFrame:
    """All columns of the input, in order: those from the file's name too, and those that this file lacks."""
    import pandas

    values: dict[str, Any] = {**hive_values(piece["file"]), reading.path_column: piece["file"]}
    keys = [column.name for column in path_columns(reading.partition_format)]
    values.update(zip(keys, path_values(reading.partition_format, piece["file"]) or (), strict=False))
    for column in reading.columns:
        if column.name not in frame:
            text = values[column.name] if column.from_path else float("nan")
            one = series_of_texts(pandas.Series([text], dtype="str"), column)
            frame[column.name] = one.iloc[[0] * len(frame)].array
        elif column.source == AS_JSON:
            found = [json.loads(text) for text in frame[column.name]]
            frame[column.name] = pandas.Series(found, index=frame.index, dtype="object")
    names = [column.name for column in reading.columns]
    if list(frame.columns) != names:
        frame = frame[names]
    if reading.index:
        frame = frame.set_index(list(reading.index))
        frame.index.names = [None if str(name).startswith("__index_level_") else name for name in frame.index.names]
    return frame


def _named(bad: Bad, piece: Piece) -> BadRecord:
    row = piece["row"] + bad.position
    place = f"line {piece['line'] + bad.line}" if "line" in piece and bad.line >= 0 else f"row {row}"
    return BadRecord(row, f"{piece['file']} {place}", bad.reason)


def _changed(piece: Piece) -> Unreadable:
    return Unreadable(f"{piece['file']} has changed since the run was planned. Start the job anew without --resume")
