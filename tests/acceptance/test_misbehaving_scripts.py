"""One run of a script that does, by item, everything that a script can do to its process."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.support import Finished, Workbench, nothing_left_of

pytestmark = pytest.mark.slow

SCRIPT = r'''
import contextlib, ctypes, io, os, re, resource, signal, subprocess, sys, tempfile, threading, time

MARK = os.environ["DASKSCORE_TEST_MARK"]
print("the module speaks")

def init():
    print("init speaks")
    print("init complains", file=sys.stderr)

def run(mini_batch):
    sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__
    name = os.path.basename(mini_batch[0])
    print(f"<{name}>")
    result = globals()[name.rstrip("0123456789")]()
    return [f"row of {name}"] if result is None and name != "returns_none" else result

class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no words")

class NoException(BaseException):
    pass

def sleeper(**how):
    """A program that carries the test's mark in its name, whatever becomes of its environment."""
    subprocess.Popen([f"sleep DASKSCORE_TEST_MARK={MARK}", "1000"], executable="/bin/sleep", **how)

def in_a_child(work):
    if os.fork() == 0:
        work()
        signal.pause()

# What is well-behaved, or at least no failure.

def ordinary(): pass
def forks_a_child(): in_a_child(lambda: None)
def forks_a_child_in_its_own_session(): in_a_child(os.setsid)
def forks_a_daemon(): in_a_child(lambda: (os.setsid(), os.fork() and os._exit(0)))
def forks_a_daemon_that_ignores_signals():
    in_a_child(lambda: (os.setsid(), signal.signal(signal.SIGTERM, signal.SIG_IGN), os.fork() and os._exit(0)))
def starts_a_program(): sleeper()
def starts_a_program_in_its_own_session(): sleeper(start_new_session=True)
def starts_a_program_without_environment(): sleeper(start_new_session=True, env={})
def forks_and_both_return(): os.fork()
def forks_and_the_child_raises():
    if os.fork() == 0:
        raise RuntimeError("in the child")
def floods_stdout(): print("o" * 300_000)
def floods_stderr(): print("e" * 300_000, file=sys.stderr)
def prints_binary():
    sys.stdout.buffer.write(bytes(range(256)))
    sys.stderr.buffer.write(bytes(range(256)))
    print("half a surrogate \udc80 and a lone one \ud800")
def prints_from_c():
    ctypes.CDLL(None).printf(b"printed from C\n")
def prints_no_newline(): print("printed without newline", end="")
def starts_a_program_that_prints(): subprocess.run(["echo", "printed by a program"], check=True)
def closes_stdout(): os.close(1)
def closes_a_hundred_descriptors(): os.closerange(0, 100)
def drops_its_streams():
    sys.stdout = sys.stderr = sys.stdin = None
    os.closerange(0, 3)
def redirects_stdout():
    sys.stdout = io.StringIO()
    print("nobody reads this")
def reads_stdin(): assert sys.stdin.read() == ""
def installs_handlers():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
def changes_its_folder(): os.chdir("/")
def deletes_its_folder():
    os.chdir(tempfile.mkdtemp())
    os.rmdir(os.getcwd())
def sets_argv(): sys.argv[:] = ["other", "--words"]
def clears_its_environment(): os.environ.clear()
def spins_in_a_thread(): threading.Thread(target=hangs).start()
def returns_too_many(): return ["row of returns_too_many", "and one more", "and another"]

# What fails.

def raises(): raise ValueError("as told")
def raises_no_exception(): raise NoException("as told")
def raises_keyboard_interrupt(): raise KeyboardInterrupt
def raises_unspeakable(): raise Unspeakable
def raises_a_lone_surrogate(): raise ValueError("lone \ud800 surrogate \udcff")
def raises_generator_exit(): raise GeneratorExit
def recurses(): recurses()
def exits_python(): sys.exit()
def exits(): os._exit(3)
def exits_with_half_a_line():
    print("the last words", end="")
    os._exit(3)
def exits_before_its_daemon():
    in_a_child(lambda: (os.setsid(), os.fork() and os._exit(0)))
    sleeper(start_new_session=True, env={})
    os._exit(3)
def segfaults(): ctypes.string_at(0)
def aborts(): os.abort()
def kills_itself(): os.kill(os.getpid(), signal.SIGKILL)
def kills_its_group(): os.killpg(0, 9)
def kills_its_parent():
    in_a_child(os.setsid)
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()
def stops_its_parent():
    os.kill(os.getppid(), signal.SIGSTOP)
    os._exit(3)
def closes_all_descriptors(): os.closerange(0, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
def hangs():
    while True:
        pass
def hangs_in_c(): re.match(r"(a+)+$", "a" * 60 + "b")
def hangs_with_all_signals_blocked():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(1000)
def stops_itself(): os.kill(os.getpid(), signal.SIGSTOP)
def eats_memory():
    hoard = [b"x" * (8 << 20) for _ in range(80)]
    signal.pause()
def raises_memory_error(): raise MemoryError
def returns_none(): return None
def returns_a_text(): return "text"
def returns_a_mapping(): return {"a": 1}
def returns_a_number(): return 5
def returns_too_few(): return []
def returns_unspeakable(): return [Unspeakable()]
'''

BECOMES = {
    "a row": "ordinary1 ordinary2 ordinary3 ordinary4 ordinary5 ordinary6 ordinary7 ordinary8 forks_a_child "
    "forks_a_child_in_its_own_session forks_a_daemon forks_a_daemon_that_ignores_signals starts_a_program "
    "starts_a_program_in_its_own_session starts_a_program_without_environment forks_and_both_return "
    "forks_and_the_child_raises floods_stdout floods_stderr prints_binary prints_from_c prints_no_newline "
    "starts_a_program_that_prints closes_stdout closes_a_hundred_descriptors drops_its_streams redirects_stdout "
    "reads_stdin installs_handlers changes_its_folder deletes_its_folder sets_argv clears_its_environment "
    "spins_in_a_thread returns_too_many",
    "raise": "raises raises_no_exception raises_keyboard_interrupt raises_unspeakable raises_a_lone_surrogate "
    "raises_generator_exit recurses exits_python",
    "crash": "exits exits_with_half_a_line exits_before_its_daemon segfaults aborts kills_itself kills_its_group "
    "kills_its_parent stops_its_parent closes_all_descriptors",
    "timeout": "hangs hangs_in_c hangs_with_all_signals_blocked stops_itself",
    "memory": "eats_memory raises_memory_error",
    "bad_output": "returns_none returns_a_text returns_a_mapping returns_a_number returns_too_few returns_unspeakable",
}
WELL = BECOMES.pop("a row").split()
FAILS = {item: kind for kind, items in BECOMES.items() for item in items.split()}

COMMON = ("--process-count-per-node", "2", "--mini-batch-size", "1")


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """What the one run has left, apart from the processes, which are gone by now."""
    bench = Workbench(tmp_path_factory.mktemp("bench"))
    bench.script(SCRIPT)
    bench.inputs(*WELL, *FAILS)
    with nothing_left_of(tmp_path_factory.mktemp("scratch")):
        return bench.run(
            *COMMON,
            *("--run-invocation-timeout", "3", "--run-max-try", "2"),
            *("--set", "memory_limit_per_process=300MB"),
        )


def test_the_run_completes_and_every_ordinary_item_has_its_row(aftermath: Finished) -> None:
    rows = {item: [f"row of {item}"] for item in WELL}
    rows["returns_too_many"] += ["and one more", "and another"]
    assert aftermath.code == 0, aftermath.stdout + aftermath.stderr
    assert aftermath.rows == [row for item in sorted(WELL) for row in rows[item]]


def test_every_other_item_is_accounted_for(aftermath: Finished) -> None:
    total = len(WELL) + len(FAILS)
    assert aftermath.report["items"] == {"total": total, "succeeded": len(WELL), "failed": len(FAILS)}
    assert sorted(Path(line["item"]).name for line in aftermath.failed_items) == sorted(FAILS)
    assert aftermath.report["failures"] == Counter(FAILS.values())


@pytest.mark.parametrize("item", FAILS)
def test_a_failed_item_is_named_with_its_kind_and_its_log(aftermath: Finished, item: str) -> None:
    (line,) = (line for line in aftermath.failed_items if Path(line["item"]).name == item)
    assert line["kind"] == FAILS[item], line
    assert line["attempts"] == (1 if item == "returns_too_few" else 2)
    log = aftermath.output / line["log"]
    assert log.is_file()
    if FAILS[item] == "raise":
        assert f"in {item}\n" in log.read_text()


def test_what_was_printed_before_the_worst_happened_is_in_a_log(aftermath: Finished) -> None:
    logged = _logged(aftermath, "stdout")
    assert [item for item in [*WELL, *FAILS] if f"<{item}>\n".encode() not in logged] == []


@pytest.mark.parametrize(
    ("stream", "text"),
    [
        ("stdout", b"o" * 300_000 + b"\n"),
        ("stderr", b"e" * 300_000 + b"\n"),
        ("stdout", bytes(range(256))),
        ("stderr", bytes(range(256))),
        ("stdout", b"half a surrogate \x80 and a lone one "),
        ("stdout", b"printed from C\n"),
        ("stdout", b"printed without newline"),
        ("stdout", b"printed by a program\n"),
        ("stdout", b"the last words"),
        ("stdout", b"the module speaks\ninit speaks\n"),
        ("stderr", b"init complains\n"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value[:30]),
)
def test_nothing_printed_is_lost(aftermath: Finished, stream: str, text: bytes) -> None:
    assert text in _logged(aftermath, stream)


def test_every_scorer_tells_of_its_init(aftermath: Finished) -> None:
    for log in (aftermath.output / "logs/user/stdout").rglob("*.txt"):
        assert log.read_bytes().startswith(b"the module speaks\ninit speaks\n"), log


def _logged(aftermath: Finished, stream: str) -> bytes:
    logs = sorted((aftermath.output / "logs/user" / stream).rglob("*.txt"))
    return b"\0".join(log.read_bytes() for log in logs)


@pytest.mark.usefixtures("nothing_left_behind")
def test_a_script_that_kills_its_guard_harms_no_other_slot(bench: Workbench) -> None:
    """Item b is in run() whenever item a kills the parent of its process; it is tried once all the same."""
    bench.script(
        """
        import os, signal, sys, time
        def run(mini_batch):
            name, folder = os.path.basename(mini_batch[0]), os.environ["FOLDER"]
            if name == "b":
                open(f"{folder}/b {len(os.listdir(folder))}", "x").close()
                while len([other for other in os.listdir(folder) if other[0] == "a"]) < 3:
                    time.sleep(0.01)
            else:
                while not any(other[0] == "b" for other in os.listdir(folder)):
                    time.sleep(0.01)
                open(f"{folder}/a {len(os.listdir(folder))}", "x").close()
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(1000)
            return [name]
        """
    )
    bench.inputs("a", "b")
    tries = bench.folder / "tries"
    tries.mkdir()
    done = bench.run(
        *COMMON, "--run-max-try", "3", "--set", f"environment_variables={{FOLDER: {json.dumps(str(tries))}}}"
    )
    assert (done.code, done.rows) == (0, ["b"]), done.stderr
    assert [(line["kind"], line["attempts"]) for line in done.failed_items] == [("crash", 3)]
    assert sorted(path.name[0] for path in tries.iterdir()) == ["a", "a", "a", "b"]


@pytest.mark.usefixtures("nothing_left_behind")
def test_a_scorer_ends_as_a_python_program_does(bench: Workbench) -> None:
    """What libraries and scripts leave to the end of their process is done: exit handlers, open files, folders."""
    bench.script(
        """
        import atexit, ctypes, os, tempfile
        folder = tempfile.TemporaryDirectory()
        file = open("left_open.txt", "w")
        atexit.register(lambda: print("exit handler"))
        def run(mini_batch):
            file.write("a word")
            ctypes.CDLL(None).printf(b"from C")
            return mini_batch
        def shutdown():
            print("shutdown without newline, ", end="")
        """
    )
    bench.inputs("a")
    done = bench.run("--process-count-per-node", "1")
    assert done.code == 0, done.stderr
    assert (bench.folder / "left_open.txt").read_text() == "a word"
    (log,) = (done.output / "logs/user/stdout").rglob("*.txt")
    assert "from C" in log.read_text()
    assert "shutdown without newline, exit handler\n" in log.read_text()
