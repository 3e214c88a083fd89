"""The output folder belongs to one run at a time: taken, refused, or continued."""

from __future__ import annotations

import errno
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
from daskscore.errors import DaskscoreError, OutputError, RunError

DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


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
        layout = self.layout
        for path in (
            layout.rows(self.rows_name),
            *self._rows_of_before(),
            layout.failed_items,
            layout.report,
            layout.metrics,
            layout.journal,
            layout.job,
        ):
            path.unlink(missing_ok=True)
        for folder in (layout.logs, layout.parts, layout.plan, layout.sorted):
            shutil.rmtree(folder, ignore_errors=True)
        layout.parts.mkdir()
        layout.new_plan.rename(layout.plan)
        self.store(job)
        self.keep = True

    def store(self, job: dict[str, Any]) -> None:
        """Keep the settings with the run."""
        unfinished = self.layout.job.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(job, indent=1))
        unfinished.rename(self.layout.job)

    def stored_job(self) -> dict[str, Any]:
        """The settings that the run to be continued was begun with."""
        try:
            stored: dict[str, Any] = json.loads(self.layout.job.read_text())
        except ValueError as error:
            raise OutputError(
                f"{self.layout.job} is damaged ({error}), so this run cannot be continued. Start anew with another --output"
            ) from None
        return stored

    def _rows_of_before(self) -> list[Path]:
        """The rows of the run that is overwritten, which may have had another name."""
        try:
            return [self.layout.rows(self.stored_job()["append_row_file_name"])]
        except (OSError, KeyError, OutputError):
            return []


@contextmanager
def claim(layout: Layout, rows_name: str, *, resume: bool, overwrite: bool) -> Iterator[Claim]:
    """Hold the output folder; a folder that no run came to use is left as it was found."""
    if resume and overwrite:
        raise OutputError("--resume continues a run and --overwrite starts it anew. Give one of the two")
    if os.path.exists(layout.output) and not os.path.isdir(layout.output):
        raise OutputError(f"output {layout.output} is a file. Name a folder; the rows go to {rows_name} in it")
    made = [folder for folder in (layout.state, *layout.state.parents) if not os.path.exists(folder)]
    held: Claim | None = None
    try:
        with _locked(layout):
            try:
                _check_free(layout, rows_name, resume=resume, overwrite=overwrite)
                held = Claim(layout, rows_name, continues=resume and layout.journal.exists() and layout.job.exists())
                yield held
            finally:
                layout.shared.unlink(missing_ok=True)
                shutil.rmtree(layout.new_plan, ignore_errors=True)
                if layout.state in made and (held is None or not held.keep):
                    shutil.rmtree(layout.state, ignore_errors=True)
    except OSError as error:
        if (trouble := _trouble(error, layout, begun=held is not None and held.keep)) is None:
            raise
        raise trouble from error
    finally:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()


def _check_free(layout: Layout, rows_name: str, *, resume: bool, overwrite: bool) -> None:
    ours = (layout.rows(rows_name), layout.report, layout.failed_items, layout.metrics, layout.job, layout.logs)
    standing = [path for path in ours if os.path.lexists(path)]
    if standing and not (resume or overwrite):
        known = layout.job.exists()
        raise OutputError(
            f"output already there: {standing[0]}. Name another folder with --output, "
            + ("continue that run with --resume, " if known else "")
            + f"or replace {'it' if known else 'the file'} with --overwrite"
        )
    if standing and not layout.job.exists():
        foreign = [path for path in standing if path == layout.logs or resume]
        if foreign:
            raise OutputError(
                f"{foreign[0]} is there, but no run of daskscore wrote it. Name another folder with --output"
            )


@contextmanager
def _locked(layout: Layout) -> Iterator[None]:
    """Alone in the folder, as far as its file system knows locks."""
    layout.state.mkdir(parents=True, exist_ok=True)
    lock = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 200, 0).decode(errors="replace") or "another process"
            raise OutputError(
                f"output {layout.output} is in use by {holder}. Wait for it, or name another folder with --output"
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
        if not layout.lock.exists() or os.stat(lock).st_ino != layout.lock.stat().st_ino:
            raise OutputError(f"output {layout.output} was in use until just now. Run the same command once more")
        with suppress(OSError):  # for a message only, and a full disk is told of later
            os.truncate(lock, 0)
            os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(lock)


def _trouble(error: OSError, layout: Layout, *, begun: bool) -> DaskscoreError | None:
    """What a failed write means for the user; None where it is no matter of disks and rights."""
    where = str(error.filename or "")
    ours = not where or Path(where).is_relative_to(layout.output) or layout.output.is_relative_to(where)
    place = where or f"the disk of {layout.output}"
    if begun:
        kept = "What is committed is kept: mend that and run the same command with --resume"
        return RunError(f"{error.strerror}: {place}. {kept}") if error.errno in DISK_TROUBLE else None
    if ours and (where or error.errno in DISK_TROUBLE):
        at = f" ({where})" if where and where != str(layout.output) else ""
        advice = "Make room there, or name" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Name"
        return OutputError(
            f"output {layout.output} cannot be written: {error.strerror}{at}. {advice} another folder with --output"
        )
    return OutputError(f"{error.strerror}: {place}. Make room there") if error.errno in DISK_TROUBLE else None
