"""Where registered things are kept: an SQLite file, or a PostgreSQL database for a team. One writer at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, OperationalError
from sqlalchemy.pool import NullPool, StaticPool

from daskscore.errors import ConfigError
from daskscore.workspace.credentials import REFERENCE, secrets_in_query, variable
from daskscore.workspace.tables import METADATA, SCHEMA, SCHEMA_VERSION

VARIABLE = "DASKSCORE_WORKSPACE"
DEFAULT = "~/.daskscore/workspace.db"
WAIT_SECONDS = 30.0
CONNECT_SECONDS = 10
WRITER_LOCK = 0x6461_736B_7363_6F72  # "daskscor": the number under which PostgreSQL keeps the lock of all writers
FORMS = f"A workspace is a file, like {DEFAULT}, or postgresql://user@host/database"


@dataclass(frozen=True, slots=True)
class Workspace:
    """An opened workspace. No connection is held between two uses, so it may be kept as long as one likes."""

    name: str
    """What messages call it: its path, or its database without user and password."""
    engine: Engine = field(repr=False)
    file: Path | None
    """Where an SQLite workspace stands."""
    wait_seconds: float = WAIT_SECONDS
    """How long another writer is waited for."""

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """For looking, which creates nothing: a workspace that is not there yet is an empty one."""
        if self.file is not None and not _is_there(self.file):
            yield from _empty()
            return
        with self._telling(), self.engine.begin() as connection:
            if self._is_made(connection):
                yield connection
            else:
                yield from _empty()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """The only writer until the block ends; all that it writes is stored, or nothing."""
        if self.file is not None:
            self._make_folder(self.file.parent)
        with self._telling(), self.engine.execution_options(daskscore_writes=True).begin() as connection:
            if self.file is None:
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{round(self.wait_seconds * 1000)}ms'")
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})")
            if not self._is_made(connection):
                METADATA.create_all(connection)
                connection.execute(insert(SCHEMA).values(version=SCHEMA_VERSION))
            yield connection

    def _is_made(self, connection: Connection) -> bool:
        """Whether its tables are there; refuses a database that is not ours to read or write."""
        tables = inspect(connection)
        if tables.has_table(SCHEMA.name):
            version = connection.execute(select(SCHEMA.c.version)).scalar_one()
            if version > SCHEMA_VERSION:
                raise ConfigError(
                    f"workspace {self.name} was written by a newer daskscore "
                    f"(its schema is {version}, this one knows {SCHEMA_VERSION}). Update daskscore"
                )
            return True
        if self.file is not None and (others := tables.get_table_names()):
            raise ConfigError(
                f"workspace {self.name} is a database of another program (it has a table {others[0]}). "
                f"Name another file with --workspace or {VARIABLE}"
            )
        return False

    def _make_folder(self, folder: Path) -> None:
        """Only the default folder is made: a missing one that was named is rather a slip of the pen."""
        try:
            if folder == _path(DEFAULT).parent:
                folder.mkdir(parents=True, exist_ok=True)
            missing = not _is_there(folder)
        except OSError as error:
            raise ConfigError(
                f"workspace {self.name} cannot be made: {error.strerror}. Name another with --workspace or {VARIABLE}"
            ) from error
        if missing:
            raise ConfigError(
                f"workspace {self.name} cannot be made: there is no folder {folder}. Make the folder, or name another"
            )

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """What the database cannot do, in the user's words and without the password; our own mistakes stay bugs."""
        try:
            yield
        except DBAPIError as error:
            problem = self._problem(error)
            if problem is None:
                raise
            raise problem from None  # a chain would show what the driver was given, the password too

    def _problem(self, error: DBAPIError) -> ConfigError | None:
        lines = [line for line in str(error.orig).splitlines() if not line.startswith("\t")]  # tabs begin libpq's hints
        reason = " ".join(lines).rstrip(". ")
        if self.engine.url.password:
            reason = reason.replace(str(self.engine.url.password), "***")
        code = getattr(error.orig, "sqlstate", None)
        if code == "55P03" or (self.file is not None and reason == "database is locked"):
            return ConfigError(
                f"workspace {self.name} was in use by another process for {self.wait_seconds:g} s. Try again"
            )
        if not isinstance(error, OperationalError) and type(error) is not DatabaseError and code != "42501":
            return None
        hint = "Check the address, the user and their rights" if self.file is None else "Check the file and its folder"
        return ConfigError(
            f"workspace {self.name} cannot be used: {reason}. {hint}, or name another with --workspace or {VARIABLE}"
        )


def open_workspace(
    location: str | os.PathLike[str] | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
    wait_seconds: float = WAIT_SECONDS,
) -> Workspace:
    """The workspace at a path or URL, else at DASKSCORE_WORKSPACE, else the user's own. Nothing is read or made yet."""
    text = os.fspath(location or environment.get(VARIABLE) or DEFAULT)
    if "://" not in text:
        return _in_file(_path(text), wait_seconds)
    url = _url(text, environment, literal_password=not location)
    if url.get_backend_name() == "sqlite":
        return _in_file(_path(url.database or ""), wait_seconds)
    return _in_server(url, wait_seconds)


def _in_file(path: Path, wait_seconds: float) -> Workspace:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=NullPool,
        connect_args={"timeout": wait_seconds},
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def _leave_transactions_to_us(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # Two that have read before they write would each wait for the other: a writer says so at once.
        writes = connection.get_execution_options().get("daskscore_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return Workspace(str(path), engine, path, wait_seconds)


def _in_server(url: URL, wait_seconds: float) -> Workspace:
    try:
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            poolclass=NullPool,
            # A writer must see what the writer before it has committed, whatever the server's own default is.
            isolation_level="READ COMMITTED",
            connect_args={"connect_timeout": CONNECT_SECONDS, "application_name": "daskscore"},
            hide_parameters=True,
        )
    except ImportError as error:
        raise ConfigError(
            f"a workspace in PostgreSQL needs psycopg ({error}). Run pip install 'daskscore[postgresql]'"
        ) from error
    host = url.host or url.query.get("host") or "localhost"
    port = f":{url.port}" if url.port else ""
    return Workspace(f"postgresql://{host}{port}/{url.database or ''}", engine, None, wait_seconds)


def _url(text: str, environment: Mapping[str, str], *, literal_password: bool) -> URL:
    """The parsed URL; no error repeats it, because its password may stand anywhere in a mistyped one."""
    scheme = text.partition("://")[0].lower()
    if scheme in ("postgres", "postgresql", "postgresql+psycopg"):
        text = "postgresql" + text[len(scheme) :]
    elif scheme != "sqlite":
        raise ConfigError(f"workspace {scheme}://… cannot be used: it is of another kind. {FORMS}")
    try:
        written = make_url(text)
        url = make_url(REFERENCE.sub(lambda found: quote(variable(found[1], environment), safe=""), text))
    except (ArgumentError, ValueError):
        raise ConfigError(f"workspace {scheme}://… is no URL that can be read. {FORMS}") from None
    if "@" in f"{url.host}{url.database}" and scheme != "sqlite":
        raise ConfigError(
            f"workspace {scheme}://… has more than one @. Write a user or password with %40 for @, %2F for / and %3A for :"
        )
    if not literal_password and (_is_literal(written.password) or secrets_in_query(text)):
        raise ConfigError(
            f"workspace {scheme}://… has a password in it, which others could read in the list of processes. Put it into an "
            f"environment variable and write '${{env:NAME}}' in its place, or put the whole URL into {VARIABLE}"
        )
    return url


def _is_literal(password: object) -> bool:
    return bool(password) and not REFERENCE.search(str(password))


def _path(text: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(text)))


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise ConfigError(
            f"workspace {path} cannot be read: {error.strerror}. Check its rights, or name another with --workspace "
            f"or {VARIABLE}"
        ) from error
    return True


def _empty() -> Iterator[Connection]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    try:
        METADATA.create_all(engine)
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()
