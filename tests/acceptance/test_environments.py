"""A job's own environment: the script sees its packages, the worker keeps its own; made once, and a failure says why."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.test_existing_cluster import Site, site
from tests.support import Finished, Workbench, nothing_left_of
from tests.wheels import wheel

CLICK = importlib.metadata.version("click")
"""The worker's."""

SCRIPT = """
import importlib.util, os, shutil, sys
import click

def run(mini_batch):
    others = [name for name in ("pandas", "dask", "yaml") if importlib.util.find_spec(name)]
    python = shutil.which("python")
    return [f"{click.__version__} {others} {os.path.dirname(os.path.dirname(python)) == sys.prefix} {sys.prefix}"
            for path in mini_batch]
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the tests of this file keep: to make an environment takes seconds."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    wheel(folder, "click", "0.0.1")
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Site]:
    """Two workers that are there already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DASKSCORE_CACHE", str(cache))
        with site(tmp_path_factory.mktemp) as found:
            yield found


@pytest.fixture
def job(bench: Workbench, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    monkeypatch.setenv("DASKSCORE_CACHE", str(cache))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # the worker's, and nobody else's
    for name in ("PIP_CONFIG_FILE", "PIP_NO_INDEX"):
        monkeypatch.setenv(name, os.devnull if name.endswith("FILE") else "1")
    bench.script(SCRIPT)
    bench.inputs("a", "b")
    return bench


def score(job: Workbench, environment: Path | str, *words: str) -> Finished:
    return job.run("--set", f"environment={environment}", "--set", "process_count_per_node=1", "--overwrite", *words)


def requirements(job: Workbench, *lines: str) -> Path:
    path = job.folder / "requirements.txt"
    path.write_text("".join(f"{line}\n" for line in ["--no-index", *lines]))
    return path


def conda_file(job: Workbench, *dependencies: object) -> Path:
    path = job.folder / "conda.yml"
    path.write_text(json.dumps({"channels": ["conda-forge"], "dependencies": dependencies}))
    return path


def made(cache: Path) -> set[str]:
    return {path.name for path in (cache / "environments").glob("*.json")}


def test_the_script_sees_its_own_versions_and_nothing_of_the_workers(
    job: Workbench, cache: Path, wheels: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (job.folder / "nested.txt").write_text("click==0.0.1  # not the worker's\n")
    wanted = requirements(job, f"--find-links {os.path.relpath(wheels, job.folder)}", "-r nested.txt")
    before = made(cache)
    with nothing_left_of(tmp_path_factory.mktemp("scratch")):
        done = score(job, wanted)
    assert done.code == 0, done.stderr
    (name,) = made(cache) - before
    prefix = cache / "environments" / name.removesuffix(".json")
    assert done.rows == [f"0.0.1 [] True {prefix}"] * 2
    assert CLICK != "0.0.1"
    about = (prefix / "pyvenv.cfg").stat()
    again = score(job, wanted)
    assert (again.code, again.rows) == (0, done.rows)
    assert (prefix / "pyvenv.cfg").stat().st_mtime_ns == about.st_mtime_ns
    assert "is made" not in again.stderr


def test_another_wheel_of_the_same_name_is_another_environment(job: Workbench, wheels: Path) -> None:
    own = job.folder / "own"
    for version in ("0.0.2", "0.0.3"):
        path = wheel(own, "click", version).rename(own / "click-0-py3-none-any.whl")
        path.rename(own / f"click-{version}-py3-none-any.whl")
        done = score(job, requirements(job, f"./own/click-{version}-py3-none-any.whl"))
        assert done.rows[0].startswith(f"{version} ")


def test_a_failure_shows_the_installers_last_lines_and_nothing_is_tried(job: Workbench, cache: Path) -> None:
    before = made(cache)
    done = score(job, requirements(job, "there-is-no-such-package==1.2.3"))
    assert done.code == 1
    assert "No matching distribution found for there-is-no-such-package==1.2.3" in done.stderr
    assert "environment " in done.stderr
    assert "cannot be made" in done.stderr
    assert not (done.output / "logs").exists()
    assert made(cache) == before


def test_each_node_says_the_same_once(job: Workbench, cluster: Site) -> None:
    """Also where the driver was not asked to make it."""
    wanted = requirements(job, "there-is-no-such-package==4.5.6")
    for preflight in ("yes", "no"):
        done = score(job, wanted, "--cluster", str(cluster.scheduler_file), "--set", f"preflight={preflight}")
        assert done.code == 1
        assert done.stderr.count("No matching distribution found for there-is-no-such-package==4.5.6") == 1
        assert "(on one, two)" in done.stderr
        assert done.report["status"] == "Failed"
        assert done.report["mini_batches"]["failed"] == 0
        assert not list((done.output / "logs/user/stdout").rglob("*.txt"))


def test_workers_of_a_cluster_make_it_themselves(job: Workbench, cluster: Site, cache: Path, wheels: Path) -> None:
    before = made(cache)
    wanted = requirements(job, f"--find-links {wheels}", "click", "--prefer-binary")
    done = score(job, wanted, "--cluster", str(cluster.scheduler_file), "--set", "preflight=no")
    assert done.code == 0, done.stderr
    assert len(made(cache) - before) == 1
    assert "is made on the nodes that do not have it" in done.stderr
    assert {row.split()[0] for row in done.rows} == {"0.0.1"}


def test_a_python_by_its_path(job: Workbench, wheels: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", own], check=True)
    packages = next(own.glob("lib/python*/site-packages"))
    (packages / "click.py").write_text("__version__ = 'mine'\n")
    done = score(job, own / "bin" / "python")
    assert done.code == 0, done.stderr
    assert done.rows == [f"mine [] True {own}"] * 2


def test_current_is_the_workers_own(job: Workbench) -> None:
    done = score(job, "current")
    assert done.rows[0].startswith(f"{CLICK} ['pandas', 'dask', 'yaml'] ")


def test_a_path_without_a_python_is_refused(job: Workbench) -> None:
    (job.folder / "nothing").write_text("")
    done = score(job, job.folder / "nothing")
    assert done.code == 2
    assert "nothing is no Python that can be run" in done.stderr
    done = score(job, job.folder / "missing")
    assert done.code == 1
    assert "missing cannot be run: No such file or directory" in done.stderr


def test_the_script_is_imported_in_its_environment_before_anything_starts(job: Workbench) -> None:
    job.script("import pandas\n\ndef run(mini_batch):\n    return mini_batch\n")
    done = score(job, requirements(job))
    assert done.code == 2
    assert "No module named 'pandas'" in done.stderr


def test_records_need_pandas_and_the_run_says_so_before_it_starts(job: Workbench) -> None:
    job.script("def run(mini_batch):\n    return [1] * len(mini_batch)\n")
    (job.folder / "table.csv").write_text("a\n1\n")
    words = ("--input", f"{{path: {job.folder}/table.csv, type: tabular}}", "--mini-batch-size", "1MB")
    shutil.rmtree(job.folder / "in")
    done = score(job, requirements(job), *words)
    assert done.code == 1
    assert "mini-batches of records need pandas and pyarrow, and it has no pandas and no pyarrow" in done.stderr


@pytest.fixture
def no_conda(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONDA_EXE", "MAMBA_EXE"):
        monkeypatch.delenv(name, raising=False)
    if any(map(shutil.which, ("micromamba", "mamba", "conda"))):
        pytest.skip("this machine has conda")


@pytest.mark.usefixtures("no_conda")
def test_a_conda_file_without_conda(job: Workbench, wheels: Path) -> None:
    python = f"python={sys.version_info.major}.{sys.version_info.minor}"
    done = score(job, conda_file(job, python, "pip", "click>=0.0.1", {"pip": [f"--find-links {wheels}", "click"]}))
    assert done.code == 0, done.stderr
    assert done.rows[0].startswith("0.0.1 [] True ")
    assert "was made without conda: its conda packages click>=0.0.1 came from pip" in done.stderr
    assert "its channels conda-forge were not asked" in done.stderr


@pytest.mark.usefixtures("no_conda")
def test_packages_that_only_conda_has_are_named(job: Workbench, wheels: Path) -> None:
    done = score(job, conda_file(job, "python", "cudatoolkit=11", "click=7", {"pip": [f"-f {wheels}", "click"]}))
    assert done.code == 1
    assert "cudatoolkit=11, click=7 are packages of conda, and this machine has none of micromamba" in done.stderr


def test_a_python_that_is_too_old_is_refused_with_the_way_out(job: Workbench) -> None:
    done = score(job, conda_file(job, "python=3.8", "pip"))
    assert done.code == 2
    assert "asks for Python 3.8, and scorers need 3.11 or later" in done.stderr
    assert "--environment current" in done.stderr


def test_conda_makes_it_where_there_is_one(job: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in, which keeps what it was asked and makes a virtual environment."""
    tools = job.folder / "tools"
    tools.mkdir()
    tool = tools / "micromamba"
    tool.write_text(
        f'#!/bin/sh\necho "$@" > {tools}/words\nwhile [ $# -gt 0 ]; do\n'
        f'  case $1 in --prefix) prefix=$2;; --file) cp "$2" {tools}/file.yml;; esac; shift\ndone\n'
        f'{sys.executable} -m venv --without-pip "$prefix"\n'
        "echo '__version__ = \"conda\"' > $(echo $prefix/lib/python*/site-packages)/click.py\n"
    )
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
    done = score(job, conda_file(job, "python>=3.11", "cudatoolkit=11", {"pip": ["nobody-reads-this"]}))
    assert done.code == 0, done.stderr
    assert done.rows[0].startswith("conda [] True ")
    assert (tools / "words").read_text().startswith("create --yes --quiet --prefix ")
    asked = (tools / "file.yml").read_text()
    assert "- conda-forge" in asked
    assert "- python>=3.11" in asked
    assert "- cudatoolkit=11" in asked


def test_an_azure_job_with_a_conda_file_runs_in_it(job: Workbench, wheels: Path) -> None:
    conda_file(job, "python", {"pip": [f"--find-links {wheels}", "click"]})
    (job.folder / "deployment.yml").write_text(
        "name: dep\ntype: model\nmodel: {name: m, path: in}\nenvironment: {image: i, conda_file: ./conda.yml}\n"
        "code_configuration: {code: ., scoring_script: score.py}\nsettings: {max_concurrency_per_instance: 1}\n"
    )
    words = ("run", job.folder / "deployment.yml", "--input", job.folder / "in", "--output", job.output)
    done = job.daskscore(*words)
    assert done.code == 0, done.stderr
    assert (job.output / "predictions.csv").read_text().startswith("0.0.1 ")
    assert "the packages are used, and not its image" in done.stderr
    again = job.daskscore(*words, "--overwrite", "--environment", "current")
    assert (again.code, CLICK in (job.output / "predictions.csv").read_text()) == (0, True)


def test_what_is_kept_is_listed_and_removed(job: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASKSCORE_CACHE", str(tmp_path / "own cache"))
    assert job.daskscore("env", "list").stdout.count("nothing") == 2
    wanted = requirements(job)
    job.script("def run(mini_batch):\n    return mini_batch\n")
    assert score(job, wanted).code == 0
    (line,) = [line for line in job.daskscore("env", "list").stdout.splitlines() if "made with" in line]
    assert str(wanted) in line
    assert job.daskscore("env", "prune").stdout == "nothing was removed\n"
    assert job.daskscore("env", "prune", "--unused-days", "0").stdout.startswith("removed ")
    assert [path for path in (tmp_path / "own cache").rglob("*") if path.is_file()] == []
