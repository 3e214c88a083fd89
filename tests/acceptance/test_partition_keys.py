"""One run() per key: files by their names, records by hive folders or by any of their columns."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
from distributed import Client

import daskscore
from daskscore.driver import keyed
from tests.support import Workbench

pytestmark = pytest.mark.slow

Score = Callable[..., list[dict[str, Any]]]

FILES = """
    import os
    def run(mini_batch, context):
        names = sorted(os.path.basename(path) for path in mini_batch)
        return [{"keys": context.partition_key_value, "files": names}] * len(names)
"""
TABLES = """
    def run(frame, context):
        row = {"keys": context.partition_key_value, "columns": list(frame.columns), "rows": frame.to_dict("records")}
        return [row] * len(frame)
"""


@pytest.fixture
def score(bench: Workbench, client: Client) -> Score:
    def run(script: str, entry: Any, keys: list[str], **settings: Any) -> list[dict[str, Any]]:
        bench.script(script)
        report = daskscore.run(
            entry_script=bench.folder / "score.py",
            inputs=entry,
            partition_keys=keys,
            output=bench.output,
            overwrite=True,
            client=client,
            preflight=False,
            append_row_format="jsonl",
            **settings,
        )
        assert report.status == "Completed", report.message
        assert report.items.succeeded + report.items.failed == report.items.total
        rows = [json.loads(line) for line in (bench.output / "parallel_run_step.txt").read_text().splitlines()]
        return [row for number, row in enumerate(rows) if not number or row != rows[number - 1]]

    return run


def made(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


def test_files_by_a_pattern(score: Score, tmp_path: Path) -> None:
    top = made(tmp_path / "wav", "u1/winter/jazz.wav", "u1/winter/pop.wav", "u2/summer/pop.wav", "u1/summer/pop.wav")
    entry = {"path": str(top), "partition_format": "{user}/{season}/{genre}.wav"}
    assert score(FILES, entry, ["user", "season"]) == [
        {"keys": {"user": "u1", "season": "summer"}, "files": ["pop.wav"]},
        {"keys": {"user": "u1", "season": "winter"}, "files": ["jazz.wav", "pop.wav"]},
        {"keys": {"user": "u2", "season": "summer"}, "files": ["pop.wav"]},
    ]
    assert [found["keys"] for found in score(FILES, entry, ["genre"])] == [{"genre": "pop"}, {"genre": "jazz"}]


def test_files_by_hive_folders(score: Score, tmp_path: Path) -> None:
    top = made(tmp_path / "in", "day=1/user=a/x", "day=1/user=b/x", "day=2/user=a/x")
    assert score(FILES, str(top), ["user"]) == [
        {"keys": {"user": "a"}, "files": ["x", "x"]},
        {"keys": {"user": "b"}, "files": ["x"]},
    ]


def test_records_in_hive_folders_are_not_moved(score: Score, bench: Workbench, tmp_path: Path) -> None:
    for store in (2, 1):
        for week in range(2):
            path = tmp_path / "t" / f"store={store}" / f"week{week}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"price\n{store}{week}\n")
    rows = score(TABLES, {"path": str(tmp_path / "t"), "type": "tabular"}, ["store"])
    assert [(row["keys"], row["columns"], [one["price"] for one in row["rows"]]) for row in rows] == [
        ({"store": "1"}, ["price", "store"], [10, 11]),
        ({"store": "2"}, ["price", "store"], [20, 21]),
    ]
    assert not [*(bench.output / ".daskscore").rglob("*.arrow")]


def table(folder: Path, rows: int = 500) -> pandas.DataFrame:
    chance = random.Random(3)
    frame = pandas.DataFrame(
        {
            "store": [chance.choice(["north", "south", "é, quoted"]) for _ in range(rows)],
            "price": range(rows),
            "brand": [chance.choice([1, 2]) for _ in range(rows)],
        }
    )
    folder.mkdir()
    for number in range(3):
        frame.iloc[number::3].to_csv(folder / f"{number}.csv", index=False)
    return pandas.concat([frame.iloc[number::3] for number in range(3)])


def test_records_by_any_columns(score: Score, bench: Workbench, tmp_path: Path) -> None:
    frame = table(tmp_path / "t")
    rows = score(TABLES, {"path": str(tmp_path / "t"), "type": "tabular"}, ["brand", "store"])
    wanted = [(list(keys), group["price"].tolist()) for keys, group in frame.groupby(["brand", "store"], sort=True)]
    assert [([*row["keys"].values()], [one["price"] for one in row["rows"]]) for row in rows] == wanted
    assert {tuple(row["columns"]) for row in rows} == {("price", "brand", "store")}
    assert [*rows[0]["keys"]] == ["brand", "store"]
    assert not [*(bench.output / ".daskscore").rglob("*.arrow")]


def test_skipped_records_are_counted_and_named(score: Score, bench: Workbench, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("key,value\na,1\nb,2,3\na,4\n")
    rows = score(TABLES, {"path": str(tmp_path / "t.csv"), "type": "tabular", "on_bad_record": "skip"}, ["key"])
    assert [row["keys"] for row in rows] == [{"key": "a"}]
    report = json.loads((bench.output / "report.json").read_text())
    assert (report["items"], report["failures"]) == ({"total": 3, "succeeded": 2, "failed": 1}, {"input": 1})
    failed = json.loads((bench.output / "failed_items.jsonl").read_text())
    assert (failed["item"], failed["kind"], failed["mini_batch"]) == (f"{tmp_path}/t.csv line 3", "input", None)


def test_a_resumed_run_does_not_sort_again(
    bench: Workbench, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table(tmp_path / "t")
    bench.script(
        """
        import os
        def run(frame, context):
            if context.partition_key_value["store"] == "south" and not os.path.exists(os.environ["MENDED"]):
                raise ValueError("not yet")
            return frame["price"]
        """
    )
    settings: dict[str, Any] = {
        "entry_script": bench.folder / "score.py",
        "inputs": {"path": str(tmp_path / "t"), "type": "tabular"},
        "partition_keys": ["store"],
        "output": bench.output,
        "client": client,
        "run_max_try": 1,
        "error_threshold": 0,
        "environment_variables": {"MENDED": str(tmp_path / "mended")},
    }
    assert daskscore.run(**settings).status == "Failed"
    assert [*(bench.output / ".daskscore" / "sorted").rglob("*.arrow")]
    monkeypatch.setattr(keyed, "sort", None)
    with pytest.raises(daskscore.UsageError, match=r"partition_keys was \['store'\] and is \['brand'\] now"):
        daskscore.run(**{**settings, "partition_keys": ["brand"]}, resume=True)
    (tmp_path / "mended").touch()
    report = daskscore.run(**settings, resume=True)
    assert (report.status, report.items.succeeded, report.items.total) == ("Completed", 500, 500)
    again = daskscore.run(**settings, resume=True)
    assert (again.items, again.mini_batches) == (report.items, report.mini_batches)


def test_a_bad_record_ends_the_run_where_it_should(bench: Workbench, client: Client, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("key,value\na,1\nb,2,3\na,4\n")
    bench.script(TABLES)
    report = daskscore.run(
        entry_script=bench.folder / "score.py",
        inputs={"path": str(tmp_path / "t.csv"), "type": "tabular"},
        partition_keys=["key"],
        output=bench.output,
        client=client,
        preflight=False,
    )
    assert report.status == "Failed"
    assert f"{tmp_path}/t.csv line 3" in report.message


@pytest.mark.parametrize(
    ("entry", "keys", "message"),
    [
        ({"path": "t", "type": "tabular"}, ["shop"], "partition_keys: the records have no column shop"),
        ("t", ["user"], r"0\.csv lies in no folder user=… below .*/t, so it has no value of the partition key user"),
        (
            {"path": "t", "partition_format": "{user}/{x}.wav"},
            ["user"],
            r"0\.csv does not end like the partition format \{user\}/\{x\}\.wav",
        ),
    ],
)
def test_keys_that_are_not_there(
    bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: Any, keys: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "t")
    bench.script(TABLES)
    with pytest.raises(daskscore.UsageError, match=message):
        daskscore.run(entry_script="score.py", inputs=entry, partition_keys=keys, output="out", preflight=False)


def test_keys_and_a_size_exclude_each_other() -> None:
    with pytest.raises(
        daskscore.UsageError, match="Parameters mini_batch_size and partition_keys are mutually exclusive"
    ):
        daskscore.run(entry_script="s.py", inputs="in", output="out", partition_keys=["a"], mini_batch_size=3)
