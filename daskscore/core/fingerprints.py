"""Failures that are one failure: the same frames and the same words, whatever addresses and values stand in them."""

from __future__ import annotations

import hashlib
import re

_VALUES = (
    (re.compile(r"0x[0-9a-fA-F]+"), "0x"),
    (re.compile(r"'[^'\n]*'|\"[^\"\n]*\""), "''"),
    (re.compile(r"\b\d+(\.\d+)?\b"), "0"),
    (re.compile(r"(/[^\s/:,]+)+"), "/"),
)
_FRAME = re.compile(r'^ *File "([^"]+)", line (\d+), in (.+)$', re.MULTILINE)

STOOD = "Where it stood (most recent call last):"
"""Before the frames of a script that was ended because it took too long."""


def fingerprint(message: str, traceback: str) -> str:
    """Twelve letters that two failures share when their cause looks the same."""
    _, stood, where = traceback.rpartition(STOOD)
    if stood:  # in which line of a loop it was, and what its other threads did, is chance
        frames = [f"{file}:{function}" for file, _, function in _FRAME.findall(where)]
    else:
        frames = [f"{file}:{line}:{function}" for file, line, function in _FRAME.findall(traceback)]
    return hashlib.sha256("\n".join([*frames, without_values(message)]).encode(errors="replace")).hexdigest()[:12]


def without_values(text: str) -> str:
    """The first line of a message with its numbers, quotes, paths and addresses taken out."""
    line = text.split("\n", 1)[0]
    for pattern, instead in _VALUES:
        line = pattern.sub(instead, line)
    return line
