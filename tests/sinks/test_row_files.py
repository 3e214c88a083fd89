"""CSV and Parquet files: what they are made of changes none of their bytes, and little of them is in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daskscore.errors import RunError
from daskscore.scorer.rows import RowFormat
from daskscore.sinks import blocks, csv_file, parquet_file
from daskscore.sinks.append_row import AppendRow
from daskscore.sinks.interface import Piece
from tests.rows import CSV, PARQUET, assembled
from tests.support import files_no_larger_than

FORMATS = pytest.mark.parametrize("how", [CSV, PARQUET], ids=["csv", "parquet"])
RESULTS: list[Any] = [
    pd.DataFrame({"n": [number], "half": [number / 2], "t": [f"row, {number}"]}) if number % 3 else [{"n": number}, {}]
    for number in range(30)
]


@FORMATS
def test_the_bytes_do_not_depend_on_the_parts(tmp_path: Path, how: RowFormat) -> None:
    files = [
        assembled(tmp_path / f"{parts} {joined}", how, *RESULTS, parts=parts, joined=joined).read_bytes()
        for parts in (1, 2, 7)
        for joined in (False, True)
    ]
    assert len(set(files)) == 1


@FORMATS
def test_the_bytes_do_not_depend_on_what_is_kept_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: RowFormat
) -> None:
    expected = assembled(tmp_path / "usual", how, *RESULTS, parts=7).read_bytes()
    monkeypatch.setattr(blocks, "OPEN_PARTS", 2)
    monkeypatch.setattr(blocks, "COPY_BYTES", 3)
    monkeypatch.setattr(csv_file, "HEADS_AT_HAND", 1)
    monkeypatch.setattr(parquet_file, "SCHEMAS_AT_HAND", 1)
    assert assembled(tmp_path / "small", how, *RESULTS, parts=7).read_bytes() == expected


@FORMATS
def test_what_no_piece_names_stays_out(tmp_path: Path, how: RowFormat) -> None:
    expected = assembled(tmp_path / "alone", how, [1], [2]).read_bytes()
    first, stray, second = (how.render([number]).data for number in (1, 3, 2))
    part = tmp_path / "part"
    part.write_bytes(first + stray + second + b"half a block of an attempt that cra")
    pieces = [Piece(part, 0, len(first)), Piece(part, len(first + stray), len(second))]
    AppendRow(tmp_path / "rows", tmp_path, _told(how)).assemble(pieces, header=None)
    assert (tmp_path / "rows").read_bytes() == expected


@FORMATS
@pytest.mark.parametrize("wrong", ["missing", "short", "cut", "full"])
def test_on_failure_an_earlier_output_stays_and_nothing_is_left_over(
    tmp_path: Path, how: RowFormat, wrong: str
) -> None:
    part, data = tmp_path / "part", how.render(pd.DataFrame({"a": range(1000)})).data
    part.write_bytes(data)
    (tmp_path / "rows").write_text("old")
    if wrong == "missing":
        part.unlink()
    if wrong == "short":
        os.truncate(part, len(data) // 2)
    piece = Piece(part, 0, len(data) - (5 if wrong == "cut" else 0))
    (tmp_path / "scratch").mkdir()
    sink = AppendRow(tmp_path / "rows", tmp_path / "scratch", _told(how))
    with files_no_larger_than(10 if wrong == "full" else 1 << 30), pytest.raises(RunError) as error:
        sink.assemble([piece], header=None)
    assert ((tmp_path / "rows").read_text(), list((tmp_path / "scratch").iterdir())) == ("old", [])
    reason = {"missing": "No such file or directory", "full": "File too large"}
    assert str(error.value).startswith(reason.get(wrong, "a part is shorter than its journal says"))


def test_without_rows_a_csv_file_is_empty_and_a_parquet_file_has_no_columns(tmp_path: Path) -> None:
    assert assembled(tmp_path / "csv", CSV, [], []).read_bytes() == b""
    assert pd.read_parquet(assembled(tmp_path / "parquet", PARQUET, [], [])).shape == (0, 0)


def test_row_groups_are_of_limited_size_and_end_with_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_file, "GROUP_ROWS", 10)
    path = assembled(tmp_path / "rows", PARQUET, *([{"n": n}] * 4 for n in range(8)))
    metadata = pq.ParquetFile(path).metadata
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [10, 2, 10, 2, 8]
    monkeypatch.setattr(parquet_file, "GROUP_ROWS", 1 << 20)
    monkeypatch.setattr(parquet_file, "GROUP_BYTES", 1)
    assert pq.ParquetFile(assembled(tmp_path / "bytes", PARQUET, [1], [2, 3])).metadata.num_row_groups == 2


def test_assembling_a_large_parquet_file_needs_the_memory_of_a_row_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_file, "GROUP_BYTES", 1 << 20)
    data = PARQUET.render(pd.DataFrame({"x": np.random.default_rng(0).random(1 << 16)})).data
    part = tmp_path / "part"
    part.write_bytes(data)
    sink = AppendRow(tmp_path / "rows", tmp_path, _told(PARQUET))
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    most = []
    for blocks_of in (10, 200):
        watched = [Piece(part, 0, len(data))] * blocks_of
        sink.assemble(watched, header=None)
        assert pq.ParquetFile(tmp_path / "rows").metadata.num_rows == blocks_of << 16
        most.append(pool.bytes_allocated() - before)
    assert max(most) < 1 << 20


def _told(how: RowFormat) -> dict[str, Any]:
    return {name: getattr(how, name) for name in how.__dataclass_fields__}
