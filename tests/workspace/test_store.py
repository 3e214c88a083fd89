from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from daskscore.errors import ConfigError
from daskscore.workspace import assets
from daskscore.workspace.store import Workspace, open_workspace
from daskscore.workspace.tables import SCHEMA_VERSION
from tests.support import DEADLINE_SECONDS
from tests.workspace.postgresql import PASSWORD, USER, Server

REGISTERS = """
import sys
from daskscore.workspace import assets
from daskscore.workspace.store import open_workspace
print("ready", flush=True)
sys.stdin.readline()
for _ in range(50):
    print(assets.create(open_workspace(), "data", "iris", "s3://bucket/", tags={"by": sys.argv[1]}).version)
"""


def shown(error: pytest.ExceptionInfo[BaseException]) -> str:
    """All that a traceback of the error shows, chained errors too."""
    return "".join(traceback.format_exception(error.value))


def test_two_processes_registering_at_once_get_different_versions_and_lose_none(
    location: str, workspace: Workspace
) -> None:
    words = [sys.executable, "-c", REGISTERS]
    environment = {**os.environ, "DASKSCORE_WORKSPACE": location}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with ExitStack() as ended:
        both = {
            name: ended.enter_context(subprocess.Popen([*words, name], env=environment, text=True, **pipes))
            for name in "ab"
        }
        for process in both.values():
            assert process.stdout.readline() == "ready\n"
        for process in both.values():
            process.stdin.write("go\n")
            process.stdin.flush()
        said = {name: process.communicate(timeout=DEADLINE_SECONDS) for name, process in both.items()}
    assert [errors for _, errors in said.values()] == ["", ""]
    told = {name: rows for name, (rows, _) in said.items()}
    assert sorted(int(version) for name in "ab" for version in told[name].split()) == list(range(1, 101))
    stored = assets.listed(workspace, "data", "iris")
    assert [asset.version for asset in stored] == [str(number) for number in range(1, 101)]
    assert {name: [asset.version for asset in stored if asset.tags["by"] == name] for name in "ab"} == {
        name: told[name].split() for name in "ab"
    }


def test_looking_makes_nothing(workspace: Workspace, tmp_path: Path) -> None:
    assert assets.listed(workspace, "data") == []
    assert list(tmp_path.iterdir()) == []
    with workspace.engine.connect() as connection:
        assert not workspace.engine.dialect.has_table(connection, "daskscore_schema")


def test_the_place_is_the_argument_else_the_variable_else_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    variable = {"DASKSCORE_WORKSPACE": "/from/variable.db"}
    assert open_workspace("/from/argument.db", environment=variable).name == "/from/argument.db"
    assert open_workspace(environment=variable).name == "/from/variable.db"
    for unset in ({}, {"DASKSCORE_WORKSPACE": ""}):
        assert open_workspace(environment=unset).name == f"{tmp_path}/.daskscore/workspace.db"


def test_the_default_folder_is_made_when_something_is_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assets.create(open_workspace(environment={}), "data", "iris", "s3://bucket/")
    assert (tmp_path / ".daskscore" / "workspace.db").is_file()


@pytest.mark.parametrize("name", ["plain.db", "a b?c#d%20é.db", "file:x.db"])
def test_a_file_may_have_any_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assets.create(open_workspace(name), "data", "iris", "s3://bucket/")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert assets.show(open_workspace(tmp_path / name), "data", "iris").version == "1"


def test_a_url_of_sqlite_is_a_path(tmp_path: Path) -> None:
    assert open_workspace(f"sqlite:///{tmp_path}/w.db").name == f"{tmp_path}/w.db"


def test_a_folder_that_was_named_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^workspace .*/none/w\.db cannot be made: there is no folder .*/none\. Make"
    ):
        assets.create(open_workspace(tmp_path / "none" / "w.db"), "data", "iris", "s3://bucket/")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    for place, reason in {"/proc/w.db": "unable to open database file", str(tmp_path): "unable to open"}.items():
        with pytest.raises(ConfigError, match=rf"^workspace {place} cannot be used: {reason}.* DASKSCORE_WORKSPACE$"):
            assets.create(open_workspace(place), "data", "iris", "s3://bucket/")


READS_AND_ARCHIVES = """
import os, sys
from daskscore.workspace import assets
from daskscore.workspace.store import open_workspace
workspace = open_workspace(sys.argv[1])
assets.show(workspace, "data", "iris")  # all is imported, which somebody else may not be allowed to
if os.getuid() == 0:
    os.setuid(65534)
print(assets.show(workspace, "data", "iris").version)
assets.archive(workspace, "data", "iris")
"""


def test_a_workspace_that_may_only_be_read_is_read_and_says_that_it_cannot_be_written() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "w.db"
        assets.create(open_workspace(path), "data", "iris", "s3://bucket/")
        path.chmod(0o444)
        path.parent.chmod(0o555)
        words = [sys.executable, "-c", READS_AND_ARCHIVES, path]
        done = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE_SECONDS)
        path.parent.chmod(0o755)
    assert done.stdout == "1\n", done.stderr
    assert "cannot be used: attempt to write a readonly database. Check the file and its folder" in done.stderr


def test_a_file_that_is_no_database_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database at all\n" * 100)
    for use in (assets.listed, lambda workspace, kind: assets.create(workspace, kind, "iris", "s3://bucket/")):
        with pytest.raises(ConfigError, match=r"^workspace .*/notes\.txt cannot be used: file is not a database\. "):
            use(open_workspace(path), "data")
    assert path.read_text() == "not a database at all\n" * 100


def test_a_database_of_another_program_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE customers (id INTEGER)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"is a database of another program \(it has a table customers\)"):
        assets.create(open_workspace(path), "data", "iris", "s3://bucket/")
    assert path.read_bytes() == before


def test_a_workspace_of_a_newer_daskscore_is_left_to_it(workspace: Workspace) -> None:
    assets.create(workspace, "data", "iris", "s3://bucket/")
    with workspace.writing() as connection:
        connection.execute(text("UPDATE daskscore_schema SET version = version + 1"))
    newer = rf"was written by a newer daskscore \(its schema is {SCHEMA_VERSION + 1}, this one knows {SCHEMA_VERSION}\)"
    with pytest.raises(ConfigError, match=newer):
        assets.show(workspace, "data", "iris")
    with pytest.raises(ConfigError, match=newer):
        assets.create(workspace, "data", "iris", "s3://bucket/")


def test_a_writer_that_never_ends_is_not_waited_for_forever(location: str, workspace: Workspace) -> None:
    assets.create(workspace, "data", "iris", "s3://bucket/")
    hasty = open_workspace(environment={"DASKSCORE_WORKSPACE": location}, wait_seconds=0.2)
    with (
        workspace.writing(),
        pytest.raises(ConfigError, match=r"was in use by another process for 0\.2 s\. Try again$"),
    ):
        assets.create(hasty, "data", "iris", "s3://bucket/")
    assert assets.create(hasty, "data", "iris", "s3://bucket/").version == "2"


def test_a_mistake_of_our_own_stays_a_bug(workspace: Workspace) -> None:
    with pytest.raises(Exception, match="no_such_column") as raised, workspace.writing() as connection:
        connection.execute(text("SELECT no_such_column FROM daskscore_assets"))
    if workspace.file is None:
        assert not isinstance(raised.value, ConfigError)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:c4n4ry@host/database",
        "postgresql://user:c4n4ry@host/database",
        "postgresql://user:c4n/4ry@host/database",
        "postgresql://user:c4n@4ry@host/database",
        "postgresql://user@host/database?password=c4n4ry",
        "postgresql://user@host:c4n4ry/database",
        "postgresql://",
        "postgresql://user:c4n4ry@[::1/database",
        "https://user:c4n4ry@host/database",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        assets.listed(open_workspace(url), "data")
    for piece in ("c4n", "4ry"):
        assert piece not in shown(refused)


def test_the_password_of_a_url_comes_from_the_environment(postgresql: Server) -> None:
    database = postgresql.new_database().rpartition("/")[2]
    url = f"postgresql://{USER}:${{env:TEAM_PASSWORD}}@127.0.0.1:{postgresql.port}/{database}"
    workspace = open_workspace(url, environment={"TEAM_PASSWORD": PASSWORD})
    assert assets.create(workspace, "data", "iris", "s3://bucket/").version == "1"
    assert workspace.name == f"postgresql://127.0.0.1:{postgresql.port}/{database}"
    assert PASSWORD not in repr(workspace)
    with pytest.raises(ConfigError, match="TEAM_PASSWORD is not set"):
        open_workspace(url, environment={})


def test_a_wrong_password_is_told_without_repeating_it(postgresql: Server) -> None:
    url = f"postgresql://{USER}:c4n4ry@127.0.0.1:{postgresql.port}/postgres"
    workspace = open_workspace(environment={"DASKSCORE_WORKSPACE": url})
    with pytest.raises(ConfigError, match=r"cannot be used: .*password authentication failed for user") as refused:
        assets.listed(workspace, "data")
    assert "c4n4ry" not in shown(refused)


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"^workspace postgresql://127\.0\.0\.1:1/team cannot be used: .* refused\. Check"
    ):
        assets.listed(open_workspace("postgresql://user@127.0.0.1:1/team"), "data")


def test_somebody_who_may_not_make_tables_is_told_so(postgresql: Server) -> None:
    url = postgresql.new_database()
    with postgresql.connection(url.rpartition("/")[2]) as connection:
        connection.execute("CREATE ROLE guest LOGIN PASSWORD 'c4n4ry'")
        connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    guest = open_workspace(
        environment={"DASKSCORE_WORKSPACE": url.replace(url.split("//")[1].split("@")[0], "guest:c4n4ry")}
    )
    assert assets.listed(guest, "data") == []
    with pytest.raises(ConfigError, match="cannot be used: permission denied for schema public") as refused:
        assets.create(guest, "data", "iris", "s3://bucket/")
    assert "c4n4ry" not in shown(refused)


def test_without_psycopg_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"Run pip install 'daskscore\[postgresql\]'$"):
        open_workspace("postgresql://user@host/team")
