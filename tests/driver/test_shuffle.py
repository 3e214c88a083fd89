from __future__ import annotations

import datetime
import decimal
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from logging import CRITICAL
from pathlib import Path
from typing import Any, NamedTuple

import dask
import numpy
import pandas
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
from distributed import Client, LocalCluster
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from daskscore.core.sorted_rows import sorted_reading
from daskscore.core.tables import Column, Format, Piece, Reading, Size
from daskscore.driver.flight import Flight
from daskscore.driver.shuffle import BAD_RECORDS, Shuffle
from daskscore.errors import InputError, RunError
from daskscore.inputs.stores import Stores
from daskscore.inputs.table_options import TableOptions
from daskscore.inputs.tables import decide_reading, table_pieces
from daskscore.scorer.tables import Reader
from tests.servers import S3Server
from tests.support import DEADLINE_SECONDS, wait_until
from tests.tables import opener

pytest_plugins = ["tests.servers"]

LAW = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
SIZE = Size(rows=7)


class Found(NamedTuple):
    """What came of a shuffle."""

    keys: list[dict[str, Any]]
    frames: list[pandas.DataFrame]
    pieces: list[Piece]
    files: dict[str, bytes]


def shuffled(
    client: Client, files: Sequence[Path], keys: Sequence[str], folder: Path, *, part_bytes: int = 400, **options: Any
) -> Found:
    """As driver and scorer do it, with reading and pieces written down as JSON in between."""
    names = [str(file) for file in files]
    reading = decide_reading(names, TableOptions.parse(options), opener, keys)
    shuffle = Shuffle(client, reading, tuple(keys), folder, opener, number=1, part_bytes=part_bytes)
    found = json.loads(json.dumps(list(shuffle.mini_batches(table_pieces(names, reading, SIZE, opener)))))
    after = Reading.from_json(sorted_reading(reading, keys).to_json())
    reader = Reader([reading, after])
    assert all(len(pieces) == 1 and pieces[0]["input"] == 1 for _, pieces in found)
    frames = [reader.read(pieces[0]).frame for _, pieces in found]
    contents = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".arrow"}
    return Found([values for values, _ in found], frames, [piece for _, pieces in found for piece in pieces], contents)


def read(files: Sequence[Path], keys: Sequence[str], **options: Any) -> pandas.DataFrame:
    """All records as they are read without a shuffle."""
    names = [str(file) for file in files]
    reading = decide_reading(names, TableOptions.parse(options), opener, keys)
    reader = Reader([reading])
    frames = [reader.read(piece).frame for piece in table_pieces(names, reading, Size(rows=1 << 40), opener)]
    return pandas.concat(frames, ignore_index=True)


def assert_as_pandas_groups(found: Found, whole: pandas.DataFrame, keys: Sequence[str]) -> None:
    groups = list(whole.groupby(list(keys), sort=True, dropna=False))
    assert len(found.frames) == len(groups)
    for values, frame, (_, wanted) in zip(found.keys, found.frames, groups, strict=True):
        assert_frame_equal(frame, wanted.reset_index(drop=True))
        for key in keys:
            first = wanted[key].iloc[0]
            expected = None if pandas.isna(first) else first.isoformat() if hasattr(first, "isoformat") else first
            assert (values[key], type(values[key])) == (expected, type(values[key]))
    assert list(found.frames[0].columns)[-len(keys) :] == list(keys)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sorted" / "0"


KEY = st.sampled_from(["text", "int", "nullable", "float", "bool", "when", "day", "small"])


@LAW
@given(
    rows=st.lists(st.integers(0, 5), min_size=1, max_size=120), keys=st.lists(KEY, min_size=1, max_size=3, unique=True)
)
def test_each_row_is_in_the_mini_batch_of_its_key_once_and_in_order(
    rows: list[int], keys: list[str], client: Client, tmp_path: Path
) -> None:
    number = numpy.array(rows)
    missing = [None if row == 3 else row for row in rows]
    data = pandas.DataFrame(
        {
            "text": [None if row == 2 else "xäb"[row % 3] + "\n" for row in rows],
            "int": number * -(1 << 60),
            "nullable": pandas.array(missing, dtype="Int64"),
            "float": [None if row == 1 else row / 3 for row in rows],
            "bool": number % 2 == 0,
            "when": pandas.to_datetime([None if row == 4 else f"2020-01-0{row + 1}T01:00:00" for row in rows]),
            "day": [datetime.date(2020, 1, row + 1) for row in rows],
            "small": pandas.Series(number % 2, dtype="int8"),
            "list": [[row, row] for row in rows],
            "exact": [decimal.Decimal(row) / 4 for row in rows],
            "place": range(len(rows)),
        }
    )
    half = len(rows) // 2
    paths = [tmp_path / f"{name}.parquet" for name in "ab"]
    for path, part in zip(paths, [data[:half], data[half:]], strict=True):
        table = pyarrow.Table.from_pandas(part, pyarrow.Table.from_pandas(data, preserve_index=False).schema)
        pyarrow.parquet.write_table(table, path)
    found = shuffled(client, paths, keys, tmp_path / secrets.token_hex(4))
    assert_as_pandas_groups(found, read(paths, keys), keys)


JSON = (
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([1.0, -0.0, 0.5]) | st.sampled_from(["", "a", "1"])
)


@LAW
@given(values=st.lists(JSON, min_size=1, max_size=60))
def test_values_of_any_type_stay_what_they_are(values: list[Any], client: Client, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    mixed: list[Any] = [True, 1, "x", None]
    records = [{"key": value, "any": [value, {"a": value}], "n": n} for n, value in enumerate([*mixed, *values])]
    path.write_text("\n".join(map(json.dumps, records)))
    found = shuffled(client, [path], ["key"], tmp_path / secrets.token_hex(4))
    assert len(found.keys) == len({(isinstance(value, bool), value) for value in [*mixed, *values]})
    for keys, frame in zip(found.keys, found.frames, strict=True):
        for n, any, value in frame[["n", "any", "key"]].itertuples(index=False):
            assert (value, any) == (records[n]["key"], records[n]["any"])
            assert type(value) is type(records[n]["key"])
            assert value == keys["key"]
        assert frame["n"].is_monotonic_increasing
    assert sorted(n for frame in found.frames for n in frame["n"]) == list(range(len(records)))


def numbers(path: Path, rows: int) -> Path:
    data = pandas.DataFrame({"k": numpy.arange(rows) * 7919 % 13, "x": numpy.arange(rows), "t": "some text"})
    data.to_csv(path, index=False)
    return path


def test_the_workers_and_their_number_change_no_byte(client: Client, tmp_path: Path) -> None:
    path = numbers(tmp_path / "a.csv", 2000)
    one = shuffled(client, [path], ["k"], tmp_path / "one", part_bytes=5000)
    assert len(one.files) > 3
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as other,
    ):
        two = shuffled(other, [path], ["k"], tmp_path / "two", part_bytes=5000)
    assert two.files == one.files
    assert two.keys == one.keys == [{"k": number} for number in range(13)]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted([*one.files, "shared"])


def test_a_key_larger_than_a_file_may_be_has_one_of_its_own(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    data = pandas.DataFrame({"k": ["b"] * 500 + ["a", "c"] * 20 + ["b"] * 500, "x": range(1040)})
    data.to_parquet(path, row_group_size=100)
    found = shuffled(client, [path], ["k"], tmp_path / "sorted", part_bytes=1000)
    assert_as_pandas_groups(found, data[["x", "k"]], ["k"])
    assert len({piece["file"] for piece in found.pieces}) == 3


def test_a_piece_need_not_begin_with_a_batch(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daskscore.core.sorted_rows.BATCH_ROWS", 10)
    path = numbers(tmp_path / "a.csv", 300)
    found = shuffled(client, [path], ["k"], tmp_path / "sorted", part_bytes=3000)
    assert_as_pandas_groups(found, read([path], ["k"]), ["k"])
    assert any(piece["rows"][0] for piece in found.pieces)
    assert any(piece["groups"][0] < piece["groups"][1] for piece in found.pieces)


def test_an_index_that_pandas_wrote_stays_the_index(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    data = pandas.DataFrame({"k": [2, 1, 2], "x": [1, 2, 3]}, index=pandas.Index(["a", "b", "c"], name="i"))
    data.to_parquet(path)
    found = shuffled(client, [path], ["k"], tmp_path / "sorted")
    assert_frame_equal(pandas.concat(found.frames), data.loc[["b", "a", "c"], ["x", "k"]])


def test_keys_may_stand_in_the_records_and_in_folders(client: Client, tmp_path: Path) -> None:
    paths = []
    for year in ("2021", "2020"):
        (tmp_path / f"year={year}").mkdir()
        paths.append(tmp_path / f"year={year}" / "x.csv")
        paths[-1].write_text("x,who\n1,b\n2,a\n")
    found = shuffled(client, paths, ["who", "year"], tmp_path / "sorted", path_column="path")
    assert found.keys == [{"who": who, "year": year} for who in "ab" for year in ("2020", "2021")]
    assert list(found.frames[0].columns) == ["path", "x", "who", "year"]
    assert found.frames[0]["path"].tolist() == [str(paths[1])]


def test_bad_records_are_written_down(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("k,x\n1,1\n2,no\n1,3\nx,4\n" + "2,1\n" * 20 + "1,-\n")
    options = {"sample_bytes": 1, "on_bad_record": "skip"}
    found = shuffled(client, [path], ["k"], tmp_path / "sorted", **options)
    assert [frame["x"].tolist() for frame in found.frames] == [[1, 3], [1] * 20]
    bad = [json.loads(line) for line in (tmp_path / "sorted" / BAD_RECORDS).read_text().splitlines()]
    assert [(each["row"], each["place"]) for each in bad] == [(row, f"{path} line {row + 2}") for row in (1, 3, 24)]
    kept = shuffled(client, [path], ["k"], tmp_path / "sorted", sample_bytes=1, on_bad_record="keep")
    assert [(keys["k"], len(frame)) for keys, frame in zip(kept.keys, kept.frames, strict=True)] == [
        (1, 3),
        (2, 21),
        (None, 1),
    ]


@pytest.mark.parametrize(
    ("text", "keys", "message"),
    [
        (
            "k,x\n1,1\n2,no\n",
            ["k"],
            r"cannot be sorted by partition_keys: .*a\.csv line 3: .* on_bad_record: skip or keep",
        ),
        ('{"k": [1], "x": 2}', ["k"], r"column k has a value of the type list, .* declare dtypes: \{k: str\}"),
    ],
)
def test_what_cannot_be_sorted_is_named_and_nothing_is_left(
    text: str, keys: list[str], message: str, client: Client, tmp_path: Path
) -> None:
    path = tmp_path / ("a.jsonl" if text.startswith("{") else "a.csv")
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        shuffled(client, [path], keys, tmp_path / "sorted", sample_bytes=1)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def start(client: Client, path: Path, folder: Path, **more: Any) -> Iterator[Any]:
    reading = decide_reading([str(path)], TableOptions(), opener, ["k"])
    pieces = table_pieces([str(path)], reading, SIZE, opener)
    return Shuffle(client, reading, ("k",), folder, opener, part_bytes=400, **more).mini_batches(pieces)


def test_nothing_is_left_of_one_that_nobody_wants_any_more(client: Client, tmp_path: Path) -> None:
    path = numbers(tmp_path / "a.csv", 500)
    mini_batches = start(client, path, tmp_path / "sorted")
    next(mini_batches)
    mini_batches.close()  # type: ignore[attr-defined]  # a generator is what it is
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_an_interrupt_ends_it(client: Client, tmp_path: Path) -> None:
    path = numbers(tmp_path / "a.csv", 500)
    with pytest.raises(RunError, match="interrupted while records were sorted"):
        next(start(client, path, tmp_path / "sorted", interrupted=lambda: True))
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_folder_that_workers_do_not_see_is_named(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daskscore.driver.shuffle.TOKEN", "another")
    path = numbers(tmp_path / "a.csv", 5)
    with pytest.raises(RunError, match=r"the Dask worker on .* does not see .*/sorted, .* Name an output on a disk"):
        next(start(client, path, tmp_path / "sorted"))


def test_no_workers_are_not_waited_for_for_ever(tmp_path: Path) -> None:
    path = numbers(tmp_path / "a.csv", 5)
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
        pytest.raises(
            RunError, match=r"no Dask worker has sorted anything .* for 0\.3 s \(the workers have 0 threads\)"
        ),
    ):
        next(start(client, path, tmp_path / "sorted", silence_seconds=0.3))


def test_an_input_without_records_has_no_mini_batches(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("k,x\n")
    assert list(start(client, path, tmp_path / "sorted")) == []


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet", "a.feather"])
def test_files_may_be_in_a_storage(name: str, client: Client, s3: S3Server, tmp_path: Path) -> None:
    data = pandas.read_csv(numbers(tmp_path / "numbers.csv", 300))
    local = tmp_path / name
    if ".csv" in name:
        data.to_csv(local, index=False)
    elif name == "a.parquet":
        data.to_parquet(local, row_group_size=50)
    else:
        pyarrow.feather.write_feather(data, str(local), chunksize=50)
    s3.put("sort", {f"{tmp_path.name}/{name}": local.read_bytes()})
    file = f"s3://sort/{tmp_path.name}/{name}"
    stores = Stores({"s3://sort": s3.options})

    def remote(uri: str) -> Any:
        filesystem, path = stores.filesystem(uri)
        return filesystem.open(path, "rb")

    reading = decide_reading([file], TableOptions(), remote, ["k"])
    shuffle = Shuffle(client, reading, ("k",), tmp_path / "sorted", remote, stores=stores, part_bytes=3000)
    found = list(shuffle.mini_batches(table_pieces([file], reading, SIZE, remote)))
    reader = Reader([sorted_reading(reading, ["k"])])
    frames = [reader.read(pieces[0]).frame for _, pieces in found]
    wanted = shuffled(client, [local], ["k"], tmp_path / "local", part_bytes=3000).frames
    for frame, other in zip(frames, wanted, strict=True):
        assert_frame_equal(frame, other)


def test_a_file_that_is_gone_is_named(client: Client, s3: S3Server, tmp_path: Path) -> None:
    s3.put("sort", {"some": b""})
    stores = Stores({"s3://sort": s3.options})
    reading = Reading(Format.CSV, (Column("k", "int64"),), header=("k",))
    pieces: list[Piece] = [{"input": 0, "file": "s3://sort/gone.csv", "items": 1, "row": 0, "line": 2, "bytes": [2, 4]}]
    shuffle = Shuffle(client, reading, ("k",), tmp_path / "sorted", opener, stores=stores)
    with pytest.raises(RunError, match=r"s3://sort/gone\.csv cannot be read"):
        list(shuffle.mini_batches(pieces))


def die_once(marker: str) -> str:
    """In the worker."""
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return "done"
    os._exit(1)


def die() -> None:
    """In the worker."""
    os._exit(1)


@pytest.mark.slow
def test_a_lost_worker_is_replaced_and_many_lost_ones_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daskscore.driver.flight.LOSSES", 1)
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=CRITICAL) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        flight = Flight(client, lambda: False, 60)
        flight.give(die_once, str(tmp_path / "marker"))
        assert flight.finish() == ["done"]
        flight.give(die)
        with pytest.raises(RunError, match="2 Dask workers were lost while they sorted the same records"):
            flight.finish()
        flight.close()


KILLED = """
import os, signal, sys
from distributed import Client, LocalCluster
from daskscore.driver.flight import Flight
from daskscore.driver.shuffle import Shuffle
from daskscore.core.tables import Size
from daskscore.inputs.table_options import TableOptions
from daskscore.inputs.tables import decide_reading, table_pieces
from pathlib import Path

path, folder = sys.argv[1:]
opener = lambda name: open(name, "rb")
with LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster, Client(cluster) as client:
    reading = decide_reading([path], TableOptions(), opener, ["k"])
    shuffle = Shuffle(client, reading, ("k",), Path(folder), opener, part_bytes=1000)
    mini_batches = shuffle.mini_batches(table_pieces([path], reading, Size(rows=100), opener))
    next(mini_batches)
    print(len(list(Path(folder, "spills").iterdir())), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_no_spills_are_left_of_a_driver_that_is_killed(tmp_path: Path) -> None:
    path = numbers(tmp_path / "a.csv", 500)
    folder = tmp_path / "sorted"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, path, folder], capture_output=True, text=True, timeout=DEADLINE_SECONDS
    )
    assert int(done.stdout) > 1, done.stderr
    wait_until(lambda: not (folder / "spills").exists(), "the end of the spills")
