"""What makes a resumed run the same run: the job's settings and script, and the items of its plan."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from daskscore.config import JobConfig
from daskscore.core.layout import Layout
from daskscore.driver.plan import LINES, first_difference, read_header, readings_in
from daskscore.driver.side_inputs import Needed
from daskscore.errors import OutputError, ScriptError
from daskscore.inputs.entries import without_secrets

PLAN_KEYS = ("inputs", "mini_batch_size", "partition_keys", "rank_mini_batch_count")
ROW_KEYS = (
    "entry_script",
    "arguments",
    "output_action",
    "append_row_format",
    "append_row_separator",
    "append_row_header",
    "append_row_index",
    "append_row_quoting",
    "append_row_quote_char",
    "append_row_escape_char",
    "append_row_double_quote",
    "append_row_line_terminator",
    "append_row_na_rep",
    "append_row_float_format",
    "append_row_date_format",
    "append_row_decimal",
    "append_row_file_name",
    "join",
    "columns",
)


def shape(config: JobConfig, needed: Needed) -> dict[str, Any]:
    """What the rows depend on, as it is kept with the run."""
    models = [f"{name}:{version} {place}" for (name, version), place in needed.models.items()]
    settings = {key: getattr(config, key) for key in ROW_KEYS}
    beside = {"models": models, "side_inputs": needed.side_inputs}
    code = {"script_sha256": _digest(config), "environment_sha256": _environment_digest(config)}
    return {**plan_shape(config), **settings, **beside, **code}


def _digest(config: JobConfig) -> str | None:
    """Of the script's own file; None where it is not on this machine, or is an installed module."""
    script = next(filter(os.path.isfile, config.script_files), None)
    try:
        return hashlib.sha256(script.read_bytes()).hexdigest() if script is not None else None
    except OSError as error:
        raise ScriptError(f"entry_script {script} cannot be read: {error.strerror}. Check its rights") from None


def _environment_digest(config: JobConfig) -> str | None:
    """Of what the job's environment is made of; None for the worker's own."""
    if config.environment is None:
        return None
    from daskscore.driver.environments import recipe  # here, as it loads what most jobs do not need

    found = recipe(config)
    return found.content if found is not None else None


def plan_shape(config: JobConfig) -> dict[str, Any]:
    """What the plan depends on, besides the items; without what would let somebody in."""
    settings = {key: getattr(config, key) for key in PLAN_KEYS}
    return {**settings, "inputs": [without_secrets(entry) for entry in config.inputs]}


def check_same_job(
    layout: Layout, stored: dict[str, Any], now: dict[str, Any], *, accept_script_change: bool, how: str = "--resume"
) -> None:
    """Refuse to continue another job, naming what differs; `how` is the user's word for continuing it."""
    for key, value in now.items():
        before = stored.get(key)
        changed = {"script_sha256": now["entry_script"], "environment_sha256": "the environment"}.get(key)
        if before == value or (changed and accept_script_change):
            continue
        what = (
            f"{changed} has changed since. Restore it, accept the change for what is not yet scored with "
            "--accept-script-change,"
            if changed
            else f"{key} was {before!r} and is {value!r} now. Restore it,"
        )
        raise OutputError(f"{how}: the run in {layout.output} is another one: {what} or start anew with --overwrite")


def has_other_script(stored: dict[str, Any], now: dict[str, Any]) -> bool:
    """The script's file has changed since the run was begun, or last retried."""
    return bool(stored.get("script_sha256") != now["script_sha256"])


def check_same_plan(layout: Layout, *, how: str = "--resume") -> None:
    """Refuse to continue on other items, naming the first that differs; from here on the new plan is the plan."""
    new = read_header(layout.new_plan)
    try:
        old = read_header(layout.plan)
        same = old is not None and new is not None and old.fingerprint == new.fingerprint
        difference = None if same else _difference(layout)
    except (OSError, ValueError, TypeError, KeyError):
        raise OutputError(
            f"{how}: the plan in {layout.plan} is damaged. Start anew with --overwrite or another --output"
        ) from None
    if same or (old is None and difference is None):  # an unfinished one is the beginning of the new one
        for file in layout.new_plan.iterdir():  # the same by construction; the old ones may have been damaged since
            file.replace(layout.plan / file.name)
        return
    raise OutputError(
        f"{how}: the inputs are no longer those of the run in {layout.output}: "
        f"{difference or 'their settings differ'}. "
        "Restore them, or start anew with --overwrite or another --output"
    )


def _difference(layout: Layout) -> str | None:
    old, new = layout.plan, layout.new_plan
    if not (new / LINES).exists() or not (old / LINES).exists():
        return None
    if readings_in(old) != readings_in(new):
        return "their columns or dtypes have changed"
    return first_difference(old, new)
