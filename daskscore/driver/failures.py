"""What the journal keeps of a failure, and what failed_items.jsonl says of it.

The tracebacks of a bundle mostly differ in their last line alone, so the frames above it stand in a record only once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from daskscore.core.fingerprints import fingerprint
from daskscore.core.model import Failure, ItemFailure
from daskscore.core.tracebacks import end_of

TRACEBACK_CHARACTERS = 2_000
LAST_LINE_CHARACTERS = 500
"""So much room is left for the last line, so that frames that are cut are cut alike."""

_fingerprint = lru_cache(maxsize=32)(fingerprint)


class Frames:
    """The different frames of one record, in the order in which they first came."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    @property
    def texts(self) -> list[str]:
        return list(self._places)

    def place(self, text: str) -> int:
        return self._places.setdefault(text, len(self._places))


def kept(failure: Failure | ItemFailure, frames: Frames) -> dict[str, Any]:
    """For the journal; what is not known is left out."""
    found: dict[str, Any] = {}
    if isinstance(failure, Failure):
        found["fingerprint"] = _fingerprint(f"{failure.kind} {failure.message}", failure.traceback)
        found |= {"signal": failure.signal, "exit_code": failure.exit_code}
        if failure.traceback:
            above, last = _parted(failure.traceback.rstrip())
            found |= {"frames": frames.place(above), "last": last}
    found |= {"place": failure.place or None, "peak_memory": failure.peak_memory or None}
    found["seconds"] = round(failure.seconds, 6) or None
    return {name: value for name, value in found.items() if value is not None}


def with_frames(failure: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """As the journal has it, and with its frames in place of their number."""
    return {**failure, "frames": record["frames"][failure["frames"]]} if "frames" in failure else failure


def told(failure: dict[str, Any]) -> dict[str, Any]:
    """For failed_items.jsonl; what is not known is left out, and journals of earlier versions know less."""
    found = {"fingerprint": failure.get("fingerprint") or _fingerprint(f"{failure['kind']} {failure['message']}", "")}
    for name in ("seconds", "place", "peak_memory", "signal", "exit_code"):
        found[name] = failure.get(name)
    found["seconds"] = found["seconds"] or None
    if "last" in failure:
        found["traceback"] = f"{failure['frames']}\n{failure['last']}".lstrip("\n")
    return {name: value for name, value in found.items() if value is not None}


def _parted(traceback: str) -> tuple[str, str]:
    """The frames and the last line, shortened."""
    above, _, last = traceback.rpartition("\n")
    last = end_of(last, TRACEBACK_CHARACTERS)
    return end_of(above, TRACEBACK_CHARACTERS - 1 - max(len(last), LAST_LINE_CHARACTERS)), last
