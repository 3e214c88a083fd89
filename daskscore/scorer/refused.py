"""Items for which the script returned `daskscore.Failed` instead of a result."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from daskscore.scorer.records import BadOutput

if TYPE_CHECKING:
    from daskscore.scorer.loading import Given

REASON_CHARACTERS = 1_000


def without_refused(result: Any, given: Given) -> tuple[Any, list[tuple[int, str]]]:
    """The results that are some, and place and reason of those that are none; which item each is for must be known."""
    scripts: Any = sys.modules.get("daskscore.scripts")
    if scripts is None or not isinstance(result, (list, tuple)):
        return result, []
    refused = [(place, one.reason) for place, one in enumerate(result) if isinstance(one, scripts.Failed)]
    if not refused:
        return result, []
    if len(result) != given.present:
        raise BadOutput(
            f"run() returned Failed for {len(refused)} items, and {len(result)} results for {given.present} items: "
            "which items failed is not known. Return one result for each item, in order"
        )
    left = [one for one in result if not isinstance(one, scripts.Failed)]
    return left, [(place, str(reason)[:REASON_CHARACTERS]) for place, reason in refused]
