from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daskscore import config
from daskscore.driver.environments import recipe
from daskscore.errors import ConfigError, InputError
from daskscore.worker import installing
from daskscore.worker.environments import Interpreter, Recipe, make
from daskscore.worker.installing import satisfies, split_package
from tests.support import nothing_left_of, processes_with, wait_until
from tests.wheels import wheel

SLOW_TOOL = "#!/bin/sh\necho begun > $0.begun\nsleep 300\n"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DASKSCORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def read(folder: Path, name: str, text: str) -> Recipe:
    (folder / name).write_text(text)
    (folder / "score.py").write_text("")
    job = config.load(
        None, {"entry_script": folder / "score.py", "inputs": ".", "output": "out", "environment": folder / name}
    )
    found = recipe(job)
    assert found is not None
    return found


def never() -> bool:
    return False


def test_paths_in_requirements_start_at_their_own_file(tmp_path: Path) -> None:
    wheel(tmp_path / "deep", "tiny", "1.0")
    (tmp_path / "deep" / "more.txt").write_text("./tiny-1.0-py3-none-any.whl ; python_version > '3'\nother>=2  # why\n")
    found = read(
        tmp_path, "r.txt", "--index-url https://a/simple\n-r deep/more.txt\n--find-links=deep\nname @ https://a/b.whl\n"
    )
    assert found.requirements == (
        f"--index-url https://a/simple\n-r {{1}}\n--find-links {tmp_path}/deep\nname @ https://a/b.whl\n",
        f"{tmp_path}/deep/tiny-1.0-py3-none-any.whl ; python_version > '3'\nother>=2\n",
    )


def test_what_an_environment_is_made_of_is_what_it_is_called_by(tmp_path: Path) -> None:
    path = wheel(tmp_path, "tiny", "1.0")
    text = "./tiny-1.0-py3-none-any.whl\n"
    first = read(tmp_path, "r.txt", text)
    assert read(tmp_path, "renamed.txt", f"# the same\n{text}").digest == first.digest
    path.write_bytes(path.read_bytes() + b"\0")
    assert read(tmp_path, "r.txt", text).digest != first.digest


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("r.txt", "-r missing.txt\n", r"missing\.txt, which .*r\.txt names, cannot be read: No such file"),
        ("c.yml", "dependencies: {", r"c\.yml is no YAML"),
        ("c.yml", "name: x", r"c\.yml has no list of dependencies"),
        ("c.yml", "dependencies: [{conda: [a]}]", r"is no package"),
        ("c.yml", "dependencies: [python=3.8.2]", r"asks for Python 3\.8, and scorers need 3\.11 or later"),
    ],
)
def test_what_cannot_be_read_is_refused_before_any_work(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(tmp_path, name, text)


def test_a_conda_file_is_read_as_conda_reads_it(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("click\n")
    found = read(
        tmp_path,
        "c.yml",
        "name: x\nchannels: [conda-forge, defaults]\nvariables: {A: 1}\ndependencies:\n"
        "- python=3.12\n- pip>=20\n- conda-forge::numpy=1.26\n- pip: [requests, -r more.txt]\n",
    )
    assert (found.wanted_python, found.conda, found.channels) == (
        "=3.12",
        ("conda-forge::numpy=1.26",),
        ("conda-forge", "defaults"),
    )
    assert found.requirements == ("requests\n-r {1}\n", "click\n")
    assert found.variables == {"A": "1"}


@pytest.mark.parametrize(
    ("wanted", "version", "fits"),
    [
        ("=1.2", "1.2.9", True),
        ("=1.2", "1.20", False),
        ("1.2.*", "1.2.3", True),
        ("==1.2.3", "1.2.3", True),
        ("1.2.3", "1.2.4", False),
        ("=1.2.3=py311_0", "1.2.3", True),
        (">=1,<2", "1.9", True),
        (">=1,<2", "2.0", False),
        ("", "7", True),
        ("1.2|1.3", "1.2", False),
    ],
)
def test_versions_as_conda_writes_them(wanted: str, version: str, fits: bool) -> None:
    assert satisfies(version, wanted) is fits


def test_a_package_of_a_channel_has_its_name() -> None:
    assert split_package("conda-forge::py-Torch >=2") == ("py-Torch", ">=2")


def test_an_environment_looks_activated_and_hides_the_workers(tmp_path: Path) -> None:
    found = Interpreter(str(tmp_path / "bin" / "python"), str(tmp_path), {"OF_THE_FILE": "1"})
    inherited = {"PATH": "/bin", "PYTHONPATH": "/worker", "PYTHONHOME": "/x", "VIRTUAL_ENV": "/worker", "LANG": "C"}
    assert found.environment(inherited) == {
        "PATH": f"{tmp_path}/bin:/bin",
        "LANG": "C",
        "VIRTUAL_ENV": str(tmp_path),
        "OF_THE_FILE": "1",
    }


def test_a_node_tries_once_in_a_run_and_again_in_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Recipe] = []

    def fail(recipe: Recipe, *_: Any) -> None:
        tried.append(recipe)
        raise InputError(f"for the {len(tried)}. time")

    monkeypatch.setattr(installing, "build", fail)
    for run, said in (("a", "1"), ("a", "1"), ("b", "2")):
        with pytest.raises(InputError, match=f"for the {said}. time"):
            make(Recipe("r.txt", requirements=("x\n",)), run, never)


def test_passwords_in_what_an_installer_says_are_masked(tmp_path: Path) -> None:
    text = "--no-index\n--find-links https://user:secret@localhost:1/x\nthere-is-no-such-package\n"
    with pytest.raises(InputError) as failure:
        make(read(tmp_path, "r.txt", text), "run", never)
    assert "there-is-no-such-package" in str(failure.value)
    assert "secret" not in str(failure.value)


@pytest.fixture
def slow_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A conda that never comes to its end."""
    (tmp_path / "tools").mkdir()
    tool = tmp_path / "tools" / "micromamba"
    tool.write_text(SLOW_TOOL)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "tools"), prepend=os.pathsep)
    return tool


def test_an_installer_ends_with_the_run(tmp_path: Path, slow_tool: Path, tmp_path_factory: Any) -> None:
    begun = slow_tool.with_suffix(".begun")
    with nothing_left_of(tmp_path_factory.mktemp("scratch")), pytest.raises(installing.Stopped):
        make(Recipe("c.yml", of_conda=True), "run", begun.exists)


def test_an_installer_ends_at_its_deadline(
    tmp_path: Path, slow_tool: Path, tmp_path_factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daskscore.worker.environments.BUILD_SECONDS", 0.5)
    with (
        nothing_left_of(tmp_path_factory.mktemp("scratch")),
        pytest.raises(InputError, match=r"micromamba create .* took too long, and was ended"),
    ):
        make(Recipe("c.yml", of_conda=True), "run", never)


def test_an_installer_ends_with_a_worker_that_was_killed(slow_tool: Path, tmp_path_factory: Any) -> None:
    code = "from daskscore.worker.environments import *\nmake(Recipe('c.yml', of_conda=True), 'run', lambda: False)"
    with (
        nothing_left_of(tmp_path_factory.mktemp("scratch")) as mark,
        subprocess.Popen([sys.executable, "-c", code]) as worker,
    ):
        wait_until(slow_tool.with_suffix(".begun").exists, "the installer")
        assert len(processes_with(mark)) >= 3
        worker.send_signal(signal.SIGKILL)


@pytest.mark.skipif("DASKSCORE_TEST_UV" not in os.environ, reason="set DASKSCORE_TEST_UV to the folder of a uv")
def test_uv_is_asked_for_the_same_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("PATH", os.environ["DASKSCORE_TEST_UV"], prepend=os.pathsep)
    wheel(tmp_path / "wheels", "tiny", "1.0")
    (tmp_path / "pip.conf").write_text(f"[global]\nno-index = true\nfind-links = {tmp_path}/wheels\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    found, held = make(read(tmp_path, "r.txt", "tiny\n"), "run", never)
    assert held is not None
    assert held.note["with"] == "uv"
    held.close()
    printed = subprocess.run(
        [found.python, "-c", "import tiny; print(tiny.__version__)"], capture_output=True, text=True
    )
    assert printed.stdout == "1.0\n"


def test_a_setting_of_pip_that_uv_does_not_have_is_for_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("[install]\nconstraint = c.txt\n[global]\nindex-url = https://a/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    assert installing._options_for_uv() is None
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = https://a/simple\ntrusted-host = a b\n")
    options = installing._options_for_uv()
    assert options is not None
    assert " ".join(options.words).count("--index-url https://a/simple") == 1
    assert "--allow-insecure-host a --allow-insecure-host b" in " ".join(options.words)


def test_an_environment_that_is_gone_is_made_anew(tmp_path: Path) -> None:
    found, held = make(Recipe("r.txt"), "run", never)
    assert held is not None
    held.close()
    (held.path.with_name(f"{held.path.name}.json")).unlink()
    again, held = make(replace(Recipe("r.txt"), shown="other"), "run", never)
    assert (again.python, os.path.exists(again.python)) == (found.python, True)
    assert held is not None
    held.close()
