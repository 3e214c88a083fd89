"""Which files of a run stand in its output, and the order in which they come to a storage, leave it, or come back.

At every moment of a publication the remote folder can be resumed from: the journal comes after the parts it names.
Whoever sees the report sees everything.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from daskscore.core.layout import Layout
from daskscore.core.model import Status
from daskscore.driver import journal
from daskscore.driver.remote_folder import RemoteFolder
from daskscore.driver.remote_lock import LOCK, PROBE

_NAMES = Layout(Path())
REPORT = _NAMES.report.as_posix()
FAILED_ITEMS = _NAMES.failed_items.as_posix()
METRICS = _NAMES.metrics.as_posix()
JOB = _NAMES.job.as_posix()
JOURNAL = _NAMES.journal.as_posix()
LOGS = f"{_NAMES.logs.as_posix()}/"
STATE = f"{_NAMES.state.as_posix()}/"
EDITION = f"{STATE}edition"
"""Another word with each publication: says whether what stands there is what a working folder goes on from."""

SCRATCH = (_NAMES.lock.as_posix(), _NAMES.shared.as_posix(), EDITION)
SCRATCH_FOLDERS = (_NAMES.new_plan,)


def standing(remote: RemoteFolder, rows_name: str) -> list[str]:
    """What is in the way of a new run."""
    found = remote.present((rows_name, REPORT, FAILED_ITEMS, METRICS, JOB))
    return found + ([LOGS] if remote.any_file(LOGS) else [])


def edition(remote: RemoteFolder) -> str | None:
    word = remote.read(EDITION)
    return None if word is None else word.decode(errors="replace").strip()


def is_complete(remote: RemoteFolder) -> bool:
    """A Completed run was published to its end."""
    return _json(remote.read(REPORT)).get("status") == Status.COMPLETED


def publish(remote: RemoteFolder, folder: Path, rows_name: str, edition: str, *, rows_stay: bool) -> None:
    """Make the remote folder say what the local one does, as far as it is ours.

    With `rows_stay`, the rows in the storage are right, and those here are none.
    """
    files = set(_files(folder, rows_name))
    rows = files & {rows_name}
    remote.remove([REPORT])
    remote.upload(files & {JOB}, folder)  # first, so that what a broken publication leaves is known for ours
    if not rows_stay:
        remote.upload(rows, folder)
    remote.upload(sorted(files - rows - {JOB, JOURNAL, REPORT}), folder)
    remote.upload(files & {JOURNAL}, folder)
    remote.write(EDITION, f"{edition}\n".encode())
    remote.remove(sorted(set(_published(remote, rows_name)) - files - {EDITION}))
    remote.upload(files & {REPORT}, folder)


def clear(remote: RemoteFolder, rows_name: str) -> None:
    """Remove what an overwritten run has left; its job goes last, so that the rest is known for ours until then."""
    remote.remove([REPORT])
    rows_before = _json(remote.read(JOB)).get("append_row_file_name")
    names = set(_published(remote, rows_name))
    if isinstance(rows_before, str) and rows_before and remote.has(rows_before):
        names.add(rows_before)
    remote.remove(sorted(names - {JOB}))
    remote.remove([JOB])


def bring(remote: RemoteFolder, home: Path, folder: Path, rows_name: str) -> None:
    """Make the working folder of what was published; an empty file stands for the rows of a Completed run."""
    incoming = home / "incoming"
    shutil.rmtree(incoming, ignore_errors=True)
    try:
        names = [name for name in _published(remote, rows_name) if name not in (rows_name, EDITION)]
        names += [REPORT] if remote.has(REPORT) else []
        target = incoming / "folder"
        target.mkdir(parents=True)
        remote.download(names, target, incoming=incoming / "unfinished")
        if _ends_completed(target / JOURNAL) and remote.has(rows_name):
            (target / rows_name).touch()
        shutil.rmtree(folder, ignore_errors=True)
        target.rename(folder)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def bring_rows(remote: RemoteFolder, home: Path, folder: Path, rows_name: str) -> None:
    """In place of the empty file that stands for them."""
    incoming = home / "incoming"
    shutil.rmtree(incoming, ignore_errors=True)
    try:
        target = incoming / "folder"
        target.mkdir(parents=True)
        remote.download([rows_name], target, incoming=incoming / "unfinished")
        (target / rows_name).replace(folder / rows_name)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def _ends_completed(path: Path) -> bool:
    last = None
    for _, record in journal.read(path):
        last = record
    return last is not None and last.get("status") == Status.COMPLETED


def _published(remote: RemoteFolder, rows_name: str) -> Iterator[str]:
    """All that is ours in the remote folder, but for the report and what belongs to the moment."""
    yield from remote.present((rows_name, FAILED_ITEMS, METRICS))
    yield from remote.files(LOGS)
    yield from (name for name in remote.files(STATE) if name != LOCK and not name.startswith(PROBE))


def _files(folder: Path, rows_name: str) -> Iterator[str]:
    """All that is to be published, by name."""
    yield from (name for name in (rows_name, REPORT, FAILED_ITEMS, METRICS) if (folder / name).is_file())
    for top in (_NAMES.logs, _NAMES.state):
        for path, folders, names in os.walk(folder / top):
            below = Path(path).relative_to(folder)
            folders[:] = [name for name in folders if below / name not in SCRATCH_FOLDERS]
            found = ((below / name).as_posix() for name in names if not name.endswith(".unfinished"))
            yield from (name for name in found if name not in SCRATCH and _can_be_a_key(name))


def _can_be_a_key(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def _json(text: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(text or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
