"""What the commands about registered things share: their options, their answers, and how they say what went wrong."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from daskscore.workspace.store import Workspace

Command = TypeVar("Command", bound=Callable[..., Any])

HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}

workspace_option = click.option(
    "--workspace",
    metavar="PATH|URL",
    help="A file or a PostgreSQL URL (default: $DASKSCORE_WORKSPACE, else ~/.daskscore/workspace.db).",
)
answer_option = click.option(
    "-o", "--output", "answer", type=click.Choice(["table", "json"]), default="table", help="How to answer."
)
name_option = click.option("-n", "--name", required=True, metavar="NAME")
storage_option = click.option(
    "--storage-option",
    "storage_options",
    metavar="KEY=VALUE",
    multiple=True,
    help="For fsspec; VALUE is YAML. A secret is written '${env:NAME}'; may be given again.",
)
description_option = click.option("-d", "--description", default="", metavar="TEXT")
tag_option = click.option("--tag", "tags", metavar="KEY=VALUE", multiple=True, help="May be given again.")


def telling(command: Command) -> Command:
    """The command, with what goes wrong said on stderr and in the exit code."""

    @functools.wraps(command)
    def told(*args: Any, **kwargs: Any) -> Any:
        from daskscore.errors import DaskscoreError

        try:
            return command(*args, **kwargs)
        except DaskscoreError as error:
            click.echo(f"daskscore: {error}", err=True)
            raise SystemExit(error.exit_code) from None

    return told  # type: ignore[return-value]  # `wraps` keeps the signature, but not its type


def opened(workspace: str | None) -> Workspace:
    """The workspace of `--workspace`, or the one that is meant without it."""
    from daskscore.workspace.store import open_workspace

    return open_workspace(workspace)


def pairs(flag: str, texts: Sequence[str]) -> dict[str, str]:
    """`--tag team=vision` and the like."""
    from daskscore.errors import ConfigError

    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"{flag} {key}: write {flag} key=value")
        found[key] = value
    return found


def options(texts: Sequence[str]) -> dict[str, Any]:
    """Storage options, whose values are YAML; no error repeats a value, because it may be a secret."""
    import yaml

    from daskscore.errors import ConfigError

    found = {}
    for key, value in pairs("--storage-option", texts).items():
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"--storage-option {key}=…: the value is no YAML. Put it in quotes") from None
    return found


def tell_all(things: Sequence[Mapping[str, Any]], columns: Sequence[str], answer: str, nothing: str) -> None:
    """A line for each thing, in aligned columns, or a JSON list of all that is known."""
    if answer == "json":
        click.echo(json.dumps(things, indent=2, default=_json))
    elif not things:
        click.echo(nothing)
    else:
        rows = [[column.upper().replace("_", " ") for column in columns]]
        rows += [[_text(thing[column]) for column in columns] for thing in things]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            click.echo("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())


def tell_one(thing: Mapping[str, Any], answer: str) -> None:
    """All that is known about one thing: a line for each part that says something, or JSON."""
    if answer == "json":
        click.echo(json.dumps(thing, indent=2, default=_json))
        return
    told = {key.replace("_", " "): text for key, value in thing.items() if (text := _text(value))}
    width = max(map(len, told))
    for key, text in told.items():
        click.echo(f"{key:<{width}}  {text}")


def _json(value: object) -> str:
    assert isinstance(value, datetime)
    return value.isoformat()


def _text(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else ""
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S} UTC"
        case dict():
            words = {key: inner if isinstance(inner, str) else json.dumps(inner) for key, inner in value.items()}
            text = ", ".join(f"{key}={word}" for key, word in words.items())
        case _:
            text = str(value)
    # A line break or an escape sequence would spoil the table, or the terminal.
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
