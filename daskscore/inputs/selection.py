"""Which of the names below an input are meant: hidden ones, globs, `include` and `exclude`; no storage is asked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from glob import has_magic
from typing import Any

from daskscore.errors import InputError

Patterns = str | Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Selection:
    """`include` keeps what one of its patterns fits, `exclude` drops it again.

    A pattern without a slash is compared with the file's name and with that of each folder on the way to it; one with a
    slash with the whole path below the input, where `**` stands for any number of folders.
    """

    include: tuple[re.Pattern[str], ...] = ()
    exclude: tuple[re.Pattern[str], ...] = ()

    @classmethod
    def of(cls, include: Patterns = None, exclude: Patterns = None) -> Selection:
        return cls(_compiled(include), _compiled(exclude))

    def takes(self, path: str, *, visible: bool = False) -> bool:
        """Whether a path below the input is meant; what is hidden is not, unless it is known to be `visible`."""
        if not visible and (path.startswith(".") or "/." in path):
            return False
        if self.include and not any(pattern.search(path) for pattern in self.include):
            return False
        return not any(pattern.search(path) for pattern in self.exclude)


@dataclass(frozen=True, slots=True)
class Glob:
    """A path with wildcards. A folder that it fits stands for all below it, but with `**` files are fitted one by one."""

    start: str
    """What all that fits begins with."""
    pattern: re.Pattern[str]

    @classmethod
    def of(cls, path: str) -> Glob:
        magic = re.search(r"[*?\[]", path)
        start = path[: magic.start()] if magic else path
        deep = "**" in path.split("/")
        below = "" if deep else r"(?:/[^/.][^/]*)*" if not path.endswith("/") else r"(?:[^/.][^/]*)(?:/[^/.][^/]*)*"
        return cls(start, _compile(_expression(path) + below + r"\Z", path))

    def fits(self, path: str) -> bool:
        return self.pattern.match(path) is not None


def is_glob(path: str) -> bool:
    return has_magic(path)


def _compiled(patterns: Patterns) -> tuple[re.Pattern[str], ...]:
    words: Any = [patterns] if isinstance(patterns, str) else patterns or ()
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
        raise InputError(f"include and exclude: {patterns!r} is no pattern. Write one like '*.png', or a list of these")
    return tuple(_compile(_place(word.rstrip("/")), word) for word in words)


def _compile(expression: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(expression, re.DOTALL)
    except re.error as error:
        raise InputError(f"the pattern {pattern} cannot be used: {error.msg}. Check what stands in [ ]") from None


def _place(pattern: str) -> str:
    if "/" in pattern:
        return rf"\A{_expression(pattern.lstrip('/'), hidden=True)}(?:/|\Z)"
    return rf"(?:\A|/){_expression(pattern, hidden=True)}(?:/|\Z)"


def _expression(path: str, *, hidden: bool = False) -> str:
    """A glob as a regular expression; unless `hidden`, a wildcard at a name's beginning fits no dot."""
    no_dot = "" if hidden else r"(?!\.)"
    parts = path.split("/")
    words = []
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**":
            words.append(rf"(?:{no_dot}[^/]+/)*" + (rf"{no_dot}[^/]+" if last else ""))
            continue
        wild = no_dot if part[:1] in ("*", "?", "[") else ""
        words.append(wild + _name(part) + ("" if last else "/"))
    return "".join(words)


def _name(part: str) -> str:
    """A glob without slashes."""
    found = []
    at = 0
    while at < len(part):
        letter = part[at]
        at += 1
        if letter == "*":
            found.append("[^/]*")
        elif letter == "?":
            found.append("[^/]")
        elif letter == "[" and (stop := part.find("]", at + 1 + (part[at : at + 1] == "!"))) > 0:
            negated = part[at] == "!"
            inner = re.sub(r"([\[\]\\^&~|])", r"\\\1", part[at + negated : stop])
            found.append(f"(?!/)[{'^' * negated}{inner}]")
            at = stop + 1
        else:
            found.append(re.escape(letter))
    return "".join(found)
