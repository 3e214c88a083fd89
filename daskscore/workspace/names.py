"""What a name and a version may look like, and which known ones to offer when one is not known."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from daskscore.errors import ConfigError

Kind = Literal["data", "model"]
"""What has versions."""
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}"
MOST_DIGITS = 18
MOST_OFFERED = 10


def check_name(what: str, name: str) -> None:
    if not re.fullmatch(NAME, name):
        raise ConfigError(
            f"{what} {name!r} is no usable name. Write up to 255 letters, digits, '.', '_' and '-', "
            f"with a letter or a digit first"
        )


def check_version(version: str) -> None:
    check_name("version", version)
    if version == "latest":
        raise ConfigError("version 'latest' is taken: @latest is the version that was registered last. Write a number")
    if version.isdecimal() and (len(version) > MOST_DIGITS or version != str(int(version))):
        raise ConfigError(
            f"version {version} is no usable number. Write it without leading zeros, in at most {MOST_DIGITS} digits"
        )


def check_text(what: str, text: str) -> None:
    """Databases keep Unicode text; the bytes of a strange file name are none."""
    try:
        stored = text.encode()
    except UnicodeEncodeError:
        stored = b"\0"
    if b"\0" in stored:
        raise ConfigError(f"{what} {text!a} is no UTF-8 text and cannot be stored. Give it another name")


def check_words(what: str, description: str, tags: Mapping[str, str]) -> None:
    """What people write about a thing, which is kept as it is."""
    check_text(f"the description of {what}:", description)
    for key, value in tags.items():
        check_text(f"a tag of {what}:", f"{key}={value}")


def nearest_first(word: str, known: Sequence[str]) -> list[str]:
    """The known words, those that look most like `word` first; words alike keep their order."""
    return sorted(known, key=lambda other: -difflib.SequenceMatcher(None, word.lower(), other.lower()).ratio())


def offered(word: str, known: Sequence[str]) -> str:
    """`a, b, c and 12 more`: what could have been meant by `word`."""
    names = nearest_first(word, known)
    more = len(names) - MOST_OFFERED
    return ", ".join(names[:MOST_OFFERED]) + (f" and {more} more" if more > 0 else "")
