"""What driver, worker and scorer must say alike of a table: its pieces, and how each of them is read."""

from __future__ import annotations

import codecs
import csv
import json
import re
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Any, NotRequired, Self, TypedDict

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class Format(StrEnum):
    """What a file of records is written in."""

    CSV = "csv"
    """Records of delimited fields; tab-separated values are one dialect of it."""
    JSONL = "jsonl"
    PARQUET = "parquet"
    ARROW = "arrow"
    """An Arrow IPC file, which is also what Feather 2 is."""


class Header(StrEnum):
    """Which first records of CSV files are no data but the names of the columns."""

    FIRST_ROW = "first_row"
    """In each file its own: all name the same columns, in any order."""
    NONE = "none"
    """None: columns are called Column1, Column2 and so on, or what the user calls them."""
    FROM_FIRST_FILE = "from_first_file"
    ALL_FILES_SAME_HEADERS = "all_files_same_headers"
    """In each file, and only the first file's are read."""
    ALL_FILES_DIFFERENT_HEADERS = "all_files_different_headers"
    """In each file its own; a column that a file lacks is missing in its records."""


class OnBadRecord(StrEnum):
    """What becomes of a record that cannot be read; each is counted and named, whatever it is."""

    FAIL = "fail"
    """The mini-batch fails."""
    SKIP = "skip"
    """The script does not see the record."""
    KEEP = "keep"
    """The script sees it: surplus fields are cut off, and a value that does not fit its column is missing."""


class Piece(TypedDict):
    """One mini-batch of a table, as its line of the plan has it: consecutive records of one file."""

    input: int
    """Which of the job's inputs."""
    file: str
    items: int
    """How many records, bad ones included."""
    row: int
    """The first record's number in its file, from 0; so record k of the piece is record row + k of the file."""
    line: NotRequired[int]
    """Of text: the number of the piece's first line in its file, from 1."""
    bytes: NotRequired[list[int]]
    """Of text: from and to, in the file as it stands."""
    decoded: NotRequired[list[int]]
    """Instead of `bytes` where a file cannot be cut: from and to, in its text once decompressed and made UTF-8."""
    header: NotRequired[list[str]]
    """Of CSV: this file's own columns, where they are not those of `Reading.header`."""
    groups: NotRequired[list[int]]
    """Of Parquet the first and last row group, of Arrow the first and last record batch."""
    rows: NotRequired[list[int]]
    """From and to, counted from the start of the first of `groups`."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large a mini-batch of records is: bytes of the file (a piece is as large or a record larger), or rows."""

    bytes: int = 0
    rows: int = 0

    @classmethod
    def parse(cls, text: str | int) -> Self:
        """`1MB` and `100 kb` (binary units; a bare number is bytes), or `5000 rows`; raises ValueError for others."""
        found = re.fullmatch(r"\s*(\d+)\s*(?:(rows?)|(?:([kmgt])i?)?b?)\s*", str(text), re.IGNORECASE)
        if not found or not int(found[1]):
            raise ValueError("is no size of a mini-batch of records. Give bytes like 1MB, or rows like 5000 rows")
        number = int(found[1])
        return cls(rows=number) if found[2] else cls(bytes=number * _UNITS[(found[3] or "").lower()])


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written. Each sign is one ASCII character, or nothing where files have none."""

    delimiter: str = ","
    quote: str = '"'
    double_quote: bool = True
    """A quote inside a quoted field is written twice."""
    escape: str = ""
    comment: str = ""
    """From here to the end of the line there is no data."""
    skip_initial_space: bool = False
    decimal: str = "."
    encoding: str = "utf-8"
    empty_as_string: bool = False
    """An empty field of a text column is the empty text; otherwise it is missing."""

    @property
    def blanks(self) -> bytes:
        """A line of nothing but these has no record."""
        return b" \t".replace(self.delimiter.encode(), b"")

    @property
    def parser_options(self) -> dict[str, Any]:
        """As arguments of pandas.read_csv."""
        return {
            "delimiter": self.delimiter,
            "quoting": csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            "quotechar": self.quote or '"',
            "doublequote": self.double_quote,
            "escapechar": self.escape or None,
            "comment": self.comment or None,
            "skipinitialspace": self.skip_initial_space,
            "decimal": self.decimal,
        }

    @cached_property
    def text_encoding(self) -> str:
        """The encoding of the bytes that pieces are cut from; files in others are made UTF-8 first."""
        return self.encoding if is_cuttable(self.encoding) else "utf-8"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the mini-batch, and the one dtype it has in each of them."""

    name: str
    dtype: str
    """A name of `DTYPES`, or empty: what Arrow makes of the file's own type, or Python of JSON."""
    declared: bool = False
    """The dtype is the user's word; otherwise it was sampled."""
    from_path: bool = False
    """Its value is found in the name of the file."""
    formats: tuple[str, ...] = ()
    """How dates are written, tried in this order; ISO 8601 where empty."""
    true_values: tuple[str, ...] = ()
    false_values: tuple[str, ...] = ()
    source: str = ""
    """The type in the file, where files have types."""

    @property
    def dtype_with_room(self) -> str:
        """The dtype, or the one like it that has room for a missing value."""
        if self.dtype == "bool":
            return "boolean"
        return self.dtype.replace("i", "I", 1).replace("u", "U", 1) if self.dtype in INTEGERS else self.dtype

    @property
    def has_room(self) -> bool:
        """Whether a value can be missing."""
        return self.dtype_with_room == self.dtype


@dataclass(frozen=True)
class Reading:
    """How the pieces of one input are read; decided once, so that no piece has other columns or dtypes than another."""

    format: Format
    columns: tuple[Column, ...]
    """Those of the mini-batch, in order."""
    any_name: bool = False
    """The format was declared, so the ends of the files' names do not matter."""
    header: tuple[str, ...] = ()
    """Of CSV: the names of all fields of a record."""
    header_rule: Header = Header.FIRST_ROW
    dialect: Dialect = field(default_factory=Dialect)
    on_bad_record: OnBadRecord = OnBadRecord.FAIL
    index: tuple[str, ...] = ()
    """Of Parquet and Arrow that pandas wrote: the columns that are the index."""
    selected: bool = False
    """The user has named the columns, so others may be there."""
    path_column: str = ""
    partition_format: str = ""
    folder: str = ""
    """What relative names of files are below: records that were sorted stand with the run."""
    sample: str = ""
    """What the dtypes were sampled from, for messages: `the first 4 MB of a.csv`."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        found: dict[str, Any] = json.loads(text)
        columns = tuple(Column(**_tuples(column)) for column in found.pop("columns"))
        return cls(
            **{
                **_tuples(found),
                "columns": columns,
                "format": Format(found["format"]),
                "header_rule": Header(found["header_rule"]),
                "on_bad_record": OnBadRecord(found["on_bad_record"]),
                "dialect": Dialect(**found["dialect"]),
            }
        )

    @cached_property
    def stored(self) -> tuple[Column, ...]:
        """The columns whose values stand in the files."""
        return tuple(column for column in self.columns if not column.from_path)


def _tuples(found: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}


INTEGERS = {
    **{f"int{bits}": (-(1 << bits - 1), (1 << bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": (0, (1 << bits) - 1) for bits in (8, 16, 32, 64)},
}
"""The whole numbers that fit, by dtype."""
NULLABLE_INTEGERS = {name.replace("i", "I", 1).replace("u", "U", 1): limits for name, limits in INTEGERS.items()}
FLOATS = ("float32", "float64")
DTYPES = (*INTEGERS, *NULLABLE_INTEGERS, *FLOATS, "bool", "boolean", "str", "datetime64[ns]")
"""What a column can be. Categories are not among them: they would differ from piece to piece."""

FORMATS_BY_SUFFIX = {
    ".csv": Format.CSV,
    ".tsv": Format.CSV,
    ".tab": Format.CSV,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
    ".pqt": Format.PARQUET,
    ".arrow": Format.ARROW,
    ".feather": Format.ARROW,
    ".ipc": Format.ARROW,
}
COMPRESSIONS_BY_SUFFIX = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd", ".lz4": "lz4"}


def compression_of(file: str) -> str:
    """By the end of the file's name; empty: it stands as it is."""
    return COMPRESSIONS_BY_SUFFIX.get(_suffix(file), "")


def suffix_of(file: str) -> str:
    """The end of the file's name that tells its format, without that of a compression."""
    ending = _suffix(file)
    return _suffix(file[: -len(ending)]) if ending in COMPRESSIONS_BY_SUFFIX else ending


def _suffix(file: str) -> str:
    found = re.search(r"[^/\\.](\.\w+)$", file)
    return found[1].lower() if found else ""


@lru_cache
def is_cuttable(encoding: str) -> bool:
    """Whether a byte of an ASCII sign is that sign wherever it stands, as in UTF-8 and Latin-1 but not in UTF-16."""
    if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig"):
        return True
    ascii_signs = bytes(range(128))
    if ascii_signs.decode(encoding, "replace") != ascii_signs.decode("ascii"):
        return False
    pairs = (bytes([high, low]) for high in range(128, 256) for low in b'\n\r"@A|~')
    return all(pair.decode(encoding, "replace")[1:] == chr(pair[1]) for pair in pairs)
