"""A PostgreSQL server of our own: started by initdb in a folder that is thrown away, on loopback."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from tests.support import DEADLINE_SECONDS, wait_until

USER = "team"
PASSWORD = "canary p@ss/w:rd%41"
"""Every letter that a URL could take for something else; it must never be printed."""


@dataclass(frozen=True, slots=True)
class Server:
    port: int

    def new_database(self) -> str:
        """The URL of an empty database; its password is in it."""
        name = f"d{secrets.token_hex(6)}"
        with self.connection("postgres") as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/{name}"

    def connection(self, database: str) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=database, autocommit=True
        )


@contextmanager
def server() -> Iterator[Server]:
    """Runs until the block ends; skips the test where PostgreSQL is not installed, which fails it in CI."""
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="daskscore-postgresql-"))
    user = _user(folder)
    process = None
    try:
        password = folder / "password"
        password.write_text(PASSWORD)
        data = folder / "data"
        words = [programs / "initdb", "-D", data, "-U", USER, "--pwfile", password, "-A", "scram-sha-256", "--no-sync"]
        subprocess.run(
            [*words, "-E", "UTF8", "--no-locale"],
            check=True,
            capture_output=True,
            timeout=DEADLINE_SECONDS,
            cwd=folder,
            **user,
        )
        port = _free_port()
        settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": folder, "fsync": "off"}
        flags = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [programs / "postgres", "-D", data, *flags], stdout=log, stderr=log, cwd=folder, **user
            )
        running = Server(port)
        wait_until(lambda: _answers(running, process, folder / "log"), "PostgreSQL to answer")
        yield running
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)  # ends sessions instead of waiting for them
            process.wait(DEADLINE_SECONDS)
        shutil.rmtree(folder)


def _programs() -> Path:
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders:
        sentence = "PostgreSQL's own programs are not installed (on Debian: apt-get install postgresql)"
        if os.environ.get("CI") == "true":
            pytest.fail(sentence)
        pytest.skip(sentence)
    return folders[-1]


def _user(folder: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root; as root, run it as somebody else."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            shutil.chown(folder, name)
        except LookupError:
            continue
        return {"user": name, "extra_groups": []}
    raise AssertionError("there is neither a user postgres nor a user nobody")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _answers(running: Server, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        running.connection("postgres").close()
    except psycopg.OperationalError:
        return False
    return True
