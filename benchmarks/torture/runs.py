"""One ordeal from its first process to the last check."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import daskscore
from benchmarks.torture import checks, clock, clusters
from benchmarks.torture.faults import Act, Ordeal
from benchmarks.torture.jobs import Job
from benchmarks.torture.storages import Bucket, Storages
from benchmarks.torture.watching import ON_ITS_WAY, Usage, end, progress, shared_memory, tree
from tests.support import processes_with

LOOK_SECONDS = 0.004
SAMPLE_SECONDS = 0.1
DEADLINE_SECONDS = 60.0
"""For one session, without what the acts take by themselves; a busy machine needs many seconds to start one."""
PATIENCE = {
    "stall": 75.0,
    "cut": 90.0,
    "storage": 60.0,
    "disk": 20.0,
    "nanny": 20.0,
    "clock": 30.0,
    "clock-back": 30.0,
    "misbehave": 40.0,
}
"""Seconds more that a kind may take."""
SESSIONS = 15
END_SECONDS = 20.0
"""How long processes may take to go when their driver has gone."""
DISK_BYTES = 24 << 20
CODE = str(Path(daskscore.__file__).resolve().parents[1])
"""What is tortured is the daskscore that is imported here."""
PASSED_BY = 2
"""The exit code of a command that has not begun to work."""


@dataclass(slots=True)
class Result:
    """What came of an ordeal."""

    ordeal: Ordeal
    seconds: float = 0.0
    sessions: int = 0
    done: list[str] = field(default_factory=list)
    """The kinds that have really happened, act by act."""
    calls: int = 0
    attempts: int = 0
    problems: list[checks.Problem] = field(default_factory=list)
    peak: Mapping[str, int] = field(default_factory=dict)
    folder: Path | None = None


class Hang(Exception):
    """The deadline has passed."""


def endure(ordeal: Ordeal, folder: Path, storages: Storages) -> Result:
    """Run it; the folder is gone afterwards if all went well."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    began = time.monotonic()
    result = Result(ordeal, folder=folder)
    shm = shared_memory()
    with ExitStack() as stack:
        trial = stack.enter_context(_trial(ordeal, folder, storages))
        try:
            trial.through()
        except Hang as hang:
            result.problems.append(checks.Problem("hang", str(hang)))
        result.seconds = time.monotonic() - began
        result.sessions, result.done = trial.sessions, trial.done + trial.misbehaved
        result.calls = len(os.listdir(trial.job.calls))
        result.peak = trial.usage.peak
        trial.close_cluster()
        result.problems += trial.problems
        if not any(problem.sort == "hang" for problem in result.problems):
            result.problems += trial.leftovers(shm)
            found, result.attempts = checks.outcome(
                trial.job,
                ordeal,
                bucket=trial.bucket,
                edition_of=trial.changed,
                gone=frozenset(trial.deleted),
                logs_may_lack=trial.logs_may_lack,
            )
            result.problems += found
            result.problems += checks.usage(trial.usage)
        trial.kill_all()
    if not result.problems:
        shutil.rmtree(folder, ignore_errors=True)
        result.folder = None
    return result


@dataclass(slots=True)
class Trial:
    """An ordeal that is going on."""

    ordeal: Ordeal
    job: Job
    environment: Mapping[str, str]
    mark: str
    clock: Path
    bucket: Bucket | None
    cluster: clusters.Cluster | None
    patience_seconds: float
    """How long a session may take."""
    pending: list[Act]
    sessions: int = 0
    done: list[str] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    problems: list[checks.Problem] = field(default_factory=list)
    deleted: dict[str, bytes] = field(default_factory=dict)
    """Inputs that are gone, with what they held."""
    changed: dict[str, int] = field(default_factory=dict)
    """The new editions of inputs."""
    full: bool = False
    was_full: bool = False
    _later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    _commits: int = 0
    """Before this session."""
    _driver: subprocess.Popen[bytes] | None = None
    _killed_at_once: bool | None = None
    """Of the driver that the adversary has killed: whether the next one does not wait."""

    def through(self) -> None:
        """Session after session, until one ends by itself and well."""
        while True:
            code = self._session()
            if self.full:
                self._free()
                if code == 0:
                    return
                continue
            if code == PASSED_BY and self.deleted:
                self._restore()
                continue
            if code == PASSED_BY and self.bucket is not None and "is in trouble" in self.said:
                continue
            if self._killed_at_once is not None and code == -signal.SIGKILL:
                if not self._killed_at_once:
                    self._wait(
                        lambda: not self._processes(), "the end of all processes of a killed driver", END_SECONDS
                    )
                continue
            if code:
                self.problems.append(
                    checks.Problem("ending", f"session {self.sessions} ended with code {code}: {self.said[-600:]}")
                )
            return

    @property
    def said(self) -> str:
        path = self.job.folder / f"said-{self.sessions}.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def logs_may_lack(self) -> bool:
        """A disk that was full keeps no logs; who is cut off, or killed beside its scorers, cannot hand on theirs."""
        return self.was_full or bool({"cut", "disk"} & set(self.done))

    @property
    def misbehaved(self) -> list[str]:
        """A word for each item that has done what no script should."""
        called = {name.rpartition(".")[0] for name in os.listdir(self.job.calls)}
        return ["misbehave"] * len(called & set(self.job.shape.table))

    def _session(self) -> int:
        self.sessions += 1
        if self.sessions > SESSIONS:
            raise Hang(f"after {SESSIONS} sessions it is not done: {self.said[-600:]}")
        command = [sys.executable, "-m", "daskscore", "run", "job.yml", "--resume"]
        if self.cluster is not None:
            command = [*self.cluster.prefix, *command]
        self._killed_at_once = None
        with (self.job.folder / f"said-{self.sessions}.txt").open("wb") as said:
            self._driver = subprocess.Popen(
                command,
                cwd=self.job.folder,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        try:
            return self._watch(self._driver)
        finally:
            self._driver.kill()
            self._driver.wait()
            for _, act in self._later:
                act()
            self._later.clear()
            self.problems += checks.words(self.said)

    def _watch(self, driver: subprocess.Popen[bytes]) -> int:
        sampled = 0.0
        deadline = time.monotonic() + self.patience_seconds
        self._commits = progress(self.job).commits
        while (code := driver.poll()) is None:
            now = time.monotonic()
            if now > deadline:
                self._tell_stacks()
                raise Hang(f"session {self.sessions} is not over after {self.patience_seconds:g} s: {self.said[-300:]}")
            if now - sampled > SAMPLE_SECONDS:
                sampled = now
                counts = progress(self.job).commits >= ON_ITS_WAY + self._commits
                self.usage.look(driver.pid, self._tree(), counts=counts)
            for moment, act in [*self._later]:
                if now > moment:
                    self._later.remove((moment, act))
                    act()
            if self.pending:
                self._act()
            time.sleep(LOOK_SECONDS)
        return code

    def _act(self) -> None:
        here = progress(self.job)
        for act in [*self.pending]:
            if act.moment.reached(here) and self._do(act):
                self.pending.remove(act)
                self.done.append(act.kind)
                return

    def _do(self, act: Act) -> bool:
        """False where there is nobody (or nothing) yet to do it to."""
        match act.kind:
            case "scorer" | "guard" | "nursery" | "worker" | "keeper":
                victims = self._tree().get(act.whom, [])
                return bool([end(pid) for pid in (victims if act.everyone else victims[:1])])
            case "nanny":
                assert self.cluster is not None
                return self.cluster.kill_nanny()
            case "driver":
                assert self._driver is not None
                self._killed_at_once = act.at_once
                self._driver.kill()
                self._driver.wait()
                return True
            case "stop":
                return self._stop(act)
            case "disk":
                self._fill(int(act.amount))
                return True
            case "storage" | "stall":
                assert self.bucket is not None
                self.bucket.trouble(act.kind, int(act.amount))
                return True
            case "input":
                return self._change(act)
            case "clock" | "clock-back":
                clock.jump(self.clock, act.amount)
                return True
            case "cut":
                assert self.cluster is not None
                self.cluster.cut(act.whom)
                self._later.append((time.monotonic() + act.seconds, partial(self.cluster.heal, act.whom)))
                return True
            case _:
                raise ValueError(act.kind)

    def _stop(self, act: Act) -> bool:
        assert self._driver is not None
        victims = [self._driver.pid] if act.whom == "driver" else self._tree().get(act.whom, [])[:1]
        for pid in victims:
            if end(pid, signal.SIGSTOP):
                self._later.append((time.monotonic() + act.seconds, partial(self._go_on, pid)))
        return bool(victims)

    def _go_on(self, pid: int) -> None:
        end(pid, signal.SIGCONT)

    def _fill(self, left: int) -> None:
        """The disk of the output is full, but for so many bytes."""
        ballast = self.job.disk / "ballast"
        space = os.statvfs(self.job.disk)
        size = max(0, space.f_bavail * space.f_frsize - left)
        with ballast.open("ab") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, ballast.stat().st_size + size)
            except OSError:
                file.write(bytes(max(0, size - (64 << 10))))
        self.full = self.was_full = True

    def _free(self) -> None:
        (self.job.disk / "ballast").unlink(missing_ok=True)
        self.full = False

    def _change(self, act: Act) -> bool:
        """Inputs that no call has had so far, from the end."""
        called = {name.rpartition(".")[0] for name in os.listdir(self.job.calls)}
        rest = [item for item in self.job.items if item not in called and item not in self.deleted]
        for item in rest[-int(act.amount) :]:
            path = self.job.inputs / item
            if act.whom == "changed":
                self.changed[item] = 1
                path.write_bytes(self.job.content(item, 1))
            elif item not in self.changed:
                self.deleted[item] = path.read_bytes()
                path.unlink()
        return True

    def _restore(self) -> None:
        for item, content in self.deleted.items():
            (self.job.inputs / item).write_bytes(content)

    def _tree(self) -> dict[str, list[int]]:
        tops = [self._driver.pid] if self._driver is not None else []
        return tree(tops + (self.cluster.nannies if self.cluster is not None else []))

    def _processes(self) -> dict[int, str]:
        """Of the run, without those of a cluster that stands by itself."""
        found = processes_with(self.mark)
        if self.cluster is not None:
            found = {pid: words for pid, words in found.items() if "distributed.cli" not in words}
            workers = self._tree().get("worker", [])
            found = {
                pid: words for pid, words in found.items() if pid not in workers and "resource_tracker" not in words
            }
        return found

    def _wait(self, condition: Callable[[], Any], what: str, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                self.problems.append(checks.Problem("leftovers", f"waited {seconds:g} s for {what}"))
                return False
            time.sleep(0.02)
        return True

    def _tell_stacks(self) -> None:
        """Where each process of ours stands, for whoever looks into the folder."""
        tool = shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))
        with (self.job.folder / "stacks.txt").open("w") as file:
            for pid, words in processes_with(self.mark).items():
                file.write(f"\n=== {pid} {words[:200]}\n")
                file.flush()
                if tool is not None:
                    subprocess.run([tool, "dump", "--pid", str(pid)], stdout=file, stderr=file, timeout=30, check=False)

    def close_cluster(self) -> None:
        if self.cluster is not None:
            self.cluster.close()

    def leftovers(self, shm: set[str]) -> list[checks.Problem]:
        """Of processes and temporary files; waits until they are gone."""
        before = len(self.problems)
        if not self._wait(lambda: not processes_with(self.mark), "the end of all processes", END_SECONDS):
            self.problems[-1] = checks.Problem("leftovers", f"processes are left: {processes_with(self.mark)}")
        scratch = Path(self.environment["TMPDIR"])
        if not self._wait(lambda: not list(scratch.iterdir()), "an empty TMPDIR", 10):
            self.problems[-1] = checks.Problem(
                "leftovers", f"temporary files are left: {sorted(scratch.rglob('*'))[:9]}"
            )
        if strange := {name for name in shared_memory() - shm if "daskscore" in name}:
            self.problems.append(checks.Problem("leftovers", f"left in /dev/shm: {strange}"))
        found = self.problems[before:]
        del self.problems[before:]
        return found

    def kill_all(self) -> None:
        """Whatever is left, by its id."""
        for pid in processes_with(self.mark):
            end(pid)


@contextmanager
def _trial(ordeal: Ordeal, folder: Path, storages: Storages) -> Iterator[Trial]:
    """All that it needs around it."""
    mark = f"DASKSCORE_TEST_MARK={secrets.token_hex(8)}"
    disk, scratch, clock_file = folder / "disk", folder / "tmp", folder / "clock"
    for made in (disk, scratch):
        made.mkdir()
    kinds = set(ordeal.kinds)
    with ExitStack() as stack:
        if "disk" in kinds:
            stack.enter_context(mounted(disk))
        environment = {
            **os.environ,
            mark.partition("=")[0]: mark.partition("=")[2],
            "PYTHONPATH": os.pathsep.join(filter(None, (CODE, os.environ.get("PYTHONPATH")))),
            "TMPDIR": str(scratch),
            "DASKSCORE_CACHE": str(disk / "cache"),
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        if kinds & {"clock", "clock-back"}:
            clock.jump(clock_file, 0.0)
            environment |= clock.environment(clock_file)
        bucket = None
        if ordeal.shape.remote_inputs or ordeal.shape.remote_output:
            bucket = stack.enter_context(storages.bucket(ordeal.seed))
        cluster = None
        if ordeal.cluster != "local":
            cluster = stack.enter_context(clusters.standing(folder, environment, apart=ordeal.cluster == "apart"))
        remote = (bucket.uri, bucket.options) if bucket is not None else None
        job = Job(ordeal.shape, folder, disk, remote, cluster.address if cluster is not None else "local")
        objects = job.make()
        if bucket is not None:
            bucket.put(objects)
        patience = DEADLINE_SECONDS + sum(PATIENCE.get(kind, 0.0) for kind in kinds)
        yield Trial(ordeal, job, environment, mark, clock_file, bucket, cluster, patience, list(ordeal.acts))


@contextmanager
def mounted(folder: Path) -> Iterator[None]:
    """A small disk of its own."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(folder)], check=True)
    try:
        yield
        subprocess.run(["cp", "-a", f"{folder}/.", f"{folder}.kept"], check=False)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
