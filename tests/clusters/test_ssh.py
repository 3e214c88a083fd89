"""Hosts that ssh reaches: real processes behind a private sshd on loopback."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from daskscore.clusters import ssh
from daskscore.clusters.interface import Wanted
from daskscore.errors import ConfigError
from tests.servers import free_port
from tests.support import DEADLINE_SECONDS, Workbench, nothing_left_of, processes_with, wait_until

pytest.importorskip("asyncssh")
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
HOSTS = ["127.0.0.1", "localhost"]
NAMES = [f"item {number:02}" for number in range(40)]
SCRIPT = """
import os, time

def run(mini_batch):
    names = [os.path.basename(path) for path in mini_batch]
    time.sleep(0.02)
    if names == ["item 17"]:
        raise ValueError("seventeen")
    return [f"{name} {len(name)}" for name in names]
"""


@dataclass(frozen=True, slots=True)
class Sshd:
    """A server of our own, that marks what is started through it."""

    port: int
    folder: Path
    mark: str

    @property
    def connect_options(self) -> dict[str, Any]:
        return {
            "port": self.port,
            "username": getpass.getuser(),
            "client_keys": [str(self.folder / "id")],
            "known_hosts": str(self.folder / "known_hosts"),
            "agent_path": None,
        }

    def cluster(self, *, hosts: list[str] = HOSTS, **options: Any) -> dict[str, Any]:
        connect = self.connect_options | options.pop("connect_options", {})
        return {"kind": "ssh", "hosts": hosts, "options": {"connect_options": connect, **options}}


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """With one key that it lets in, and nothing of its own left when it ends."""
    if SSHD is None:
        pytest.skip("needs sshd, of the package openssh-server")
    folder, scratch = tmp_path / "sshd", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it confines what has not yet logged in
    for name in ("host_key", "id", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    port = free_port()
    shutil.copy(folder / "id.pub", folder / "authorized_keys")
    key = " ".join((folder / "host_key.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text("".join(f"[{host}]:{port} {key}\n" for host in HOSTS))
    with nothing_left_of(scratch) as mark:
        (folder / "config").write_text(
            f"""
            Port {port}
            ListenAddress 127.0.0.1
            HostKey {folder}/host_key
            PidFile none
            AuthorizedKeysFile {folder}/authorized_keys
            PermitRootLogin prohibit-password
            PasswordAuthentication no
            UsePAM no
            StrictModes no
            SetEnv {mark} TMPDIR={scratch} PYTHONPATH={os.environ.get("PYTHONPATH", "")}
            """
        )
        with subprocess.Popen([SSHD, "-D", "-f", folder / "config", "-E", folder / "log"]) as process:
            try:
                wait_until(lambda: _answers(port), "sshd")
                yield Sshd(port, folder, mark)
                wait_until(
                    lambda: not _ours(mark), lambda: f"the end of what ssh has started: {_ours(mark)}", seconds=30
                )
            finally:
                process.terminate()


def _answers(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def _ours(mark: str) -> list[str]:
    return [command for command in processes_with(mark).values() if "python" in command]


@pytest.fixture
def job(bench: Workbench) -> Workbench:
    bench.script(SCRIPT)
    bench.inputs(*NAMES)
    return bench


def start(job: Workbench, cluster: dict[str, Any], output: str) -> subprocess.Popen[str]:
    flags = ("--mini-batch-size", "1", "--node-count", "2", "--process-count-per-node", "2", "--run-max-try", "2")
    command = job.command(*flags, "--output", job.folder / output, "--set", f"cluster={json.dumps(cluster)}")
    return subprocess.Popen(command, cwd=job.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(driver: subprocess.Popen[str]) -> tuple[int, str]:
    with driver:
        _, said = driver.communicate(timeout=DEADLINE_SECONDS)
        return driver.returncode, said


@pytest.mark.slow
def test_the_hosts_leave_what_a_local_cluster_leaves(job: Workbench, sshd: Sshd) -> None:
    code, said = finish(start(job, {"kind": "local"}, "local"))
    assert code == 0, said
    code, said = finish(start(job, sshd.cluster(), "ssh"))
    assert code == 0, said
    assert "warning" not in said
    rows = [(job.folder / where / "parallel_run_step.txt").read_bytes() for where in ("local", "ssh")]
    assert rows[0] == rows[1]
    assert len(rows[0].splitlines()) == len(NAMES) - 1
    nodes = {path.name for path in (job.folder / "ssh/logs/sys/node").iterdir()}
    assert nodes == set(HOSTS)


@pytest.mark.slow
def test_nothing_of_a_driver_that_was_killed_stays_on_the_hosts(job: Workbench, sshd: Sshd) -> None:
    with start(job, sshd.cluster(), "ssh") as driver:
        journal = job.folder / "ssh/.daskscore/journal"
        committed = lambda: journal.exists() and b'"commit"' in journal.read_bytes()  # noqa: E731
        wait_until(lambda: committed() or driver.poll() is not None, "a commit", seconds=60)
        assert driver.poll() is None, finish(driver)
        assert _ours(sshd.mark)
        driver.send_signal(signal.SIGKILL)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"connect_options": {"known_hosts": "none"}}, "Host key is not trusted"),
        ({"connect_options": {"client_keys": ["stranger"]}}, "Permission denied"),
        ({"connect_options": {"port": 1}}, "refused"),
        ({"remote_python": "/nowhere/python"}, "/nowhere/python"),
        ({"worker_options": {"nthread": 1}}, "nthread"),
    ],
)
def test_a_host_that_refuses_is_named_with_its_words(
    job: Workbench, sshd: Sshd, options: dict[str, Any], words: str
) -> None:
    (sshd.folder / "none").touch()
    connect = options.get("connect_options", {})
    for name in ("known_hosts", "client_keys"):
        if name in connect:
            given = connect[name]
            connect[name] = [str(sshd.folder / each) for each in given] if name[0] == "c" else str(sshd.folder / given)
    code, said = finish(start(job, sshd.cluster(**options), "ssh"))
    assert (code, said.count("127.0.0.1: ")) == (1, 1), said
    assert words in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "needs hosts"),
        ({"hosts": "node1"}, "needs hosts"),
        ({"hosts": ["a", 1]}, "in quotes"),
        ({"hosts": ["a"]}, "wants 2 nodes, and cluster: ssh names 1 host"),
        ({"hosts": ["a", "b"], "host": "c"}, "takes no option host"),
        ({"hosts": ["a", "b"], "options": {"ports": 1}}, "has no key ports"),
        ({"hosts": ["a", "b"], "options": {"connect_options": [{}]}}, "are 1 for 2 hosts"),
        ({"hosts": ["a", "b"], "options": {"remote_python": 3}}, "the path of a Python"),
    ],
)
def test_what_cannot_be_used_is_refused_before_any_work(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ssh.start(Wanted(2, 1, options))


def test_without_asyncssh_the_line_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    with pytest.raises(ConfigError, match=r"pip install 'daskscore\[ssh\]'"):
        ssh.start(Wanted(1, 1, {"hosts": ["a"]}))
