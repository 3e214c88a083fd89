"""`daskscore retry`: what failed in a run that is over, once more."""

from __future__ import annotations

from typing import Any

import click

from daskscore.cli.run import SCRIPT_ARGUMENTS, CommandWithScript, as_mapping, ending, tell

EPILOG = """\b
Examples:
  daskscore retry out/
  daskscore retry out/ --set run_invocation_timeout=600
  daskscore retry s3://bucket/results/

The settings are those that are kept with the run; --set replaces one that changes no row. What is not kept, as it may hold a secret, is named: then run the job again with its own file and --retry.
"""


@click.command(cls=CommandWithScript, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("place", metavar="RUN")
@click.option(
    "--set",
    "assignments",
    metavar="KEY=VALUE",
    multiple=True,
    help="A key of the job that changes no row, like run_max_try; a [list] or {mapping} is YAML.",
)
@click.option("--quiet", is_flag=True, help="No progress, only the end.")
@click.pass_context
def retry(context: click.Context, /, place: str, assignments: tuple[str, ...], quiet: bool) -> None:
    """Score only what failed in a run, and merge it into the same output.

    RUN is the output folder of a run that is over, or its address. The script may have changed since.
    """
    with ending():
        from daskscore import api
        from daskscore.job_file import parse_assignment

        settings: dict[str, Any] = dict(map(parse_assignment, assignments))
        if arguments := context.meta[SCRIPT_ARGUMENTS]:
            settings["arguments"] = arguments
        report = api.retry(as_mapping(place, "RUN"), quiet=quiet, **settings)
        tell(report, retry=True)
    raise SystemExit(report.exit_code)
