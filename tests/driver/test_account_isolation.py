"""Mini-batches that were divided, as the journal tells of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daskscore.core.isolation import Share
from daskscore.core.ledger import GivenUp, Ledger, Settlement
from daskscore.core.model import Failure, ItemFailure, Kind, Outcome, Segment, Status
from daskscore.core.planning import Named, line, line_of_pieces, names_in, share_of
from daskscore.core.thresholds import Tally
from daskscore.driver import account as accounts
from daskscore.driver.account import Account, commit_record
from daskscore.driver.journal import Journal

ITEMS = 8
"""Of each mini-batch here."""
MINI_BATCHES = 10


class Books:
    """The journal and the parts of a run, written as the engine writes them."""

    def __init__(self, folder: Path) -> None:
        self.parts = folder / "parts"
        self.parts.mkdir()
        self.path = folder / "journal"
        self.journal = Journal(self.path)
        self.ledger = Ledger(
            MINI_BATCHES, MINI_BATCHES * ITEMS, 2, self.count_items, isolates=True, isolation_attempts=-1
        )

    def count_items(self, index: int) -> int:
        return ITEMS

    def items_in(self, index: int, start: int = 0, stop: int | None = None, /) -> Sequence[Named]:
        whole = line([f"{index}{letter}" for letter in "abcdefgh"])
        return names_in(whole if stop is None else share_of(whole, start, stop))

    def work(self, poison: dict[int, str], bundles: int = 1000, *, header: str | None = None) -> None:
        """So many bundles of one mini-batch or share; items of these letters fail."""
        for _ in range(bundles):
            if not self.ledger.waiting:
                return
            handed = self.ledger.hand_out(1)
            index = handed.spans[0].first
            share = handed.share or Share(0, ITEMS)
            letters = "abcdefgh"[share.start : share.stop]
            if found := [letter for letter in letters if letter in poison.get(index, "")]:
                failure = Failure(index, Kind.RAISE, f"{found[0]} is bad", log="logs/x.txt")
                outcome = Outcome(handed.bundle, "node", failures=(failure,))
            else:
                outcome = Outcome(handed.bundle, "node", segments=(self.segment(index, letters, header=header),))
            settlement = self.ledger.settle(outcome)
            assert settlement is not None
            self.journal.append(commit_record(settlement, seconds=1.0))

    def segment(self, index: int, letters: str, *, part: str = "part", **changes: Any) -> Segment:
        """A row for each of these items, in the part."""
        text = "".join(f"{index}{letter}\n" for letter in letters)
        with (self.parts / part).open("ab") as file:
            offset = file.tell()
            file.write(text.encode())
        return Segment(index, 1, part, offset, len(text), len(letters), len(letters))._replace(**changes)

    def say(self, record: str, **values: Any) -> None:
        self.journal.append({"record": record, **values})

    def load(self) -> Account:
        return accounts.load(
            self.path,
            parts=self.parts,
            items=MINI_BATCHES * ITEMS,
            mini_batches=MINI_BATCHES,
            count_items=self.count_items,
        )

    def rows(self, account: Account) -> list[str]:
        return [
            row
            for part, offset, length in account.pieces()
            for row in (self.parts / part).read_bytes()[offset : offset + length].decode().split()
        ]

    def failed(self, account: Account) -> list[tuple[str, int, int]]:
        """(item, mini-batch, attempts) as failed_items.jsonl will have them."""
        return [(one["item"], one["mini_batch"], one["attempts"]) for one in account.failed_items(self.items_in)]


@pytest.fixture
def books(tmp_path: Path) -> Iterable[Books]:
    books = Books(tmp_path)
    yield books
    books.journal.close()


def all_but(*items: str) -> list[str]:
    everything = [f"{index}{letter}" for index in range(MINI_BATCHES) for letter in "abcdefgh"]
    return [item for item in everything if item not in items]


def test_rows_of_a_divided_mini_batch_stand_in_the_order_of_its_items(books: Books) -> None:
    books.work({3: "bg", 7: "a"})
    account = books.load()
    assert books.rows(account) == all_but("3b", "3g", "7a")
    assert account.settled() == [(0, MINI_BATCHES)]
    assert (account.rows, account.tally) == (books.ledger.rows, replace(books.ledger.tally, all_handed_out=False))
    assert account.share_attempts == books.ledger.share_attempts > 0


def test_its_failed_items_are_named_alone_in_plan_order_and_in_the_order_of_items(books: Books) -> None:
    books.work({7: "a", 3: "gb"})
    assert [(item, index) for item, index, _ in books.failed(books.load())] == [("3b", 3), ("3g", 3), ("7a", 7)]


def test_a_share_that_was_given_up_names_all_of_its_items(books: Books) -> None:
    books.ledger.isolation_attempts = 1
    books.work({3: "b"})
    assert [item for item, *_ in books.failed(books.load())] == [f"3{letter}" for letter in "abcdefgh"]


def test_items_without_a_result_in_its_shares_are_named_beside_those_that_failed(books: Books) -> None:
    missing = ItemFailure(3, "3a", Kind.BAD_OUTPUT, "returned 3 results for 4 items", log="", attempts=3)
    lost = GivenUp(Failure(3, Kind.RAISE, "h is bad", log=""), 5, Share(7, 8))
    first = books.segment(3, "bcd", items=8, failed_items=2)
    rest = books.segment(3, "efg", size=0, items=0)
    books.journal.append(commit_record(_settlement((first, rest), (missing,), (lost,)), seconds=1))
    account = books.load()
    assert books.failed(account) == [("3a", 3, 3), ("3h", 3, 5)]
    assert (account.tally.failed_items, account.tally.isolated_mini_batches, account.tally.short_mini_batches) == (
        2,
        1,
        0,
    )


def test_one_that_went_well_in_shares_is_as_any_other(books: Books) -> None:
    segments = (books.segment(3, "abcd", items=8), books.segment(3, "efgh", size=0, items=0))
    books.journal.append(commit_record(_settlement(segments), seconds=1))
    books.say("end", status=Status.FAILED)
    books.say("resume", forget_failures=True)
    account = books.load()
    assert (account.settled(), account.rows) == ([(3, 1)], 8)
    assert (account.tally.succeeded_mini_batches, account.tally.isolated_mini_batches) == (1, 0)


def test_attempts_at_shares_are_kept_without_a_settled_mini_batch(books: Books) -> None:
    books.work({0: "h"}, 4)
    account = books.load()
    assert (account.attempts, account.share_attempts, account.settled()) == (4, 2, [])


def test_a_journal_of_an_earlier_release_has_none(books: Books) -> None:
    books.say("commit", segments=[], item_failures=[], given_up=[], attempts=2, lost_attempts=0, seconds=1.0)
    assert (books.load().attempts, books.load().share_attempts) == (2, 0)


def test_a_torn_record_leaves_nothing_of_its_mini_batch(books: Books) -> None:
    books.work({0: "bg"}, 1000)
    whole = books.load()
    lines = books.path.read_bytes().splitlines(keepends=True)
    end = next(number for number, text in enumerate(lines) if b'"share"' in text)
    for length in (1, len(lines[end]) // 2, len(lines[end]) - 2):
        books.path.write_bytes(b"".join(lines[:end]) + lines[end][:length])
        account = books.load()
        assert (account.settled(), account.rows, books.failed(account)) == ([], 0, [])
        assert account.tally == Tally(MINI_BATCHES * ITEMS, MINI_BATCHES)
        assert account.share_attempts < whole.share_attempts


@pytest.mark.parametrize("gone", ["first", "second"])
def test_a_part_that_lost_its_end_takes_the_whole_mini_batch_with_it(books: Books, gone: str) -> None:
    lost = GivenUp(Failure(3, Kind.RAISE, "h is bad", log=""), 5, Share(7, 8))
    missing = ItemFailure(3, "3a", Kind.BAD_OUTPUT, "no result", log="")
    first = books.segment(3, "abcd", part="first", items=8, failed_items=1, header="item")
    rest = books.segment(3, "efg", part="second", size=0, items=0, header="item")
    other = books.segment(4, "abcdefgh", part="other")
    books.journal.append(commit_record(_settlement((first, rest), (missing,), (lost,)), seconds=1))
    books.journal.append(commit_record(_settlement((other,)), seconds=1))
    with (books.parts / gone).open("ab") as part:
        part.truncate(part.tell() - 1)
    account = books.load()
    assert (account.settled(), books.rows(account), books.failed(account)) == ([(4, 1)], all_of(4), [])
    assert (account.rows, account.headers) == (8, [])
    assert account.tally == Tally(MINI_BATCHES * ITEMS, MINI_BATCHES, succeeded_items=8, succeeded_mini_batches=1)


def test_all_items_failed_and_no_part_is_left_of_them(books: Books) -> None:
    books.work({3: "abcdefgh"})
    account = books.load()
    assert books.rows(account) == [row for row in all_but() if row[0] != "3"]
    assert [item for item, *_ in books.failed(account)] == all_of(3)
    assert (account.settled(), account.tally.isolated_mini_batches) == ([(0, MINI_BATCHES)], 1)


def test_a_resume_of_a_failed_run_knows_nothing_more_of_it(books: Books) -> None:
    books.work({3: "bg", 5: "abcdefgh"}, header="item")
    books.say("end", status=Status.FAILED)
    books.say("resume", forget_failures=True)
    account = books.load()
    assert account.settled() == [(0, 3), (4, 1), (6, 4)]
    assert books.rows(account) == [row for row in all_but() if row[0] not in "35"]
    assert (account.rows, books.failed(account)) == (8 * ITEMS, [])
    assert [index for index, _ in account.headers] == [0, 1, 2, 4, 6, 7, 8, 9]
    assert account.tally == Tally(MINI_BATCHES * ITEMS, MINI_BATCHES, succeeded_items=64, succeeded_mini_batches=8)


def test_scored_anew_its_old_rows_do_not_come_back(books: Books) -> None:
    books.work({3: "bg"})
    books.say("resume", forget_failures=True)
    account = books.load()
    books.ledger.restore(account.settled(), account.tally, account.rows, account.share_attempts)
    books.work({3: "c"})
    account = books.load()
    assert (books.rows(account), [item for item, *_ in books.failed(account)]) == (all_but("3c"), ["3c"])
    assert account.tally == replace(books.ledger.tally, all_handed_out=False)
    books.say("resume", forget_failures=True)
    account = books.load()
    books.ledger.restore(account.settled(), account.tally, account.rows, account.share_attempts)
    books.work({})
    account = books.load()
    assert (books.rows(account), books.failed(account), account.rows) == (all_but(), [], 80)


def test_a_resume_after_a_cancel_keeps_it(books: Books) -> None:
    books.work({3: "bg"})
    books.say("end", status=Status.CANCELED)
    books.say("resume", forget_failures=False)
    account = books.load()
    assert (books.rows(account), len(books.failed(account))) == (all_but("3b", "3g"), 2)


def test_records_that_failed_alone_are_named_by_file_and_row(books: Books) -> None:
    table = line_of_pieces(
        [{"input": 0, "file": "/a.csv", "items": 5, "row": 95}, {"input": 0, "file": "/b.csv", "items": 3, "row": 0}]
    )
    books.work({0: "dg"})
    lines = books.load().failed_items(lambda index, *share: names_in(share_of(table, *share) if share else table))
    assert [(one["item"], one.get("items", 1)) for one in lines] == [("/a.csv row 98", 1), ("/b.csv row 1", 1)]


def all_of(index: int) -> list[str]:
    return [f"{index}{letter}" for letter in "abcdefgh"]


def _settlement(
    segments: tuple[Segment, ...], items: tuple[ItemFailure, ...] = (), lost: tuple[GivenUp, ...] = ()
) -> Settlement:
    return Settlement(segments, items, lost, attempts=1, share_attempts=1)
