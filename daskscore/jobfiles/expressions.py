"""`${{…}}` and `$[[…]]`: found in texts, and replaced by what they stand for."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

EXPRESSION = re.compile(r"\$\{\{\s*([^{}]*?)\s*\}\}")
GROUP = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)
CONTINUED = re.compile(r"(?:(?<=\s)|^)\\(?=\s|$)|\\\s*$")
"""The backslash of a shell's long line, which YAML has folded into one."""


class NoMeaning(ValueError):
    """A text means nothing; who knows where it stands makes a ConfigError of it."""


MARK = "\ue000{}\ue001"
"""An expression among words that are being split; these characters are in no file."""


def sole(text: str) -> str | None:
    """What stands between ${{ and }}, where the text is nothing else."""
    match = EXPRESSION.fullmatch(text.strip())
    return match[1] if match else None


def names(text: str) -> list[str]:
    return EXPRESSION.findall(text)


def filled(text: str, value: Callable[[str], str]) -> str:
    """With each expression replaced; raises NoMeaning for one that does not end."""
    if "${{" in EXPRESSION.sub("", text):
        raise NoMeaning(f"{text!r} has a ${{{{ without its }}}}. Write it like ${{{{inputs.data}}}}")
    return EXPRESSION.sub(lambda match: value(match[1]), text)


def words(text: str, *, is_there: Callable[[str], bool], value: Callable[[str], str]) -> list[str]:
    """A command line split as a shell splits it; a value stays one word, and an optional group goes with its values."""

    def group(match: re.Match[str]) -> str:
        return f" {match[1]} " if all(is_there(name) for name in names(match[1])) else " "

    text = GROUP.sub(group, text)
    if "$[[" in text:
        raise NoMeaning(f"{text!r} has a $[[ without its ]]. Write it like $[[--flag ${{{{inputs.x}}}}]]")
    found: list[str] = []

    def mark(name: str) -> str:
        found.append(name)
        return MARK.format(len(found) - 1)

    marked = CONTINUED.sub(" ", filled(text, mark))
    try:
        split = shlex.split(marked)
    except ValueError as error:
        raise NoMeaning(f"{text!r} cannot be split into words: {error}. Close the quotes") from None
    return [re.sub("\ue000(\\d+)\ue001", lambda match: value(found[int(match[1])]), word) for word in split]
