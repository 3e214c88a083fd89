"""What the user says of a tabular input, checked; each error names the key, the value and what would do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Self, TypeVar

from daskscore.core.tables import DTYPES, Column, Dialect, Format, Header, OnBadRecord, Size
from daskscore.errors import InputError

SAMPLE_BYTES = 4 << 20

E = TypeVar("E", bound=StrEnum)

WHOLE = "int"
"""Whole numbers: int64, or float64 as pandas has it where the sample has missing ones."""
DATES = "datetime64[ns]"
TAB_SUFFIXES = (".tsv", ".tab")

OTHER_NAMES = {
    "integer": WHOLE,
    "float": "float64",
    "double": "float64",
    "string": "str",
    "text": "str",
    "object": "str",
    "bool": "bool",
    "datetime": DATES,
    "date": DATES,
    "timestamp": DATES,
    **{name.lower(): name for name in DTYPES if name[0] not in "IU"},
}


@dataclass(frozen=True)
class TableOptions:
    """One entry of `inputs:` that holds records."""

    format: Format | None = None
    """By the ends of the files' names where not given."""
    header: Header = Header.FIRST_ROW
    delimiter: str = ""
    """A comma where not given, in .tsv files a tab."""
    dialect: Dialect = field(default_factory=Dialect)
    """All of it but the delimiter."""
    names: tuple[str, ...] = ()
    """What the columns of files without a header are called."""
    columns: tuple[str, ...] = ()
    """Which columns to read, in this order; all where not given."""
    drop_columns: tuple[str, ...] = ()
    conversions: tuple[Column, ...] = ()
    """The declared dtypes; `int` stands for `WHOLE`."""
    infer_column_types: bool = True
    """False: all columns of CSV that are not declared are text."""
    on_bad_record: OnBadRecord = OnBadRecord.FAIL
    sample_bytes: int = SAMPLE_BYTES
    """How much of the first file is read to see what dtypes its columns have."""
    path_column: str = ""
    """What a column with the name of the file is called."""
    partition_format: str = ""
    """Like `/{department}/{day:yyyy/MM/dd}/data.csv`: columns whose values stand in the name of the file."""

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Self:
        """The keys of an `inputs:` entry that tell how its records are read."""
        for key in given:
            if key not in KEYS:
                nearest = difflib.get_close_matches(key, KEYS, n=1)
                raise InputError(
                    f"{key}: there is no such key for an input of records. "
                    + (f"Did you mean {nearest[0]}?" if nearest else f"Known are {', '.join(sorted(KEYS))}")
                )
        dialect = replace(
            Dialect(), **{key: _sign(key, value) for key, value in given.items() if key in _DIALECT_FIELDS}
        )
        if _word("quoting", given.get("quoting", "minimal"), ("minimal", "all", "none")) == "none":
            dialect = replace(dialect, quote="")
        options = cls(
            format=None if given.get("format") is None else _one_of("format", _format(given["format"]), Format),
            header=_one_of("header", _header(given.get("header", Header.FIRST_ROW)), Header),
            delimiter=given.get("delimiter", "\t" if str(given.get("format")).lower() == "tsv" else ""),
            dialect=dialect,
            names=_names("names", given.get("names", ())),
            columns=_names("columns", given.get("columns", ())),
            drop_columns=_names("drop_columns", given.get("drop_columns", ())),
            conversions=tuple(conversion(name, dtype) for name, dtype in _mapping(given.get("dtypes", {}))),
            infer_column_types=_truth("infer_column_types", given.get("infer_column_types", True)),
            on_bad_record=_one_of("on_bad_record", given.get("on_bad_record", OnBadRecord.FAIL), OnBadRecord),
            sample_bytes=_bytes("sample_bytes", given.get("sample_bytes", SAMPLE_BYTES)),
            path_column=_text("path_column", given.get("path_column", "")),
            partition_format=_text("partition_format", given.get("partition_format", "")),
        )
        if options.names and options.header is not Header.NONE:
            raise InputError("names: are for files without a header. Say header: none too, or remove names")
        return options.checked()

    def checked(self) -> Self:
        """Itself, where its signs and its encoding are usable."""
        signs: dict[str, Any] = {
            "delimiter": self.delimiter,
            "quote": self.dialect.quote,
            "escape": self.dialect.escape,
            "comment": self.dialect.comment,
            "decimal": self.dialect.decimal,
        }
        for key, sign in signs.items():
            if sign not in ("", None) and (
                not isinstance(sign, str) or len(sign) != 1 or not sign.isascii() or sign in "\r\n\0"
            ):
                raise InputError(f"{key}: {sign!r} is not usable. Give one ASCII character, like {_EXAMPLES[key]!r}")
        used = [sign for key, sign in signs.items() if sign and key != "decimal"]
        if len(set(used)) < len(used):
            raise InputError(f"{', '.join(signs)}: two of them are the same character. Give each its own")
        try:
            "".encode(self.dialect.encoding)  # says no to what is no encoding of text, too
        except (LookupError, TypeError, ValueError):
            raise InputError(
                f"encoding: {self.dialect.encoding!r} is not known. Give one that Python knows, like utf-8 or latin-1"
            ) from None
        return self

    def dialect_of(self, suffix: str) -> Dialect:
        """With the delimiter that files of this suffix have."""
        return replace(self.dialect, delimiter=self.delimiter or ("\t" if suffix in TAB_SUFFIXES else ","))

    def declared(self, name: str) -> Column | None:
        """The user's word on a column."""
        return next((column for column in self.conversions if column.name == name), None)


def conversion(name: str, dtype: object) -> Column:
    """A column whose dtype the user has given."""
    word = str(dtype).strip()
    found = word if word in (WHOLE, *DTYPES) else OTHER_NAMES.get(word.lower())
    if found is None:
        raise InputError(
            f"dtypes: column {name} cannot be {word!r}. Known are {WHOLE}, {', '.join(DTYPES)}"
            + (" (categories would differ from mini-batch to mini-batch)" if word.lower() == "category" else "")
        )
    return Column(str(name), found, declared=True)


def _one_of(key: str, value: object, words: type[E]) -> E:
    return words(_word(key, value, tuple(words)))


def _word(key: str, value: object, words: Iterable[str]) -> str:
    word = str(value).lower()
    if word not in words:
        raise InputError(f"{key}: {value!r} is not known. Known are {', '.join(words)}")
    return word


def _sign(key: str, value: Any) -> Any:
    if key == "decimal" and not value:
        raise InputError(f"decimal: {value!r} is not usable. Give one ASCII character, like ','")
    return _truth(key, value) if key in _YES_NO else "" if value is None and key != "encoding" else value


def _truth(key: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() not in ("true", "false", "yes", "no"):
        raise InputError(f"{key}: {value!r} is not usable. Write true or false")
    return str(value).lower() in ("true", "yes")


def _text(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise InputError(f"{key}: {value!r} is no text. Put it in quotes")
    return value


def _bytes(key: str, value: object) -> int:
    try:
        found = Size.parse(value if isinstance(value, int) and not isinstance(value, bool) else str(value)).bytes
    except ValueError:
        found = 0
    if not found:
        raise InputError(f"{key}: {value!r} is no number of bytes. Write one like 4MB")
    return found


def _format(value: object) -> object:
    names = {"tsv": Format.CSV, "ndjson": Format.JSONL, "feather": Format.ARROW, "ipc": Format.ARROW}
    return names.get(str(value).lower(), value)


def _header(value: object) -> object:
    names = {True: Header.FIRST_ROW, False: Header.NONE, None: Header.NONE, "no_header": Header.NONE}
    return names.get(value, value) if isinstance(value, (bool, str, type(None))) else value


def _names(key: str, value: object) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)):
        raise InputError(f"{key}: {value!r} is no list of names. Write it like {key}: [a, b]")
    found = tuple(str(name) for name in names)
    if len(set(found)) < len(found):
        twice = next(name for name in found if found.count(name) > 1)
        raise InputError(f"{key}: {twice} is there twice. Name each column once")
    return found


def _mapping(value: object) -> list[tuple[Any, Any]]:
    if not isinstance(value, Mapping):
        raise InputError(f"dtypes: {value!r} is no mapping. Write it like dtypes: {{age: int, name: str}}")
    return list(value.items())


_DIALECT_FIELDS = {each.name for each in fields(Dialect)} - {"delimiter"}
_YES_NO = {each.name for each in fields(Dialect) if isinstance(each.default, bool)}
_DIALECT_KEYS = _DIALECT_FIELDS | {"delimiter", "quoting"}
KEYS = {each.name for each in fields(TableOptions)} - {"dialect", "conversions"} | {"dtypes"} | _DIALECT_KEYS
"""What an entry of `inputs:` may say of its records."""
_EXAMPLES = {"delimiter": ";", "quote": "'", "escape": "\\", "comment": "#", "decimal": ","}
