from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskscore.errors import InputError
from daskscore.inputs.local import LocalFiles
from daskscore.inputs.partitions import are_in_paths, partition_files, partition_tables
from daskscore.inputs.table_options import TableOptions
from daskscore.inputs.tables import decide_reading
from daskscore.scorer.tables import Reader
from tests.tables import TEXT, opener

VALUES = st.text(st.sampled_from("ab% =é\n\udcff"), min_size=1, max_size=3).filter(lambda text: text.strip("."))


def hive(value: str | None) -> str:
    """As Spark spells a folder."""
    return "__HIVE_DEFAULT_PARTITION__" if value is None else value.replace("%", "%25").replace("=", "%3D")


@given(rows=st.lists(st.tuples(VALUES, st.none() | VALUES, st.integers(0, 9)), max_size=60))
def test_files_lie_together_each_once_in_the_order_of_the_listing(
    rows: list[tuple[str, str | None, int]],
) -> None:
    wanted: dict[tuple[str | None, ...], list[str]] = {}
    files = []
    for number, (user, season, folder) in enumerate(rows):
        file = f"/top/x{folder}/user={hive(user)}/season={hive(season)}/{number}.wav"
        files.append(file)
        wanted.setdefault((user, season), []).append(file)
    found = list(partition_files(iter(files), ["user", "season"], "", "/top"))
    assert [(tuple(keys.values()), names) for keys, names in found] == list(wanted.items())
    assert all(list(keys) == ["user", "season"] for keys, _ in found)


@given(rows=st.lists(st.tuples(*[st.sampled_from("abc")] * 3), max_size=60), key=st.sampled_from(["user", "genre"]))
def test_a_pattern_may_name_more_columns_than_there_are_keys(rows: list[tuple[str, str, str]], key: str) -> None:
    files = [f"s3://bucket/top/{user}/{season}/{genre}.wav" for user, season, genre in rows]
    found = list(partition_files(files, [key], "{user}/{season}/{genre}.wav", "s3://bucket/top/"))
    table = pandas.DataFrame(rows, columns=["user", "season", "genre"]).assign(file=files)
    assert found == [({key: value}, group["file"].tolist()) for value, group in table.groupby(key, sort=False)]


def test_keys_are_in_the_order_of_partition_keys_and_dates_in_iso_8601() -> None:
    files = ["/in/2020/01/31/acme/x.csv", "/in/2020/01/31/acme/y.csv"]
    [(keys, names)] = partition_files(files, ["who", "day"], "/{day:yyyy/MM/dd}/{who}/{name}", "/in")
    assert list(keys.items()) == [("who", "acme"), ("day", "2020-01-31T00:00:00")]
    assert names == files


def test_a_pattern_does_not_reach_above_the_input() -> None:
    with pytest.raises(
        InputError, match=r"/u1/in/x\.wav does not end like the partition format .* below /u1/in\. .*exclude"
    ):
        list(partition_files(["/u1/in/x.wav"], ["user"], "{user}/{in}/{name}.wav", "/u1/in"))
    with pytest.raises(InputError, match=r"lies in no folder user=… below /user=1"):
        list(partition_files(["/user=1/x.wav"], ["user"], "", "/user=1"))


@pytest.mark.parametrize(
    ("file", "pattern", "message"),
    [
        (
            "/in/user=1/x",
            "",
            r"/in/user=1/x lies in no folder season=… below /in, so it has no value .* Move it into one",
        ),
        ("/in/a/b/x", "{user}/{saison}/{f}", r"season is no column of the partition format .* Did you mean saison\?"),
        ("/in/a/x", "{user}/{season}/{f}", r"/in/a/x does not end like the partition format"),
    ],
)
def test_a_file_that_does_not_fit_is_named(file: str, pattern: str, message: str) -> None:
    fits = "/in/user=1/season=2/x"
    with pytest.raises(InputError, match=message):
        list(partition_files([*[fits] * (not pattern), file], ["user", "season"], pattern, "/in"))


def test_names_that_are_no_utf_8_survive(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/user=\xff"
    os.mkdir(folder)
    Path(os.fsdecode(folder), "x").write_text("")
    [(keys, [name])] = partition_files(LocalFiles(str(tmp_path)).items(), ["user"], "", str(tmp_path))
    assert keys == {"user": "\udcff"}
    assert Path(name).exists()
    assert json.loads(json.dumps(keys)) == keys


def test_a_full_disk_is_said_to_be_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daskscore.inputs.partitions._CACHE", "PRAGMA max_page_count = 20")
    files = (f"/in/user={number}/x" for number in range(100_000))
    with pytest.raises(InputError, match=r"is full.* name one with more room with TMPDIR"):
        list(partition_files(files, ["user"], "", "/in"))


def read(top: Path, keys: Sequence[str], **options: Any) -> list[tuple[dict[str, str | None], pandas.DataFrame]]:
    """As driver and scorer do it."""
    reading = decide_reading(LocalFiles(str(top)).items(), TableOptions.parse(options), opener, keys)
    assert are_in_paths(keys, reading)
    reader = Reader([reading])
    found = partition_tables(LocalFiles(str(top)).items(), reading, keys, str(top), opener, 0)
    return [
        (values, pandas.concat([reader.read(piece).frame for piece in pieces], ignore_index=True))
        for values, pieces in found
    ]


@pytest.mark.parametrize("header", ["first_row", "from_first_file"])
def test_csv_files_in_folders_of_keys(header: str, tmp_path: Path) -> None:
    values = [("b", 1), ("a", 2), ("b", 3)]
    for number, (store, month) in enumerate(values):
        folder = tmp_path / f"month={month}" / f"store={store}"
        folder.mkdir(parents=True)
        has_header = header == "first_row" or not number
        (folder / "x.csv").write_text("n,t\n" * has_header + f"{number},x\n{number},y\n")
    found = read(tmp_path, ["store"], header=header)
    assert [(keys, frame["n"].tolist()) for keys, frame in found] == [
        ({"store": "b"}, [0, 0, 2, 2]),
        ({"store": "a"}, [1, 1]),
    ]
    assert list(found[0][1].columns) == ["n", "t", "store"]
    assert found[0][1]["store"].tolist() == ["b"] * 4


def test_what_pandas_writes_by_columns_is_read_with_the_columns_last(tmp_path: Path) -> None:
    data = pandas.DataFrame({"year": [2020, 2021, 2020], "x": [1.5, 2.5, 3.5], "who": ["a/b", None, "a/b"]})
    data.to_parquet(tmp_path / "in", partition_cols=["year", "who"])
    found = read(tmp_path / "in", ["who", "year"], dtypes={"year": "int64"})
    assert [keys for keys, _ in found] == [{"who": "a/b", "year": "2020"}, {"who": None, "year": "2021"}]
    frame = found[0][1]
    assert frame.to_dict("list") == {"x": [1.5, 3.5], "who": ["a/b"] * 2, "year": [2020] * 2}
    assert [str(each[1].dtypes["year"]) for each in found] == ["int64"] * 2
    assert [each[1].dtypes["who"] for each in found] == [TEXT] * 2
    assert found[1][1]["who"].isna().all()


def test_columns_of_a_pattern_that_are_keys_stand_last(tmp_path: Path) -> None:
    for who in ("a", "b"):
        (tmp_path / who).mkdir()
        (tmp_path / who / "2020.csv").write_text("x\n1\n")
    found = read(tmp_path, ["who"], partition_format="/{who}/{year}.csv")
    assert [keys for keys, _ in found] == [{"who": "a"}, {"who": "b"}]
    assert list(found[0][1].columns) == ["year", "x", "who"]


def test_keys_are_among_the_columns_whichever_are_named(tmp_path: Path) -> None:
    (tmp_path / "who=a").mkdir()
    (tmp_path / "who=a" / "x.csv").write_text("x,y\n1,2\n")
    [(_, frame)] = read(tmp_path, ["who"], columns=["y"])
    assert frame.to_dict("list") == {"y": [2], "who": ["a"]}


def test_keys_without_records_are_no_mini_batches(tmp_path: Path) -> None:
    for who, text in {"a": "x\n1\n", "b": "x\n", "c": "x\n2\n"}.items():
        (tmp_path / f"who={who}").mkdir()
        (tmp_path / f"who={who}" / "x.csv").write_text(text)
    assert [keys for keys, _ in read(tmp_path, ["who"])] == [{"who": "a"}, {"who": "c"}]


def test_a_key_that_is_nowhere_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("x,y\n1,2\n")
    with pytest.raises(
        InputError, match=r"partition_keys: the records have no column who \(they have x, y\), and .*x\.csv"
    ):
        read(tmp_path, ["who"])


def test_keys_that_stand_in_the_records_are_not_in_paths(tmp_path: Path) -> None:
    (tmp_path / "who=a").mkdir()
    path = tmp_path / "who=a" / "x.csv"
    path.write_text("x,y\n1,2\n")
    reading = decide_reading([str(path)], TableOptions(), opener, ["x", "who"])
    assert not are_in_paths(["x", "who"], reading)
    assert [column.name for column in reading.columns] == ["y", "x", "who"]
