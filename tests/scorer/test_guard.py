from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from daskscore.worker import nursery as nurseries
from daskscore.worker.nursery import Ending, Nursery, NurseryGone, resident_bytes
from daskscore.worker.process import ScorerProcess
from tests.desks import desk
from tests.support import processes_with, wait_until

SECONDS = 20.0

LEAVE_THINGS_BEHIND = """
    import os, subprocess, sys, time
    MARK = os.environ["GUARD_TEST_MARK"]

    def start(**how):
        subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(1000)", MARK], **how)

    def daemon():
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.closerange(0, 1000)
                os.execve(sys.executable, [sys.executable, "-S", "-c", "import time; time.sleep(1000)", MARK], {})
            os._exit(0)
        os.wait()

    def init():
        start()
        start(start_new_session=True)
        start(start_new_session=True, env={})
        daemon()
        if os.fork() == 0:
            os.setsid()
            time.sleep(1000)

    def run(mini_batch): return []
"""
"""A scorer, one in a session of its own, one without our mark too, a daemon, and a fork that runs on in the script."""
LEFT_BEHIND = 5

PLACE = {
    "run_id": "run",
    "process": "process000",
    "output": "",
    "source_directory": "",
    "log_folder": "",
    "metrics_file": "",
}


@dataclass
class Room:
    """A nursery, and the scorers that are started there."""

    folder: Path
    mark: str
    nursery: Nursery
    scorers: list[ScorerProcess]

    def start(self, script: str) -> ScorerProcess:
        self.scorers.append(ScorerProcess(desk(self.folder, script), self.nursery))
        self.scorers[-1].prepare()
        return self.scorers[-1]

    def ready(self, script: str = "def run(mini_batch): return []") -> ScorerProcess:
        """A scorer that has got through its init()."""
        scorer = self.start(script)
        wait_until(lambda: (scorer.hear() or {}).get("word") == "ready", "init()")
        return scorer

    @property
    def nursery_pid(self) -> int:
        return self.nursery._process.pid

    def living(self) -> dict[int, str]:
        return processes_with(self.mark)

    def all_gone(self) -> None:
        wait_until(lambda: not self.living(), lambda: f"the end of {self.living()}", SECONDS)


def ending(scorer: ScorerProcess) -> Ending:
    """How it ended, once it has."""
    found: Ending = wait_until(lambda: scorer.guard.wait(SECONDS), "the end of the scorer")
    return found


@pytest.fixture
def mark() -> str:
    return secrets.token_hex(8)


@pytest.fixture
def make_room(tmp_path: Path, mark: str) -> Iterator[Callable[..., Room]]:
    rooms: list[Room] = []

    def make(remove_at_end: list[tuple[str, int]] | None = None) -> Room:
        environment = {**os.environ, "GUARD_TEST_MARK": mark}
        nursery = Nursery(environment=environment, remove_at_end=remove_at_end or [])
        rooms.append(Room(tmp_path, mark, nursery, []))
        return rooms[-1]

    yield make
    for room in rooms:
        room.nursery.close()
        for scorer in room.scorers:
            scorer.close()
        room.all_gone()


@pytest.fixture
def room(make_room: Callable[..., Room]) -> Room:
    return make_room()


def test_a_scorer_ends_in_peace_when_its_commands_end(room: Room) -> None:
    scorer = room.ready()
    scorer._close_commands()
    assert ending(scorer).status == 0


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("os._exit(7)", 7),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("signal.signal(signal.SIGSEGV, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGSEGV)", -signal.SIGSEGV),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    ],
)
def test_the_guard_says_how_a_scorer_ended(room: Room, line: str, status: int) -> None:
    scorer = room.start(f"import os, signal\ndef init(): {line}\ndef run(mini_batch): return []")
    assert ending(scorer).status == status


def test_the_guard_says_how_much_memory_a_scorer_had_held(room: Room) -> None:
    scorer = room.start("import os\ndef init(): b'x' * (64 << 20); os._exit(0)\ndef run(mini_batch): return []")
    assert 64 << 20 < ending(scorer).peak_bytes < 1 << 30


def test_a_living_scorer_has_no_ending_and_holds_memory(room: Room) -> None:
    scorer = room.ready()
    assert scorer.guard.wait(0) is None
    assert 1 << 20 < resident_bytes(scorer.guard.scorer) < 1 << 30


def test_each_scorer_has_a_guard_of_its_own(room: Room) -> None:
    first, second = room.ready(), room.ready()
    assert second.guard.end().status == -signal.SIGKILL
    assert first.guard.wait(0) is None
    assert first.guard.end().status == -signal.SIGKILL


def test_what_a_script_started_is_gone_when_its_ending_is_told(room: Room) -> None:
    other = room.ready()
    before = room.living()
    scorer = room.ready(LEAVE_THINGS_BEHIND)
    scorer.guard.end()
    assert set(room.living()) - {scorer.guard.pid} == set(before)
    assert other.guard.scorer in room.living()


CHAIN = """
LINK = '''
import os, subprocess, sys, time
link, left = sys.argv[1], int(sys.argv[2])
if left:
    subprocess.Popen([sys.executable, "-S", "-c", link, link, str(left - 1)], start_new_session=True)
else:
    open(os.environ["GUARD_TEST_MARK"], "w")
time.sleep(1000)
'''
import subprocess, sys
def init(): subprocess.Popen([sys.executable, "-S", "-c", LINK, LINK, "9"], start_new_session=True)
def run(mini_batch): return []
"""


def test_a_chain_of_orphans_is_killed_to_its_last_link(room: Room) -> None:
    before = room.living()
    scorer = room.ready(CHAIN)
    wait_until((room.folder / room.mark).exists, "the last link of the chain")
    wait_until(lambda: len(room.living()) == len(before) + 2 + 10, "a chain in which each link's parent is gone")
    scorer.guard.end()
    assert set(room.living()) - {scorer.guard.pid} == set(before)


def test_nothing_that_scripts_started_outlives_the_nursery_s_socket(room: Room) -> None:
    room.ready(LEAVE_THINGS_BEHIND)
    wait_until(lambda: len(room.living()) == 3 + LEFT_BEHIND, "all that the script starts")
    room.nursery.close()
    room.all_gone()


def test_orphans_of_a_crash_are_gone_when_it_is_told(room: Room) -> None:
    scorer = room.ready(LEAVE_THINGS_BEHIND)
    os.kill(scorer.guard.scorer, signal.SIGKILL)
    assert ending(scorer).status == -signal.SIGKILL
    assert set(room.living()) - {scorer.guard.pid} == {room.nursery_pid}


@pytest.mark.parametrize("who", ["guard", "nursery"])
def test_orphans_of_a_killed_parent_are_ended_by_the_other_one(room: Room, who: str) -> None:
    scorer = room.ready(LEAVE_THINGS_BEHIND)
    os.kill(scorer.guard.pid if who == "guard" else room.nursery_pid, signal.SIGKILL)
    ending(scorer)
    left = {room.nursery_pid} if who == "guard" else set()
    wait_until(lambda: set(room.living()) == left, lambda: f"the end of {room.living()}", SECONDS)


def test_a_stopped_guard_does_not_save_its_scorer(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nurseries, "KILL_SECONDS", 0.5)
    scorer = room.ready(LEAVE_THINGS_BEHIND)
    os.kill(scorer.guard.pid, signal.SIGSTOP)
    assert scorer.guard.end() == Ending(None)
    wait_until(lambda: set(room.living()) == {room.nursery_pid}, lambda: f"the end of {room.living()}", SECONDS)


HOLDER = """
import os, sys, json
from pathlib import Path
from daskscore.worker.nursery import Nursery
from tests.scorer.test_guard import LEAVE_THINGS_BEHIND, Room
folder, mark = Path(sys.argv[1]), os.environ["GUARD_TEST_MARK"]
(folder / "scratch").mkdir()
room = Room(folder, mark, Nursery(environment=os.environ, remove_at_end=[(str(folder / "scratch"), os.getpid())]), [])
room.ready(LEAVE_THINGS_BEHIND)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_killed_leaves_no_process_and_no_folder(tmp_path: Path, mark: str, number: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "GUARD_TEST_MARK": mark},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
        worker.send_signal(number)
    wait_until(lambda: not processes_with(mark), f"the end of {processes_with(mark)}", SECONDS)
    assert not (tmp_path / "scratch").exists()


def test_the_folders_that_the_worker_named_are_removed(make_room: Callable[..., Room], tmp_path: Path) -> None:
    full, gone = tmp_path / "full", tmp_path / "gone"
    (full / "deep").mkdir(parents=True)
    (full / "deep" / "file").touch()
    make_room([(str(gone), 0), (str(full), 0)]).nursery.close()
    assert not full.exists()


def test_a_folder_stays_while_its_owner_lives(make_room: Callable[..., Room], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    make_room([(str(tmp_path / "mine"), os.getpid())]).nursery.close()
    assert (tmp_path / "mine").exists()


def test_a_folder_whose_owner_is_gone_is_removed(make_room: Callable[..., Room], tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    owner = subprocess.Popen([sys.executable, "-S", "-c", ""])
    owner.wait()
    make_room([(str(tmp_path / "theirs"), owner.pid)]).nursery.close()
    assert not (tmp_path / "theirs").exists()


def test_guards_survive_the_signals_of_a_terminal(room: Room) -> None:
    scorer = room.ready()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(scorer.guard.pid, number)
        os.kill(room.nursery_pid, number)
    assert room.ready().guard.wait(0) is None
    assert scorer.guard.wait(0) is None


def test_each_of_them_is_in_a_session_of_its_own(room: Room) -> None:
    scorer = room.ready()
    assert len({os.getsid(pid) for pid in (0, room.nursery_pid, scorer.guard.pid, scorer.guard.scorer)}) == 4


def test_a_killed_guard_takes_its_scorer_along_and_no_other(room: Room) -> None:
    other, scorer = room.ready(), room.ready()
    os.kill(scorer.guard.pid, signal.SIGKILL)
    assert ending(scorer) == Ending(None)
    left = {room.nursery_pid, other.guard.pid, other.guard.scorer}
    wait_until(lambda: set(room.living()) == left, lambda: f"the end of {room.living()}", SECONDS)


def test_a_nursery_that_is_gone_says_so_when_it_is_asked_for_a_scorer(room: Room) -> None:
    os.kill(room.nursery_pid, signal.SIGKILL)
    with pytest.raises(NurseryGone):
        room.start("")
    assert not room.nursery.alive


def test_nursery_and_worker_keep_no_descriptor_of_scorers_that_are_gone(room: Room) -> None:
    def open_ones() -> list[list[str]]:
        return [sorted(os.listdir(f"/proc/{pid}/fd")) for pid in (room.nursery_pid, os.getpid())]

    room.ready()
    before = open_ones()
    for _ in range(10):
        scorer = room.start("import os\nos._exit(0)")
        ending(scorer)
        scorer.close()
    assert open_ones() == before


def test_a_scorer_holds_no_descriptor_of_its_guard(room: Room) -> None:
    scorer = room.start(
        """
        import os
        def init():
            links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
            open("held", "w").write(" ".join(os.readlink(link) for link in links if os.path.lexists(link)))
        def run(mini_batch): return []
        """
    )
    wait_until(lambda: (scorer.hear() or {}).get("word") == "ready", "init()")
    assert "socket" not in (room.folder / "held").read_text()
