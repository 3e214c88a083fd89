"""`daskscore run`: one job, from the command line to its last row."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from daskscore.core.report import Report

EPILOG = """\b
Examples:
  daskscore run job.yml
  daskscore run --entry-script score.py --input images/ --output out/
  daskscore run job.yml --mini-batch-size 100 --set error_threshold=10
  daskscore run job.yml --resume -- --threshold 0.5

What follows -- goes to the script. Keys are those of the job file; --set reaches every one of them.
"""


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("job", required=False, type=click.Path())
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--entry-script", metavar="FILE", help="The scoring script, or a module of --source-directory.")
@click.option("--source-directory", metavar="DIR", help="The script's folder (default: where it stands).")
@click.option("--input", "inputs", metavar="PATH", multiple=True, help="A file, folder or glob; may be given again.")
@click.option("--output", metavar="DIR", help="The folder for rows, report and logs.")
@click.option("--mini-batch-size", metavar="N", help="Files per call of run().")
@click.option("--output-action", metavar="ACTION", help="append_row or summary_only.")
@click.option("--append-row-file-name", metavar="NAME", help="The file of rows in the output folder.")
@click.option("--error-threshold", metavar="N", help="Failed items that are allowed; -1 any number.")
@click.option("--run-invocation-timeout", metavar="S", help="Seconds for one call of run().")
@click.option("--run-max-try", metavar="N", help="Tries of a mini-batch.")
@click.option("--process-count-per-node", metavar="N", help="Scorer processes per node.")
@click.option("--node-count", metavar="N", help="Nodes of the cluster.")
@click.option("--rank-mini-batch-count", metavar="N", help="Mini-batches without input, instead of --input.")
@click.option("--logging-level", metavar="LEVEL", help="DEBUG, INFO or WARNING.")
@click.option("--cluster", metavar="KIND", help="local, a scheduler's address or its scheduler file.")
@click.option("--set", "assignments", metavar="KEY=VALUE", multiple=True, help="Any key of the job; VALUE is YAML.")
@click.option("--resume", is_flag=True, help="Continue the run that stands in --output.")
@click.option("--overwrite", is_flag=True, help="Replace the run that stands in --output.")
@click.option("--accept-script-change", is_flag=True, help="With --resume: score the rest with the changed script.")
@click.option("--quiet", is_flag=True, help="No progress, only the end.")
def run(
    job: str | None,
    arguments: tuple[str, ...],
    inputs: tuple[str, ...],
    assignments: tuple[str, ...],
    resume: bool,
    overwrite: bool,
    accept_script_change: bool,
    quiet: bool,
    **flags: str | None,
) -> None:
    """Score all mini-batches of a job and leave one exact output.

    JOB is a YAML file; flags override its keys, and without it flags are the job.
    """
    from daskscore import api
    from daskscore.errors import DaskscoreError

    # click gives a single word after -- to the first argument; a job file stands before --.
    job, arguments = _job_and_arguments(job, arguments, sys.argv)
    try:
        settings = _settings(flags, inputs, assignments, arguments)
        report = api.run(
            job,
            resume=resume,
            overwrite=overwrite,
            accept_script_change=accept_script_change,
            quiet=quiet,
            **settings,
        )
    except DaskscoreError as error:
        click.echo(f"daskscore: {error}", err=True)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        click.echo("daskscore: interrupted before any work started", err=True)
        raise SystemExit(130) from None
    _tell(report)
    raise SystemExit(report.exit_code)


def _job_and_arguments(
    job: str | None, arguments: tuple[str, ...], argv: list[str]
) -> tuple[str | None, tuple[str, ...]]:
    """Which words are the script's: those after --."""
    words = (job, *arguments) if job is not None else arguments
    after = tuple(argv[argv.index("--") + 1 :]) if "--" in argv else ()
    before = words[: len(words) - len(after)]
    if len(before) > 1:
        raise click.UsageError(f"one job file at a time: {before[1]} is too much. A script's arguments stand after --")
    return (before[0] if before else None), after


def _settings(
    flags: dict[str, str | None], inputs: tuple[str, ...], assignments: tuple[str, ...], arguments: tuple[str, ...]
) -> dict[str, Any]:
    settings: dict[str, Any] = {key: value for key, value in flags.items() if value is not None}
    for assignment in assignments:
        key, value = _assignment(assignment)
        settings[key] = value
    if inputs:
        settings["inputs"] = list(inputs)
    if arguments:
        settings["arguments"] = list(arguments)
    return settings


def _assignment(text: str) -> tuple[str, Any]:
    import yaml

    from daskscore.errors import ConfigError

    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {text}: write --set key=value, like --set run_max_try=5")
    try:
        return key.strip().replace("-", "_"), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text}: the value is no YAML: {error}") from error


def _tell(report: Report) -> None:
    """The last lines: what was done and where it is; of a failed job, what its script said first."""
    done, items = report.mini_batches, report.items
    click.echo(
        f"{report.status}: {done.succeeded} of {done.total} mini-batches, {items.succeeded} of {items.total} items, "
        f"{report.rows} rows in {report.seconds:.1f} s"
    )
    folder = report.folder
    if report.status == "Completed":
        click.echo(f"output: {report.output}")
    if report.failures:
        kinds = ", ".join(f"{count} {kind}" for kind, count in report.failures.items())
        click.echo(f"failed: {items.failed} items ({kinds}), named in {folder}/failed_items.jsonl")
    for warning in report.warnings:
        click.echo(f"warning: {warning}")
    if report.status == "Canceled":
        click.echo("What is done is committed. Run the same command with --resume to continue.")
    if report.status != "Failed":
        return
    click.echo(f"{report.message}", err=True)
    if report.traceback:
        click.echo(f"\nThe first failure:\n\n{report.traceback.rstrip()}\n", err=True)
        click.echo(f"Its log: {folder}/{report.log}", err=True)
