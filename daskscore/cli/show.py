"""`daskscore show`: a run in some lines, while it goes on and afterwards."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from daskscore.cli.registered import HELP_OPTIONS, telling
from daskscore.cli.terminal import one_line

if TYPE_CHECKING:
    from daskscore.driver.story import Failures, Story

SLOWEST = 5


@click.command(context_settings=HELP_OPTIONS)
@click.argument("place", metavar="RUN", type=click.Path())
@telling
def show(place: str) -> None:
    """Show how far a run is, or how it ended. RUN is its output folder."""
    from daskscore.driver.story import Story, reading

    with reading(place):
        _tell(Story.of(place))


def _tell(run: Story) -> None:
    report = run.report
    told = _ended(report) if report is not None else _going_on(run)
    width = max(map(len, told))
    for key, text in told.items():
        click.echo(f"{key:<{width}}  {text}")
    if failures := run.failures():
        click.echo()
        tell_failures(failures)
    if slowest := run.slowest(SLOWEST):
        click.echo("\nSlowest mini-batches:")
        for attempt in slowest:
            click.echo(
                f"  {attempt.mini_batch}: {attempt.elapsed:.3f} s, {attempt.status}, try {attempt.number}, on "
                f"{attempt.process}: {one_line(attempt.detail)}"
            )


def tell_failures(failures: list[Failures]) -> None:
    click.echo("Failed items:")
    for failure in failures:
        log = f"  ({failure.log})" if failure.log else ""
        click.echo(f"  {failure.items} × {failure.kind}: {one_line(failure.message)}{log}")


def _ended(report: dict[str, Any]) -> dict[str, str]:
    done, items, seconds = report["mini_batches"], report["items"], report["seconds"]
    told = {
        "run": report["folder"],
        "status": report["status"],
        "mini-batches": f"{done['succeeded']} of {done['total']} succeeded, {done['failed']} failed",
        "items": f"{items['succeeded']} of {items['total']} succeeded, {items['failed']} failed",
        "rows": str(report["rows"]),
        "attempts": f"{report['attempts']}, and {report['lost_attempts']} lost with their machines",
        "took": f"{_clock(seconds)}, {_rate(done['succeeded'] + done['failed'], seconds)}",
    }
    if report["message"]:
        told["why"] = one_line(report["message"])
    if report["status"] == "Completed":
        told["output"] = report["output"]
    else:
        if report["traceback"]:
            told["first failure"] = f"{one_line(report['traceback'].rstrip().splitlines()[-1])}  ({report['log']})"
        told["go on"] = "with the same command and --resume; what succeeded is kept"
    return told


def _going_on(run: Story) -> dict[str, str]:
    account, plan, driver = run.account, run.plan, run.driver
    tally = account.tally
    done = tally.succeeded_mini_batches + tally.given_up_mini_batches
    listed = "" if plan.complete else " (the inputs are still being listed)"
    told = {
        "run": str(run.layout.output),
        "status": f"running ({driver})" if driver else "stopped: its driver is gone",
        "mini-batches": f"{done} of {plan.mini_batches} done, {tally.given_up_mini_batches} failed{listed}",
        "items": f"{tally.succeeded_items} of {plan.items} succeeded, {tally.failed_items} failed",
        "rows": str(account.rows),
        "attempts": f"{account.attempts}, and {account.lost_attempts} lost with their machines",
        "took": f"{_clock(account.seconds)}, {_rate(done, account.seconds)}",
    }
    if driver and done and plan.complete:
        told["left"] = f"about {_clock(account.seconds * (plan.mini_batches - done) / done)}"
    if not driver:
        told["go on"] = "with the same command and --resume; what is committed is kept"
    return told


def _rate(number: int, seconds: float) -> str:
    return f"{number / seconds:.1f} mini-batches/s" if seconds else "no mini-batch yet"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
