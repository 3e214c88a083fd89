"""The list of failed items that a run has left, as an input: the files that it names. Called in the driver."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from typing import IO, Any

from daskscore.errors import InputError
from daskscore.inputs.addresses import is_remote

NAME = "failed_items.jsonl"
_ROWS = re.compile(r" rows? \d+(-\d+)?$")

Opener = Callable[[str], IO[bytes]]


def is_list(path: str, opener: Opener) -> bool:
    """Whether this is such a list, and no other file that happens to have its name."""
    if path.rstrip("/").rpartition("/")[2] != NAME or (not is_remote(path) and not os.path.isfile(path)):
        return False
    try:
        with opener(path) as file:
            first = json.loads(file.readline())
    except (OSError, ValueError):
        return False
    return isinstance(first, dict) and {"item", "mini_batch", "attempts", "kind"} <= first.keys()


def read(path: str, opener: Opener) -> Iterator[str]:
    """The files, each as often as it is named; raises InputError where other items than files have failed."""
    with opener(path) as file:
        for number, text in enumerate(file, 1):
            yield _file_in(text, path, number)


def _file_in(text: bytes, path: str, number: int) -> str:
    try:
        line: dict[str, Any] = json.loads(text)
        item = str(line["item"])
    except (ValueError, TypeError, KeyError):
        raise InputError(f"input {path}: line {number} is no failed item. Is the run that writes it over?") from None
    is_there = is_remote(item) or os.path.isabs(item)
    if not is_there or (_ROWS.search(item) and not os.path.lexists(item)):
        folder = path.rpartition("/")[0] or "."
        raise InputError(
            f"input {path} names what is no file by itself: {item}. Records are scored again in their own run, with "
            f"daskscore retry {folder}"
        )
    return item
