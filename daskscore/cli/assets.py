"""The commands that data and models have in common: both are names that lead to paths, version by version."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from daskscore.workspace.names import Kind

COLUMNS = ("name", "version", "type", "path", "created_at", "description")


def group(kind: Kind, help: str, types: str) -> click.Group:
    """`daskscore data` or `daskscore model`."""
    commands = click.Group(kind, help=help, context_settings=HELP_OPTIONS)
    commands.add_command(_create(kind, types))
    commands.add_command(_list(kind))
    commands.add_command(_show(kind))
    commands.add_command(_archive(kind))
    commands.add_command(_restore(kind))
    return commands


def _create(kind: Kind, types: str) -> click.Command:
    @click.command("create", help=f"Register {kind}: the next version of a name, 1, 2, 3 …")
    @name_option
    @click.option("--path", required=True, metavar="PATH", help="A local path, a URI or azureml://datastores/…")
    @click.option("-v", "--version", metavar="VERSION", help="A version of your own; it must be new.")
    @click.option("-t", "--type", metavar="TYPE", help=types)
    @storage_option
    @description_option
    @tag_option
    @workspace_option
    @answer_option
    @telling
    def create(
        name: str,
        path: str,
        version: str | None,
        type: str | None,
        storage_options: tuple[str, ...],
        description: str,
        tags: tuple[str, ...],
        workspace: str | None,
        answer: str,
    ) -> None:
        from daskscore.workspace import assets

        asset = assets.create(
            opened(workspace),
            kind,
            name,
            path,
            version=version,
            type=type,
            storage_options=options(storage_options),
            description=description,
            tags=pairs("--tag", tags),
        )
        if answer == "json":
            tell_one(asdict(asset), answer)
        else:
            click.echo(f"{kind} {name} version {asset.version} is registered: {asset.path}")

    return create


def _list(kind: Kind) -> click.Command:
    @click.command("list", help=f"List registered {kind}, version by version.")
    @click.option("-n", "--name", metavar="NAME", help="Only the versions of this name.")
    @click.option("--include-archived", is_flag=True, help="List what is archived, too.")
    @workspace_option
    @answer_option
    @telling
    def list_(name: str | None, include_archived: bool, workspace: str | None, answer: str) -> None:
        from daskscore.workspace import assets

        place = opened(workspace)
        found = [asdict(asset) for asset in assets.listed(place, kind, name, archived=include_archived)]
        columns = (*COLUMNS[:-1], "archived", COLUMNS[-1]) if include_archived else COLUMNS
        hidden = "" if include_archived else "; --include-archived shows what is archived"
        tell_all(found, columns, answer, f"no {kind} in workspace {place.name}{hidden}")

    return list_


def _show(kind: Kind) -> click.Command:
    @click.command("show", help=f"Show one version of {kind}; the newest where none is named.")
    @name_option
    @click.option("-v", "--version", metavar="VERSION", help="A version, or @latest.")
    @click.option("-l", "--label", metavar="LABEL", help="Instead of a version: latest.")
    @workspace_option
    @answer_option
    @telling
    def show(name: str, version: str | None, label: str | None, workspace: str | None, answer: str) -> None:
        from daskscore.workspace import assets

        if version and label:
            raise click.UsageError("--version and --label exclude each other.")
        which = version or f"@{(label or 'latest').removeprefix('@')}"
        tell_one(asdict(assets.show(opened(workspace), kind, name, which)), answer)

    return show


def _archive(kind: Kind) -> click.Command:
    @click.command("archive", help=f"Hide {kind} from lists and @latest; a version that is named is still found.")
    @name_option
    @click.option("-v", "--version", metavar="VERSION", help="Only this version (default: all there are).")
    @workspace_option
    @telling
    def archive(name: str, version: str | None, workspace: str | None) -> None:
        from daskscore.workspace import assets

        done = assets.archive(opened(workspace), kind, name, version)
        click.echo(f"{kind} {name}: archived {_versions(done)}")

    return archive


def _restore(kind: Kind) -> click.Command:
    @click.command("restore", help=f"Undo archive: {kind} is listed and found again.")
    @name_option
    @click.option("-v", "--version", metavar="VERSION", help="Only this version (default: all there are).")
    @workspace_option
    @telling
    def restore(name: str, version: str | None, workspace: str | None) -> None:
        from daskscore.workspace import assets

        done = assets.restore(opened(workspace), kind, name, version)
        click.echo(f"{kind} {name}: restored {_versions(done)}")

    return restore


def _versions(versions: list[str]) -> str:
    return f"version {versions[0]}" if len(versions) == 1 else f"{len(versions)} versions"
