"""Datastores: names for the place that paths start from, and for what is needed to open it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from daskscore.errors import ConfigError, InputError
from daskscore.workspace.assets import in_utc
from daskscore.workspace.credentials import check_options
from daskscore.workspace.names import check_name, check_words, offered
from daskscore.workspace.paths import lasting
from daskscore.workspace.references import is_reference
from daskscore.workspace.store import Workspace
from daskscore.workspace.tables import DATASTORES


@dataclass(frozen=True, slots=True)
class Datastore:
    """What `azureml://datastores/<name>/paths/…` begins with."""

    name: str
    uri: str
    """The place that paths are added to, like `s3://bucket/prefix`; may hold `${env:NAME}`."""
    storage_options: Mapping[str, Any]
    """What fsspec needs beyond the path; secrets stand in it as `${env:NAME}`."""
    description: str
    tags: Mapping[str, str]
    created_at: datetime


def create(
    workspace: Workspace,
    name: str,
    uri: str,
    *,
    storage_options: Mapping[str, Any] | None = None,
    description: str = "",
    tags: Mapping[str, str] | None = None,
) -> Datastore:
    """Registers a datastore; its name must be new, because data that is registered may lead through it."""
    check_name("datastore name", name)
    what, options, tags = f"datastore {name}", dict(storage_options or {}), dict(tags or {})
    check_options(what, options)
    check_words(what, description, tags)
    uri, _ = lasting(uri, what)
    if is_reference(uri):
        raise ConfigError(
            f"{what}: {uri} leads through another datastore. Name the place itself, like s3://bucket/prefix"
        )
    with workspace.writing() as connection:
        if _row(connection, name) is not None:
            raise ConfigError(f"{what} is registered already. Delete it first, or choose another name")
        values = {"uri": uri, "storage_options": options, "description": description, "tags": tags}
        connection.execute(insert(DATASTORES).values(name=name, **values))
        return _found(connection, workspace, name)


def show(workspace: Workspace, name: str) -> Datastore:
    with workspace.reading() as connection:
        return _found(connection, workspace, name)


def listed(workspace: Workspace) -> list[Datastore]:
    """All of them, in the order of their names."""
    with workspace.reading() as connection:
        return [_datastore(row) for row in connection.execute(select(DATASTORES).order_by(DATASTORES.c.name))]


def remove(workspace: Workspace, name: str) -> None:
    """Forgets the datastore. What is stored there stays, and data registered through it is found again with the name."""
    with workspace.writing() as connection:
        _found(connection, workspace, name)
        connection.execute(delete(DATASTORES).where(DATASTORES.c.name == name))


def _found(connection: Connection, workspace: Workspace, name: str) -> Datastore:
    if (row := _row(connection, name)) is not None:
        return _datastore(row)
    known = connection.execute(select(DATASTORES.c.name).order_by(DATASTORES.c.name)).scalars().all()
    hint = f"Known are {offered(name, known)}" if known else "It has none at all; see daskscore datastore create --help"
    raise InputError(f"there is no datastore called {name} in workspace {workspace.name}. {hint}")


def _row(connection: Connection, name: str) -> Row[Any] | None:
    return connection.execute(select(DATASTORES).where(DATASTORES.c.name == name)).first()


def _datastore(row: Row[Any]) -> Datastore:
    return Datastore(row.name, row.uri, row.storage_options, row.description, row.tags, in_utc(row.created_at))
