"""An output in a storage: the run works in a folder of this machine, which is published when it ends.

The working folder stands for the remote one. It is removed when a Completed run is published; else it stays, and
`--resume` goes on with it, or on another machine with what was published.

    with working_folder(uri, storage_options, rows_name, resume=resume, overwrite=overwrite) as place:
        with claim(Layout(place.folder), rows_name, resume=resume, overwrite=overwrite) as held:
            ...                     # check the job, then begin or continue the run
            place.taken()           # from here on there is a run
            report = ...            # score
        place.publish(report)
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from daskscore.core.backoff import Backoff
from daskscore.core.layout import Layout
from daskscore.core.model import Status
from daskscore.core.report import Report
from daskscore.driver import publishing
from daskscore.driver.remote_folder import BEFORE_WORK, RemoteFolder, RemoteTrouble
from daskscore.driver.remote_lock import Lease, RemoteLock, probe
from daskscore.driver.working_folders import Record, alone, cache_folder, home_of, usable
from daskscore.errors import OutputError, RunError
from daskscore.inputs.patience import Patience

WORKING = "output"
AT_THE_END = Patience(backoff=Backoff())
"""There is work to lose: a storage in trouble is asked for minutes."""


class Place:
    """A working folder and the remote one it stands for, while this driver holds both."""

    def __init__(
        self,
        remote: RemoteFolder,
        home: Path,
        rows_name: str,
        record: Record,
        lock: RemoteLock,
        *,
        say: Callable[[str], None],
        patience: Patience,
    ) -> None:
        self.folder = home / WORKING
        """For the Layout of the run."""
        self._remote = remote
        self._home = home
        self._rows_name = rows_name
        self._say = say
        self._patience = patience
        self._record = record
        self._lock = lock
        self._overwrites = False
        self._brought = False
        self._complete = False
        """A Completed run was brought here, so that there is nothing to publish."""
        self._stand_in: tuple[int, int] | None = None
        self._taken = False
        self._finished = False

    @property
    def uri(self) -> str:
        """The remote folder, without secrets."""
        return self._remote.uri

    def shown(self, path: Path) -> str:
        """The address that a path of the working folder will have; for reports and messages."""
        if path == self.folder:
            return self.uri
        return self._remote.uri_of(path.relative_to(self.folder).as_posix())

    def taken(self) -> None:
        """The run has begun or goes on: what an overwritten one has left in the storage goes now."""
        self._taken = self._record.unpublished = True
        self._record.stand_in = self._stand_in is not None
        self._record.clear |= self._overwrites
        self._save()
        if self._record.clear:
            publishing.clear(self._remote, self._rows_name)
            self._record.clear, self._record.base, self._record.next = False, None, None
            self._save()

    def reopen(self) -> None:
        """A Completed run goes on: its rows come here too, and what is done from now on is not in the storage."""
        self._complete = False
        if self._rows_stand_in():
            publishing.bring_rows(self._remote, self._home, self.folder, self._rows_name)
            self._stand_in = self._identity()
        self._record.stand_in = False
        self._save()

    def publish(self, report: Report) -> None:
        """Bring the result to the storage, the report last; a RunError says what to do when that fails."""
        rows_stay = self._rows_stand_in()
        if self._complete and report.status is Status.COMPLETED and (rows_stay or self._stand_in is None):
            self._finished = True
            return
        edition = secrets.token_hex(16)
        self._remote.patience = self._patience
        try:
            self._check_ours()
            self._record.next = edition
            self._save()
            publishing.publish(self._remote, self.folder, self._rows_name, edition, rows_stay=rows_stay)
        except (OutputError, OSError) as error:
            what = error.what if isinstance(error, RemoteTrouble) else str(error)
            raise RunError(
                f"{what}. The run is {_told(report)}, and its result is not published. It is kept in "
                f"{self.folder}: mend that and run the same command with --resume, which publishes it"
            ) from None
        self._record.base, self._record.next, self._record.unpublished = edition, None, False
        self._save()
        self._finished = report.status is Status.COMPLETED

    def _check_ours(self) -> None:
        """Whoever has taken the output over must not find its result replaced by ours."""
        try:
            self._lock.confirm()
        except RemoteTrouble:
            raise
        except OutputError as error:
            raise self._moved_on(str(error)) from None
        if self._has_moved(publishing.edition(self._remote)):
            raise self._moved_on(f"output {self.uri} holds another result than when this run began")

    def _moved_on(self, what: str) -> RunError:
        return RunError(
            f"{what}. Another driver has taken the output over, while this one gave no sign of life. Nothing was "
            f"published; the result of this run is kept in {self.folder}: copy what you need from there"
        )

    def _has_moved(self, edition: str | None) -> bool:
        return edition is not None and edition not in (self._record.base, self._record.next)

    def _prepare(self, *, resume: bool, overwrite: bool) -> None:
        """Refuse, or make the working folder what the run goes on from."""
        layout = Layout(self.folder)
        if self._record.stand_in or not layout.job.exists():
            shutil.rmtree(self.folder, ignore_errors=True)
        here = layout.job.exists()
        standing = publishing.standing(self._remote, self._rows_name)
        known = publishing.JOB in standing
        if not resume and not overwrite:
            self._check_free(standing, here=here, known=known)
        foreign = [name for name in standing if name == publishing.LOGS or resume]
        if foreign and not known and not here:
            raise OutputError(
                f"{self._remote.uri_of(foreign[0])} is there, but no run of daskscore wrote it. "
                "Name another folder with --output"
            )
        edition = publishing.edition(self._remote)
        self._overwrites = overwrite and (bool(standing) or edition is not None)
        if resume and here and self._has_moved(edition):
            self._give_way()
            here = False
        if not here:
            self._record = Record(self.uri, self._record.token, base=edition)
        if resume and known and not here:
            self._bring()

    def _check_free(self, standing: list[str], *, here: bool, known: bool) -> None:
        if not standing and not here:
            return
        what = self._remote.uri_of(standing[0]) if standing else f"{self.folder}, not yet published to {self.uri}"
        raise OutputError(
            f"output already there: {what}. Name another folder with --output, "
            + ("continue that run with --resume, " if known or here else "")
            + f"or replace {'it' if known or here else 'the file'} with --overwrite"
        )

    def _give_way(self) -> None:
        """The run was continued elsewhere since."""
        if self._record.unpublished:
            raise OutputError(
                f"--resume: output {self.uri} was continued elsewhere, and {self.folder} holds work of this machine that "
                "was not published before. Remove that folder to go on from what was published"
            )
        self._say(f"output {self.uri} was continued elsewhere: going on from what was published")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _bring(self) -> None:
        self._brought = True
        self._record.stand_in = True  # until it is known better
        self._save()
        publishing.bring(self._remote, self._home, self.folder, self._rows_name)
        self._complete = publishing.is_complete(self._remote)
        self._stand_in = self._identity()

    def _rows_stand_in(self) -> bool:
        return self._stand_in is not None and self._stand_in == self._identity()

    def _identity(self) -> tuple[int, int] | None:
        """Of the file of rows: one that is assembled is another file."""
        try:
            rows = os.stat(self.folder / self._rows_name)
        except FileNotFoundError:
            return None
        return rows.st_ino, rows.st_size

    def _tidy(self) -> None:
        """What no run is in, or what is published to its end, does not stay here."""
        nothing = not Layout(self.folder).job.exists() or (self._brought and not self._taken)
        if self._finished or nothing:
            shutil.rmtree(self._home, ignore_errors=True)
        elif self._taken and self._record.unpublished:
            self._say(f"What is done is kept in {self.folder}: --resume on this machine goes on from there.")

    def _save(self) -> None:
        self._record.save(self._home)


@contextmanager
def working_folder(
    uri: str,
    storage_options: Mapping[str, Any] | None,
    rows_name: str,
    *,
    resume: bool,
    overwrite: bool,
    cache: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
    on_loss: Callable[[], None] = lambda: None,
    lease: Lease = Lease(),  # noqa: B008 - frozen
    patience: Patience = BEFORE_WORK,
    patience_at_the_end: Patience = AT_THE_END,
) -> Iterator[Place]:
    """Hold an output of a storage, and a folder of this machine in its place; an OutputError before any work starts.

    `on_loss` is called, in a thread, when another driver has taken the output over.
    """
    if resume and overwrite:
        raise OutputError("--resume continues a run and --overwrite starts it anew. Give one of the two")
    remote = RemoteFolder(uri, storage_options, patience=patience)
    home = home_of(remote, cache or cache_folder())
    with alone(home, remote.uri):
        record = Record.load(home, remote.uri)
        lock = RemoteLock(remote, record.token, lease=lease, say=say, on_loss=on_loss)
        place = Place(remote, home, rows_name, record, lock, say=say, patience=patience_at_the_end)
        try:
            with usable(home, remote.uri):
                place._save()
            lock.take(probe(remote))
            try:
                with usable(home, remote.uri):
                    place._prepare(resume=resume, overwrite=overwrite)
                yield place
            finally:
                lock.release()
        finally:
            place._tidy()


def kept_job(uri: str, storage_options: Mapping[str, Any] | None, cache: Path | None = None) -> bytes | None:
    """What is kept of the job whose run stands there, or is not yet published; None where there is none."""
    remote = RemoteFolder(uri, storage_options, patience=BEFORE_WORK)
    published = remote.read(publishing.JOB)
    here = Layout(home_of(remote, cache or cache_folder()) / WORKING).job
    return published if published is not None or not here.is_file() else here.read_bytes()


def _told(report: Report) -> str:
    return f"{report.status} ({report.message})" if report.message else str(report.status)
