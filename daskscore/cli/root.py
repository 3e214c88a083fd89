"""The command `daskscore` itself."""

from __future__ import annotations

import click

from daskscore.cli.run import run
from daskscore.version import VERSION

HELP = """Score files in mini-batches with your script's init() and run(mini_batch), on Dask.

\b
Exit codes: 0 completed; 1 failed; 2 bad usage, job, script or input,
found before any work started; 130 interrupted.
"""


@click.group(help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="daskscore")
def root() -> None: ...


root.add_command(run)
