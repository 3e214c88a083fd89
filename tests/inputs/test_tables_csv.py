from __future__ import annotations

import csv
import io
import lzma
import re
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from daskscore.core.tables import Size
from daskscore.errors import InputError
from daskscore.inputs.csv_borders import BLOCK_BYTES
from daskscore.inputs.table_options import TableOptions
from daskscore.inputs.tables import decide_reading, table_pieces
from tests.tables import TEXT, Cut, assert_each_record_once, cut, opener

LAW = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
ENCODINGS = ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-32", "shift_jis"]


PANDAS_LOSES = re.compile(r"(?:^|[\r\n])[ \t]*(?:#[^\r]*)?\r[,;\t| :]")
"""A record that begins with an empty field after a blank line that ends in CR alone."""


@dataclass(frozen=True)
class Written:
    """A CSV file as some program has written it, and how pandas reads the whole of it."""

    data: bytes
    options: dict[str, Any]
    arguments: dict[str, Any]


@st.composite
def files(draw: st.DrawFn) -> Written:
    """Files that `csv.writer` and hand editing make: any dialect, quoting, encoding, line end."""
    delimiter = draw(st.sampled_from([",", ";", "\t", "|", " ", ":"]))
    quote = draw(st.sampled_from(['"', "'"]))
    escape = draw(st.sampled_from(["", "", "\\"]))
    comment = draw(st.sampled_from(["", "#"])) if not escape else ""
    encoding = draw(st.sampled_from(ENCODINGS))
    line_end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    letters = st.sampled_from(
        f"ab1 \n{delimiter}{quote}é" if encoding != "shift_jis" else f"ab1 \n{delimiter}{quote}表"
    )
    texts = st.text(letters, max_size=8)
    numbers = st.sampled_from(["1", "2.5", "-7", "1e3", "", "NA", "x"])
    width = draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(texts | numbers, min_size=width, max_size=width), max_size=12))
    out = io.StringIO(newline="")
    writer = csv.writer(
        out,
        delimiter=delimiter,
        quotechar=quote,
        escapechar=escape or None,
        doublequote=draw(st.booleans()) if escape else True,
        lineterminator=line_end,
        quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
    )
    writer.writerow([f"column {number}" for number in range(width)])
    for row in rows:
        if draw(st.integers(0, 9)) == 0:
            out.write(draw(st.sampled_from([line_end] + ([f"{comment}no {quote} data{line_end}"] if comment else []))))
        writer.writerow(row)
    text = out.getvalue()
    assume(not PANDAS_LOSES.search(text))
    if draw(st.booleans()):
        text = text.removesuffix(line_end)
    options = {"delimiter": delimiter, "quote": quote, "escape": escape, "comment": comment, "encoding": encoding}
    if not writer.dialect.doublequote:
        options["double_quote"] = False
    arguments = {
        "delimiter": delimiter,
        "quotechar": quote,
        "escapechar": escape or None,
        "comment": comment or None,
        "encoding": encoding,
        "doublequote": writer.dialect.doublequote,
    }
    return Written(text.encode(encoding), options, arguments)


SIZES = st.builds(Size, bytes=st.integers(1, 200)) | st.builds(Size, rows=st.integers(1, 5))


@LAW
@given(file=files(), size=SIZES, block=st.sampled_from([1, 7, 64, 1 << 18]))
def test_the_pieces_of_a_file_are_what_pandas_reads_of_the_whole(
    file: Written, size: Size, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daskscore.inputs.csv_borders.BLOCK_BYTES", block)
    path = tmp_path / "data.csv"
    path.write_bytes(file.data)
    whole = pandas.read_csv(path, index_col=False, low_memory=False, **file.arguments)
    if not len(whole):
        return
    found = cut(path, size, **file.options)
    assert_each_record_once(found.pieces)
    assert_same(found, whole)


def assert_same(found: Cut, whole: pandas.DataFrame) -> None:
    """True and false with missing ones are the one thing that has a better dtype than pandas gives it."""
    for column in found.reading.columns:
        if column.dtype == "boolean":
            whole[column.name] = whole[column.name].astype("boolean")
    assert_frame_equal(found.whole, whole)


def write(folder: Path, **texts: str) -> list[Path]:
    """Files `a.csv`, `b.csv` and so on."""
    paths = []
    for name, text in texts.items():
        paths.append(folder / f"{name}.csv")
        paths[-1].write_text(text)
    return paths


def test_a_piece_ends_with_the_record_in_which_its_size_is_reached(tmp_path: Path) -> None:
    (path,) = write(tmp_path, a="x,y\n1,2\n3,4\n5,6\n7,8\n")
    found = cut(path, Size(bytes=5))
    assert [(piece["bytes"], piece["items"], piece["row"], piece["line"]) for piece in found.pieces] == [
        ([4, 12], 2, 0, 2),
        ([12, 20], 2, 2, 4),
    ]


def test_rows_are_counted_to_the_record_over_blank_lines_comments_and_quoted_line_ends(tmp_path: Path) -> None:
    (path,) = write(tmp_path, a='#"\nx,y\n\n1,"2\n3"\n# no\n \n3,4\n5,6\n\n')
    found = cut(path, "2 rows", comment="#")
    assert [(piece["items"], piece["row"], piece["line"]) for piece in found.pieces] == [(2, 0, 3), (1, 2, 9)]
    assert found.whole["y"].tolist() == ["2\n3", "4", "6"]


@pytest.mark.parametrize(
    "text", ["x,y\n1,2", "x,y\n1,2\n", "x,y\n1,2\n\n\n", "x,y\r\n1,2\r\n", "x,y\r1,2\r", "\ufeffx,y\n1,2"]
)
def test_the_end_of_a_file_needs_no_line_end(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    assert cut(path, "1 rows").whole.to_dict("list") == {"x": [1], "y": [2]}


def test_a_mini_batch_never_crosses_a_file_border_and_each_file_has_its_header(tmp_path: Path) -> None:
    found = cut(write(tmp_path, a="x,y\n1,2\n3,4\n", b="y,x\n6,5\n", c="x,y\n", d=""), "100 rows")
    assert [(piece["file"][-5:], piece["items"]) for piece in found.pieces] == [("a.csv", 2), ("b.csv", 1)]
    assert found.whole.to_dict("list") == {"x": [1, 3, 5], "y": [2, 4, 6]}


def test_without_a_header_columns_have_numbers_or_the_names_they_are_given(tmp_path: Path) -> None:
    (path,) = write(tmp_path, a="1,2\n3,4\n")
    assert cut(path, "1 rows", header="none").whole.to_dict("list") == {"Column1": [1, 3], "Column2": [2, 4]}
    assert cut(path, "1 rows", header="none", names=["x", "y"]).whole.to_dict("list") == {"x": [1, 3], "y": [2, 4]}


def test_only_the_first_file_may_have_the_header(tmp_path: Path) -> None:
    found = cut(write(tmp_path, a="x,y\n1,2\n", b="3,4\n"), "1MB", header="from_first_file")
    assert found.whole.to_dict("list") == {"x": [1, 3], "y": [2, 4]}


def test_headers_said_to_be_the_same_are_eaten_unread(tmp_path: Path) -> None:
    found = cut(write(tmp_path, a="x,y\n1,2\n", b="9,9\n3,4\n"), "1MB", header="all_files_same_headers")
    assert found.whole.to_dict("list") == {"x": [1, 3], "y": [2, 4]}


def test_headers_said_to_be_different_are_put_together(tmp_path: Path) -> None:
    found = cut(write(tmp_path, a="x,y\n1,2\n", b="z,y\n3,4\n"), "1MB", header="all_files_different_headers")
    assert_frame_equal(found.whole, pandas.DataFrame({"x": [1, None], "y": [2, 4], "z": [None, 3]}))


def test_official_iris_data_without_a_header_loses_its_first_record_to_one(tmp_path: Path) -> None:
    """CONTRACT 1.2: 75 lines and `header: all_files_same_headers` are 74 rows."""
    lines = [f"{4 + number % 30 / 10:.1f},3.5,1.4,0.2,Iris-setosa\n" for number in range(75)]
    (path,) = write(tmp_path, iris="".join(lines))
    found = cut(path, "1KB", header="all_files_same_headers")
    assert len(found.whole) == 74
    assert list(found.whole.columns) == ["4.0", "3.5", "1.4", "0.2", "Iris-setosa"]
    assert len(found.pieces) == 2


def test_dtypes_come_from_the_start_and_what_is_unknown_there_is_text(tmp_path: Path) -> None:
    (path,) = write(tmp_path, a="i,f,b,s,e\n" + "1,1.5,True,x,\n" * 10 + "2,2,False,7,5\n" * 10)
    found = cut(path, "3 rows", sample_bytes=20)
    assert found.frames[-1].dtypes.astype(str).tolist() == ["int64", "float64", "bool", *[str(TEXT)] * 2]
    assert found.frames[-1].iloc[0].tolist() == [2, 2.0, False, "7", "5"]


def test_columns_can_be_chosen_typed_and_read_as_text(tmp_path: Path) -> None:
    (path,) = write(tmp_path, a="id,when,x,n\n007,2020-01-31,1,5\n008,2020-02-29,2,\n")
    found = cut(path, "1 rows", columns=["when", "id", "n"], dtypes={"when": "datetime", "id": "str", "n": "Int64"})
    assert found.frames[0].dtypes.astype(str).tolist() == ["datetime64[ns]", str(TEXT), "Int64"]
    assert found.whole["id"].tolist() == ["007", "008"]
    assert found.whole["when"].dt.day.tolist() == [31, 29]
    assert found.whole["n"].tolist() == [5, pandas.NA]
    assert list(cut(path, "1 rows", drop_columns=["x", "id"]).whole.columns) == ["when", "n"]


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz", "zst", "lz4"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_files_that_cannot_be_cut_are_one_stream_of_pieces(compression: str, encoding: str, tmp_path: Path) -> None:
    text = "x,y\n" + "".join(f'{number},"é\n{number}"\n' for number in range(500))
    (tmp_path / "plain.csv").write_text(text, encoding=encoding)
    path = tmp_path / f"a.csv.{compression}"
    codec = {"gz": "gzip", "zst": "zstd"}.get(compression, compression)
    if codec == "xz":
        path.write_bytes(lzma.compress(text.encode(encoding)))
    else:
        with pyarrow.CompressedOutputStream(str(path), codec) as out:
            out.write(text.encode(encoding))
    found = cut(path, "1KB", encoding=encoding)
    assert len(found.pieces) > 5
    assert all("decoded" in piece and "bytes" not in piece for piece in found.pieces)
    assert_frame_equal(found.whole, pandas.read_csv(tmp_path / "plain.csv", encoding=encoding))


def test_a_byte_order_mark_is_no_text_in_encodings_that_cannot_be_cut_either(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("\ufeffx,y\n1,2\n".encode("utf-16-le"))
    assert list(cut(path, "1MB", encoding="utf-16-le").whole.columns) == ["x", "y"]


def test_the_first_piece_comes_before_the_file_is_read(tmp_path: Path) -> None:
    (path,) = write(tmp_path, a="x\n" + "1\n" * 1_000_000)
    reading = decide_reading([str(path)], TableOptions(), opener)
    file = path.open("rb")
    pieces = table_pieces([str(path)], reading, Size(rows=10), lambda _: file)
    next(pieces)
    assert file.tell() <= BLOCK_BYTES + 3
    pieces.close()
    assert file.closed


def test_cutting_needs_no_more_memory_for_a_large_file_than_for_a_small_one(tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    rows = b'12345,"some, text",3.14\n' * 40_000
    with path.open("wb") as file:
        file.write(b"a,b,c\n")
        for _ in range(100):
            file.write(rows)
    reading = decide_reading([str(path)], TableOptions(), opener)
    tracemalloc.start()
    pieces = sum(1 for _ in table_pieces([str(path)], reading, Size(bytes=1 << 20), opener))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pieces == 92
    assert peak < 8 << 20


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ({"a": ""}, {}, "has no records"),
        ({"a": "x,y\n1,2\n", "b": "x,z\n1,2\n"}, {}, r"b\.csv has no column y, which the first file has"),
        ({"a": "x,y\n1,2\n", "b": "x,y,z\n1,2,3\n"}, {}, r"b\.csv has a column z, which is not in all records"),
        ({"a": "x,y\n1,2\n", "b": "x\n1\n"}, {"header": "all_files_same_headers"}, r"b\.csv has 1 columns, the first"),
        ({"a": "x,y\n1,2\n"}, {"columns": ["z"]}, "columns: the files have no column z. They have x, y"),
        ({"a": "price\n1\n"}, {"dtypes": {"prise": "int"}}, "Did you mean price"),
        ({"a": "x\n1\n"}, {"dtypes": {"x": "category"}}, "categories would differ from mini-batch to mini-batch"),
        ({"a": "x\n1\n"}, {"header": "none", "names": ["p", "q"]}, r"a\.csv has 1 columns, but 2 are named"),
        ({"a": "x\n1\n"}, {"delimiter": "ab"}, "delimiter: 'ab' is not usable"),
        ({"a": "x\n1\n"}, {"encoding": "utf-9"}, "encoding: 'utf-9' is not known"),
        ({"a": "x\n1\n"}, {"header": "first"}, "header: 'first' is not known. Known are first_row, none"),
        ({"a": "x\n1\n"}, {"delimeter": ","}, "Did you mean delimiter"),
        ({"a": "x\n1\n"}, {"dtypes": {"x": "int64"}, "on_bad_record": "keep"}, "has no room .* Declare Int64"),
        ({"a": "x\n1\n"}, {"encoding": "utf-16"}, r"a\.csv is no utf-16 text"),
    ],
)
def test_what_does_not_fit_is_named_with_its_file_and_column(
    texts: dict[str, str], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        cut(write(tmp_path, **texts), "1MB", **options)


def test_formats_are_known_by_name_and_not_mixed(tmp_path: Path) -> None:
    (csv_file,) = write(tmp_path, a="x\n1\n")
    other = tmp_path / "a.xlsx"
    other.write_text("x\n1\n")
    with pytest.raises(InputError, match=r"a\.xlsx is in no format that is known by its name .* format: csv"):
        cut(other, "1MB")
    assert cut([csv_file, other], "1MB", format="csv").whole["x"].tolist() == [1, 1]
    tabs = tmp_path / "a.tsv"
    tabs.write_text("x\ty\n1\t2\n")
    assert cut(tabs, "1MB").whole.to_dict("list") == {"x": [1], "y": [2]}
    with pytest.raises(InputError, match="have different delimiters by their names"):
        cut([csv_file, tabs], "1MB")
    lines = tmp_path / "b.jsonl"
    lines.write_text('{"x": 1}\n')
    with pytest.raises(InputError, match=r"b\.jsonl is no csv file, but .*a\.csv is"):
        cut([csv_file, lines], "1MB")


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst"])
def test_a_damaged_compressed_file_is_named(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.csv.{ending}"
    path.write_bytes(b"x,y\n1,2\n" * 10)
    with pytest.raises(InputError, match=rf"a\.csv\.{ending} cannot be decompressed"):
        cut(path, "1MB")


def test_a_quote_that_is_never_closed_does_not_make_a_record_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daskscore.inputs.text_files.LARGEST_RECORD", 1000)
    monkeypatch.setattr("daskscore.inputs.csv_borders.BLOCK_BYTES", 100)
    (path,) = write(tmp_path, a='x,y\n1,"2\n' + "3,4\n" * 1000)
    with pytest.raises(InputError, match="from byte 4 on: most likely a quote there is never closed"):
        cut(path, "1MB", sample_bytes=10)
