from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from daskscore.cli.root import root
from tests.support import DEADLINE_SECONDS

CANARY = "c4n4ry"
Commands = Callable[..., Result]


@pytest.fixture
def daskscore(tmp_path: Path) -> Commands:
    """`daskscore …` with a workspace of its own; the last word may say how it must end."""
    environment = {"DASKSCORE_WORKSPACE": str(tmp_path / "workspace.db")}

    def command(*words: str, ends: int = 0) -> Result:
        done = CliRunner().invoke(root, words, env=environment)
        assert done.exit_code == ends, done.output
        return done

    return command


def parsed(done: Result) -> Any:
    return json.loads(done.stdout)


def test_help_is_quick_because_the_database_is_not_imported() -> None:
    code = "import sys, daskscore.cli.root; sys.exit('sqlalchemy' in sys.modules or 'yaml' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=DEADLINE_SECONDS)


def test_from_the_command_line_to_the_file_and_back(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "daskscore", "data"]
    place = ["--workspace", str(tmp_path / "team.db")]
    create = [*words, "create", "-n", "iris", "--path", str(tmp_path), *place]
    made = subprocess.run(create, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=True)
    assert (made.stdout, made.stderr) == (f"data iris version 1 is registered: {tmp_path}\n", "")
    missing = subprocess.run(
        [*words, "show", "-n", "rose", *place], capture_output=True, text=True, timeout=DEADLINE_SECONDS
    )
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr == (
        f"daskscore: there is no data called rose in workspace {tmp_path}/team.db. Known are iris\n"
    )


@pytest.mark.parametrize("kind", ["data", "model"])
def test_versions_are_registered_listed_shown_archived_and_restored(daskscore: Commands, kind: str) -> None:
    for version in "12":
        made = daskscore(
            kind, "create", "-n", "iris", "--path", f"s3://bucket/{version}/", "-d", "ours", "--tag", "a=b=c"
        )
        assert made.stdout == f"{kind} iris version {version} is registered: s3://bucket/{version}/\n"
    assert parsed(daskscore(kind, "show", "-n", "iris", "-o", "json"))["version"] == "2"
    assert parsed(daskscore(kind, "show", "-n", "iris", "--label", "latest", "-o", "json"))["tags"] == {"a": "b=c"}
    assert parsed(daskscore(kind, "show", "-n", "iris", "-v", "1", "-o", "json"))["path"] == "s3://bucket/1/"
    assert daskscore(kind, "archive", "-n", "iris", "-v", "2").stdout == f"{kind} iris: archived version 2\n"
    assert parsed(daskscore(kind, "show", "-n", "iris", "-v", "@latest", "-o", "json"))["version"] == "1"
    assert len(parsed(daskscore(kind, "list", "-o", "json"))) == 1
    assert len(parsed(daskscore(kind, "list", "-n", "iris", "--include-archived", "-o", "json"))) == 2
    assert daskscore(kind, "restore", "-n", "iris").stdout == f"{kind} iris: restored 2 versions\n"
    assert len(parsed(daskscore(kind, "list", "-o", "json"))) == 2


def test_a_list_is_an_aligned_table(daskscore: Commands) -> None:
    assert daskscore("data", "list").stdout.startswith("no data in workspace ")
    daskscore("data", "create", "-n", "iris", "--path", "s3://bucket/iris.csv", "-d", "a\nb\x1b[31m")
    daskscore("data", "create", "-n", "roses", "--path", "s3://b/", "-v", "2024-01")
    lines = [line.split("  ") for line in daskscore("data", "list").stdout.splitlines()]
    assert [line[0] for line in lines] == ["NAME", "iris", "roses"]
    rows = daskscore("data", "list").stdout.splitlines()
    assert [rows[1].index("s3://"), rows[2].index("s3://")] == [rows[0].index("PATH")] * 2
    assert rows[1].endswith(r"UTC  a\nb\x1b[31m")
    assert not rows[2].endswith(" ")


def test_one_thing_is_shown_line_by_line(daskscore: Commands) -> None:
    daskscore("data", "create", "-n", "iris", "--path", "s3://bucket/iris/", "--storage-option", "anon=true")
    lines = daskscore("data", "show", "-n", "iris").stdout.splitlines()
    assert lines[:6] == [
        "kind             data",
        "name             iris",
        "version          1",
        "type             uri_folder",
        "path             s3://bucket/iris/",
        "storage options  anon=true",
    ]
    assert lines[6].startswith("created at       20")


def test_a_datastore_is_registered_listed_shown_and_deleted(daskscore: Commands) -> None:
    made = daskscore(
        *("datastore", "create", "-n", "lake", "--uri", "s3://bucket/p", "--storage-option", "key=${env:KEY}"),
        *("--storage-option", "client_kwargs={endpoint_url: 'http://127.0.0.1:1'}"),
    )
    assert made.stdout == "datastore lake is registered: s3://bucket/p\n"
    assert parsed(daskscore("datastore", "show", "-n", "lake", "-o", "json"))["storage_options"] == {
        "key": "${env:KEY}",
        "client_kwargs": {"endpoint_url": "http://127.0.0.1:1"},
    }
    assert 'lake  s3://bucket/p  key=${env:KEY}, client_kwargs={"end' in daskscore("datastore", "list").stdout
    assert "no longer registered" in daskscore("datastore", "delete", "-n", "lake").stdout
    assert daskscore("datastore", "list").stdout.startswith("no datastore in workspace ")
    assert "Known are" not in daskscore("datastore", "show", "-n", "lake", ends=2).stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--uri", "s3://bucket", "--storage-option", f"secret={CANARY}"),
        ("--uri", "s3://bucket", "--storage-option", f"client_kwargs={{aws_secret_access_key: {CANARY}}}"),
        ("--uri", "s3://bucket", "--storage-option", f"secret={{{CANARY}"),
        ("--uri", f"https://user:{CANARY}@host/c"),
        ("--uri", "s3://bucket", "--workspace", f"postgresql://user:{CANARY}@host/database"),
    ],
)
def test_a_secret_on_the_command_line_is_refused_not_repeated_and_not_kept(
    daskscore: Commands, words: tuple[str, ...], tmp_path: Path
) -> None:
    assert CANARY not in daskscore("datastore", "create", "-n", "lake", *words, ends=2).output
    assert CANARY not in daskscore("datastore", "list", "-o", "json").output
    assert not any(CANARY.encode() in path.read_bytes() for path in tmp_path.iterdir())


def test_what_an_environment_variable_holds_is_never_shown(
    daskscore: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKE_KEY", CANARY)
    daskscore("datastore", "create", "-n", "lake", "--uri", "s3://b", "--storage-option", "key=${env:LAKE_KEY}")
    daskscore("data", "create", "-n", "iris", "--path", "https://host/a.csv?${env:LAKE_KEY}")
    for words in (
        ("datastore", "list"),
        ("datastore", "show", "-n", "lake"),
        ("data", "list"),
        ("data", "show", "-n", "iris"),
    ):
        for answer in ("table", "json"):
            shown = daskscore(*words, "-o", answer).output
            assert CANARY not in shown
            assert "${env:LAKE_KEY}" in shown


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("data", "create", "-n", "a b", "--path", "s3://b/"), "data name 'a b' is no usable name"),
        (("data", "create", "-n", "a", "--path", "none"), "does not exist"),
        (("data", "create", "-n", "a", "--path", "s3://b/", "--tag", "x"), "--tag x: write --tag key=value"),
        (("data", "show", "-n", "a", "-v", "1", "-l", "latest"), "--version and --label exclude each other"),
        (("data", "show", "-n", "a", "-l", "production"), "the only label is @latest"),
        (
            ("model", "create", "-n", "a", "--path", "s3://b/", "-t", "uri_file"),
            "Write one of custom_model, mlflow_model",
        ),
        (("model", "archive", "-n", "a"), "there is no model called a"),
        (("datastore", "delete", "-n", "a"), "there is no datastore called a"),
        (("data", "list", "--workspace", "mysql://host/x"), "workspace mysql://… cannot be used"),
    ],
)
def test_what_cannot_be_done_is_said_and_ends_with_2(
    daskscore: Commands, words: tuple[str, ...], sentence: str
) -> None:
    done = daskscore(*words, ends=2)
    assert sentence in done.stderr
    assert "Traceback" not in done.output
