from __future__ import annotations

import io
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskscore.core.csv_records import records
from daskscore.core.tables import Dialect
from daskscore.inputs import csv_borders
from daskscore.inputs.csv_borders import stretches

LAW = settings(max_examples=300, deadline=None)


@st.composite
def dialects(draw: st.DrawFn) -> Dialect:
    return Dialect(
        delimiter=draw(st.sampled_from(",;\t |")),
        quote=draw(st.sampled_from(['"', "'", ""])),
        double_quote=draw(st.booleans()),
        escape=draw(st.sampled_from(["", "\\"])),
        comment=draw(st.sampled_from(["", "#"])),
        skip_initial_space=draw(st.booleans()),
    )


@st.composite
def texts(draw: st.DrawFn, dialect: Dialect) -> bytes:
    """Anything, with the signs that matter to the dialect more often than others."""
    d, q = dialect.delimiter, dialect.quote
    signs = [
        "a",
        " ",
        "\n",
        "\n",
        "\r",
        "\r\n",
        d,
        q,
        q,
        d + q,
        q + d,
        q + "\n",
        "\n" + q,
        dialect.escape,
        dialect.comment,
    ]
    return "".join(draw(st.lists(st.sampled_from(signs), max_size=80))).encode()


@LAW
@given(data=st.data(), block=st.sampled_from([1, 2, 3, 8, 64, 1 << 18]), patience=st.sampled_from([0, 1, 64]))
def test_borders_found_in_blocks_are_those_of_the_definition(data: st.DataObject, block: int, patience: int) -> None:
    dialect = data.draw(dialects())
    text = data.draw(texts(dialect))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_borders, "BLOCK_BYTES", block)
        patch.setattr(csv_borders, "PATIENCE", patience)
        found = [int(end) for stretch in stretches(io.BytesIO(text), dialect) for end in stretch.ends]
    assert found == [record.stop for record in records(text, dialect)]


@LAW
@given(
    text=st.lists(st.sampled_from(["a", '"', "\n", "\r\n", " "]), max_size=60).map("".join).map(str.encode),
    block=st.sampled_from([1, 7, 1 << 18]),
)
def test_without_a_dialect_each_line_with_something_on_it_is_a_record(text: bytes, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_borders, "BLOCK_BYTES", block)
        ends = [0, *(int(end) for stretch in stretches(io.BytesIO(text), None) for end in stretch.ends)]
    found = [text[start:stop].strip() for start, stop in itertools.pairwise(ends)]
    assert found == [line.strip() for line in text.split(b"\n") if line.strip()]


def test_blocks_are_scanned_fast_where_quotes_are_regular(monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk record by record is for what is irregular: it must not be taken here."""
    monkeypatch.setattr(csv_borders.CsvBorders, "_walk", None)
    text = b'"1","a ""quoted"" text, and\na line end # no comment",""\r\n' * 50_000
    assert sum(len(stretch.ends) for stretch in stretches(io.BytesIO(text), Dialect(comment="#"))) == 50_000


def test_a_line_in_quotes_at_the_start_of_a_block_is_no_comment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_borders, "BLOCK_BYTES", 4)
    found = list(stretches(io.BytesIO(b'"a\n#b"\nc\n'), Dialect(comment="#")))
    assert [int(end) for stretch in found for end in stretch.ends] == [7, 9]
