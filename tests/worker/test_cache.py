from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from daskscore.errors import InputError
from daskscore.worker.cache import Held, Note, Stopped, cache_folder, entries, held, hold, prune

LONG_AGO = 15 * 24 * 3600.0


def kept(folder: Path, name: str, make: Callable[[Path, int], Note] | None = None, seconds: float = 30) -> Held:
    return hold(folder, name, make or made, what=name, stopping=lambda: False, seconds=seconds)


def made(place: Path, lock: int) -> Note:
    place.mkdir()
    (place / "file").write_text("whole")
    return {"shown": place.name}


def test_the_folder_is_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "kind").mkdir(mode=0o755)
    folder = cache_folder("kind", {"DASKSCORE_CACHE": str(tmp_path)})
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_link_of_somebody_is_no_folder_of_ours(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "kind").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="belongs to somebody else"):
        cache_folder("kind", {"DASKSCORE_CACHE": str(tmp_path)})


def test_an_entry_is_made_once_however_many_want_it(tmp_path: Path) -> None:
    times = []

    def make(place: Path, lock: int) -> Note:
        times.append(1)
        return made(place, lock)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: kept(tmp_path, "a", make), range(8)))
    assert len(times) == 1
    assert {one.path for one in found} == {tmp_path / "a"}


def test_what_one_that_was_killed_has_left_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "half").write_text("")
    assert [path.name for path in kept(tmp_path, "a").path.iterdir()] == ["file"]


def test_what_could_not_be_made_leaves_nothing_and_may_be_tried_again(tmp_path: Path) -> None:
    def fail(place: Path, lock: int) -> Note:
        place.mkdir()
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        kept(tmp_path, "a", fail)
    assert not (tmp_path / "a").exists()
    assert held(tmp_path, "a") is None
    kept(tmp_path, "a")


def test_waiting_for_another_has_an_end(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(place: Path, lock: int) -> Note:
        begun.set()
        go_on.wait(30)
        return made(place, lock)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(kept, tmp_path, "a", slow)
        begun.wait(30)
        with pytest.raises(InputError, match=r"a was not there after 0.1 s"):
            kept(tmp_path, "a", seconds=0.1)
        with pytest.raises(Stopped):
            hold(tmp_path, "a", made, what="a", stopping=lambda: True, seconds=30)
        go_on.set()
        first.result()


def test_pruning_leaves_what_is_used_and_what_was_used_lately(tmp_path: Path) -> None:
    used = kept(tmp_path, "used")
    for name in ("old", "new"):
        kept(tmp_path, name).close()
    for name in ("used", "old"):
        long_ago = (tmp_path / f"{name}.json").stat().st_mtime - LONG_AGO
        os.utime(tmp_path / f"{name}.json", (long_ago, long_ago))
    assert [one.note["shown"] for one in prune(tmp_path)] == ["old"]
    assert {one.path.name for one in entries(tmp_path)} == {"used", "new"}
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("old")) == []
    used.close()
    assert [one.note["shown"] for one in prune(tmp_path, unused_seconds=0)] == ["new", "used"]
    assert list(tmp_path.iterdir()) == []
