"""What tests of several rooms need: write a script, run the command line, look for what a run left behind."""

from __future__ import annotations

import json
import os
import resource
import secrets
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

DEADLINE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended, and what it left in its output folder."""

    code: int
    stdout: str
    stderr: str
    output: Path

    @property
    def rows(self) -> list[str]:
        return (self.output / "parallel_run_step.txt").read_text(errors="surrogateescape").splitlines()

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads((self.output / "report.json").read_text())
        return report

    @property
    def failed_items(self) -> list[dict[str, Any]]:
        path = self.output / "failed_items.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@dataclass(frozen=True, slots=True)
class Workbench:
    """A folder with a script, its inputs and its output."""

    folder: Path

    @property
    def output(self) -> Path:
        return self.folder / "out"

    def script(self, source: str, name: str = "score.py") -> Path:
        path = self.folder / name
        path.write_text(textwrap.dedent(source))
        return path

    def inputs(self, *names: str) -> Path:
        """Files whose content is their own name."""
        folder = self.folder / "in"
        folder.mkdir(exist_ok=True)
        for name in names:
            (folder / name).write_bytes(os.fsencode(name))
        return folder

    def command(self, *arguments: str | Path) -> list[str]:
        """`daskscore run` with the script, inputs and output of this bench, as far as they are there."""
        words = [sys.executable, "-m", "daskscore", "run"]
        if (self.folder / "score.py").exists():
            words += ["--entry-script", str(self.folder / "score.py")]
        if (self.folder / "in").exists():
            words += ["--input", str(self.folder / "in")]
        return [*words, "--output", str(self.output), *map(str, arguments)]

    def run(self, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> Finished:
        """Run it to its end; a run that hangs fails the test."""
        return self._finish(self.command(*arguments), environment)

    def daskscore(self, *words: str | Path) -> Finished:
        """`daskscore` with just these words."""
        return self._finish([sys.executable, "-m", "daskscore", *map(str, words)], None)

    def _finish(self, command: list[str], environment: Mapping[str, str] | None) -> Finished:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=DEADLINE_SECONDS,
        )
        return Finished(done.returncode, done.stdout, done.stderr, self.output)


def wait_until(
    condition: Callable[[], Any], what: str | Callable[[], str], seconds: float = 30.0, *, every: float = 0.01
) -> Any:
    """The first true answer; a test fails with `what` it waited for."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s for {what if isinstance(what, str) else what()}")
        time.sleep(every)
    return answer


def processes_with(mark: str) -> dict[int, str]:
    """The living processes with `mark` in their command line or environment, and their command lines."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
            environment = (folder / "environ").read_bytes()
            state = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z" and (mark.encode() in words or mark.encode() in environment):
            found[int(folder.name)] = words.decode(errors="replace").strip()
    return found


@contextmanager
def nothing_left_of(scratch: Path) -> Iterator[str]:
    """No process and no temporary file of what the block starts outlives it; gives the mark they carry."""
    mark = f"DASKSCORE_TEST_MARK={secrets.token_hex(8)}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(*mark.split("="))
        patch.setenv("TMPDIR", str(scratch))
        yield mark
    wait_until(
        lambda: not processes_with(mark), lambda: f"the end of all processes: {processes_with(mark)}", seconds=20
    )
    wait_until(lambda: not list(scratch.iterdir()), lambda: f"an empty folder: {list(scratch.iterdir())}", seconds=10)


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """What a full disk is like."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
