"""What the scorer gives of a share: exactly these items of the mini-batch, as they are in the whole."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pandas
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from daskscore.core.planning import Content, count_items, line, line_of_pieces, share_of
from daskscore.core.tables import Piece, Reading
from daskscore.scorer.loading import CannotRead, Given, Loader, loader
from tests.tables import cut

LAW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
RECORDS = st.lists(
    st.sampled_from(["1,x", "2,y", "x,y", "3", "4,z,surplus", '5,"a\nb"', "6,"]), min_size=1, max_size=12
)
CUTS = st.lists(st.integers(1, 11), max_size=4)


class Mini:
    """A mini-batch, and the loader of its job."""

    def __init__(self, pieces: Sequence[Piece], reading: Reading) -> None:
        self.line = line_of_pieces(pieces)
        self.items = count_items(self.line)
        self.loader: Loader = loader(Content.RECORDS, [reading.to_json()])

    def load(self, start: int = 0, stop: int | None = None) -> Given | None:
        """None where nothing is left to give."""
        text = self.line if stop is None else share_of(self.line, start, stop)
        try:
            return self.loader.load(0, text.decode())
        except CannotRead:
            return None

    def in_shares(self, cuts: Sequence[int]) -> list[Given]:
        borders = sorted({0, self.items, *(border for border in cuts if border < self.items)})
        found = [self.load(start, stop) for start, stop in pairwise(borders)]
        assert sum(given.items for given in found if given) <= self.items
        return [given for given in found if given is not None]


def csv(tmp_path: Path, records: Sequence[str], size: str, **options: Any) -> Mini:
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["n,s", "1,a", *records, ""]), newline="")
    found = cut(path, size, sample_bytes=1, **options)
    return Mini(found.pieces, found.reading)


def assert_joined_is_the_whole(mini: Mini, shares: Sequence[Given]) -> None:
    whole = mini.load()
    assert whole is not None
    joined = pandas.concat([given.mini_batch for given in shares], ignore_index=True)
    assert_frame_equal(joined, whole.mini_batch.reset_index(drop=True))
    assert [given.mini_batch.index[0] for given in shares] == [0] * len(shares)
    assert [row for given in shares for row in rows(given)] == rows(whole)
    assert sum(given.present for given in shares) == whole.present


def rows(given: Given) -> list[tuple[str, int]]:
    return [(rows.file, row) for rows in given.rows for row in range(rows.start, rows.stop)]


@LAW
@given(RECORDS, CUTS, st.sampled_from(["1000 rows", "3 rows"]))
def test_records_in_shares_are_those_of_the_whole_where_bad_ones_are_kept(
    tmp_path: Path, records: list[str], cuts: list[int], size: str
) -> None:
    mini = csv(tmp_path, records, size, on_bad_record="keep")
    shares = mini.in_shares(cuts)
    assert_joined_is_the_whole(mini, shares)
    whole = mini.load()
    assert whole is not None
    assert list(chain.from_iterable(given.notes for given in shares)) == whole.notes
    assert sum(given.items for given in shares) == mini.items


@LAW
@given(RECORDS, CUTS, st.sampled_from(["1000 rows", "3 rows"]))
def test_records_in_shares_are_those_of_the_whole_where_bad_ones_are_skipped(
    tmp_path: Path, records: list[str], cuts: list[int], size: str
) -> None:
    """A share of nothing but bad ones cannot be read, and fails by itself."""
    mini = csv(tmp_path, records, size, on_bad_record="skip")
    shares = mini.in_shares(cuts)
    assert_joined_is_the_whole(mini, shares)
    assert all(given.items == given.present + len(given.lost) for given in shares)
    whole = mini.load()
    assert whole is not None
    bad = [one["item"] for given in shares for one in given.lost]
    assert bad == [one["item"] for one in whole.lost if one["item"] in bad]


def test_each_bad_record_is_told_in_its_own_share(tmp_path: Path) -> None:
    mini = csv(tmp_path, ["2,b", "x,bad", "4,d", "5,e", "y,bad", "7,g"], "1000 rows", on_bad_record="skip")
    shares = [mini.load(start, stop) for start, stop in ((0, 2), (2, 5), (5, 7))]
    assert [given and [one["item"].rpartition("/")[2] for one in given.lost] for given in shares] == [
        [],
        ["a.csv line 4"],
        ["a.csv line 7"],
    ]
    assert [given and given.mini_batch["n"].tolist() for given in shares] == [[1, 2], [4, 5], [7]]
    assert mini.load(2, 3) is None


def test_one_bad_record_that_is_not_allowed_fails_each_share(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("n,s\n1,a\n2,b\n3,c\n")
    found = cut(path, "1000 rows", sample_bytes=1, on_bad_record="fail")
    path.write_text("n,s\n1,a\nx,b\n3,c\n")
    mini = Mini(found.pieces, found.reading)
    for share in ((0, 1), (1, 2), (2, 3)):
        with pytest.raises(CannotRead, match="line 3"):
            mini.loader.load(0, share_of(mini.line, *share).decode())


@pytest.mark.parametrize("groups", [3, 4, 100])
@pytest.mark.parametrize("size", ["1000 rows", "7 rows"])
@pytest.mark.parametrize("suffix", ["parquet", "feather", "jsonl"])
def test_shares_of_row_groups_are_those_of_the_whole(tmp_path: Path, suffix: str, size: str, groups: int) -> None:
    frame = pandas.DataFrame(
        {"n": range(20), "t": [f"text {n}" for n in range(20)], "d": pandas.Timestamp("2020-01-01")}
    )
    path = tmp_path / f"a.{suffix}"
    match suffix:
        case "parquet":
            frame.to_parquet(path, row_group_size=groups)
        case "feather":
            frame.to_feather(path, chunksize=groups)
        case _:
            frame.to_json(path, orient="records", lines=True, date_format="iso")
    found = cut(path, size)
    for piece in found.pieces:
        mini = Mini([piece], found.reading)
        for cuts in ([1], [3, 4], list(range(1, mini.items))):
            assert_joined_is_the_whole(mini, mini.in_shares(cuts))
    several = Mini(found.pieces, found.reading)
    assert_joined_is_the_whole(several, several.in_shares([2, 6, 7, 8, 15]))


def test_the_index_of_a_file_goes_with_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pandas.DataFrame({"n": range(6)}, index=pandas.Index([f"k{n}" for n in range(6)], name="key")).to_parquet(path)
    found = cut(path, "1000 rows")
    mini = Mini(found.pieces, found.reading)
    one, two = mini.load(0, 4), mini.load(4, 6)
    assert one is not None
    assert two is not None
    assert (one.mini_batch.index.tolist(), two.mini_batch.index.tolist()) == (["k0", "k1", "k2", "k3"], ["k4", "k5"])
    assert two.mini_batch.index.name == "key"


@pytest.mark.parametrize("indexed", [False, True])
def test_a_script_may_write_into_the_frame_of_a_share(tmp_path: Path, indexed: bool) -> None:
    path = tmp_path / "a.parquet"
    index = pandas.Index([f"k{n}" for n in range(6)], name="key") if indexed else None
    pandas.DataFrame({"n": range(6)}, index=index).to_parquet(path)
    found = cut(path, "1000 rows")
    given = Mini(found.pieces, found.reading).load(2, 5)
    assert given is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        given.mini_batch["m"] = given.mini_batch["n"] * 2
    assert given.mini_batch["m"].tolist() == [4, 6, 8]


def test_files_of_a_share_keep_what_they_have_in_common(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("a", "b", "gone", "d")]
    for path in (*paths[:2], paths[3]):
        Path(path).touch()
    whole = line(paths, {"user": "u1"})
    files = loader(Content.FILES, [])
    given = files.load(4, share_of(whole, 1, 3).decode())
    assert (list(given.mini_batch), given.items, given.keys) == ([paths[1]], 2, {"user": "u1"})
    assert [one["item"] for one in given.lost] == [paths[2]]
    words = loader(Content.WORDS, []).load(4, share_of(whole, 1, 3).decode())
    assert (list(words.mini_batch), words.present) == (paths[1:3], 2)


def test_a_share_that_was_staged_finds_its_own_pieces(tmp_path: Path) -> None:
    """The worker says where it has put each piece; of a share, only those of the share."""
    path = tmp_path / "a.csv"
    path.write_text("n,s\n" + "".join(f"{number},x\n" for number in range(10)))
    found = cut(path, "4 rows")
    told = json.loads(share_of(line_of_pieces(found.pieces), 5, 9))
    told["at"] = [[str(path), 0]] * len(told["pieces"])
    given = loader(Content.RECORDS, [found.reading.to_json()]).load(0, json.dumps(told))
    assert given.mini_batch["n"].tolist() == [5, 6, 7, 8]
