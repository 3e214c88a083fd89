"""The entry script of all jobs: what each call does stands in a table, and each call is written down.

`TORTURE` names a folder: `table.json` has a word for each invocation of an item, `calls/` gets a file for each. The last
word of an item counts for all later invocations. Copied into the folder of each run.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import signal
import sys
import time
from typing import Any

FOLDER = os.environ["TORTURE"]
ROWS = os.environ["TORTURE_ROWS"]
"""What a row is made of: text, or columns."""
SECONDS = float(os.environ["TORTURE_SECONDS"])
"""How long an item takes."""
HOARD = 80
"""Blocks of 8 MiB, which is more than the jobs' memory limit."""

TABLE: dict[str, list[str]] = {}


def init() -> None:
    with open(os.path.join(FOLDER, "table.json")) as file:
        TABLE.update(json.load(file))


def run(mini_batch: Any) -> Any:
    if isinstance(mini_batch, list):
        items = [os.path.basename(path) for path in mini_batch]
        contents = [_read(path) for path in mini_batch]
    else:
        items = [f"{number}" for number in mini_batch["number"]]
        contents = [text.encode() for text in mini_batch["text"]]
    words = [_word(item) for item in items]
    time.sleep(SECONDS * len(items))
    for word in words:
        _act(word)
    rows = [row(item, content) for item, content in zip(items, contents, strict=True)]
    if "short" in words:
        return rows[:-1]
    if "none" in words:
        return None
    return rows


def row(item: str, content: bytes) -> Any:
    """Made of the item alone, so that it is the same in whatever company."""
    digest = hashlib.sha256(content).hexdigest()
    if ROWS == "text":
        return f"{item} {digest} {'x' * (int(digest[:2], 16) * 4)}"
    return {"item": item, "digest": digest, "size": len(content), "share": len(content) / 8}


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _word(item: str) -> str:
    """What this invocation does; it is written down first."""
    calls = os.path.join(FOLDER, "calls")
    number = 0
    while True:
        try:
            os.close(os.open(os.path.join(calls, f"{item}.{number}"), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            number += 1
            continue
        words = TABLE.get(item, ["ok"])
        return words[min(number, len(words) - 1)]


def _act(word: str) -> None:
    if word == "raise":
        raise ValueError("as the table says")
    if word == "exit":
        os._exit(3)
    if word == "segv":
        ctypes.string_at(0)
    if word == "hang":
        while True:
            pass
    if word == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if word == "memory":
        hoard = [b"x" * (8 << 20) for _ in range(HOARD)]
        signal.pause()
        hoard.clear()
    if word == "garbage":
        sys.stdout.buffer.write(bytes(range(256)) * 64)
        print("\udc80 \ud800", "no newline", end="")
        os.write(2, b'{"word": "scored", "first": 0, "done": 1}\n\0\xff')
    if word == "fork":
        os.fork()
    if word == "fork and sleep" and os.fork() == 0:
        os.setsid()
        signal.pause()
