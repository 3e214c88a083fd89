"""What a node uses is looked at now and then, and never more often than asked for."""

from __future__ import annotations

import csv
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from daskscore.worker import monitor as monitors
from daskscore.worker.capping import Caps
from daskscore.worker.monitor import NODE, Monitor
from tests.support import wait_until

Start = Callable[[float], Monitor]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setattr(monitors, "LOOK_SECONDS", 0.01)
    started: list[Monitor] = []

    def start(seconds: float) -> Monitor:
        caps = Caps(tmp_path, "0", 1 << 20)
        started.append(Monitor(tmp_path, "0", lambda: {"process007": os.getpid()}, caps, seconds))
        return started[-1]

    yield start
    for monitor in started:
        monitor.close()


def table(folder: Path, name: str) -> list[dict[str, Any]]:
    path = folder / "logs/sys/perf/0" / name
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []


def test_each_look_is_a_line_of_each_table(tmp_path: Path, start: Start) -> None:
    start(0.05)
    wait_until(lambda: len(table(tmp_path, "node_disk_usage.csv")) > 4, "some looks")
    nodes = table(tmp_path, "node_resource_usage.csv")
    assert tuple(nodes[0]) == NODE
    assert float(nodes[0]["Memory Total (MB)"]) > float(nodes[0]["Memory Used (MB)"]) > 0
    named = {line["Process"]: line for line in table(tmp_path, "processes_resource_usage.csv")}
    assert set(named) == {"worker", "process007"}
    assert float(named["process007"]["Memory Rss (MB)"]) > 1
    (disk, *_) = [line for line in table(tmp_path, "node_disk_usage.csv") if line["Path"] == str(tmp_path)]
    assert float(disk["Total (MB)"]) > float(disk["Free (MB)"])


def test_a_snapshot_names_the_processes_without_their_arguments(tmp_path: Path, start: Start) -> None:
    start(0.05)
    found = wait_until(lambda: list((tmp_path / "logs/sys/perf/0/os").glob("*/processes_*")), "a snapshot")
    text = wait_until(found[0].read_text, "its text")
    assert str(os.getpid()) in text
    assert text.splitlines()[0].split()[-1] in ("COMMAND", "NAME")


def test_without_an_interval_nothing_is_written(tmp_path: Path, start: Start) -> None:
    monitor = start(0)
    looked = threading.Event()
    monitor._caps.look = looked.set  # type: ignore[method-assign]  # the thread goes round
    assert looked.wait(10)
    looked.clear()
    assert looked.wait(10)
    assert not (tmp_path / "logs/sys/perf").exists()


def test_a_monitor_that_is_closed_has_ended(start: Start) -> None:
    start(600).close()
    assert "daskscore-monitor" not in {thread.name for thread in threading.enumerate()}
