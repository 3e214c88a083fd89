"""`daskscore logs`: what happened in a run, to a mini-batch of it, or to an item."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daskscore.cli.registered import HELP_OPTIONS, telling
from daskscore.cli.show import tell_failures
from daskscore.cli.terminal import one_line, shown

if TYPE_CHECKING:
    from daskscore.driver.story import Attempt, Story

LOOK_SECONDS = 0.25
LAST_LINES = 20
LAST_BYTES = 1 << 16
MOST_FOUND = 10
CHUNK = 1 << 18
FOLLOWED = ("user/stdout/*/*.txt", "user/stderr/*/*.txt", "user/entry_script_log/*/*.txt", "user/error/*/*.txt")
DRIVER = "sys/master_role.txt"


@click.command(context_settings=HELP_OPTIONS)
@click.argument("place", metavar="RUN", type=click.Path())
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@click.option("--mini-batch", type=click.IntRange(min=0), metavar="N", help="What happened to this mini-batch.")
@click.option("--item", metavar="TEXT", help="What happened to the items with this in their names.")
@click.option("--errors", is_flag=True, help="Each distinct error; with -f, tracebacks too, as they come.")
@telling
def logs(place: str, follow: bool, mini_batch: int | None, item: str | None, errors: bool) -> None:
    """Show the logs of a run. RUN is its output folder.

    Without an option: how far it came, its errors, and its result.
    """
    from daskscore.driver.story import Story, reading

    if sum((mini_batch is not None, item is not None, errors)) > 1:
        raise click.UsageError("--mini-batch, --item and --errors exclude each other.")
    with reading(place):
        run = Story.of(place)
        if mini_batch is not None:
            _check(run, mini_batch)
            _follow_mini_batches(run, {mini_batch: ""}, follow=follow)
        elif item is not None:
            _follow_mini_batches(run, _found(run, item), follow=follow)
        elif follow:
            _follow(run, errors=errors)
        else:
            _tell(run, errors=errors)


def _check(run: Story, mini_batch: int) -> None:
    from daskscore.errors import OutputError

    report = run.report
    number = report["mini_batches"]["total"] if report is not None else run.plan.mini_batches
    if mini_batch >= number:
        so_far = "" if report is not None or run.plan.complete else " so far"
        raise OutputError(f"mini-batch {mini_batch}: {run.layout.output} has {number}{so_far}, counted from 0")


def _tell(run: Story, *, errors: bool) -> None:
    folder = run.layout.logs
    if not errors:
        _show(folder / "job_progress_overview.txt", last=True)
    told = _show(folder / "job_error.txt")
    if failures := run.failures():
        tell_failures(failures)
        click.echo()
    elif errors and not told:
        click.echo("no error so far" if run.driver else "no error")
    if not errors:
        _tell_end(run)


def _tell_end(run: Story) -> None:
    """How the run ended, or that it did not."""
    if run.report is not None and _show(run.layout.logs / "job_result.txt"):
        return
    click.echo(f"{_state(run)}. `daskscore show {run.layout.output}` has its counts.")


def _state(run: Story) -> str:
    if report := run.report:
        return f"The run is {report['status']}. {report['message']}".rstrip(". ")
    if driver := run.driver:
        return f"The run goes on ({driver})"
    return "The run has stopped, as its driver is gone: the same command with --resume goes on with it"


def _show(path: Path, *, last: bool = False) -> bool:
    if not path.is_file():
        return False
    click.echo("\n".join(map(shown, _last_lines(path))) if last else shown(path.read_text(errors="replace").rstrip()))
    click.echo()
    return True


def _last_lines(path: Path) -> list[str]:
    with path.open("rb") as file:
        size = path.stat().st_size
        file.seek(max(0, size - LAST_BYTES))
        lines = file.read().decode(errors="replace").replace("\0", "").splitlines()
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
            if run.plan.listed
            else f"no failed item of {run.layout.output} has {item!r} in its name, and others are not known, as there is no "
            f"{run.layout.plan}. Look into the folder in which the run was made"
        )
    return found


def _follow_mini_batches(run: Story, found: dict[int, str], *, follow: bool) -> None:
    """All that is known of each; then, what comes."""
    told = {index: _MiniBatch(run, index) for index in found}
    for index, name in found.items():
        told[index].tell(name)
    while follow and run.driver:
        time.sleep(LOOK_SECONDS)
        for mini_batch in told.values():
            mini_batch.tell_attempts()


@dataclass(slots=True)
class _MiniBatch:
    """What was told of it so far."""

    run: Story
    index: int
    items: int = 0
    attempts: int = 0
    tracebacks: set[str] = field(default_factory=set)

    def tell(self, name: str) -> None:
        run, index = self.run, self.index
        named = run.plan.names(index)
        self.items = sum(some.items for some in named)
        text = one_line(name or ", ".join(some.name for some in named))
        click.echo(f"mini-batch {index}: {text}" if text else f"mini-batch {index}")
        if len(named) > 1:
            click.echo(f"  {len(named)} items, from {one_line(named[0].name)} to {one_line(named[-1].name)}")
        last = self.tell_attempts()
        if last is None:
            click.echo(f"  no attempt at it has come to its end{' yet' if run.driver else ''}. {one_line(_state(run))}")
        for item in _failed_items(run, index):
            tries = "1 attempt" if item["attempts"] == 1 else f"{item['attempts']} attempts"
            click.echo(f"  failed for good after {tries}: {one_line(item['item'])}: {item['kind']}")
        if last is not None:
            _tell_prints(run, last)
        click.echo()

    def tell_attempts(self) -> Attempt | None:
        """Those that are new, and the last of them."""
        new = sorted(list(self.run.attempts({self.index}))[self.attempts :], key=_order)
        self.attempts += len(new)
        for attempt in new:
            self._tell(attempt)
        return new[-1] if new else None

    def _tell(self, attempt: Attempt) -> None:
        share = f": {one_line(attempt.detail)}" if attempt.total < self.items else ""
        click.echo(
            f"  try {attempt.number}: {attempt.status} on {attempt.process} at {attempt.started}, {attempt.elapsed:.3f} s, "
            f"{attempt.succeeded} of {attempt.total} items{share}"
        )
        if attempt.message:
            click.echo(f"    {attempt.kind}: {one_line(attempt.message)}")
        trace = shown(self.run.traceback(attempt).strip()) if attempt.kind else ""
        if trace in self.tracebacks:
            click.echo("      with a traceback as above")
        elif trace:
            self.tracebacks.add(trace)
            click.echo("\n".join(f"      {line}" for line in trace.splitlines()))


def _order(attempt: Attempt) -> tuple[int, str]:
    """Processes tell of their attempts when they come to it."""
    return attempt.number, attempt.started


def _failed_items(run: Story, index: int) -> Iterator[dict[str, Any]]:
    from daskscore.driver.story import read_lines

    return (item for item in read_lines(run.layout.failed_items) if item["mini_batch"] == index)


def _tell_prints(run: Story, attempt: Attempt) -> None:
    for name in attempt.log_names[1:]:
        path = run.layout.output / name
        if path.is_file() and path.stat().st_size:
            click.echo(f"  The last lines of {path}:")
            click.echo("".join(f"    {shown(line)}\n" for line in _last_lines(path)), nl=False)


def _follow(run: Story, *, errors: bool) -> None:
    """New lines of the run's logs, each with its process, until it ends; and the errors of which the driver tells."""
    patterns = FOLLOWED[-1:] if errors else FOLLOWED
    folder = run.layout.logs
    places: dict[Path, int] = {}
    overview, driver = folder / "job_progress_overview.txt", folder / DRIVER
    while True:
        going_on = run.driver is not None
        files = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
        for line in _new_lines(driver, places, to_the_end=not going_on):
            words = line.split("|", 4)
            if words[1:2] == ["ERROR"]:
                click.echo(f"driver| {shown(words[-1])}")
        for path in files if errors else [*files, overview]:
            for line in _new_lines(path, places, to_the_end=not going_on):
                name = "" if path == overview else f"{path.parent.name}/{path.name.partition('.')[0]}| "
                click.echo(f"{name}{shown(line)}")
        if not going_on:
            break
        time.sleep(LOOK_SECONDS)
    click.echo()
    if failures := run.failures():
        tell_failures(failures)
        click.echo()
    _tell_end(run)


def _new_lines(path: Path, places: dict[Path, int], *, to_the_end: bool) -> Iterator[str]:
    """Whole lines, unless nothing more will come."""
    if not path.is_file():  # a pipe that a script has put there would never open
        return
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
