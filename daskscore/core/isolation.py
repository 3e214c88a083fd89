"""Find the items that make a mini-batch fail: by halves, until each of them stands alone.

A poisoned half is halved again. Where the first half went well the second is to blame, and is halved without being
tried as a whole; where the first half failed, all that stands behind it is tried in one go later on. So one poison item
among n costs about log2(n) attempts. Two cases would make that dear, and are searched half by half instead: items that
fail only in company (too many for the memory, say), and a mini-batch that is poisoned all over.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from daskscore.core.fingerprints import fingerprint
from daskscore.core.model import Failure, ItemFailure, Kind, Segment
from daskscore.errors import InternalError

POISONED_ALL_OVER = 8
"""So many poison items in one mini-batch, and the rest is no longer thought to be well."""


class Share(NamedTuple):
    """Consecutive items of one mini-batch that are tried by themselves."""

    start: int
    stop: int

    @property
    def items(self) -> int:
        return self.stop - self.start

    def halves(self) -> tuple[Share, Share]:
        middle = (self.start + self.stop) // 2
        return Share(self.start, middle), Share(middle, self.stop)


@dataclass(slots=True)
class _Scored:
    share: Share
    segment: Segment
    item_failures: tuple[ItemFailure, ...]


class Poison(NamedTuple):
    """Items that have failed for good."""

    share: Share
    failure: Failure
    attempts: int


@dataclass(frozen=True, slots=True)
class Divided:
    """What an earlier session has left of a mini-batch: rows of some shares, and shares that are to be tried again."""

    index: int
    items: int
    scored: tuple[tuple[Share, Segment], ...]
    failed: tuple[Poison, ...]
    """Together with the scored ones they are all of the mini-batch."""


@dataclass(slots=True)
class Isolation:
    """One mini-batch whose items are tried in shares, one share at a time."""

    index: int
    items: int
    failure: Failure
    """Of the mini-batch as a whole."""
    tries: int
    """Of the mini-batch as a whole."""
    attempts: int = 0
    """At its shares."""
    losses: int = 0
    """So many machines were lost with the share in hand."""
    _pending: list[Share] = field(default_factory=list)
    """Not tried by themselves; the first items are the last in the list."""
    _suspect: Share | None = None
    """One of its items, at least, is to blame."""
    _in_company: bool = False
    """Items that stood under suspicion went well alone."""
    _trying: Share | None = None
    _scored: list[_Scored] = field(default_factory=list)
    _poison: list[Poison] = field(default_factory=list)
    _divided: list[tuple[Share, Failure]] = field(default_factory=list)
    """What failed with more than one item."""
    counts: bool = True
    """It has failed in this session."""
    tries_alone: int = 1
    """How often one item is tried by itself."""
    _tried_alone: int = 0
    _restored: tuple[Poison, ...] = ()
    """What had failed before this session, and is tried anew."""

    def __post_init__(self) -> None:
        self._suspect = Share(0, self.items)
        self._divided.append((self._suspect, self.failure))

    @classmethod
    def restored(cls, divided: Divided, *, tries_alone: int) -> Isolation:
        """Only what failed is tried again; the rows of the rest stay."""
        one = cls(divided.index, divided.items, divided.failed[0].failure, 0, counts=False, tries_alone=tries_alone)
        one._suspect = None
        one._restored = divided.failed
        one._divided = [(poison.share, poison.failure) for poison in divided.failed]
        one._pending = [poison.share for poison in reversed(divided.failed)]
        one._scored = [_Scored(share, segment, ()) for share, segment in divided.scored]
        return one

    @property
    def finished(self) -> bool:
        """Each item is scored, or has failed alone."""
        return self._suspect is None and not self._pending and self._trying is None

    @property
    def searching(self) -> bool:
        """It is not known yet which items of a share are to blame."""
        return self._suspect is not None or any(share not in self._known for share in self._pending)

    @property
    def hopeless(self) -> bool:
        """Many items have failed alone for one and the same reason, and none has gone well."""
        if self._scored or len(self._poison) < POISONED_ALL_OVER:
            return False
        return len({fingerprint(found.failure.message, found.failure.traceback) for found in self._poison}) == 1

    @property
    def _known(self) -> set[Share]:
        return {poison.share for poison in self._restored}

    @property
    def failed_items(self) -> int:
        """Those that are known by now."""
        alone = sum(poison.share.items for poison in self._poison)
        return alone + sum(scored.segment.failed_items for scored in self._scored)

    def next(self) -> Share:
        """What to try now; the same again where it was lost."""
        if self._trying is None:
            suspect = self._suspect
            if suspect is None:
                self._trying = self._pending.pop()
            elif suspect.items == 1:
                self._trying = suspect
            else:
                self._trying = suspect.halves()[0]
        return self._trying

    def scored(self, segment: Segment, item_failures: tuple[ItemFailure, ...]) -> None:
        """The share in hand has rows."""
        share = self._tried()
        self._tried_alone = 0
        self._scored.append(_Scored(share, segment, item_failures))
        suspect, self._suspect = self._suspect, None
        if suspect is None:
            return
        if suspect == share:
            self._in_company = True
            return
        rest = Share(share.stop, suspect.stop)
        if self._halves_only:
            self._pending.append(rest)
        else:
            self._suspect = rest

    def failed(self, failure: Failure) -> None:
        """The share in hand has none."""
        share = self._tried()
        self.counts = True
        if (
            share.items == 1
            and self._tried_alone + 1 < self.tries_alone
            and (failure.kind is not Kind.INPUT or failure.may_pass)
        ):
            self._tried_alone += 1
            self._trying = share
            return
        suspect, self._suspect = self._suspect, None
        if suspect is not None and suspect != share:
            rest = Share(share.stop, suspect.stop)
            if not self._halves_only and self._pending:
                rest = Share(rest.start, self._pending[0].stop)
                self._pending.clear()
            self._pending.append(rest)
        if share.items == 1 or (failure.kind is Kind.INPUT and not failure.may_pass):  # none of them can be read
            self._poison.append(Poison(share, failure, self._tries_of(share) + 1 + self._tried_alone))
            self._tried_alone = 0
        else:
            self._divided.append((share, failure))
            self._suspect = share

    def give_up(self, why: str) -> None:
        """What is neither scored nor alone by now fails with the share that it was last in."""
        left = [share for share in (self._trying, self._suspect, *self._pending) if share is not None]
        self._trying = self._suspect = None
        self._pending.clear()
        at = 0
        for share in sorted(left):
            rest = Share(max(at, share.start), share.stop)
            if rest.items > 0:
                failure = self._last_failure(rest)
                failure = replace(failure, message=f"{failure.message} ({why})")
                self._poison.append(Poison(rest, failure, self._tries_of(rest)))
            at = max(at, share.stop)

    def stop_searching(self, why: str) -> None:
        """As `give_up`, but what was told apart before this session is still tried."""
        known = [share for share in self._pending if share in self._known]
        self._pending = [share for share in self._pending if share not in self._known]
        self.give_up(why)
        self._pending = known

    def segments(self) -> tuple[Segment, ...]:
        """Rows in the order of the items; the first segment stands for the whole mini-batch."""
        found = sorted(self._scored, key=lambda scored: scored.share)
        counted = Segment(self.index, 1, "", 0, 0, 0, self.items, self.failed_items)
        if not found:
            return (counted,)
        first = found[0].segment
        first = first._replace(first=self.index, size=1, items=self.items, failed_items=self.failed_items)
        rest = (scored.segment._replace(first=self.index, size=0, items=0, failed_items=0) for scored in found[1:])
        return (first, *rest)

    def shares(self) -> tuple[tuple[int, int, int], ...]:
        """Of each segment: its items, from one to another, and how many of them have no result."""
        found = sorted(self._scored, key=lambda scored: scored.share)
        return tuple((*scored.share, scored.segment.failed_items) for scored in found)

    def poison(self) -> list[Poison]:
        """What failed alone or was given up, in the order of the items."""
        return sorted(self._poison, key=lambda poison: poison.share)

    def item_failures(self) -> tuple[ItemFailure, ...]:
        """Of items without a result in shares that did give rows."""
        found = []
        for scored in self._scored:
            attempts = self._tries_of(scored.share) + 1
            found += [replace(item, attempts=attempts) for item in scored.item_failures]
        return tuple(found)

    @property
    def _halves_only(self) -> bool:
        return self._in_company or len(self._poison) >= POISONED_ALL_OVER or bool(self._restored)

    def _tried(self) -> Share:
        share, self._trying = self._trying, None
        if share is None:
            raise InternalError(f"mini-batch {self.index} has the outcome of a share that was not handed out")
        self.attempts += 1
        self.losses = 0
        return share

    def _tries_of(self, share: Share) -> int:
        """How often its items have been tried in company."""
        before = (
            one.attempts for one in self._restored if one.share.start <= share.start and share.stop <= one.share.stop
        )
        return next(before, self.tries) + len(self._around(share)) - 1

    def _last_failure(self, share: Share) -> Failure:
        return self._around(share)[-1]

    def _around(self, share: Share) -> list[Failure]:
        """What was divided down to this share."""
        return [failure for whole, failure in self._divided if whole.start <= share.start and share.stop <= whole.stop]
