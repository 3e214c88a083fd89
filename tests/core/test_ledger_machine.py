"""Whatever slots and machines do: each mini-batch is in one place, ends once, and is counted once."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import groupby
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from daskscore.core.isolation import Share
from daskscore.core.ledger import LOSSES_ALLOWED, NOT_ISOLATED, Handed, Ledger, Settlement
from daskscore.core.model import Failure, ItemFailure, Kind, Outcome, Segment, Span
from daskscore.core.pacing import after_losses
from daskscore.core.thresholds import Tally

ROWS_EACH = 2


class Place(Enum):
    WAITING = auto()
    RUNNING = auto()
    DIVIDED = auto()
    """Its items are tried in shares, none of which is out."""
    SHARE_RUNNING = auto()
    DONE = auto()
    GIVEN_UP = auto()


class Fate(NamedTuple):
    """What a slot says of one mini-batch: scored (some items short), failed (for a reason), or not started."""

    word: str
    kind: Kind = Kind.RAISE
    cut: bool = False
    """Whether a new segment or span starts here, where the last one could go on."""


fates = st.builds(
    Fate, st.sampled_from(["scored", "short", "failed", "failed", "unstarted"]), st.sampled_from(Kind), st.booleans()
)


@dataclass
class MiniBatch:
    """One mini-batch as the model knows it."""

    items: int
    place: Place = Place.WAITING
    tries: int = 0
    losses: int = 0
    blamed: bool = False
    """It has failed by its items' doing, and always in the same way."""
    bad_output: bool = False
    """So it failed when it was divided."""
    share_losses: int = 0
    known: dict[int, bool] = field(default_factory=dict)
    """While it is divided: what became of its items, and whether they have a result."""
    failed_items: int = 0
    isolated: bool = False
    rows: int = 0
    committed: int = 0


class LedgerMachine(RuleBasedStateMachine):
    """The ledger beside a model that keeps each mini-batch by itself."""

    @initialize(
        items=st.lists(st.integers(1, 6), max_size=20),
        complete=st.booleans(),
        max_try=st.integers(1, 4),
        isolates=st.booleans(),
    )
    def plan(self, items: list[int], complete: bool, max_try: int, isolates: bool) -> None:
        self.max_try = max_try
        self.isolates = isolates
        self.complete = complete
        self.all = [MiniBatch(count) for count in items]
        self.out: dict[int, list[int]] = {}
        self.shares: list[int] = []
        """Mini-batches in the order in which their next share goes out."""
        self.shares_out: dict[int, tuple[int, Share]] = {}
        self.gone: list[int] = []
        self.committed_rows = 0
        self.all_handed_out = False
        self.settled_since_start = 0
        self.ledger = self._new_ledger()

    def _new_ledger(self) -> Ledger:
        total = sum(one.items for one in self.all)
        return Ledger(
            len(self.all),
            total,
            self.max_try,
            items_in=lambda index: self.all[index].items,
            complete=self.complete,
            isolates=self.isolates,
            isolation_attempts=-1,
        )

    # What happens to a run.

    @precondition(lambda self: not self.complete)
    @rule(items=st.lists(st.integers(1, 4), max_size=10), last=st.booleans())
    def grow(self, items: list[int], last: bool) -> None:
        """The listing has brought more."""
        self.all += [MiniBatch(count) for count in items]
        self.complete = last
        self.ledger.extend(len(self.all), sum(one.items for one in self.all), complete=last)

    @precondition(lambda self: self.ledger.waiting)
    @rule(size=st.integers(1, 50))
    def hand_out(self, size: int) -> None:
        if self.shares:
            return self._share_out(self.ledger.hand_out(size))
        expected = self._next(size)
        bundle, spans, share = self.ledger.hand_out(size)
        assert share is None
        sent = [(index, span.tries) for span in spans for index in range(span.first, span.stop)]
        assert sent == [(index, self.all[index].tries) for index in expected]
        self._move(expected, Place.RUNNING)
        self.all_handed_out |= self.complete and not self._in(Place.WAITING)
        self.out[bundle] = expected

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        bundle, sent = self._take_back(data)
        told = [(index, data.draw(fates)) for index in sent]
        settlement = self.ledger.settle(self._outcome(bundle, told))
        assert settlement is not None
        final = {index: self.all[index].tries + 1 for index, fate in told if self._is_final(index, fate)}
        for index, fate in told:
            self._learn(index, fate)
        assert {given.failure.index: given.attempts for given in settlement.given_up} == final
        finished = sum(fate.word != "unstarted" for _, fate in told)
        assert (settlement.attempts, settlement.lost_attempts) == (finished, 0)
        self._commit(settlement)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        bundle, sent = self._take_back(data)
        settlement = self.ledger.lose(bundle, "gone")
        assert settlement is not None
        assert (settlement.attempts, settlement.lost_attempts) == (0, len(sent))
        for index in sent:
            self.all[index].losses += 1
        final = [index for index in sent if self.all[index].losses == LOSSES_ALLOWED]
        assert [given.failure.index for given in settlement.given_up] == final
        assert all(given.failure.kind is Kind.LOST for given in settlement.given_up)
        self._move(sent, Place.WAITING)
        self._move(final, Place.GIVEN_UP)
        self._commit(settlement)

    @precondition(lambda self: self.shares_out)
    @rule(data=st.data(), fate=fates)
    def settle_share(self, data: st.DataObject, fate: Fate) -> None:
        bundle, index, share = self._take_share_back(data)
        one = self.all[index]
        settlement = self.ledger.settle(self._share_outcome(bundle, index, share, fate))
        assert settlement is not None
        tried = int(fate.word != "unstarted")
        assert (settlement.attempts, settlement.share_attempts, settlement.lost_attempts) == (tried, tried, 0)
        if tried:
            one.share_losses = 0
        if fate.word in ("scored", "short"):
            assert not set(range(*share)) & one.known.keys(), "no item has its row twice"
            one.known.update((item, True) for item in range(*share))
            one.known[share.start] = fate.word == "scored"
            one.rows += share.items * ROWS_EACH
        elif fate.word == "failed" and (share.items == 1 or fate.kind is Kind.INPUT):
            assert not set(range(*share)) & one.known.keys()
            one.known.update((item, False) for item in range(*share))
            one.isolated = True
        self._end_of_share(index, settlement)

    @precondition(lambda self: self.shares_out)
    @rule(data=st.data())
    def lose_share(self, data: st.DataObject) -> None:
        bundle, index, _ = self._take_share_back(data)
        one = self.all[index]
        one.share_losses += 1
        settlement = self.ledger.lose(bundle, "gone")
        assert settlement is not None
        assert (settlement.attempts, settlement.share_attempts, settlement.lost_attempts) == (0, 0, 1)
        if one.share_losses == LOSSES_ALLOWED:
            assert any("(gone)" in given.failure.message for given in settlement.given_up)
            one.known.update((item, False) for item in range(one.items) if item not in one.known)
            one.isolated = True
        self._end_of_share(index, settlement)

    @precondition(lambda self: self.gone)
    @rule(data=st.data(), lost=st.booleans())
    def late_word(self, data: st.DataObject, lost: bool) -> None:
        bundle = data.draw(st.sampled_from(self.gone))
        late = Outcome(bundle, "node", segments=(self._segment([0]),))
        assert (self.ledger.lose(bundle, "gone") if lost else self.ledger.settle(late)) is None

    @precondition(lambda self: self.settled_since_start > 3 or self.ledger.finished)
    @rule(new_chance=st.booleans())
    def resume(self, new_chance: bool) -> None:
        """The driver is killed, and another reads what was committed."""
        if new_chance:
            again = [*self._in(Place.GIVEN_UP), *(i for i in self._in(Place.DONE) if self.all[i].isolated)]
            self.committed_rows -= sum(self.all[index].rows for index in again)
            self._move(again, Place.WAITING)
        self._move(self._in(Place.RUNNING, Place.DIVIDED, Place.SHARE_RUNNING), Place.WAITING)
        for index in self._in(Place.WAITING):
            self.all[index] = MiniBatch(self.all[index].items)
        self.out, self.gone, self.all_handed_out, self.settled_since_start = {}, [], False, 0
        self.shares, self.shares_out = [], {}
        settled = [(index, 1) for index in [*self._in(Place.GIVEN_UP), *self._in(Place.DONE)]]
        self.ledger = self._new_ledger()
        self.ledger.restore(settled, self._tally(), self.committed_rows)

    # What must hold after each of these.

    @invariant()
    def everything_is_in_one_place(self) -> None:
        assert self.ledger.waiting == len(self._in(Place.WAITING, Place.DIVIDED))
        assert self.ledger.running == len(self.out) + len(self.shares_out)
        assert sorted(self.shares) == self._in(Place.DIVIDED)
        assert sorted(index for index, _ in self.shares_out.values()) == self._in(Place.SHARE_RUNNING)
        assert sorted(index for sent in self.out.values() for index in sent) == self._in(Place.RUNNING)

    @invariant()
    def it_is_finished_when_nothing_waits_runs_or_is_still_to_come(self) -> None:
        left = self._in(Place.WAITING, Place.RUNNING, Place.DIVIDED, Place.SHARE_RUNNING)
        assert self.ledger.finished == (self.complete and not left)

    @invariant()
    def what_is_done_or_given_up_was_committed_once(self) -> None:
        assert all(one.committed == (one.place in (Place.DONE, Place.GIVEN_UP)) for one in self.all)

    @invariant()
    def nothing_is_tried_too_often(self) -> None:
        assert all(one.tries <= self.max_try for one in self.all)

    @invariant()
    def the_tally_is_the_sum_of_all_mini_batches(self) -> None:
        assert self.ledger.tally == self._tally()
        assert self.ledger.rows == self.committed_rows

    def teardown(self) -> None:
        """Nothing was lost on the way: what is left can be scored, and then everything is accounted for."""
        self.ledger.extend(self.ledger.mini_batches, self.ledger.items, complete=True)
        for bundle, sent in self.out.items():
            self.ledger.settle(self._outcome(bundle, [(index, Fate("scored")) for index in sent]))
        for bundle, (index, share) in self.shares_out.items():
            self.ledger.settle(self._share_outcome(bundle, index, share, Fate("scored")))
        while self.ledger.waiting:
            bundle, spans, found = self.ledger.hand_out(50)
            sent = [index for span in spans for index in range(span.first, span.stop)]
            if found is None:
                self.ledger.settle(self._outcome(bundle, [(index, Fate("scored")) for index in sent]))
            else:
                self.ledger.settle(self._share_outcome(bundle, sent[0], found, Fate("scored")))
        tally = self.ledger.tally
        assert self.ledger.finished
        assert tally.succeeded_items + tally.failed_items == tally.total_items
        assert tally.succeeded_mini_batches + tally.given_up_mini_batches == tally.total_mini_batches

    # The model.

    def _in(self, *places: Place) -> list[int]:
        return [index for index, one in enumerate(self.all) if one.place in places]

    def _move(self, indices: list[int], place: Place) -> None:
        for index in indices:
            self.all[index].place = place

    def _next(self, size: int) -> list[int]:
        """The next in plan order that were lost equally often."""
        waiting = self._in(Place.WAITING)
        losses = self.all[waiting[0]].losses
        _, alike = next(groupby(waiting, key=lambda index: self.all[index].losses))
        return list(alike)[: after_losses(size, losses)]

    def _take_back(self, data: st.DataObject) -> tuple[int, list[int]]:
        bundle = data.draw(st.sampled_from(sorted(self.out)))
        self.gone.append(bundle)
        return bundle, self.out.pop(bundle)

    def _share_out(self, handed: Handed) -> None:
        index = self.shares.pop(0)
        one, share = self.all[index], handed.share
        assert [(span.first, span.size) for span in handed.spans] == [(index, 1)]
        assert share is not None
        assert share == self.ledger.share_of(handed.bundle)
        assert 0 <= share.start < share.stop <= one.items
        one.place = Place.SHARE_RUNNING
        self.shares_out[handed.bundle] = index, share

    def _take_share_back(self, data: st.DataObject) -> tuple[int, int, Share]:
        bundle = data.draw(st.sampled_from(sorted(self.shares_out)))
        self.gone.append(bundle)
        return bundle, *self.shares_out.pop(bundle)

    def _end_of_share(self, index: int, settlement: Settlement) -> None:
        """Its next share is to come, or all of it is settled."""
        one = self.all[index]
        if len(one.known) < one.items:
            assert not settlement.segments
            assert not settlement.given_up
            assert not settlement.item_failures
            one.place = Place.DIVIDED
            self.shares.append(index)
        elif one.bad_output and not one.isolated:
            assert [(given.failure.index, given.share) for given in settlement.given_up] == [(index, None)]
            assert not settlement.segments
            one.place, one.rows = Place.GIVEN_UP, 0
            one.committed += 1
        else:
            one.place = Place.DONE
            one.failed_items = sum(not result for result in one.known.values())
            first, *rest = settlement.segments
            assert (first.first, first.size, first.items, first.failed_items) == (index, 1, one.items, one.failed_items)
            assert all((found.first, found.size, found.items) == (index, 0, 0) for found in rest)
            assert sum(found.rows for found in settlement.segments) == one.rows
            alone = [item for given in settlement.given_up for item in range(*(given.share or ()))]
            assert len(alone) == len(set(alone)) == one.failed_items - len(settlement.item_failures)
        self.settled_since_start += 1
        self._commit_rows(settlement)

    def _is_final(self, index: int, fate: Fate) -> bool:
        failed_for_good = fate.kind is Kind.INPUT or self.all[index].tries + 1 == self.max_try
        return fate.word == "failed" and failed_for_good and not self._is_divided(index, fate)

    def _is_divided(self, index: int, fate: Fate) -> bool:
        one = self.all[index]
        blamed = self.isolates and fate.word == "failed" and fate.kind not in NOT_ISOLATED and one.items > 1
        return blamed and (one.blamed or one.tries + 1 == self.max_try)

    def _learn(self, index: int, fate: Fate) -> None:
        one, final = self.all[index], self._is_final(index, fate)
        if self._is_divided(index, fate):
            one.tries += 1
            one.place = Place.DIVIDED
            one.bad_output = fate.kind is Kind.BAD_OUTPUT
            self.shares.append(index)
            return
        match fate.word:
            case "unstarted":
                one.place = Place.WAITING
            case "failed":
                one.tries += 1
                one.blamed |= fate.kind not in NOT_ISOLATED
                one.place = Place.GIVEN_UP if final else Place.WAITING
            case word:
                one.place = Place.DONE
                one.failed_items = int(word == "short")

    def _commit(self, settlement: Settlement) -> None:
        self.settled_since_start += 1
        self._commit_rows(settlement)
        for given in settlement.given_up:
            self.all[given.failure.index].committed += 1

    def _commit_rows(self, settlement: Settlement) -> None:
        for segment in settlement.segments:
            self.committed_rows += segment.rows
            for index in range(segment.first, segment.stop):
                self.all[index].committed += 1

    def _tally(self) -> Tally:
        done = [self.all[index] for index in self._in(Place.DONE)]
        given_up = [self.all[index] for index in self._in(Place.GIVEN_UP)]
        divided = [self.all[index] for index in self._in(Place.DIVIDED, Place.SHARE_RUNNING)]
        left = [*(self.all[index] for index in self._in(Place.WAITING, Place.RUNNING)), *divided]
        known = sum(not result for one in divided for result in one.known.values())
        return Tally(
            total_items=sum(one.items for one in self.all),
            total_mini_batches=len(self.all),
            succeeded_items=sum(one.items - one.failed_items for one in done),
            failed_items=sum(one.failed_items for one in done) + sum(one.items for one in given_up) + known,
            succeeded_mini_batches=len(done),
            short_mini_batches=sum(one.failed_items > 0 and not one.isolated for one in done),
            isolated_mini_batches=sum(one.isolated for one in done),
            given_up_mini_batches=len(given_up),
            failing_mini_batches=sum(one.tries > 0 for one in left),
            all_handed_out=self.all_handed_out or (self.complete and not self._in(Place.WAITING)),
        )

    # What slots say.

    def _outcome(self, bundle: int, told: list[tuple[int, Fate]]) -> Outcome:
        scored = _runs([(index, fate) for index, fate in told if fate.word == "scored"])
        short = [index for index, fate in told if fate.word == "short"]
        return Outcome(
            bundle,
            "node",
            segments=(*map(self._segment, scored), *(self._segment([index], failed_items=1) for index in short)),
            failures=tuple(Failure(index, fate.kind, "no luck", "") for index, fate in told if fate.word == "failed"),
            item_failures=tuple(ItemFailure(index, "item", Kind.BAD_OUTPUT, "short", "") for index in short),
            unstarted=tuple(
                Span(run[0], len(run))
                for run in _runs([(index, fate) for index, fate in told if fate.word == "unstarted"])
            ),
        )

    def _share_outcome(self, bundle: int, index: int, share: Share, fate: Fate) -> Outcome:
        match fate.word:
            case "failed":
                return Outcome(bundle, "node", failures=(Failure(index, fate.kind, "no luck", ""),))
            case "unstarted":
                return Outcome(bundle, "node", unstarted=(Span(index, 1),))
        short = int(fate.word == "short")
        scored = Segment(index, 1, "part", share.start, share.items, share.items * ROWS_EACH, share.items, short)
        missing = (ItemFailure(index, "item", Kind.BAD_OUTPUT, "short", ""),) * short
        return Outcome(bundle, "node", segments=(scored,), item_failures=missing)

    def _segment(self, indices: list[int], failed_items: int = 0) -> Segment:
        size = len(indices)
        items = sum(self.all[index].items for index in indices)
        return Segment(indices[0], size, "part", 0, size, rows=size * ROWS_EACH, items=items, failed_items=failed_items)


def _runs(told: list[tuple[int, Fate]]) -> list[list[int]]:
    """Neighbours together, apart from where a fate says otherwise."""
    runs: list[list[int]] = []
    for index, fate in told:
        if runs and runs[-1][-1] + 1 == index and not fate.cut:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs


LedgerMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
test_the_ledger_beside_its_model = LedgerMachine.TestCase
