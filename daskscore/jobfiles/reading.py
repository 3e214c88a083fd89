"""A mapping of a job file, and where it stands: typed values, and errors that name file and key."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from daskscore.errors import ConfigError
from daskscore.job_file import read_job_file
from daskscore.jobfiles.expressions import NoMeaning
from daskscore.jobfiles.interface import Ignored

MOST_SECONDS = 259_200
URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
"""At least two letters before the colon: one is a drive of Windows."""

ABOUT = ("name", "display_name", "description", "tags", "experiment_name", "version", "is_deterministic")
"""Words for people; they are kept beside the settings."""


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping of a job file, above another one that it replaces key by key (a step above its component)."""

    values: Mapping[str, Any]
    source: str
    """The file, as the user named it."""
    folder: Path
    """What the paths in it are relative to."""
    trail: tuple[str, ...] = ()
    below: Section | None = None
    resolve: Callable[[str], Any] | None = None
    """What a text with `${{…}}` in it stands for; raises NoMeaning."""

    def home(self, key: str) -> Section:
        """The section that gives the key: this one, or one below."""
        if self.values.get(key) is None and self.below is not None and self.below.has(key):
            return self.below.home(key)
        return self

    def has(self, key: str) -> bool:
        """A key without a value is not given."""
        return self.values.get(key) is not None or (self.below is not None and self.below.has(key))

    def raw(self, key: str) -> Any:
        """As written, with its `${{…}}`."""
        return self.home(key).values.get(key)

    def get(self, key: str) -> Any:
        value = self.raw(key)
        if not isinstance(value, str) or self.resolve is None:
            return value
        try:
            return self.resolve(value)
        except NoMeaning as error:
            raise self.wrong(key, str(error)) from None

    def names(self) -> list[str]:
        """All keys, also those without a value, in the order of the file below."""
        lower = self.below.names() if self.below is not None else []
        return list(dict.fromkeys([*lower, *map(str, self.values)]))

    def section(self, key: str) -> Section:
        """The mapping under a key; an empty one where it is not given."""
        own = self.values.get(key)
        if own is not None and not isinstance(own, Mapping):
            raise self.wrong(key, f"is {shown(own)}. Write a mapping, with one name: value per line")
        below = self.below.section(key) if self.below is not None else None
        named = {str(name): value for name, value in (own or {}).items()}
        return replace(self, values=named, trail=(*self.trail, key), below=below)

    def text(self, key: str) -> str | None:
        value = self.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (str, int, float)) or value == "":
            raise self.wrong(key, f"is {shown(value)}. Write a text")
        return str(value)

    def whole(self, key: str, *, least: int) -> int | None:
        """A whole number, also as a text."""
        value = self.get(key)
        if value is None:
            return None
        number = whole(value)
        if number is None or number < least:
            raise self.wrong(key, f"is {shown(value)}. Write a whole number, at least {least}")
        return number

    def seconds(self, key: str) -> int | float | None:
        value = self.get(key)
        if value is None:
            return None
        number = scalar(value) if isinstance(value, str) else value
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 < number <= MOST_SECONDS:
            raise self.wrong(key, f"is {shown(value)}. Write seconds, more than 0 and at most {MOST_SECONDS}")
        return number

    def path(self, key: str) -> str | None:
        """A path made absolute from the folder of the file that names it, or a URI as it is."""
        value = self.text(key)
        return None if value is None else located(value, self.home(key).folder)

    def wrong(self, key: str, what: str) -> ConfigError:
        home = self.home(key)
        return ConfigError(f"{home.source}: {'.'.join((*home.trail, key))}: {what}")

    def name_of(self, key: str) -> str:
        return ".".join((*self.trail, key))

    def unknown(self, known: Iterable[str]) -> list[Ignored]:
        """Keys that nobody knows: an error where one is near to a known key, else to be named in the warning."""
        known = list(known)
        found = [key for key in self.values if key not in known]
        for key in found:
            if near := nearest(key, known):
                raise self.wrong(key, f"there is no such key. Did you mean {near}?")
        lower = self.below.unknown(known) if self.below is not None else []
        return [*(Ignored(self.name_of(key), "there is no such key") for key in found), *lower]

    def about(self) -> dict[str, Any]:
        return {key: self.raw(key) for key in ABOUT if self.has(key)}


def load(path: Path, shown_as: str | None = None) -> Section:
    """A YAML file, with its own folder as the base of its paths."""
    return Section(read_job_file(path), shown_as or str(path), path.absolute().parent)


def located(text: str, folder: Path) -> str:
    """A local path made absolute; a URI, or a registered name like azureml:data:1, as it is."""
    local = text.removeprefix("file://").removeprefix("file:")
    if local == text and URI.match(text):
        return text
    return os.path.abspath(os.path.join(folder, os.path.expanduser(local)))


def is_remote(path: str) -> bool:
    return not os.path.isabs(path)


def nearest(word: str, known: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(word, list(known), n=1)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of an error about a name that is not there."""
    names = list(known)
    if near := nearest(word, names):
        return f"Did you mean {near}?"
    return f"There are: {', '.join(names)}" if names else "There are none"


def whole(value: object) -> int | None:
    """A whole number, or one as a text."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value.strip()):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def scalar(text: str) -> int | float | bool | str:
    """The number or truth value that a word of a command line means, or the word itself."""
    number = whole(text)
    if number is not None:
        return number
    if text.strip().lower() in ("true", "false"):
        return text.strip().lower() == "true"
    try:
        fraction = float(text)
    except ValueError:
        return text
    return fraction if math.isfinite(fraction) else text


def shown(value: object) -> str:
    if value is None:
        return "empty"
    text = repr(value)
    return text if len(text) <= 100 else text[:100] + "…"
