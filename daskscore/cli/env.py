"""`daskscore env`: the environments and folders of scripts that are kept on this machine."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from daskscore.cli.registered import HELP_OPTIONS, telling
from daskscore.cli.terminal import one_line

if TYPE_CHECKING:
    from daskscore.worker.cache import Kept

UNUSED_DAYS = 14


@click.group(context_settings=HELP_OPTIONS)
def env() -> None:
    """List and remove the environments, and folders of scripts, that are kept on this machine."""


@env.command("list", context_settings=HELP_OPTIONS)
@telling
def list_kept() -> None:
    """List what is kept, the last used first."""
    from daskscore.worker.cache import entries

    for folder in _folders():
        click.echo(f"{folder}:")
        kept = entries(folder)
        for one in kept:
            click.echo(f"  {_told(one)}")
        if not kept:
            click.echo("  nothing")


@env.command(context_settings=HELP_OPTIONS)
@click.option(
    "--unused-days",
    metavar="N",
    type=click.FloatRange(min=0),
    default=UNUSED_DAYS,
    show_default=True,
    help="Keep what a run has begun with in the last N days; 0: keep only what is in use now.",
)
@telling
def prune(unused_days: float) -> None:
    """Remove what no run uses now, or has used for some time."""
    from daskscore.worker.cache import prune as prune_cache

    removed = 0
    for folder in _folders():
        for one in prune_cache(folder, unused_seconds=unused_days * 24 * 3600):
            click.echo(f"removed {one.path}: {_shown(one)}")
            removed += 1
    if not removed:
        click.echo("nothing was removed")


def _folders() -> list[Path]:
    from daskscore.worker import environments, sources
    from daskscore.worker.cache import cache_folder

    return [cache_folder(kind) for kind in (environments.KIND, sources.KIND)]


def _told(one: Kept) -> str:
    used = datetime.fromtimestamp(one.used).astimezone().strftime("%Y-%m-%d %H:%M")
    return f"{one.path.name}  last used {used}  {_shown(one)}"


def _shown(one: Kept) -> str:
    made = f", made with {one.note['with']} in {one.note.get('seconds', 0)} s" if "with" in one.note else ""
    files = f", {one.note['files']} files" if "files" in one.note else ""
    return one_line(str(one.note.get("shown") or one.note.get("source") or "")) + made + files
