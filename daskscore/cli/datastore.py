"""`daskscore datastore`: names for storage, and for what is needed to open it."""

from __future__ import annotations

from dataclasses import asdict

import click

from daskscore.cli.registered import (
    HELP_OPTIONS,
    answer_option,
    description_option,
    name_option,
    opened,
    options,
    pairs,
    storage_option,
    tag_option,
    tell_all,
    tell_one,
    telling,
    workspace_option,
)

HELP = """Storage by name.

A job names what is there as `inputs: azureml://datastores/NAME/paths/PATH`.

\b
Examples:
  daskscore datastore create --name lake --uri s3://bucket/prefix \\
    --storage-option 'key=${env:LAKE_KEY}' --storage-option 'secret=${env:LAKE_SECRET}'
  daskscore run --entry-script score.py --input azureml://datastores/lake/paths/images/ --output out/
"""
COLUMNS = ("name", "uri", "storage_options", "description")


@click.group("datastore", help=HELP, context_settings=HELP_OPTIONS)
def datastore() -> None: ...


@datastore.command("create")
@name_option
@click.option("--uri", required=True, metavar="URI", help="Where paths start, like s3://bucket/prefix or /mnt/data.")
@storage_option
@description_option
@tag_option
@workspace_option
@answer_option
@telling
def create(
    name: str,
    uri: str,
    storage_options: tuple[str, ...],
    description: str,
    tags: tuple[str, ...],
    workspace: str | None,
    answer: str,
) -> None:
    """Register a datastore under a new name."""
    from daskscore.workspace import datastores

    made = datastores.create(
        opened(workspace),
        name,
        uri,
        storage_options=options(storage_options),
        description=description,
        tags=pairs("--tag", tags),
    )
    if answer == "json":
        tell_one(asdict(made), answer)
    else:
        click.echo(f"datastore {name} is registered: {made.uri}")


@datastore.command("list")
@workspace_option
@answer_option
@telling
def list_(workspace: str | None, answer: str) -> None:
    """List all datastores."""
    from daskscore.workspace import datastores

    place = opened(workspace)
    found = [asdict(store) for store in datastores.listed(place)]
    tell_all(found, COLUMNS, answer, f"no datastore in workspace {place.name}")


@datastore.command("show")
@name_option
@workspace_option
@answer_option
@telling
def show(name: str, workspace: str | None, answer: str) -> None:
    """Show one datastore."""
    from daskscore.workspace import datastores

    tell_one(asdict(datastores.show(opened(workspace), name)), answer)


@datastore.command("delete")
@name_option
@workspace_option
@telling
def delete(name: str, workspace: str | None) -> None:
    """Forget a datastore; what is stored there stays."""
    from daskscore.workspace import datastores

    datastores.remove(opened(workspace), name)
    click.echo(f"datastore {name} is no longer registered; what is stored there stays")
