"""What each item's invocations do, and what must become of the items because of it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

OK = "ok"
HARMLESS = ("garbage", "fork", "fork and sleep")
"""Words that change no result."""
KINDS = {
    "raise": "raise",
    "exit": "crash",
    "segv": "crash",
    "hang": "timeout",
    "stop": "timeout",
    "memory": "memory",
    "none": "bad_output",
    "short": "bad_output",
}
"""What a word makes of its attempt."""
POISON = tuple(word for word in KINDS if word != "short")
DEAR = ("hang", "stop", "memory")
"""Each of these takes seconds."""
ACT_FIRST = ("none", "short")
"""What is done only after all items of the mini-batch have done what they do."""

HITS_TO_ISOLATE = 3
"""Two alike divide a mini-batch that is well, and one more hits an item that is alone."""

Table = Mapping[str, Sequence[str]]
"""By item: a word for each invocation; the last one counts for all later ones, and an item without words is well."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a run must come to."""

    fails: Mapping[str, str] = field(default_factory=dict)
    """Items that must fail, with their kind."""
    may_fail: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Items that may fail besides, with the kinds that they may have."""
    may_change: frozenset[str] = frozenset()
    """Items whose rows may be those of their new content."""

    def kinds(self, item: str, costly: frozenset[str]) -> frozenset[str]:
        """Those that a failed item may have; `costly` are what the adversary makes of an attempt."""
        if item in self.fails:
            return frozenset((self.fails[item],)) | costly
        return self.may_fail.get(item, frozenset())


def expect(
    mini_batches: Sequence[Sequence[str]],
    table: Table,
    *,
    isolate: bool,
    costly: frozenset[str] = frozenset(),
    hits: int = 0,
) -> Expectation:
    """By the rules of the table, given enough tries; `costly` are the kinds of failure that the adversary causes.

    With `isolate`, a mini-batch that keeps failing is divided until its poison items stand alone; without, all of its
    items fail. `hits` is how often the adversary may meet one and the same mini-batch.
    """
    fails: dict[str, str] = {}
    may_fail: dict[str, frozenset[str]] = {}
    for items in mini_batches:
        last = {item: table[item][-1] for item in items if item in table}
        poison = {item: KINDS[word] for item, word in last.items() if word in POISON}
        if poison and not isolate:
            first = min(poison, key=lambda item: (last[item] in ACT_FIRST, list(items).index(item)))
            fails |= dict.fromkeys(items, poison[first])
            continue
        fails |= poison
        if "short" in last.values() and not poison:
            fails[items[-1]] = KINDS["short"]
        if isolate and hits >= (1 if last else HITS_TO_ISOLATE):
            # What is tried alone is tried once: a kill at that moment is taken for its own doing.
            may_fail |= dict.fromkeys(set(items) - set(fails), costly)
    return Expectation(fails, may_fail)


def draw(
    chance: random.Random, items: Sequence[str], *, poison: int, passing: int, dear: bool, words: Sequence[str] = POISON
) -> dict[str, list[str]]:
    """A table with some items that always fail, some that fail at first, and some that only make a noise."""
    usable = [word for word in words if dear or word not in DEAR]
    chosen = chance.sample(items, min(len(items), poison + passing + len(HARMLESS)))
    table: dict[str, list[str]] = {}
    for number, item in enumerate(chosen):
        if number < poison:
            table[item] = [chance.choice(usable)]
        elif number < poison + passing:
            table[item] = [chance.choice(usable), OK]
        else:
            table[item] = [HARMLESS[number - poison - passing]]
    return table
