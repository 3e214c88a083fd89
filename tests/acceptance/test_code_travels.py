"""A cluster that does not see the script's folder gets it from the driver: once per node, the same content, kept."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_existing_cluster import Site, _can, site
from tests.support import DEADLINE_SECONDS, Finished, Workbench, nothing_left_of, wait_until

SCRIPT = """
import os
import helpers.words

def run(mini_batch):
    with open("data.txt") as file:
        data = file.read()
    linked = open("link").read() == data
    return [f"{os.path.basename(path)} {helpers.words.WORD} {linked} {os.path.exists('secret')} {os.getcwd()}"
            for path in mini_batch]
"""
NAMES = [f"item {number:02}" for number in range(12)]


@dataclass(frozen=True, slots=True)
class Blind:
    """A cluster whose workers see another file system where the sources stand, and what they keep between runs."""

    site: Site
    cache: Path

    def kept(self) -> dict[str, tuple[int, int]]:
        """The folders in the cache, with what changes when they are made anew."""
        return {
            path.name: (path.stat().st_ino, (path / "score.py").stat().st_mtime_ns)
            for path in (self.cache / "code").glob("*")
            if path.is_dir()
        }


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Blind]:
    how = next((words for words in (("-m",), ("-rm",)) if _can("unshare", *words, "true")), None)
    if how is None:
        pytest.skip("needs the right to mount, of root or in a user namespace")
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DASKSCORE_CACHE", str(cache))
        with site(tmp_path_factory.mktemp, blind=how) as found:
            yield Blind(found, cache)


@pytest.fixture
def source(bench: Workbench, cluster: Blind) -> Path:
    """A script's folder where the workers see nothing; it is another one for each test."""
    folder = cluster.site.outputs / f"source of {bench.folder.name}"
    (folder / "helpers").mkdir(parents=True)
    (folder / "score.py").write_text(SCRIPT)
    (folder / "helpers" / "words.py").write_text(f"WORD = {bench.folder.name!r}\n")
    (folder / "data.txt").write_text("data")
    (folder / "link").symlink_to("data.txt")
    (folder / "secret").write_text("stays here")
    (folder / ".amlignore").write_text("secret\n")
    bench.inputs(*NAMES)
    return folder


def score(bench: Workbench, cluster: Blind, source: Path, *words: str) -> Finished:
    flags = ("--entry-script", source / "score.py", "--cluster", cluster.site.scheduler_file, "--mini-batch-size", "1")
    return bench.run(*flags, "--overwrite", *words)


def rows(bench: Workbench, place: Path) -> list[str]:
    return [f"{name} {bench.folder.name} True False {place}" for name in NAMES]


def test_the_folder_comes_to_each_node_once_and_is_kept(bench: Workbench, cluster: Blind, source: Path) -> None:
    before = cluster.kept()
    done = score(bench, cluster, source)
    assert done.code == 0, done.stderr
    ((name, made),) = cluster.kept().items() - before.items()
    assert done.rows == rows(bench, cluster.cache / "code" / name)
    assert done.stderr.count("is sent to 1 node ") == 1
    again = score(bench, cluster, source)
    assert (again.code, again.rows) == (0, done.rows)
    assert cluster.kept()[name] == made
    assert "is sent" not in again.stderr


def test_a_worker_with_an_older_copy_gets_the_new_one(bench: Workbench, cluster: Blind, source: Path) -> None:
    def copy(folder: str, script: str) -> None:
        import os

        os.makedirs(folder)
        with open(os.path.join(folder, "score.py"), "w") as file:
            file.write(script)

    with cluster.site.client() as client:
        client.run(copy, str(source), "def run(mini_batch):\n    return ['old'] * len(mini_batch)\n")
    done = score(bench, cluster, source)
    assert done.code == 0, done.stderr
    assert [row.partition(" /")[0] for row in done.rows] == [f"{name} {bench.folder.name} True False" for name in NAMES]


def test_a_folder_that_the_workers_see_is_used_where_it_is(bench: Workbench, cluster: Blind, source: Path) -> None:
    before, seen = cluster.kept(), bench.folder / "seen"
    shutil.copytree(source, seen, symlinks=True)
    done = score(bench, cluster, seen)
    assert done.code == 0, done.stderr
    assert {row.rpartition(" ")[2] for row in done.rows} == {str(seen)}
    assert cluster.kept() == before


def test_a_folder_that_is_too_large_ends_the_run_before_any_mini_batch(
    bench: Workbench, cluster: Blind, source: Path
) -> None:
    with (source / "model.bin").open("wb") as file:
        file.truncate(301 << 20)
    done = score(bench, cluster, source)
    assert done.code == 1
    assert "The largest files are model.bin (301.0 MiB), " in done.stderr
    assert done.report["mini_batches"]["failed"] == 0
    assert not list((done.output / "logs/user/stdout").rglob("*.txt"))


def test_a_worker_that_comes_later_gets_the_folder_too(bench: Workbench, cluster: Blind, source: Path) -> None:
    """Its nanny starts it after the driver has looked who is there."""
    (source / "score.py").write_text(SCRIPT.replace("    linked", "    import time; time.sleep(0.2)\n    linked"))
    command = bench.command("--entry-script", source / "score.py", "--cluster", cluster.site.scheduler_file)
    command += ["--mini-batch-size", "1"]
    with cluster.site.client() as client, subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as driver:
        journal = bench.output / ".daskscore/journal"
        wait_until(lambda: journal.exists() and b'"commit"' in journal.read_bytes(), "a commit", 60)
        for note in (cluster.cache / "code").glob("*.json"):  # as on another node, which has nothing
            note.unlink()
        for worker in client.run(os.getpid).values():
            os.kill(worker, signal.SIGKILL)
        said = driver.communicate(timeout=DEADLINE_SECONDS)[1]
        assert (driver.returncode, said.count("is sent to 1 node ")) == (0, 2), said
        client.wait_for_workers(2, timeout=60)
    assert len((bench.output / "parallel_run_step.txt").read_text().splitlines()) == len(NAMES)


def test_a_run_on_this_machine_packs_and_keeps_nothing(bench: Workbench, tmp_path_factory: Any) -> None:
    bench.inputs(*NAMES)
    bench.script("import os\ndef run(mini_batch):\n    return [os.getcwd() for path in mini_batch]\n")
    cache = tmp_path_factory.mktemp("empty")
    with nothing_left_of(tmp_path_factory.mktemp("scratch")):
        done = bench.run(environment={"DASKSCORE_CACHE": str(cache)})
    assert done.rows == [str(bench.folder)] * len(NAMES)
    assert list(cache.iterdir()) == []
