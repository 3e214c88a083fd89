"""Elements and frames as lines of JSON."""

from __future__ import annotations

import json
import math
import sys
from itertools import repeat
from types import NoneType
from typing import Any

from daskscore.scorer.records import check_names


def frame_as_json(frame: Any, *, index: bool) -> str:
    """Not `DataFrame.to_json`, which keeps ten digits of a number and milliseconds of a time."""
    if index:
        frame = frame.reset_index()
    names = check_names(frame.columns, "a JSON object")
    columns = [frame.iloc[:, place].tolist() for place in range(len(names))]
    rows = zip(*columns, strict=True) if columns else repeat((), len(frame))
    return "".join(to_json(dict(zip(names, row, strict=True))) + "\n" for row in rows)


def to_json(element: Any) -> str:
    """One JSON line. NaN, infinity and what pandas calls missing become null; what JSON has no word for, its text."""
    try:
        text = _STRICT.encode(element)
    except (TypeError, ValueError):
        element = _plain_inside(element)
        text = _STRICT.encode(element)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(element, default=_plain)
    return text


def _plain(value: Any) -> Any:
    """What stands in JSON for something that it does not know."""
    pandas = sys.modules.get("pandas")
    if pandas is not None and (value is pandas.NaT or value is pandas.NA):
        return None
    if hasattr(value, "tolist"):
        times = getattr(getattr(value, "dtype", None), "kind", "") in _TIMES
        return _plain_inside((value.astype(str) if times else value).tolist())
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _plain_inside(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {
            key if isinstance(key, (str, int, NoneType)) else str(key): _plain_inside(v) for key, v in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_plain_inside(part) for part in value]
    return value


_STRICT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_plain)
_TIMES = ("m", "M")
"""numpy's dates and durations; as a list they would be counts of nanoseconds."""
