from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from daskscore.workspace.store import Workspace, open_workspace
from tests.workspace.postgresql import Server, server


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    with server() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for a workspace that nobody has used, in each kind of database; goes into DASKSCORE_WORKSPACE."""
    if request.param == "sqlite":
        return str(tmp_path / "workspace.db")
    running: Server = request.getfixturevalue("postgresql")
    return running.new_database()


@pytest.fixture
def workspace(location: str) -> Workspace:
    return open_workspace(environment={"DASKSCORE_WORKSPACE": location})


@pytest.fixture
def in_file(tmp_path: Path) -> Workspace:
    """A workspace in SQLite, for what does not depend on the database."""
    return open_workspace(tmp_path / "workspace.db")
