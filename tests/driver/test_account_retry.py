"""Retries, as the journal tells of them: what had failed counts no more, and all other rows stand in one part."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskscore.core.ledger import Ledger, Settlement
from daskscore.core.model import ItemFailure, Kind, Status
from daskscore.driver import journal
from daskscore.driver.account import commit_record
from tests.driver.test_account_isolation import ITEMS, MINI_BATCHES, Books, all_but, all_of

HEADER = b"a header\n"


class Retried(Books):
    """A run that is retried again and again."""

    def complete(self) -> None:
        """Its parts became the output, and are gone."""
        self.say("end", status=Status.COMPLETED)
        output = self.parts.parent / "output"
        output.write_bytes(HEADER + "".join(f"{row}\n" for row in self.rows(self.load())).encode())
        shutil.rmtree(self.parts)

    def retry(self, part: str | None = "retry-1", *, shares: bool = True) -> None:
        size = 0
        if part is not None:
            self.parts.mkdir()
            shutil.copy(self.parts.parent / "output", self.parts / part)
            size = (self.parts / part).stat().st_size
        self.say("retry", part=part, header_bytes=len(HEADER), bytes=size, shares=shares)
        self.go_on()

    def go_on(self) -> None:
        """A new driver has only what the journal says."""
        account = self.load()
        self.ledger = Ledger(
            MINI_BATCHES, MINI_BATCHES * ITEMS, 2, self.count_items, isolates=True, isolation_attempts=-1
        )
        divided = account.divided.values()
        self.ledger.restore(account.settled(), account.tally, account.rows, account.searched, divided)

    def agrees(self) -> None:
        """With the ledger, which has counted all the while."""
        account = self.load()
        assert (account.rows, account.tally) == (self.ledger.rows, replace(self.ledger.tally, all_handed_out=False))


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Retried]:
    books = Retried(tmp_path)
    yield books
    books.journal.close()


def test_rows_of_a_completed_run_are_found_in_its_output(books: Retried) -> None:
    books.work({3: "bg", 7: "abcdefgh"})
    books.complete()
    books.retry()
    account = books.load()
    assert account.status is None
    assert books.rows(account) == [row for row in all_but() if row[0] not in "37"]
    assert [(one.index, [found.share for found in one.failed]) for one in account.divided.values()] == [
        (3, [(1, 2), (6, 7)]),
        (7, [(n, n + 1) for n in range(8)]),
    ]
    books.work({})
    books.agrees()
    account = books.load()
    assert (books.rows(account), books.failed(account), account.divided) == (all_but(), [], {})


def test_only_what_failed_is_tried(books: Retried) -> None:
    books.work({3: "bg"})
    books.complete()
    books.retry()
    handed = [books.ledger.hand_out(1)]
    assert [(found.spans[0].first, found.share) for found in handed] == [(3, (1, 2))]


def test_what_fails_again_is_named_with_all_its_attempts(books: Retried) -> None:
    books.work({3: "bg"})
    tried = {item: attempts for item, _, attempts in books.failed(books.load())}
    books.complete()
    books.retry()
    books.work({3: "g"})
    books.agrees()
    assert books.failed(books.load()) == [("3g", 3, tried["3g"] + 2)]


def test_what_is_given_up_as_a_whole_adds_its_attempts_up_too(books: Retried) -> None:
    for number in range(1, 4):
        books.ledger.isolates = False
        books.work({3: "b"})
        assert books.failed(books.load()) == [(item, 3, 2 * number) for item in all_of(3)]
        books.agrees()
        books.complete()
        books.retry(f"retry-{number}")


def test_a_mini_batch_with_items_that_cannot_be_told_apart_is_scored_anew(books: Retried) -> None:
    missing = ItemFailure(3, "3h", Kind.BAD_OUTPUT, "returned 7 results for 8 items", log="", attempts=1)
    short = books.segment(3, "abcdefg", items=8, failed_items=1, header="item")
    books.journal.append(commit_record(Settlement((short,), (missing,), attempts=1), seconds=1))
    books.complete()
    books.retry()
    account = books.load()
    assert (account.settled(), account.rows, account.headers, account.divided) == ([], 0, [], {})
    assert account.tally.short_mini_batches == account.tally.failed_items == account.tally.succeeded_items == 0
    books.work({})
    books.agrees()
    assert books.rows(books.load()) == all_but()


def test_without_shares_a_divided_mini_batch_is_scored_anew_as_a_whole(books: Retried) -> None:
    books.work({3: "bg"})
    books.complete()
    books.retry(shares=False)
    assert books.ledger.hand_out(1).share is None
    assert books.load().divided == {}


def test_a_journal_of_an_earlier_release_has_it_scored_as_a_whole(books: Retried) -> None:
    books.work({3: "bg"})
    records = [record for _, record in journal.read(books.path)]
    os.truncate(books.path, 0)
    for record in records:
        record.pop("shares", None)
        books.journal.append(record)
    books.complete()
    books.retry()
    assert books.ledger.hand_out(1).share is None
    assert books.load().divided == {}


def test_a_part_that_is_gone_takes_all_rows_before_the_retry_with_it(books: Retried) -> None:
    books.work({3: "bg"})
    books.complete()
    books.retry()
    (books.parts / "retry-1").unlink()
    account = books.load()
    assert (account.settled(), account.rows, account.divided) == ([], 0, {})
    books.go_on()
    books.work({})
    assert books.rows(books.load()) == all_but()


@pytest.mark.parametrize(("ends", "retrying"), [(Status.CANCELED, True), (Status.FAILED, False), (None, True)])
def test_an_interrupted_retry_is_known_for_one(books: Retried, ends: Status | None, retrying: bool) -> None:
    books.work({3: "b"})
    books.complete()
    books.retry()
    if ends:
        books.say("end", status=ends)
    assert books.load().retrying is retrying


def test_attempts_at_shares_begin_anew_for_the_search_and_add_up_in_the_report(books: Retried) -> None:
    books.work({3: "b"})
    before = books.load().share_attempts
    books.complete()
    books.retry()
    assert (books.load().share_attempts, books.load().searched) == (before, 0)
    books.work({})
    assert (books.load().share_attempts, books.load().searched) == (before + 1, 1)


def test_a_resume_of_a_failed_retry_scores_what_was_divided_anew(books: Retried) -> None:
    books.work({3: "bg", 5: "a"})
    books.complete()
    books.retry()
    books.work({3: "g"}, 3)
    books.say("end", status=Status.FAILED)
    books.say("resume", forget_failures=True)
    books.go_on()
    books.work({})
    assert books.rows(books.load()) == all_but()


POISON = st.dictionaries(st.integers(0, MINI_BATCHES - 1), st.text("abcdefgh", min_size=1, max_size=8), max_size=4)


@settings(max_examples=60)
@given(st.lists(st.tuples(POISON, st.integers(0, 12), st.booleans()), min_size=1, max_size=4))
def test_whatever_fails_and_whenever_a_driver_is_killed_the_rows_are_exact(
    sessions: list[tuple[dict[int, str], int, bool]],
) -> None:
    with TemporaryDirectory() as folder:
        books = Retried(Path(folder))
        for number, (poison, killed_after, isolates) in enumerate(sessions):
            books.ledger.isolates = isolates
            books.work(poison, killed_after)
            books.go_on()
            books.work(poison)
            books.agrees()
            account = books.load()
            failed = [item for item, *_ in books.failed(account)]
            assert books.rows(account) == all_but(*failed)
            books.complete()
            books.retry(f"retry-{number}", shares=isolates)
        books.work({})
        books.agrees()
        assert books.rows(books.load()) == all_but()
        books.journal.close()
