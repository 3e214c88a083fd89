"""What is kept of a traceback that is too long: its end, where the error is."""

from __future__ import annotations


def end_of(text: str, most: int) -> str:
    """At most so many characters; whole lines of them, behind a sign that something is left out."""
    if len(text) <= most:
        return text
    if most < 2:
        return ""
    end = text[len(text) + 2 - most :]
    return "…\n" + end[end.find("\n") + 1 :]
