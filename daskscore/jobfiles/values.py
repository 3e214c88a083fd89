"""What an input of a job stands for: data with a path, a literal, or nothing yet."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from daskscore.errors import ConfigError
from daskscore.jobfiles.expressions import NoMeaning, filled, sole
from daskscore.jobfiles.reading import Section, did_you_mean, located, nearest, scalar, shown, whole

LITERALS = ("string", "number", "integer", "boolean")
PORT = re.compile(r"inputs\.[^.]+|jobs\.[^.]+\.(?:inputs|outputs)\.[^.]+")
"""The name of an input or output of a file."""

DATA = ("uri_file", "uri_folder", "mltable", "mlflow_model", "custom_model", "triton_model", "path")


@dataclass(frozen=True, slots=True)
class Data:
    """Files: an absolute path, or a URI."""

    path: str
    type: str | None = None
    mode: str | None = None


@dataclass(frozen=True, slots=True)
class Literal:
    value: str | int | float | bool

    def __str__(self) -> str:
        """As the script finds it in `sys.argv`: True and False with a capital, as the reference writes them."""
        return str(self.value)


@dataclass(frozen=True, slots=True)
class Absent:
    """Declared, and given by nobody."""

    name: str
    optional: bool = False

    def __str__(self) -> str:
        return f"{self.name} has no value. Give it one: --set {self.name}=VALUE"


Value = Data | Literal | Absent
Resolve = Callable[[str], Value]
"""What the name between ${{ and }} stands for; raises NoMeaning for a name that is not there."""


class Bindings:
    """What the caller gives beside the file, like `inputs.data` or `jobs.prepare.outputs.images`; paths are from here."""

    def __init__(self, given: Mapping[str, Any] | None = None, here: Path | None = None) -> None:
        self._given = {_plain(name): value for name, value in (given or {}).items()}
        self._here = here or Path.cwd()

    def find(self, name: str) -> Section | None:
        """The given value, under the last word of its name."""
        *trail, last = name.split(".")
        if self._given.get(name) is None:
            return None
        return Section({last: self._given[name]}, "given value", self._here, tuple(trail))

    @property
    def changes(self) -> dict[str, Any]:
        """What names neither an input nor an output, and so replaces a key of the file."""
        return {name: value for name, value in self._given.items() if PORT.fullmatch(name) is None}

    def check(self, ports: Iterable[str]) -> None:
        """Refuse what is given for an input or output that the file does not have."""
        known = list(ports)
        for name in self._given:
            if name not in known and PORT.fullmatch(name):
                raise ConfigError(f"given value: there is no {name} in the file. {did_you_mean(name, known)}")


def value_of(section: Section, name: str, resolve: Resolve, bindings: Bindings) -> Value:
    """An input: as the caller gives it, as the section has it, or as the component below declares it."""
    binding = section.name_of(name)
    own = section.values.get(name)
    below = section.below.values.get(name) if section.below is not None else None
    if own is None and section.below is not None:
        own, section = below, section.below
    spec = _given_keys(below) | _given_keys(own)
    written = own
    if (given := bindings.find(binding)) is not None:
        section, written, resolve = given, given.values[name], _no_names
        spec |= _given_keys(written)
        if "type" not in spec and ("path" in spec or "mode" in spec):
            spec["type"] = "uri_folder"
    is_path = isinstance(written, os.PathLike) or (isinstance(written, Mapping) and written.get("path") is not None)
    if isinstance(written, Mapping):
        written = written["path"] if is_path else written.get("value")
    if written is None:
        written = spec.get("default")
    if written is None:
        return Absent(binding, optional=spec.get("optional") is True)
    if isinstance(written, os.PathLike):
        written = os.fspath(written)
    if not isinstance(written, (str, int, float, bool)):
        raise section.wrong(name, f"is {shown(written)}. Write a value, or a mapping with a path")
    found = _resolved(section, name, written, resolve) if isinstance(written, str) else Literal(written)
    return _as_declared(section, name, found, spec, is_path=is_path)


def _given_keys(written: object) -> dict[str, Any]:
    """What a declaration says; nothing where the value stands there by itself."""
    if not isinstance(written, Mapping):
        return {}
    return {str(key): value for key, value in written.items() if value is not None}


def _resolved(section: Section, name: str, written: str, resolve: Resolve) -> Value:
    def part(reference: str) -> str:
        match resolve(reference):
            case Absent() as absent:
                raise NoMeaning(str(absent))
            case Data(path=path):
                return path
            case Literal() as literal:
                return str(literal)

    try:
        return resolve(reference) if (reference := sole(written)) is not None else Literal(filled(written, part))
    except NoMeaning as error:
        raise section.wrong(name, f"is {shown(written)}: {error}") from None


def _as_declared(section: Section, name: str, found: Value, spec: Mapping[str, Any], *, is_path: bool) -> Value:
    kind = spec.get("type")
    if isinstance(kind, str):
        kind = kind.lower()
        if kind not in (*LITERALS, *DATA) and (near := nearest(kind, (*LITERALS, *DATA))):
            raise section.wrong(name, f"has the type {kind}, which is none. Did you mean {near}?")
    mode = str(spec["mode"]) if spec.get("mode") is not None else None
    data_type = str(kind) if kind is not None and kind not in LITERALS else None
    match found:
        case Absent():
            return replace(found, optional=found.optional or spec.get("optional") is True)
        case Data():
            return Data(found.path, data_type or found.type, mode or found.mode)
        case Literal(value=value) if is_path or data_type is not None:
            return Data(located(str(value), section.folder), data_type, mode)
        case Literal(value=value):
            return Literal(_checked(section, name, value, kind))


def _checked(section: Section, name: str, value: str | int | float | bool, kind: object) -> str | int | float | bool:
    """A literal of the type that its component declares."""
    read = scalar(value) if isinstance(value, str) else value
    match kind:
        case "integer" if (number := whole(value)) is not None:
            return number
        case "number" if not isinstance(read, (bool, str)):
            return read
        case "boolean" if isinstance(read, bool):
            return read
        case "string":
            return str(value)
        case "integer" | "number" | "boolean":
            raise section.wrong(name, f"is {shown(value)}. Its type is {kind}")
        case _:
            return value


def _no_names(name: str) -> Value:
    raise NoMeaning(f"${{{{{name}}}}} stands for nothing in a given value. Give the value itself")


def _plain(name: str) -> str:
    plain = (sole(name) or name).strip().removeprefix("parent.")
    return plain if "." in plain else f"inputs.{plain}"


def no_parent(reference: str) -> Value:
    raise NoMeaning(f"${{{{{reference}}}}} stands for nothing: this job is in no pipeline. Give the value itself")


def no_parent_output(name: str) -> Mapping[str, Any]:
    raise NoMeaning(f"${{{{parent.outputs.{name}}}}} stands for nothing: this job is in no pipeline. Remove it")
