"""The command `daskscore` itself."""

from __future__ import annotations

import os

import click

from daskscore.cli.data import data
from daskscore.cli.datastore import datastore
from daskscore.cli.env import env
from daskscore.cli.logs import logs
from daskscore.cli.model import model
from daskscore.cli.retry import retry
from daskscore.cli.run import run
from daskscore.cli.show import show
from daskscore.version import VERSION

HELP = """Score files in mini-batches with your script's init() and run(mini_batch), on Dask.

\b
Exit codes: 0 completed; 1 failed; 2 bad usage, job, script or input,
found before any work started; 130 interrupted.
"""


class Root(click.Group):
    """The group of all commands; it knows a job file from a command that does not exist."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and (os.path.exists(args[0]) or args[0].endswith((".yml", ".yaml"))):
            raise click.UsageError(f"{args[0]} is no command. A job is run with: daskscore run {args[0]}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=Root, help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="daskscore")
def root() -> None: ...


root.add_command(run)
root.add_command(retry)
root.add_command(show)
root.add_command(logs)
root.add_command(data)
root.add_command(datastore)
root.add_command(model)
root.add_command(env)
