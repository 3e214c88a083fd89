"""A finished run goes on with what failed in it: whether it may, with which settings, and where its rows are."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daskscore.config import JobConfig
from daskscore.core.layout import Layout
from daskscore.core.model import Status
from daskscore.driver import account as accounts
from daskscore.driver.account import Account
from daskscore.driver.journal import Record
from daskscore.errors import OutputError
from daskscore.inputs.addresses import is_remote
from daskscore.inputs.entries import without_secrets

ONE_FILE = ("text", "jsonl")
"""Formats whose rows stand in the output file as they do in parts."""

WITH_ENTRIES = ("inputs", "side_inputs", "models")


def is_due(layout: Layout, shown: str) -> bool:
    """Whether something is left to be scored in a run that is over, or whose retry was interrupted."""
    nothing = {"items": 0, "mini_batches": 0, "count_items": lambda _: 0}
    found = accounts.load(layout.journal, parts=layout.parts, **nothing)  # type: ignore[arg-type]  # as named
    if found.status not in (Status.COMPLETED, Status.FAILED) and not found.retrying:
        raise OutputError(
            f"the run in {shown} was interrupted, and has mini-batches that were never tried. Run it with --resume: "
            "daskscore run job.yml --resume"
        )
    return found.status is not Status.COMPLETED or found.has_failures


def keeps_parts(config: JobConfig, account: Account) -> bool:
    """Whether a retry would need the parts of a Completed run: its output cannot stand for them."""
    return account.has_failures and config.output_action != "summary_only" and not _is_one_file(config)


def begin(account: Account, layout: Layout, config: JobConfig, header: bytes) -> Record:
    """The record with which all that failed gets a new chance; the output stays where it is until the new one is there."""
    record: Record = {"record": "retry", "part": None, "header_bytes": 0, "bytes": 0, "shares": config.isolates}
    if account.status is not Status.COMPLETED or config.output_action == "summary_only":
        return record
    if not _is_one_file(config):
        _check_parts(account, layout)
        return record
    rows = layout.rows(config.append_row_file_name)
    size, wanted = rows.stat().st_size, sum(length for _, _, length in account.pieces()) + len(header)
    if size != wanted:
        raise OutputError(
            f"{rows} has {size} bytes, and the run has written {wanted}: it was changed since, so nothing can be merged "
            "into it. Restore it, or score everything anew with --overwrite"
        )
    shutil.rmtree(layout.parts, ignore_errors=True)
    layout.parts.mkdir()
    part = layout.part(f"retry-{secrets.token_hex(4)}")
    _link(rows, part)
    return {**record, "part": part.name, "header_bytes": len(header), "bytes": size}


def check_sorted(layout: Layout) -> None:
    """Raises OutputError where records that were sorted by partition_keys are gone."""
    if not next(layout.sorted.glob("*/*.arrow"), None):
        raise OutputError(
            f"the records that the run in {layout.output} has sorted by partition_keys are no longer kept, so what failed "
            "cannot be scored again. Score everything anew with --overwrite"
        )


def kept_settings(config: JobConfig) -> dict[str, Any]:
    """The job as it is kept with its run, without what would let somebody in; `not_kept` names what is left out."""
    settings: dict[str, Any] = config.model_dump(exclude_unset=True, exclude={"output"})
    not_kept = [key for key in WITH_ENTRIES if not all(map(_is_open, _entries(settings.get(key))))]
    if settings.get("environment_variables"):
        not_kept.append("environment_variables")
    if not isinstance(settings.get("cluster", ""), str):
        not_kept.append("cluster")
    kept = {key: os.fspath(value) if isinstance(value, Path) else value for key, value in settings.items()}
    return {"settings": {key: value for key, value in kept.items() if key not in not_kept}, "not_kept": not_kept}


def settings_of(stored: Mapping[str, Any], shown: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run by its stored job, where they are all there or given now."""
    again = "Run the job again instead, with its own file or flags, and with --retry: daskscore run job.yml --retry"
    if "settings" not in stored:
        raise OutputError(f"the run in {shown} was begun by an earlier version, which kept no settings. {again}")
    if missing := [key for key in stored["not_kept"] if key not in given]:
        raise OutputError(
            f"the {' and '.join(missing)} of the run in {shown} are not kept with it, as they may hold secrets. {again}"
        )
    settings: dict[str, Any] = stored["settings"]
    return settings


def _is_one_file(config: JobConfig) -> bool:
    return config.output_action == "append_row" and config.append_row_format in ONE_FILE


def _check_parts(account: Account, layout: Layout) -> None:
    for part, offset, length in account.pieces():
        path = layout.part(part)
        if not path.exists() or path.stat().st_size < offset + length:
            raise OutputError(
                f"the rows of single mini-batches are no longer kept in {layout.parts}, so nothing can be merged into the "
                "output. Score everything anew with --overwrite"
            )


def _link(rows: Path, part: Path) -> None:
    try:
        os.link(rows, part)
    except OSError:  # a file system without links
        with rows.open("rb") as source, part.open("wb") as target:
            shutil.copyfileobj(source, target)
            target.flush()
            os.fsync(target.fileno())


def _entries(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, Mapping) else list(value or ())


def _is_open(entry: Any) -> bool:
    """Nothing of it is left out when it is kept."""
    path = entry
    if isinstance(entry, Mapping):
        if entry.get("storage_options") or entry.get("kind", "local") != "local":
            return False
        path = entry.get("path")
    path = str(path)
    return not is_remote(path) or "?" not in path or without_secrets(path) == path
