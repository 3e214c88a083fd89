"""Data and models: names that lead to paths, version by version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, insert, select, update

from daskscore.errors import ConfigError, InputError
from daskscore.workspace.credentials import check_options
from daskscore.workspace.names import Kind, check_name, check_version, check_words, offered
from daskscore.workspace.paths import lasting
from daskscore.workspace.references import LATEST
from daskscore.workspace.store import Workspace
from daskscore.workspace.tables import ASSETS

TYPES: dict[Kind, tuple[str, ...]] = {
    "data": ("uri_file", "uri_folder", "mltable", "tabular"),
    "model": ("custom_model", "mlflow_model", "triton_model"),
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One version of some data or of a model, as it was registered."""

    kind: Kind
    name: str
    version: str
    type: str
    path: str
    """An absolute local path or a URI; may hold `${env:NAME}`."""
    storage_options: Mapping[str, Any]
    """What fsspec needs beyond the path; secrets stand in it as `${env:NAME}`."""
    description: str
    tags: Mapping[str, str]
    archived: bool
    created_at: datetime


def create(
    workspace: Workspace,
    kind: Kind,
    name: str,
    path: str,
    *,
    version: str | None = None,
    type: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    description: str = "",
    tags: Mapping[str, str] | None = None,
) -> Asset:
    """Registers the next version of `name` (1, 2, 3 …), or the one that is given, which must be new."""
    check_name(f"{kind} name", name)
    if version is not None:
        check_version(version)
    what, options, tags = f"{kind} {name}", dict(storage_options or {}), dict(tags or {})
    check_options(what, options)
    check_words(what, description, tags)
    path, seen_type = lasting(path, what)
    values = {
        "kind": kind,
        "name": name,
        "type": _checked_type(kind, what, type, seen_type),
        "path": path,
        "storage_options": options,
        "description": description,
        "tags": tags,
    }
    with workspace.writing() as connection:
        number = _number(version) if version is not None else _next_number(connection, kind, name)
        version = version or str(number)
        if _exact(connection, kind, name, version) is not None:
            raise ConfigError(f"{what} has a version {version} already. Name another, or none: the next one is found")
        connection.execute(insert(ASSETS).values(**values, version=version, number=number))
        return _found(connection, workspace, kind, name, version)


def show(workspace: Workspace, kind: Kind, name: str, which: str = LATEST) -> Asset:
    """One version, by its own word or by `@latest`: the last that was registered and is not archived."""
    with workspace.reading() as connection:
        return _found(connection, workspace, kind, name, which)


def listed(workspace: Workspace, kind: Kind, name: str | None = None, *, archived: bool = False) -> list[Asset]:
    """All versions, or those of one name, in the order of names and registration."""
    with workspace.reading() as connection:
        chosen = _of(kind, name) if archived else and_(_of(kind, name), ~ASSETS.c.archived)
        rows = connection.execute(select(ASSETS).where(chosen).order_by(ASSETS.c.name, ASSETS.c.id)).all()
        if not rows and name is not None and not _has_any(connection, kind, name):
            raise _unknown_name(connection, workspace, kind, name)
        return [_asset(row) for row in rows]


def archive(workspace: Workspace, kind: Kind, name: str, version: str | None = None) -> list[str]:
    """Hides one version, or all there are, from lists and from `@latest`; gives the versions. Nothing is deleted."""
    return _set_archived(workspace, kind, name, version, archived=True)


def restore(workspace: Workspace, kind: Kind, name: str, version: str | None = None) -> list[str]:
    """Undoes `archive`."""
    return _set_archived(workspace, kind, name, version, archived=False)


def _checked_type(kind: Kind, what: str, type: str | None, seen_type: str) -> str:
    if type is None:
        return seen_type if kind == "data" else TYPES[kind][0]
    if type not in TYPES[kind]:
        raise ConfigError(f"{what}: there is no type {type}. Write one of {', '.join(TYPES[kind])}")
    return type


def _set_archived(workspace: Workspace, kind: Kind, name: str, version: str | None, *, archived: bool) -> list[str]:
    with workspace.writing() as connection:
        chosen = _of(kind, name)
        if version is not None:
            chosen = and_(chosen, ASSETS.c.version == _found(connection, workspace, kind, name, version).version)
        elif not _has_any(connection, kind, name):
            raise _unknown_name(connection, workspace, kind, name)
        connection.execute(update(ASSETS).where(chosen).values(archived=archived))
        return list(connection.execute(select(ASSETS.c.version).where(chosen).order_by(ASSETS.c.id)).scalars())


def _next_number(connection: Connection, kind: Kind, name: str) -> int:
    """One more than the highest; nobody else can take it, because there is one writer at a time."""
    highest: int | None = connection.execute(select(func.max(ASSETS.c.number)).where(_of(kind, name))).scalar()
    return (highest or 0) + 1


def _number(version: str) -> int | None:
    return int(version) if version.isdecimal() else None


def _found(connection: Connection, workspace: Workspace, kind: Kind, name: str, which: str) -> Asset:
    if not which.startswith("@"):
        row = _exact(connection, kind, name, which)
    elif which == LATEST:
        live = and_(_of(kind, name), ~ASSETS.c.archived)
        row = connection.execute(select(ASSETS).where(live).order_by(ASSETS.c.id.desc()).limit(1)).first()
    else:
        raise _error(kind, f"{kind} {name}{which}: the only label is @latest. Write @latest or a version")
    if row is not None:
        return _asset(row)
    if not _has_any(connection, kind, name):
        raise _unknown_name(connection, workspace, kind, name)
    if which == LATEST:
        raise _error(
            kind,
            f"{kind} {name} is archived in workspace {workspace.name}. Name one of its versions, or run "
            f"daskscore {kind} restore --name {name}",
        )
    known = select(ASSETS.c.version).where(_of(kind, name)).order_by(ASSETS.c.id.desc())
    raise _error(
        kind,
        f"{kind} {name} has no version {which} in workspace {workspace.name}. "
        f"Known are {offered(which, connection.execute(known).scalars().all())}; {LATEST} is the newest",
    )


def _exact(connection: Connection, kind: Kind, name: str, version: str) -> Row[Any] | None:
    return connection.execute(select(ASSETS).where(_of(kind, name), ASSETS.c.version == version)).first()


def _has_any(connection: Connection, kind: Kind, name: str) -> bool:
    return connection.execute(select(ASSETS.c.id).where(_of(kind, name)).limit(1)).first() is not None


def _unknown_name(connection: Connection, workspace: Workspace, kind: Kind, name: str) -> ConfigError | InputError:
    live = select(ASSETS.c.name).where(_of(kind, None), ~ASSETS.c.archived).distinct().order_by(ASSETS.c.name)
    known = connection.execute(live).scalars().all()
    hint = (
        f"Known are {offered(name, known)}" if known else f"It has no {kind} at all; see daskscore {kind} create --help"
    )
    return _error(kind, f"there is no {kind} called {name} in workspace {workspace.name}. {hint}")


def _error(kind: Kind, text: str) -> ConfigError | InputError:
    return InputError(text) if kind == "data" else ConfigError(text)


def _of(kind: Kind, name: str | None) -> ColumnElement[bool]:
    return ASSETS.c.kind == kind if name is None else and_(ASSETS.c.kind == kind, ASSETS.c.name == name)


def _asset(row: Row[Any]) -> Asset:
    return Asset(
        kind=row.kind,
        name=row.name,
        version=row.version,
        type=row.type,
        path=row.path,
        storage_options=row.storage_options,
        description=row.description,
        tags=row.tags,
        archived=row.archived,
        created_at=in_utc(row.created_at),
    )


def in_utc(time: datetime) -> datetime:
    """SQLite gives UTC without saying so, PostgreSQL the session's own time zone."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
