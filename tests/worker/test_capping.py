"""A script that prints without end fills no disk, and of what it prints the beginning and the newest end are kept."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from daskscore.worker import capping
from daskscore.worker.capping import Caps, close_hole
from tests.support import wait_until

LIMIT = 400_000
LINE = 100
PRINTS = """
import os, sys
os.close(0)
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
for number in range(int(sys.argv[2])):
    os.write(fd, b"%s %012d %s\\n" % (sys.argv[3].encode(), number, b"x" * 84))
"""


@pytest.fixture
def caps(tmp_path: Path) -> Iterator[Caps]:
    """Looks all the time, as a worker does some times a second."""
    found = Caps(tmp_path, "0", LIMIT)
    found.watch("process000")
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            found.look()

    thread = threading.Thread(target=look)
    thread.start()
    yield found
    over.set()
    thread.join()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "logs/user/stdout/0/process000.stdout.txt"
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def prints(log: Path, lines: int, word: str = "a") -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PRINTS, str(log), str(lines), word])


def numbers(text: bytes) -> list[int]:
    """Of the lines; each must be whole."""
    found = [re.fullmatch(rb"a (\d{12}) x{84}", line) for line in text.splitlines()]
    assert all(found), "a line is torn"
    return [int(match[1]) for match in found if match]


def test_a_log_below_the_limit_is_left_alone(caps: Caps, log: Path) -> None:
    assert prints(log, LIMIT // LINE).wait() == 0
    inode = log.stat().st_ino
    caps.ended("process000")
    assert numbers(log.read_bytes()) == list(range(LIMIT // LINE))
    assert log.stat().st_ino == inode


def test_the_beginning_and_the_newest_end_of_a_long_log_are_kept(caps: Caps, log: Path) -> None:
    assert prints(log, 100_000).wait() == 0
    caps.ended("process000")
    begin, note, end = re.split(rb"^(\.\.\. \d+ bytes are left out here.*\n)", log.read_bytes(), flags=re.MULTILINE)
    first, last = numbers(begin), numbers(end)
    assert first == list(range(LIMIT // 4 // LINE))
    assert last == list(range(last[0], 100_000))
    assert LIMIT // 2 - LINE <= len(end) <= LIMIT // 2
    assert int(note.split()[1]) == 100_000 * LINE - len(begin) - len(end)


def test_while_it_is_written_a_log_takes_no_more_of_the_disk(caps: Caps, log: Path) -> None:
    with prints(log, 10_000_000) as script:
        wait_until(lambda: log.stat().st_size > 20 * LIMIT, "a long log")
        wait_until(lambda: log.stat().st_blocks * 512 < 2 * LIMIT, "the middle to be given back")
        script.kill()
    assert log.stat().st_size > 20 * LIMIT


def test_several_writers_of_a_log_are_not_disturbed(caps: Caps, log: Path) -> None:
    writers = [prints(log, 20_000, word) for word in "bc"]
    assert [writer.wait() for writer in writers] == [0, 0]
    caps.ended("process000")
    assert b"\0" not in log.read_bytes()
    assert {len(line) for line in log.read_bytes().splitlines() if not line.startswith(b"...")} == {LINE - 1}


def test_the_hole_of_a_log_whose_worker_was_killed_is_closed(caps: Caps, log: Path) -> None:
    with prints(log, 10_000_000) as script:
        wait_until(lambda: log.stat().st_blocks * 512 < log.stat().st_size // 10, "a hole")
        script.kill()
    caps._living.clear()  # as if the worker were gone
    close_hole(log)
    text = log.read_bytes()
    assert b"\0" not in text
    assert text.count(b"bytes are left out here") == 1
    size = len(text)
    close_hole(log)
    assert log.stat().st_size == size


def test_where_there_are_no_holes_the_middle_is_cut_out(caps: Caps, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_holes(path: Path, offset: int, size: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(capping, "_punch", no_holes)
    assert prints(log, 100_000).wait() == 0
    caps.ended("process000")
    text = log.read_bytes()
    assert len(text) < 2 * LIMIT
    lines = [line for line in text.splitlines() if not line.startswith(b"...")]
    assert numbers(b"\n".join(lines[: LIMIT // 4 // LINE])) == list(range(LIMIT // 4 // LINE))
    # What is printed while the middle is cut out may be lost, and the end may come just then.
    assert numbers(lines[-1])[0] > 90_000


@pytest.mark.parametrize("holes", [True, False])
def test_what_is_left_out_of_a_line_without_end_is_told_on_a_line_of_its_own(
    log: Path, monkeypatch: pytest.MonkeyPatch, holes: bool
) -> None:
    def no_holes(path: Path, offset: int, size: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    if not holes:
        monkeypatch.setattr(capping, "_punch", no_holes)
    caps = Caps(log.parents[4], "0", LIMIT)
    caps.watch("process000")
    log.write_bytes(b"x" * 10 * LIMIT + b" the end\n")
    caps.look()
    caps.ended("process000")
    text = log.read_bytes()
    assert re.fullmatch(rb"x+\n\.\.\. \d+ bytes are left out here.*\nx+ the end\n", text)
    assert len(text) < LIMIT


def test_a_pipe_in_place_of_a_log_holds_nobody_up(log: Path) -> None:
    log.unlink()
    os.mkfifo(log)
    close_hole(log)
