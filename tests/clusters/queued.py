"""A job whose workers wait in a queue, how its run is followed, and what the daemons of queues need."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import yaml

from tests.support import DEADLINE_SECONDS, Finished, Workbench

NAMES = [f"item-{number:02}" for number in range(60)]
SCRIPT = """
import os, time

def run(mini_batch):
    time.sleep(SECONDS)
    return [f"{os.path.basename(path)} {'x' * 500}" for path in mini_batch]
"""
ROWS = [f"{name} {'x' * 500}" for name in NAMES]


@dataclass(frozen=True, slots=True)
class Job:
    """A job file in a folder of its own."""

    bench: Workbench
    cluster: dict[str, object]
    """The mapping `cluster:`, as far as it is the same for all tests."""
    seconds: float = 0.1
    """What each mini-batch takes."""

    def taking(self, seconds: float) -> Job:
        return replace(self, seconds=seconds)

    def write(self, *, nodes: int | str = 3, settings: dict[str, object] | None = None, **cluster: object) -> Job:
        self.bench.script(SCRIPT.replace("SECONDS", str(self.seconds)))
        self.bench.inputs(*NAMES)
        job = {
            "entry_script": "score.py",
            "inputs": "in",
            "output": "out",
            "mini_batch_size": 1,
            "node_count": nodes,
            "process_count_per_node": 1,
            "cluster": {**self.cluster, **cluster},
            **(settings or {}),
        }
        (self.bench.folder / "job.yml").write_text(yaml.safe_dump(job))
        return self

    def run(self, *words: str) -> Finished:
        return self.bench.daskscore("run", "job.yml", *words)

    @contextmanager
    def going(self) -> Iterator[subprocess.Popen[str]]:
        """While it runs; ended with the block where it has not ended by itself."""
        command = [sys.executable, "-m", "daskscore", "run", "job.yml"]
        with (
            (self.bench.folder / "said.txt").open("w") as said,
            subprocess.Popen(command, cwd=self.bench.folder, stdout=said, stderr=said, text=True) as driver,
        ):
            try:
                yield driver
            finally:
                driver.kill()

    @property
    def said(self) -> str:
        return (self.bench.folder / "said.txt").read_text()

    def has_committed(self) -> bool:
        journal = self.bench.output / ".daskscore/journal"
        return journal.exists() and journal.read_bytes().count(b'"commit"') > 2

    def check(self) -> None:
        """All rows are there, once and in order, and nothing else is left where the user was."""
        assert Finished(0, "", "", self.bench.output).rows == ROWS
        assert [name for name in os.listdir(self.bench.folder) if name.startswith(".")] == []

    def ends_well(self, driver: subprocess.Popen[str]) -> None:
        assert driver.wait(timeout=DEADLINE_SECONDS) == 0, self.said
        self.check()


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def works(*words: str) -> bool:
    return subprocess.run(words, capture_output=True, timeout=30).returncode == 0


def said(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, timeout=30).stdout.strip()
