"""`daskscore run`: one job, from the command line to its last row."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from daskscore.cli.advice import ADVICE
from daskscore.cli.terminal import shown

if TYPE_CHECKING:
    from daskscore.core.report import Report
    from daskscore.jobfiles import Step

EPILOG = """\b
Examples:
  daskscore run job.yml
  daskscore run --entry-script score.py --input images/ --output out/
  daskscore run job.yml --mini-batch-size 100 --set error_threshold=10
  daskscore run job.yml --resume -- --threshold 0.5

What follows -- goes to the script, in place of the job file's arguments. Keys are those of the job file; --set reaches every one of them.
"""
SCRIPT_ARGUMENTS = "daskscore.script_arguments"


class CommandWithScript(click.Command):
    """A command whose words after -- are the script's, whatever they look like."""

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- ARGUMENTS OF THE SCRIPT]"]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        border = args.index("--") if "--" in args else len(args)
        ctx.meta[SCRIPT_ARGUMENTS] = args[border + 1 :]
        return super().parse_args(ctx, args[:border])


@click.command(cls=CommandWithScript, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("jobs", metavar="[JOB]", nargs=-1, type=click.Path())
@click.option("--entry-script", metavar="FILE", help="The scoring script, or a module of --source-directory.")
@click.option("--source-directory", metavar="DIR", help="The script's folder (default: where it stands).")
@click.option(
    "--input",
    "inputs",
    metavar="PATH",
    multiple=True,
    help="A file, folder, glob, URI or data:NAME, or a mapping like '{path: a.csv, type: tabular}'; may be given again.",
)
@click.option("--output", metavar="DIR", help="The folder for rows, report and logs.")
@click.option("--mini-batch-size", metavar="N", help="Files per call of run(), or of records a size like 1MB.")
@click.option("--output-action", metavar="ACTION", help="append_row or summary_only.")
@click.option("--append-row-file-name", metavar="NAME", help="The file of rows in the output folder.")
@click.option("--error-threshold", metavar="N", help="Failed items that are allowed; -1 any number.")
@click.option("--run-invocation-timeout", metavar="S", help="Seconds for one call of run().")
@click.option("--run-max-try", metavar="N", help="Tries of a mini-batch.")
@click.option("--process-count-per-node", metavar="N", help="Scorer processes per node.")
@click.option("--node-count", metavar="N", help="Nodes of the cluster.")
@click.option("--rank-mini-batch-count", metavar="N", help="Mini-batches without input, instead of --input.")
@click.option("--logging-level", metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR.")
@click.option(
    "--cluster", metavar="KIND", help="local, slurm, ssh, mpi, …; a scheduler's address or its scheduler file."
)
@click.option(
    "--set",
    "assignments",
    metavar="KEY=VALUE",
    multiple=True,
    help="Any key of the job; a [list] or {mapping} is YAML.",
)
@click.option("--resume", is_flag=True, help="Continue the run that stands in --output.")
@click.option("--overwrite", is_flag=True, help="Replace the run that stands in --output.")
@click.option("--retry", is_flag=True, help="Score only what failed in the run that stands in --output.")
@click.option("--accept-script-change", is_flag=True, help="With --resume: score the rest with the changed script.")
@click.option("--strict", is_flag=True, help="Refuse keys of the job file that mean nothing here.")
@click.option(
    "--environment",
    metavar="FILE",
    help="A conda or requirements file, or a Python, to run the script in; current: this one, whatever the job file names.",
)
@click.option("--quiet", is_flag=True, help="No progress, only the end.")
@click.pass_context
def run(
    context: click.Context,
    /,
    jobs: tuple[str, ...],
    inputs: tuple[str, ...],
    assignments: tuple[str, ...],
    resume: bool,
    overwrite: bool,
    retry: bool,
    accept_script_change: bool,
    strict: bool,
    environment: str | None,
    quiet: bool,
    **flags: str | None,
) -> None:
    """Score all mini-batches of a job and leave one exact output.

    JOB is a YAML file; flags override its keys, and without it flags are the job.
    """
    if len(jobs) > 1:
        raise click.UsageError(_too_many(jobs, inputs))
    reports: list[Report] = []
    with ending():
        from daskscore import jobfiles
        from daskscore.errors import OutputError

        if flags["cluster"] == "mpi":
            from daskscore import api

            api.attend("mpi")  # before all else: what is wrong with the job is for rank 0 to say
        settings = _settings(flags, inputs, assignments, context.meta[SCRIPT_ARGUMENTS])
        steps = jobfiles.steps(jobs[0] if jobs else None, settings, strict=strict, environment=environment)
        how: dict[str, Any] = {
            "resume": resume,
            "overwrite": overwrite,
            "retry": retry,
            "accept_script_change": accept_script_change,
            "quiet": quiet,
        }
        if retry and len(steps) > 1:
            raise OutputError(
                f"--retry is for one job, and {jobs[0]} holds {len(steps)}: a step reads what another has written. Retry the "
                "step whose items failed by its folder, daskscore retry FOLDER, and run the ones after it with --overwrite"
            )
        for step in steps:
            reports.append(_run_step(step, how, alone=len(steps) == 1))
            if reports[-1].status != "Completed":
                break
    raise SystemExit(reports[-1].exit_code)


@contextmanager
def ending() -> Iterator[None]:
    """What ends a run before it has a report, in words and an exit code."""
    from daskscore.errors import DaskscoreError

    try:
        yield
    except DaskscoreError as error:
        click.echo(f"daskscore: {error}", err=True)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        click.echo("daskscore: interrupted before any work started", err=True)
        # An interrupt that has passed through an exec() of a text (a dataclass, while it is made) ends Python with the
        # signal instead of our code, unless another one has passed since.
        exec("")
        raise SystemExit(130) from None


def _run_step(step: Step, how: dict[str, Any], *, alone: bool) -> Report:
    from daskscore import api

    for note in step.notes:
        click.echo(note, err=True)
    if not alone:
        click.echo(f"== {step.name}")
    report = api.run_step(step, **how)
    tell(report, retry=how["retry"])
    return report


def _too_many(jobs: tuple[str, ...], inputs: tuple[str, ...]) -> str:
    if inputs:
        return (
            f"{len(jobs)} words belong to no flag: {jobs[0]}, {jobs[1]}, … If a shell made them of a pattern, put it in "
            "quotes: --input 'images/*.png'. A script's arguments stand after --"
        )
    return f"one job file at a time: {jobs[1]} is too much. A script's arguments stand after --"


def _settings(
    flags: dict[str, str | None], inputs: tuple[str, ...], assignments: tuple[str, ...], arguments: list[str]
) -> dict[str, Any]:
    """The keys that the command line sets, over those of the job file."""
    from daskscore.job_file import parse_assignment

    settings: dict[str, Any] = dict(map(parse_assignment, assignments))
    settings |= {key: value for key, value in flags.items() if value is not None}
    if isinstance(settings.get("output"), str):
        settings["output"] = as_mapping(settings["output"], "--output")
    if inputs:
        settings["inputs"] = [as_mapping(entry, "--input") for entry in inputs]
    if arguments:
        settings["arguments"] = arguments
    return settings


def as_mapping(entry: str, flag: str) -> Any:
    """A path, or a mapping like `{path: data.csv, type: tabular}`."""
    from daskscore.job_file import parse

    if not (entry.startswith("{") and entry.endswith("}")) or os.path.lexists(entry):
        return entry
    return parse(entry, flag)


def tell(report: Report, *, retry: bool) -> None:
    """The last lines: what was done and where it is; of a failed job, what its script said first."""
    done, items = report.mini_batches, report.items
    click.echo(
        f"{report.status}: {done.succeeded} of {done.total} mini-batches, {items.succeeded} of {items.total} items, "
        f"{report.rows} rows in {report.seconds:.1f} s"
    )
    folder = report.folder
    if report.status == "Completed":
        click.echo(f"output: {report.output}")
    if report.status == "Failed" and report.not_scored["items"]:
        click.echo(f"not scored: {report.not_scored['items']} items, as the run ended before them")
    if report.failures:
        kinds = ", ".join(f"{count} {kind}" for kind, count in report.failures.items())
        click.echo(f"failed: {items.failed} items ({kinds}), named in {folder}/failed_items.jsonl")
        if report.status == "Completed":
            click.echo(f"Once the cause is mended, `daskscore retry {folder}` scores only these again.")
    for warning in report.warnings:
        click.echo(f"warning: {warning}")
    if report.status == "Canceled":
        again = "again" if retry else "with --resume"
        click.echo(f"What is done is committed. Run the same command {again} to continue.")
        if not retry:
            click.echo(f"  {resuming()}")
    if report.status != "Failed":
        return
    click.echo(shown(report.message), err=True)
    if report.traceback:
        click.echo(f"\nThe first failure:\n\n{shown(report.traceback.rstrip())}\n", err=True)
        click.echo(f"Its log: {folder}/{report.log}", err=True)
    for kind in report.failures:
        if kind in ADVICE:
            click.echo(f"What to do about {kind}: {ADVICE[kind]}.")
    if retry:
        click.echo("What succeeded is kept: once the cause is mended, run the same command again.")
        return
    click.echo(
        "What succeeded is kept: once the cause is mended, run the same command with --resume "
        "(and --accept-script-change, if it was the script)."
    )
    click.echo(f"  {resuming()}")


def resuming() -> str:
    """The command line of this process, with --resume."""
    words = sys.argv[1:]
    border = words.index("--") if "--" in words else len(words)
    own = [word for word in words[:border] if word not in ("--overwrite", "--resume")]
    return shlex.join(["daskscore", *own, "--resume", *words[border:]])
