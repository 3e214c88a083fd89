from __future__ import annotations

import pytest

from daskscore.core.csv_records import fields, records
from daskscore.core.tables import Dialect


def lines(text: bytes, dialect: Dialect) -> list[bytes]:
    return [text[record.start : record.stop] for record in records(text, dialect)]


@pytest.mark.parametrize(
    ("text", "dialect", "found"),
    [
        (b'a,"b\nc"\nd', Dialect(), [b'a,"b\nc"\n', b"d"]),
        (b'"a""\n"\nb\n', Dialect(), [b'"a""\n"\n', b"b\n"]),
        (b'5" x,1\n6" y\n', Dialect(), [b'5" x,1\n', b'6" y\n']),
        (b'"a"b"\nc\n', Dialect(), [b'"a"b"\n', b"c\n"]),
        (b"a\r\nb\rc\n", Dialect(), [b"a\r\n", b"b\r", b"c\n"]),
        (b"a\n\n \t\nb\n", Dialect(), [b"a\n", b"b\n"]),
        (b"a\n\t\nb\n", Dialect(delimiter="\t"), [b"a\n", b"\t\n", b"b\n"]),
        (b'#"\na,b#"\nc\n', Dialect(comment="#"), [b'a,b#"\n', b"c\n"]),
        (b'"a\nb"\n', Dialect(quote=""), [b'"a\n', b'b"\n']),
        (b"a\\\nb\nc\n", Dialect(escape="\\"), [b"a\\\nb\n", b"c\n"]),
        (b'a, "b\nc"\n', Dialect(skip_initial_space=True), [b'a, "b\nc"\n']),
        (b'a, "b\nc"\n', Dialect(), [b'a, "b\n', b'c"\n']),
    ],
)
def test_a_record_ends_where_pandas_ends_it(text: bytes, dialect: Dialect, found: list[bytes]) -> None:
    assert lines(text, dialect) == found


def test_a_quote_that_is_never_closed_takes_the_rest() -> None:
    (first, last) = records(b'a\n"b\nc\n', Dialect())
    assert not first.is_open
    assert (last.start, last.stop, last.is_open) == (2, 7, True)


def test_fields_are_what_stands_between_delimiters_outside_quotes() -> None:
    assert fields(b'a,"b,""c",,d"e\r\n', Dialect()) == [b"a", b'"b,""c"', b"", b'd"e']
    assert fields(b"a;b#c;d\n", Dialect(delimiter=";", comment="#")) == [b"a", b"b"]
