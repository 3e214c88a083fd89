"""The output folder belongs to one run at a time: taken, refused, or continued."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daskscore.core.layout import Layout
from daskscore.errors import OutputError


@dataclass(slots=True)
class Claim:
    """The right to write in an output folder, for as long as the lock is held."""

    layout: Layout
    rows_name: str
    continues: bool
    """An earlier session of the same run has left a plan and a journal."""
    keep: bool = False
    """The run has begun: from here on the folder stays, whatever happens."""

    def begin(self, job: dict[str, Any]) -> None:
        """Make room for a new run: what an overwritten one has left goes now, after all checks were passed."""
        for path in (
            self.layout.rows(self.rows_name),
            self.layout.failed_items,
            self.layout.report,
            self.layout.journal,
        ):
            path.unlink(missing_ok=True)
        for folder in (self.layout.logs, self.layout.parts):
            shutil.rmtree(folder, ignore_errors=True)
        self.layout.parts.mkdir()
        shutil.rmtree(self.layout.plan, ignore_errors=True)
        (self.layout.state / "plan.new").rename(self.layout.plan)
        self.layout.job.write_text(json.dumps(job, indent=1))
        self.keep = True

    def stored_job(self) -> dict[str, Any]:
        stored: dict[str, Any] = json.loads(self.layout.job.read_text())
        return stored


@contextmanager
def claim(layout: Layout, rows_name: str, *, resume: bool, overwrite: bool) -> Iterator[Claim]:
    """Hold the output folder; a folder that no run came to use is left as it was found."""
    if resume and overwrite:
        raise OutputError("--resume continues a run and --overwrite starts it anew. Give one of the two")
    was_there = layout.output.exists()
    standing = _standing(layout, rows_name)
    if standing and not (resume or overwrite):
        raise OutputError(
            f"output already there: {standing[0]}. Name another folder with --output, continue that run with --resume, "
            "or replace it with --overwrite"
        )
    if standing and not layout.job.exists():
        foreign = [path for path in standing if path == layout.logs or resume]
        if foreign:
            raise OutputError(
                f"{foreign[0]} is there, but no run of daskscore wrote it. Name another folder with --output"
            )
    had_state = layout.state.exists()
    try:
        layout.state.mkdir(parents=True, exist_ok=True)
        lock = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OutputError(
            f"output {layout.output} cannot be written: {error.strerror}. Name a folder that you may write in"
        ) from error
    try:
        _lock(lock, layout)
        claim = Claim(layout, rows_name, continues=resume and layout.journal.exists() and layout.job.exists())
        try:
            yield claim
        finally:
            (layout.state / "shared").unlink(missing_ok=True)
            shutil.rmtree(layout.state / "plan.new", ignore_errors=True)
            if not claim.keep and not had_state:
                shutil.rmtree(layout.state, ignore_errors=True)
                if not was_there:
                    with suppress(OSError):
                        layout.output.rmdir()
    finally:
        os.close(lock)


def _standing(layout: Layout, rows_name: str) -> list[Path]:
    if layout.output.exists() and not layout.output.is_dir():
        raise OutputError(f"output {layout.output} is a file. Name a folder; the rows go to {rows_name} in it")
    ours = (layout.rows(rows_name), layout.report, layout.failed_items, layout.job, layout.logs)
    return [path for path in ours if path.exists()]


def _lock(lock: int, layout: Layout) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(lock, 200, 0).decode(errors="replace") or "another process"
        raise OutputError(
            f"output {layout.output} is in use by {holder}. Wait for it, or name another folder with --output"
        ) from None
    os.truncate(lock, 0)
    os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
