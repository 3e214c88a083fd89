"""`daskscore logs`: what happened in a run, to a mini-batch of it, or to an item."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from daskscore.cli.registered import HELP_OPTIONS, telling
from daskscore.cli.show import one_line

if TYPE_CHECKING:
    from daskscore.driver.story import Attempt, Story

LOOK_SECONDS = 0.25
LAST_LINES = 20
LAST_BYTES = 1 << 16
MOST_FOUND = 10
CHUNK = 1 << 18
FOLLOWED = ("user/stdout/*/*.txt", "user/stderr/*/*.txt", "user/error/*/*.txt")


@click.command(context_settings=HELP_OPTIONS)
@click.argument("place", metavar="RUN", type=click.Path())
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@click.option("--mini-batch", type=click.IntRange(min=0), metavar="N", help="What happened to this mini-batch.")
@click.option("--item", metavar="TEXT", help="What happened to the items with this in their names.")
@click.option("--errors", is_flag=True, help="Each distinct error of the script; with -f, tracebacks as they come.")
@telling
def logs(place: str, follow: bool, mini_batch: int | None, item: str | None, errors: bool) -> None:
    """Show the logs of a run. RUN is its output folder.

    Without an option: how far it came, its errors, and its result.
    """
    from daskscore.driver.story import Story
    from daskscore.errors import OutputError

    if sum((mini_batch is not None, item is not None, errors)) > 1:
        raise click.UsageError("--mini-batch, --item and --errors exclude each other.")
    run = Story.of(place)
    if mini_batch is not None or item is not None:
        found = _found(run, item) if item is not None else {mini_batch or 0: ""}
        if mini_batch is not None and mini_batch >= run.plan.mini_batches:
            raise OutputError(f"mini-batch {mini_batch}: {place} has {run.plan.mini_batches}, counted from 0")
        _follow_mini_batches(run, found, follow=follow)
    elif follow:
        _follow(run, errors=errors)
    else:
        _tell(run, errors=errors)


def _tell(run: Story, *, errors: bool) -> None:
    folder = run.layout.logs
    if not errors:
        _show(folder / "job_progress_overview.txt", last=True)
    _show(folder / "job_error.txt")
    if errors and not (folder / "job_error.txt").exists():
        click.echo("no error so far" if run.driver else "no error")
    if not errors:
        _show(folder / "job_result.txt")


def _show(path: Path, *, last: bool = False) -> None:
    if path.exists():
        click.echo("\n".join(_last_lines(path)) if last else path.read_text(errors="replace").rstrip())
        click.echo()


def _last_lines(path: Path) -> list[str]:
    with path.open("rb") as file:
        size = path.stat().st_size
        file.seek(max(0, size - LAST_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return lines[-LAST_LINES:]


def _found(run: Story, item: str) -> dict[int, str]:
    """Mini-batches with such items; not too many of them."""
    from daskscore.driver.story import read_lines
    from daskscore.errors import OutputError

    found: dict[int, str] = {}
    for line in read_lines(run.layout.failed_items):
        if item in line["item"] and line["mini_batch"] is not None and len(found) < MOST_FOUND:
            found[line["mini_batch"]] = line["item"]
    for index, name in run.plan.find(item):
        if len(found) == MOST_FOUND:
            click.echo(f"More than {MOST_FOUND} mini-batches have items with {item!r}: here are the first.\n")
            break
        found[index] = name
    if not found:
        raise OutputError(
            f"no item of {run.layout.output} has {item!r} in its name. Give a part of a name in the input"
        )
    return found


def _follow_mini_batches(run: Story, found: dict[int, str], *, follow: bool) -> None:
    """All that is known of each; then, what comes."""
    told: dict[int, int] = dict.fromkeys(found, 0)
    for index, name in found.items():
        told[index] = _tell_mini_batch(run, index, name)
    while follow and run.driver:
        time.sleep(LOOK_SECONDS)
        for index in found:
            attempts = list(run.attempts({index}))
            for attempt in attempts[told[index] :]:
                _tell_attempt(run, attempt)
            told[index] = len(attempts)


def _tell_mini_batch(run: Story, index: int, name: str) -> int:
    names = [named.name for named in run.plan.names(index)]
    click.echo(f"mini-batch {index}: {one_line(name or ', '.join(names))}")
    if len(names) > 1:
        click.echo(f"  {len(names)} items, from {one_line(names[0])} to {one_line(names[-1])}")
    attempts = list(run.attempts({index}))
    for attempt in attempts:
        _tell_attempt(run, attempt)
    if not attempts:
        click.echo("  no attempt at it has come to its end" + (" yet" if run.driver else ""))
    for item in _failed_items(run, index):
        click.echo(f"  failed for good after {item['attempts']} attempts: {one_line(item['item'])}: {item['kind']}")
    if attempts:
        _tell_prints(run, attempts[-1])
    click.echo()
    return len(attempts)


def _tell_attempt(run: Story, attempt: Attempt) -> None:
    click.echo(
        f"  try {attempt.number}: {attempt.status} on {attempt.process} at {attempt.started}, {attempt.elapsed:.3f} s, "
        f"{attempt.succeeded} of {attempt.total} items"
    )
    if attempt.message:
        click.echo(f"    {attempt.kind}: {one_line(attempt.message)}")
    if attempt.kind and (trace := run.traceback(attempt)):
        click.echo("".join(f"    {line}\n" for line in trace.splitlines()), nl=False)


def _failed_items(run: Story, index: int) -> Iterator[dict[str, str]]:
    from daskscore.driver.story import read_lines

    return (item for item in read_lines(run.layout.failed_items) if item["mini_batch"] == index)


def _tell_prints(run: Story, attempt: Attempt) -> None:
    for name in attempt.log_names[1:]:
        path = run.layout.output / name
        if path.exists() and path.stat().st_size:
            click.echo(f"  The last lines of {path}:")
            click.echo("".join(f"    {line}\n" for line in _last_lines(path)), nl=False)


def _follow(run: Story, *, errors: bool) -> None:
    """New lines of the run's logs, each with its process, until it ends."""
    patterns = FOLLOWED[-1:] if errors else FOLLOWED
    folder = run.layout.logs
    places: dict[Path, int] = {}
    overview = folder / "job_progress_overview.txt"
    while True:
        going_on = run.driver is not None
        files = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
        for path in files if errors else [*files, overview]:
            for line in _new_lines(path, places, to_the_end=not going_on):
                name = "" if path == overview else f"{path.parent.name}/{path.name.partition('.')[0]}| "
                click.echo(f"{name}{line}")
        if not going_on:
            break
        time.sleep(LOOK_SECONDS)
    if not errors:
        click.echo()
        _show(folder / "job_result.txt")


def _new_lines(path: Path, places: dict[Path, int], *, to_the_end: bool) -> Iterator[str]:
    """Whole lines, unless nothing more will come."""
    try:
        with path.open("rb") as file:
            place = places.get(path, 0)
            if path.stat().st_size < place:  # it was shortened: what is new stands at its end
                place = path.stat().st_size
            file.seek(place)
            while data := file.read(CHUNK):
                end = data.rfind(b"\n") + 1
                if not end:
                    end = len(data) if to_the_end or len(data) == CHUNK else 0
                if not end:
                    break
                place += end
                file.seek(place)
                yield from data[:end].decode(errors="replace").replace("\0", "").splitlines()
            places[path] = place
    except FileNotFoundError:
        return
