"""The tables of a workspace, the same in SQLite and PostgreSQL."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
)

SCHEMA_VERSION = 1
"""Counted up with each change of the tables; a workspace with a higher one belongs to a newer daskscore."""

METADATA = MetaData()

SCHEMA = Table("daskscore_schema", METADATA, Column("version", Integer, nullable=False))

ASSETS = Table(
    "daskscore_assets",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),  # in the order of registration: @latest is the highest
    Column("kind", String(16), nullable=False),
    Column("name", String(255), nullable=False),
    Column("version", String(255), nullable=False),
    Column("number", BigInteger),  # the version where it is one, so that the next one is known
    Column("type", String(32), nullable=False),
    Column("path", Text, nullable=False),
    Column("storage_options", JSON, nullable=False),
    Column("description", Text, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("archived", Boolean, nullable=False, default=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    UniqueConstraint("kind", "name", "version"),
    sqlite_autoincrement=True,
)

DATASTORES = Table(
    "daskscore_datastores",
    METADATA,
    Column("name", String(255), primary_key=True),
    Column("uri", Text, nullable=False),
    Column("storage_options", JSON, nullable=False),
    Column("description", Text, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
