"""Returned rows as records: names, and a value for each. What the formats share that know columns."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

VALUE = "value"
"""The column of rows that are one value each."""


class BadOutput(TypeError):
    """run() returned something that has no rows, or rows that the format cannot hold."""


def encode(text: str) -> bytes:
    """UTF-8; a file name's undecodable bytes come out as they went in."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        try:
            return text.encode(errors="surrogateescape")
        except UnicodeEncodeError:
            return text.encode(errors="surrogatepass")


def check_names(names: Iterable[Any], holder: str) -> list[str]:
    """The names of a frame's columns as text; raises BadOutput where `holder` would lose one of them."""
    names = [str(name) for name in names]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadOutput(f"run() returned a DataFrame with two columns called {twice}, and {holder} has one. Rename one")
    return names


def check_columns(frame: Any, holder: str) -> None:
    if len(frame) and not len(frame.columns):
        raise BadOutput(
            f"run() returned a DataFrame with {len(frame)} rows and no columns, and {holder} has no such rows"
        )


def records(elements: Sequence[Any]) -> tuple[list[str], list[dict[str, Any]]]:
    """Names in the order in which they first come up, and the rows, each without the names that it does not have.

    A mapping has its keys, a named tuple its fields, a list, tuple or array the numbers of its places, and anything
    else is the one column `value`. None among mappings or lists is a row without values.
    """
    kinds = {_kind(element) for element in elements} - {None}
    if len(kinds) > 1:
        raise BadOutput(
            f"run() returned rows of several kinds: {', '.join(sorted(map(str, kinds)))}. Return mappings only, lists "
            "only or single values only, so that it is known which column a value belongs to"
        )
    kind = next(iter(kinds), None) or "single values"
    rows = [_row(element, kind) for element in elements]
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        raise BadOutput(f"run() returned {len(rows)} rows without any value. Return at least one value for a row")
    return names, rows


def _kind(element: Any) -> str | None:
    if element is None:
        return None
    if isinstance(element, Mapping) or _is_series(element) or hasattr(element, "_asdict"):
        return "mappings"
    if isinstance(element, (list, tuple)) or getattr(element, "ndim", 0) > 0:
        return "lists"
    return "single values"


def _row(element: Any, kind: str) -> dict[str, Any]:
    if kind == "single values":
        return {VALUE: element}
    if element is None:
        return {}
    if kind == "lists":
        return {str(place): value for place, value in enumerate(element)}
    mapping = element._asdict() if hasattr(element, "_asdict") else element
    row = {str(key): value for key, value in mapping.items()}
    if len(row) != len(mapping):
        raise BadOutput(f"run() returned a mapping with two keys that read the same: {', '.join(map(repr, mapping))}")
    return row


def _is_series(element: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(element, pandas.Series)
