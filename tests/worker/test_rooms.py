from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daskscore.core.model import Bundle, Kind, Outcome, Span
from daskscore.core.planning import line
from daskscore.worker.nursery import Nursery
from daskscore.worker.rooms import Room, open_room
from daskscore.worker.sources import Code, CodeFolder, Witness
from daskscore.worker.supervisor import Supervisor
from tests.desks import desk
from tests.support import wait_until

NOWHERE = Code("/not/here", (Witness("score.py", 1, 1, 1, "0" * 64),), {}, 0)
INIT_SECONDS = 3.0


class Late:
    """A folder that takes longer to come than init() may take."""

    def __init__(self, place: Path) -> None:
        self._place = str(place)

    def place(self, ask: Callable[[], None]) -> str:
        time.sleep(INIT_SECONDS + 0.2)
        return self._place


@pytest.fixture
def asked() -> list[float]:
    return []


@pytest.fixture
def room(asked: list[float]) -> Room:
    """On a machine without the script's folder."""
    stopping = threading.Event()
    found = open_room(NOWHERE, None, "run", stopping=stopping.is_set, ask=lambda: asked.append(time.monotonic()))
    assert found is not None
    assert found.code is not None
    wait_until(lambda: found.code is not None and found.code.looked, "a look")
    return found


def scored(tmp_path: Path, nursery: Nursery, room: Room, stopping: Callable[[], bool] = lambda: False) -> Outcome:
    supervisor = Supervisor(replace(desk(tmp_path, init_seconds=INIT_SECONDS), room=room), lambda: nursery, stopping)
    try:
        return supervisor.score(Bundle(1, (Span(0, 1),), line(["word"]), 60))
    finally:
        supervisor.end()


def test_where_all_is_there_no_room_is_opened() -> None:
    assert open_room(None, None, "run", stopping=lambda: False, ask=lambda: None) is None


def test_what_a_room_takes_is_not_the_time_of_init(tmp_path: Path, nursery: Nursery) -> None:
    late: Any = Late(tmp_path)
    outcome = scored(tmp_path, nursery, Room(late, None, lambda: None))
    assert (outcome.init_failure, len(outcome.segments)) == (None, 1)


def test_a_scorer_waits_for_the_folder_and_asks_for_it(
    tmp_path: Path, nursery: Nursery, room: Room, asked: list[float]
) -> None:
    assert room.readiness("node").wants_code
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(scored, tmp_path, nursery, room)
        wait_until(lambda: asked, "a word")
        assert isinstance(room.code, CodeFolder)
        room.code.refuse("it is too large")
        failure = outcome.result(30).init_failure
    assert failure is not None
    assert (failure.kind, "cannot be brought to this machine: it is too large" in failure.message) == (Kind.INPUT, True)
    assert not room.readiness("node").wants_code


def test_who_waits_for_the_folder_ends_with_the_run(tmp_path: Path, nursery: Nursery, asked: list[float]) -> None:
    stopping = threading.Event()
    room = open_room(NOWHERE, None, "run", stopping=stopping.is_set, ask=stopping.set)
    assert room is not None
    outcome = scored(tmp_path, nursery, room, stopping.is_set)
    assert (outcome.init_failure, len(outcome.unstarted)) == (None, 1)


def test_a_driver_that_says_nothing_is_not_waited_for_without_end(
    tmp_path: Path, nursery: Nursery, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daskscore.worker.sources.WAIT_SECONDS", 0.2)
    failure = scored(tmp_path, nursery, room).init_failure
    assert failure is not None
    assert "did not come from the driver within 0.2 s" in failure.message
