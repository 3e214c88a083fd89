"""The environment that a job names, read before any work starts: from it each node makes the same."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from daskscore.config import JobConfig
from daskscore.errors import ConfigError
from daskscore.worker.environments import OLDEST_PYTHON, Recipe
from daskscore.worker.installing import split_package

READ_BYTES = 1 << 20
ARCHIVES = (".whl", ".tar.gz", ".zip", ".tar.bz2")
NESTED = {"-r": "-r", "--requirement": "-r", "-c": "-c", "--constraint": "-c"}
OF_CONDA_ITSELF = ("python", "pip")
TABLE_PACKAGES = ("pandas", "pyarrow")


def recipe(config: JobConfig, *, tables: bool = False) -> Recipe | None:
    """None: the scorers run in the worker's own environment. Raises ConfigError."""
    wanted = config.environment
    needs = TABLE_PACKAGES if tables else ()
    if wanted is None:
        return None
    if isinstance(wanted, Mapping):
        found = wanted.get("conda_file", wanted)
        if isinstance(found, Mapping):
            return _conda(found, config.source_directory, "of the job file", needs)
        path = Path(found)
    else:
        path = Path(wanted)
        if path.suffix.lower() not in (".yml", ".yaml", ".txt"):
            return Recipe(str(path), python=str(_python(path)), needs=needs)
    text = _read(path)
    if path.suffix.lower() == ".txt":
        return _requirements(path, text, needs)
    import yaml

    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"environment: {path} is no YAML: {error}") from None
    return _conda(content, path.parent, str(path), needs)


def _python(path: Path) -> Path:
    """It may be there on the workers alone."""
    if path.is_dir() and (path / "bin" / "python").exists():
        return path / "bin" / "python"
    if path.exists() and not (path.is_file() and os.access(path, os.X_OK)):
        raise ConfigError(
            f"environment: {path} is no Python that can be run. Name a conda file (.yml), a requirements file (.txt), a Python "
            "interpreter, or current"
        )
    return path


def _requirements(path: Path, text: str, needs: Sequence[str]) -> Recipe:
    reading = _Reading()
    reading.add(text, path.parent, str(path))
    return Recipe(
        str(path),
        requirements=tuple(reading.texts),
        beside=tuple(reading.beside),
        folder=str(path.parent),
        needs=tuple(needs),
    )


def _conda(content: object, folder: Path, shown: str, needs: Sequence[str]) -> Recipe:
    if not isinstance(content, Mapping) or not isinstance(content.get("dependencies"), list):
        raise ConfigError(
            f"environment: {shown} has no list of dependencies. A conda file looks like "
            "{channels: [conda-forge], dependencies: [python=3.12, pip, {pip: [requests]}]}"
        )
    reading = _Reading()
    packages: list[str] = []
    wanted_python = ""
    lines: list[str] = []
    for one in content["dependencies"]:
        if isinstance(one, Mapping) and isinstance(one.get("pip"), list):
            lines += map(str, one["pip"])
            continue
        if not isinstance(one, str):
            raise ConfigError(
                f"environment: {shown}: {one!r} is no package. Write one like numpy=1.26, or {{pip: […]}}"
            )
        name, version = split_package(one)
        if name == "python":
            wanted_python = version
        elif name not in OF_CONDA_ITSELF:
            packages.append(one.strip())
    _check_python(wanted_python, shown)
    reading.add("\n".join(lines), folder, shown)
    return Recipe(
        shown,
        requirements=tuple(reading.texts),
        conda=tuple(packages),
        channels=tuple(map(str, content.get("channels") or ())),
        wanted_python=wanted_python,
        variables={str(name): str(value) for name, value in (content.get("variables") or {}).items()},
        of_conda=True,
        beside=tuple(reading.beside),
        folder=str(folder),
        needs=tuple(needs),
    )


def _check_python(version: str, shown: str) -> None:
    found = re.match(r"={0,2}\s*(\d+)\.(\d+)", version)
    if found and (int(found[1]), int(found[2])) < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        raise ConfigError(
            f"environment: {shown} asks for Python {found[1]}.{found[2]}, and scorers need {oldest} or later. Ask for a later "
            "one, or say environment: current (--environment current) to run the script in the Python at hand"
        )


@dataclass(slots=True)
class _Reading:
    """Requirements, with the files that they name; paths become absolute, so that they mean the same everywhere."""

    texts: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)
    _numbers: dict[Path, int] = field(default_factory=dict)

    def add(self, text: str, folder: Path, shown: str) -> int:
        number = len(self.texts)
        self.texts.append("")
        self.texts[number] = "".join(f"{line}\n" for line in self._lines(text, folder, shown))
        return number

    def _lines(self, text: str, folder: Path, shown: str) -> Iterator[str]:
        for line in text.splitlines():
            plain = re.sub(r"(^|\s)#.*$", "", line).strip()
            option, value = _option(plain)
            if option in NESTED and "://" not in value:
                yield f"{NESTED[option]} {{{self._nested(folder / value, shown)}}}"
            elif option in ("-f", "--find-links", "-e", "--editable") and "://" not in value:
                yield f"{option} {self._local(f'./{value}' if (folder / value).exists() else value, folder) or value}"
            elif plain and not option and (path := self._local(plain, folder)):
                yield path
            elif plain:
                self._note_file(plain)
                yield plain

    def _nested(self, path: Path, shown: str) -> int:
        path = Path(os.path.abspath(path))
        if path not in self._numbers:
            text = _read(path, f", which {shown} names,")
            self._numbers[path] = len(self.texts)
            self.add(text, path.parent, str(path))
        return self._numbers[path]

    def _local(self, words: str, folder: Path) -> str:
        """A requirement that is a path: absolute, with its markers and extras as they are."""
        name, border, rest = re.sub(r"^file:(?!/)", "", words).partition(" ")
        bare, bracket, extras = name.partition("[")
        path = folder / os.path.expanduser(bare)
        if not (bare.startswith((".", "/", "~")) or bare.endswith(ARCHIVES)) or not path.exists():
            return ""
        self._add_hash(path)
        return f"{os.path.abspath(path)}{bracket}{extras}{border}{rest}"

    def _note_file(self, words: str) -> None:
        if found := re.search(r"file:(?://(?:localhost)?)?(/\S+)", words):
            self._add_hash(Path(found[1].partition("#")[0]))

    def _add_hash(self, path: Path) -> None:
        """Another wheel of the same name is another environment."""
        if path.is_file():
            with path.open("rb") as file:
                self.beside.append(hashlib.file_digest(file, "sha256").hexdigest())
        elif path.is_dir():
            files = sorted(found for found in path.rglob("*") if found.is_file() and "__pycache__" not in found.parts)
            told = [f"{found.relative_to(path)} {found.stat().st_size} {found.stat().st_mtime_ns}" for found in files]
            self.beside.append(hashlib.sha256("\n".join(told).encode(errors="surrogateescape")).hexdigest())


def _option(line: str) -> tuple[str, str]:
    """The option that a line begins with, and what it is given; both empty for a requirement."""
    found = re.match(r"(--[\w-]+|-[a-z])[\s=]*(.*)$", line)
    return (found[1], found[2].strip().strip("\"'")) if found else ("", "")


def _read(path: Path, named: str = "") -> str:
    try:
        with path.open("rb") as file:
            return file.read(READ_BYTES).decode()
    except UnicodeDecodeError:
        raise ConfigError(f"environment: {path}{named} is no text. Name a conda file or a requirements file") from None
    except OSError as error:
        raise ConfigError(f"environment: {path}{named} cannot be read: {error.strerror}. Check the path") from None
