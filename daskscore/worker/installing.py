"""How an environment is made: with uv or pip in a virtual environment, or by conda, mamba or micromamba."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daskscore.errors import InputError
from daskscore.worker.cache import LOOK_SECONDS, Note, Stopped
from daskscore.worker.environments import NOT_INHERITED, OLDEST_PYTHON, Recipe
from daskscore.worker.nursery import ROOM

LAST_LINES = 15
CHECK_SECONDS = 60.0
CONDA_TOOLS = ("micromamba", "mamba", "conda")
NEWEST_MINOR = 20
"""Pythons 3.11 to 3.20 are looked for on the path."""

KEEPER = """
import os, signal, subprocess, sys, threading
def end_with_worker():
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=end_with_worker, daemon=True).start()
code = subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL)
os._exit(code if code >= 0 else 128 - code)
"""
"""Runs an installer that ends with the worker, however that ended: then its standard input closes."""

CHECK = f"""{ROOM}
import sys
print(*sys.version_info[:3])
if sys.version_info >= {OLDEST_PYTHON}:
    import importlib.util
    import daskscore.scorer.__main__
    print(*(name for name in sys.argv[1:] if importlib.util.find_spec(name) is None))
"""
INSTALLED = """
import importlib.metadata, json
print(json.dumps([[found.metadata["Name"], found.version] for found in importlib.metadata.distributions()]))
"""


@dataclass(frozen=True, slots=True)
class _Build:
    """One environment that is being made."""

    recipe: Recipe
    place: Path
    lock: int
    stopping: Callable[[], bool]
    deadline: float
    variables: Mapping[str, str]

    @property
    def files(self) -> Path:
        """Beside the place, as what makes an environment wants to make its folder itself."""
        return self.place.with_name(f"{self.place.name}.files")

    @property
    def log(self) -> Path:
        return self.place.with_name(f"{self.place.name}.log")

    def step(self, words: Sequence[str], variables: Mapping[str, str] | None = None) -> None:
        """Run a command to its end; raises InputError with its last lines."""
        start = self.log.stat().st_size
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-I", "-c", KEEPER, *words],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.recipe.folder if os.path.isdir(self.recipe.folder) else self.files,
                env={**self.variables, **(variables or {})},
                pass_fds=[self.lock],
                start_new_session=True,
            )
        assert process.stdin is not None
        with process, process.stdin:
            while (code := _ended(process)) is None:
                if self.stopping() or time.monotonic() > self.deadline:
                    process.stdin.close()
                    process.wait()
                    if self.stopping():
                        raise Stopped
                    raise InputError(self._words("took too long, and was ended", words, start))
        if code:
            raise InputError(self._words(f"ended with code {code}", words, start))

    def _words(self, how: str, words: Sequence[str], start: int) -> str:
        with self.log.open("rb") as log:
            log.seek(start)
            lines = [line.rstrip() for line in log.read().decode(errors="replace").splitlines()]
        last = [line for line in lines if line and not line.startswith("[notice]")][-LAST_LINES:]
        # A word may be an index with a password.
        command = " ".join(shlex.quote(os.path.basename(word)) for word in words[:4] if "://" not in word)
        text = "\n".join(f"  {_masked(line)}" for line in last)
        return f"environment {self.recipe.shown} cannot be made: {command} … {how}:\n{text}"


def build(recipe: Recipe, place: Path, lock: int, stopping: Callable[[], bool], deadline: float) -> Note:
    """Make it at the place; raises InputError."""
    variables = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    variables |= {"PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONUNBUFFERED": "1"}
    making = _Build(recipe, place, lock, stopping, deadline, variables)
    shutil.rmtree(making.files, ignore_errors=True)
    try:
        making.files.mkdir(mode=0o700)
        making.log.write_bytes(b"")
        main = _write_requirements(recipe, making.files)
        if recipe.of_conda and (tool := _conda()) is not None:
            _make_with_conda(making, tool, main)
            made: Note = {"with": Path(tool).name}
        else:
            made = _make_with_pip(making, main)
    finally:
        shutil.rmtree(making.files, ignore_errors=True)
    making.log.unlink(missing_ok=True)
    return made


def check(python: str, recipe: Recipe, shown: str) -> None:
    """A scorer runs in this Python; raises InputError."""
    try:
        done = subprocess.run(
            [python, "-c", CHECK, *recipe.needs],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CHECK_SECONDS,
            env={name: value for name, value in os.environ.items() if name not in NOT_INHERITED},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        why = error.strerror if isinstance(error, OSError) else f"gave no answer within {CHECK_SECONDS:g} s"
        raise InputError(f"environment {shown}: {python} cannot be run: {why}. Check the path") from None
    lines = done.stdout.splitlines()
    version = tuple(map(int, lines[0].split())) if lines and re.fullmatch(r"\d+ \d+ \d+", lines[0]) else None
    if version is not None and version < OLDEST_PYTHON:
        raise InputError(
            f"environment {shown}: its Python is {version[0]}.{version[1]}, and scorers need {_oldest()} or later. Choose one"
        )
    if done.returncode or len(lines) < 2:
        last = "\n".join(f"  {line}" for line in done.stderr.splitlines()[-LAST_LINES:])
        raise InputError(f"environment {shown}: no scorer can run in {python}:\n{last}")
    if missing := lines[1].split():
        raise InputError(
            f"environment {shown}: mini-batches of records need {' and '.join(recipe.needs)}, and it has no "
            f"{' and no '.join(missing)}. Add what is missing"
        )


def _make_with_pip(making: _Build, main: Path) -> Note:
    recipe = making.recipe
    uv = shutil.which("uv")
    options = _options_for_uv() if uv is not None else None
    base = _base_python(recipe.wanted_python)
    if base is None and uv is None:
        raise InputError(
            f"environment {recipe.shown}: it asks for python{recipe.wanted_python}, and this machine has no such one (the "
            f"worker's is {platform_version()}). Install it, or one of {', '.join(CONDA_TOOLS)} or uv, or ask for another"
        )
    python = str(making.place / "bin" / "python")
    if uv is not None and options is not None:
        wanted = base or recipe.wanted_python.strip("=*. ")
        making.step([uv, "venv", "--quiet", "--python", wanted, str(making.place)])
        if main.stat().st_size:
            words = [uv, "pip", "install", "--python", python, *options.words, "-r", str(main)]
            making.step(words, options.variables)
        how = "uv"
    elif base is None:
        raise InputError(
            f"environment {recipe.shown}: python{recipe.wanted_python} is not on this machine, and uv is not asked for it, "
            "as it cannot keep all of pip's settings. Install it"
        )
    else:
        lends = _pip_can_install_elsewhere()  # to give each environment a pip of its own takes some seconds
        making.step([base, "-m", "venv", *(["--without-pip"] if lends else []), str(making.place)])
        own = Path(sys.prefix) / "pip.conf"
        if own.is_file():  # pip's own configuration of the worker's environment
            shutil.copy(own, making.place / "pip.conf")
        if main.stat().st_size:
            pip = [sys.executable, "-m", "pip", "--python", python] if lends else [python, "-m", "pip"]
            making.step([*pip, "install", "-r", str(main)])
        how = "pip"
    notes = _check_conda_packages(recipe, python) if recipe.of_conda else []
    return {"with": how, "notes": notes}


def _pip_can_install_elsewhere() -> bool:
    try:
        version = importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError:
        return False
    return tuple(map(int, version.split(".")[:2])) >= (22, 3)


def platform_version() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def _make_with_conda(making: _Build, tool: str, main: Path) -> None:
    import yaml

    recipe = making.recipe
    python = recipe.wanted_python or f"={sys.version_info.major}.{sys.version_info.minor}"
    dependencies: list[Any] = [f"python{python}", *recipe.conda, "pip"]
    if main.stat().st_size:
        dependencies.append({"pip": [f"-r {main}"]})
    file = making.files / "environment.yml"
    file.write_text(yaml.safe_dump({"channels": list(recipe.channels), "dependencies": dependencies}))
    if Path(tool).name == "micromamba":
        words = [tool, "create", "--yes", "--quiet", "--prefix", str(making.place), "--file", str(file)]
    else:
        words = [tool, "env", "create", "--quiet", "--prefix", str(making.place), "--file", str(file)]
    making.step(words)


def _conda() -> str | None:
    for name in CONDA_TOOLS:
        if found := shutil.which(name):
            return found
    named = os.environ.get("MAMBA_EXE") or os.environ.get("CONDA_EXE")
    return named if named and os.access(named, os.X_OK) else None


def _check_conda_packages(recipe: Recipe, python: str) -> list[str]:
    """Without conda, its packages may have come from pip all the same; raises InputError for those that have not."""
    notes = []
    installed = _installed(python)
    missing = [package for package in recipe.conda if not _is_installed(package, installed)]
    if missing:
        raise InputError(
            f"environment {recipe.shown}: {', '.join(missing)} are packages of conda, and this machine has none of "
            f"{', '.join(CONDA_TOOLS)}. Install one of these, or name the packages in its pip section"
        )
    if recipe.conda:
        notes.append(f"its conda packages {', '.join(recipe.conda)} came from pip")
    if recipe.channels:
        notes.append(f"its channels {', '.join(recipe.channels)} were not asked")
    if notes:
        return [f"environment {recipe.shown} was made without conda: {', and '.join(notes)}"]
    return []


def _installed(python: str) -> dict[str, str]:
    done = subprocess.run([python, "-I", "-c", INSTALLED], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return {_normal(name): version for name, version in json.loads(done.stdout)}


def _is_installed(package: str, installed: Mapping[str, str]) -> bool:
    name, version = split_package(package)
    found = installed.get(_normal(name))
    return found is not None and satisfies(found, version)


def split_package(package: str) -> tuple[str, str]:
    """A package as conda writes it: its name, and what it says of the version."""
    match = re.match(r"\s*(?:[^\s:]+::)?([\w.-]+)\s*(.*?)\s*$", package)
    return (match[1], match[2]) if match else (package, "")


def satisfies(version: str, wanted: str) -> bool:
    """What conda means with `=1.2`, `==1.2.3`, `1.2.*`, `>=1,<2`, with or without a build."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    wanted = wanted.strip()
    if match := re.fullmatch(r"(==?)?\s*(\d[\w.]*?)(\.?\*)?(?:=[\w.*]+|\s+[\w.*]+)?", wanted):
        fuzzy = match[1] == "=" or match[3]
        wanted = f"=={match[2].rstrip('.')}{'.*' if fuzzy else ''}"
    try:
        return SpecifierSet(wanted).contains(version, prereleases=True)
    except InvalidSpecifier:
        return False


def _base_python(wanted: str) -> str | None:
    """An interpreter of this machine that has the version, the worker's own before others."""
    if not wanted or satisfies(platform_version(), wanted):
        return sys.executable
    for minor in range(OLDEST_PYTHON[1], NEWEST_MINOR):
        python = shutil.which(f"python3.{minor}")
        if python and satisfies(_version_of(python), wanted):
            return python
    return None


def _version_of(python: str) -> str:
    """`0` for one that does not run, like the stand-ins of version managers."""
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [python, "-c", "import platform; print(platform.python_version())"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CHECK_SECONDS,
        )
        if done.returncode == 0:
            return done.stdout.strip()
    return "0"


def _write_requirements(recipe: Recipe, folder: Path) -> Path:
    paths = [folder / f"requirements-{number}.txt" for number in range(max(1, len(recipe.requirements)))]
    for path, text in zip(paths, recipe.requirements or ("",), strict=True):
        path.write_text(
            re.sub(r"^(-[rc] )\{(\d+)\}$", lambda found: f"{found[1]}{paths[int(found[2])]}", text, flags=re.M)
        )
    return paths[0]


@dataclass(frozen=True, slots=True)
class _Options:
    """What uv is told of pip's configuration."""

    words: tuple[str, ...]
    variables: Mapping[str, str]


FOR_UV = {
    "index-url": "--index-url",
    "extra-index-url": "--extra-index-url",
    "find-links": "--find-links",
    "trusted-host": "--allow-insecure-host",
}
OF_NO_WEIGHT: tuple[str, ...] = (
    "cert",
    "timeout",
    "default-timeout",
    "retries",
    "disable-pip-version-check",
    "no-input",
    "no-cache-dir",
)
OF_NO_WEIGHT += (
    "config-file",
    "cache-dir",
    "quiet",
    "verbose",
    "root-user-action",
    "break-system-packages",
    "progress-bar",
)


def _options_for_uv() -> _Options | None:
    """The index that pip is configured for; None where uv cannot be told all of it."""
    found = dict(_pip_configuration())
    words = ["--index-strategy", "unsafe-best-match"]  # as pip does it
    for name, value in found.items():
        if name in FOR_UV:
            words += [word for one in value.split() for word in (FOR_UV[name], one)]
        elif name == "no-index" and value.lower() in ("1", "true", "yes", "on"):
            words.append("--no-index")
        elif name not in OF_NO_WEIGHT:
            return None
    variables = {"SSL_CERT_FILE": found["cert"]} if "cert" in found else {}
    return _Options(tuple(words), variables)


def _pip_configuration() -> Iterator[tuple[str, str]]:
    """Of `pip install`: what the files say, then the environment."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    for section in ("global", "install", ":env:"):
        for line in lines:
            key, _, value = line.partition("=")
            if key.startswith(f"{section}."):
                yield key.removeprefix(f"{section}."), value[1:-1].replace("\\n", " ")
    if done.returncode:  # without pip, its variables are known all the same
        for name, value in os.environ.items():
            if name.startswith("PIP_"):
                yield name.removeprefix("PIP_").lower().replace("_", "-"), value


def _ended(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(LOOK_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def _masked(line: str) -> str:
    return re.sub(r"://[^/\s@]+@", "://****@", line)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _oldest() -> str:
    return ".".join(map(str, OLDEST_PYTHON))
