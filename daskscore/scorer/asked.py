"""What a script's arguments ask of the scorer itself; the script sees them too, as it does with ParallelRunStep."""

from __future__ import annotations

from collections.abc import Sequence


def asked(name: str, arguments: Sequence[str]) -> str:
    """The value of `--name`, the last one where there are several; empty where it is not there."""
    value, option = "", f"--{name}"
    for place, word in enumerate(arguments):
        if word == option:
            following = arguments[place + 1 : place + 2]
            value = following[0] if following and not following[0].startswith("--") else "True"
        elif word.startswith(f"{option}="):
            value = word.removeprefix(f"{option}=")
    return value


def wanted(name: str, arguments: Sequence[str]) -> bool:
    """Whether a switch is on."""
    return asked(name, arguments).lower() == "true"
