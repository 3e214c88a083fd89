"""`mltable`: importable, because scripts import it beside what they use."""

from __future__ import annotations

from typing import Any

__all__ = ["MLTable", "load"]

_INSTEAD = "mltable is not installed. Name the MLTable folder under inputs: run() is then given its rows as a DataFrame"


def load(uri: str, *_: Any, **__: Any) -> Any:
    raise NotImplementedError(f"mltable.load({uri!r}): {_INSTEAD}")


class MLTable:
    def __init__(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError(_INSTEAD)
