"""What the journal knows of a mini-batch that was divided, for a retry of what failed in it."""

from __future__ import annotations

from typing import Any

from daskscore.core.isolation import Divided, Poison, Share
from daskscore.core.model import Failure, Kind, Segment


def divided_in(record: dict[str, Any], index: int, segments: list[Segment]) -> Divided | None:
    """Its rows, where they are now, and the items that failed; None where the record does not tell them apart."""
    if record.get("shares") is None:
        return None
    failed = [
        Poison(Share(*given_up["share"]), _failure(given_up["failure"]), given_up["attempts"])
        for given_up in record["given_up"]
    ]
    items = segments[0].items
    scored: list[tuple[Share, Segment]] = []
    for (start, stop, without_result), segment in zip(record["shares"], segments, strict=False):
        share = Share(start, stop)
        if without_result:
            first = record["item_failures"][0]
            failed.append(Poison(share, _failure(first), first["attempts"]))
        else:
            scored.append((share, segment._replace(first=index, size=1, items=share.items, failed_items=0)))
    failed.sort(key=lambda poison: poison.share)
    at = 0
    for start, stop in sorted([*(share for share, _ in scored), *(poison.share for poison in failed)]):
        if start != at:
            return None
        at = stop
    return Divided(index, items, tuple(scored), tuple(failed)) if failed and at == items else None


def attempts_at(record: dict[str, Any], index: int) -> int:
    """How often it was tried, or the item that was tried most."""
    tried = [item["attempts"] for item in record["item_failures"] if item["index"] == index]
    tried += [given_up["attempts"] for given_up in record["given_up"] if given_up["failure"]["index"] == index]
    return int(max(tried))


def _failure(found: dict[str, Any]) -> Failure:
    return Failure(found["index"], Kind(found["kind"]), found["message"], found["log"], found.get("last", ""))
