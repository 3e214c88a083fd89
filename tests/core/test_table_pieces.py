from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskscore.core.table_pieces import Group, cut_groups
from daskscore.core.tables import (
    Column,
    Dialect,
    Format,
    Header,
    OnBadRecord,
    Reading,
    Size,
    compression_of,
    is_cuttable,
    suffix_of,
)

GROUPS = st.lists(st.builds(Group, st.integers(0, 50), st.floats(0, 5000)), max_size=12)


@given(groups=GROUPS, size=st.builds(Size, rows=st.integers(1, 60)) | st.builds(Size, bytes=st.integers(1, 6000)))
def test_every_row_of_every_group_is_in_one_piece_in_order(groups: list[Group], size: Size) -> None:
    starts = [sum(group.rows for group in groups[:number]) for number in range(len(groups) + 1)]
    row = 0
    for cut in cut_groups(groups, size):
        assert cut.row == row == starts[cut.first] + cut.start
        assert cut.start < cut.stop
        assert starts[cut.last] < starts[cut.first] + cut.stop <= starts[cut.last + 1]
        assert 0 <= cut.start < groups[cut.first].rows
        row += cut.stop - cut.start
    assert row == starts[-1]


@given(groups=GROUPS, rows=st.integers(1, 60))
def test_a_number_of_rows_is_kept_to_the_row(groups: list[Group], rows: int) -> None:
    sizes = [cut.stop - cut.start for cut in cut_groups(groups, Size(rows=rows))]
    assert all(size == rows for size in sizes[:-1])
    assert all(0 < size <= rows for size in sizes[-1:])


def test_small_groups_are_gathered_and_a_large_one_is_cut_evenly() -> None:
    groups = [Group(10, 400), Group(10, 400), Group(10, 400), Group(90, 2500), Group(10, 100)]
    cuts = [(cut.first, cut.last, cut.start, cut.stop) for cut in cut_groups(groups, Size(bytes=1000))]
    assert cuts == [(0, 1, 0, 20), (2, 2, 0, 10), (3, 3, 0, 30), (3, 3, 30, 60), (3, 3, 60, 90), (4, 4, 0, 10)]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1MB", Size(bytes=1 << 20)),
        ("100 kb", Size(bytes=100 << 10)),
        ("2g", Size(bytes=2 << 30)),
        (1024, Size(bytes=1024)),
        ("5000 rows", Size(rows=5000)),
        ("1row", Size(rows=1)),
    ],
)
def test_a_size_is_bytes_in_binary_units_or_rows(text: str | int, size: Size) -> None:
    assert Size.parse(text) == size


@pytest.mark.parametrize("text", ["", "0", "10KBKB", "-1", "1.5MB", "rows", "1 MBs", "5000 lines"])
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="Give bytes like 1MB, or rows like 5000 rows"):
        Size.parse(text)


def test_a_reading_survives_json() -> None:
    reading = Reading(
        format=Format.CSV,
        columns=(Column("a", "int64"), Column("t", "datetime64[ns]", declared=True, formats=("%d/%m/%Y",))),
        header=("a", "t", "x"),
        header_rule=Header.ALL_FILES_SAME_HEADERS,
        dialect=Dialect(delimiter="\t", escape="\\", encoding="latin-1"),
        on_bad_record=OnBadRecord.KEEP,
        index=("a",),
        selected=True,
        partition_format="/{a}/x.csv",
    )
    assert Reading.from_json(reading.to_json()) == reading


@pytest.mark.parametrize(
    ("file", "suffix", "compression"),
    [
        ("a/b.csv", ".csv", ""),
        ("a/B.CSV.GZ", ".csv", "gzip"),
        ("s3://bucket/x.jsonl.zst", ".jsonl", "zstd"),
        ("a.b/part-0", "", ""),
        (".csv", "", ""),
        ("x.gz", "", "gzip"),
    ],
)
def test_format_and_compression_stand_at_the_end_of_the_name(file: str, suffix: str, compression: str) -> None:
    assert (suffix_of(file), compression_of(file)) == (suffix, compression)


def test_only_encodings_with_ascii_bytes_of_one_meaning_can_be_cut() -> None:
    assert all(map(is_cuttable, ["utf-8", "UTF8", "utf-8-sig", "ascii", "latin-1", "cp1252", "iso8859-15", "koi8-r"]))
    assert not any(map(is_cuttable, ["utf-16", "utf-16-le", "utf-32", "utf-7", "shift_jis", "gbk", "big5", "cp037"]))
