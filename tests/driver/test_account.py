from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daskscore.core.fingerprints import fingerprint
from daskscore.core.ledger import GivenUp, Ledger, Settlement
from daskscore.core.model import Failure, ItemFailure, Kind, Segment, Status
from daskscore.core.planning import Named
from daskscore.core.thresholds import Tally
from daskscore.driver import account as accounts
from daskscore.driver.account import Account, commit_record
from daskscore.driver.journal import Journal


@dataclass
class Books:
    """The journal and the parts of a run with two items in each mini-batch, written as the engine writes them."""

    folder: Path
    mini_batches: int = 10
    seconds: float = 0.0

    def __post_init__(self) -> None:
        (self.folder / "parts").mkdir(parents=True)
        self.journal = Journal(self.folder / "journal")

    def items_in(self, index: int, start: int = 0, stop: int | None = None) -> list[Named]:
        return [Named(f"{index}a"), Named(f"{index}b")][start:stop]

    def segment(self, first: int, size: int = 1, *, part: str = "part", text: str = "", **changes: Any) -> Segment:
        """Rows that have reached their part."""
        path = self.folder / "parts" / part
        with path.open("ab") as file:
            offset = file.tell()
            file.write(text.encode())
        segment = Segment(first, size, part, offset, len(text.encode()), text.count("\n"), 2 * size)
        return segment._replace(**changes)

    def commit(
        self,
        *segments: Segment,
        item_failures: Iterable[ItemFailure] = (),
        given_up: Iterable[GivenUp] = (),
        **counts: int,
    ) -> None:
        settlement = Settlement(segments, tuple(item_failures), tuple(given_up), **counts)
        self.journal.append(commit_record(settlement, seconds=self.seconds))

    def say(self, record: str, **values: Any) -> None:
        self.journal.append({"record": record, **values})

    def load(self) -> Account:
        return accounts.load(
            self.folder / "journal",
            parts=self.folder / "parts",
            items=2 * self.mini_batches,
            mini_batches=self.mini_batches,
            count_items=lambda index: len(self.items_in(index)),
        )

    def failed(self) -> list[tuple[str, str, int]]:
        """(item, kind, attempts) as failed_items.jsonl will have them."""
        return [(line["item"], line["kind"], line["attempts"]) for line in self.load().failed_items(self.items_in)]


def failure(index: int, kind: Kind = Kind.RAISE, attempts: int = 3) -> GivenUp:
    return GivenUp(Failure(index, kind, f"{index} went wrong", log="logs/x.txt", traceback="", seconds=0.1), attempts)


def short(index: int, item: str) -> ItemFailure:
    return ItemFailure(index, item, Kind.BAD_OUTPUT, "returned 1 result for 2 items", log="logs/x.txt")


@pytest.fixture
def books(tmp_path: Path) -> Iterable[Books]:
    books = Books(tmp_path)
    yield books
    books.journal.close()


def test_an_empty_journal_has_settled_nothing(books: Books) -> None:
    account = books.load()
    assert (account.tally, account.settled(), list(account.pieces())) == (Tally(20, 10), [], [])
    assert (account.status, account.rows, account.attempts, books.failed()) == (None, 0, 0, [])


def test_rows_are_found_in_plan_order_whatever_the_order_of_the_commits(books: Books) -> None:
    books.commit(books.segment(6, 2, part="x", text="6\n7\n"))
    books.commit(books.segment(0, 3, part="y", text="0\n1\n2\n"), books.segment(3, part="y", text="3\n"))
    assert list(books.load().pieces()) == [("y", 0, 8), ("x", 0, 4)]
    assert books.load().settled() == [(0, 4), (6, 2)]


def test_pieces_that_do_not_touch_are_not_joined(books: Books) -> None:
    first = books.segment(0, part="x", text="0\n")
    books.segment(9, part="x", text="never committed\n")
    books.commit(first, books.segment(1, part="x", text="1\n"))
    assert list(books.load().pieces()) == [("x", 0, 2), ("x", 18, 2)]


def test_mini_batches_without_rows_are_settled_without_a_piece(books: Books) -> None:
    books.commit(books.segment(0), books.segment(1, part="x", text="1\n"), books.segment(2))
    assert (books.load().settled(), list(books.load().pieces())) == ([(0, 3)], [("x", 0, 2)])


def test_counts_are_the_sums_of_all_commits(books: Books) -> None:
    books.commit(books.segment(0, 2, text="a\nb\nc\n"), attempts=3, lost_attempts=1)
    books.commit(given_up=[failure(2)], attempts=1)
    account = books.load()
    assert (account.rows, account.attempts, account.lost_attempts) == (3, 4, 1)
    assert (account.tally.succeeded_items, account.tally.failed_items) == (4, 2)
    assert (account.tally.succeeded_mini_batches, account.tally.given_up_mini_batches) == (2, 1)


def test_failed_items_are_named_in_plan_order_with_what_is_known_of_them(books: Books) -> None:
    books.commit(given_up=[failure(5, Kind.TIMEOUT), failure(3)])
    books.commit(books.segment(4, text="x\n", failed_items=1), item_failures=[short(4, "4b")])
    books.commit(given_up=[failure(0, Kind.CRASH, attempts=1)])
    assert books.failed() == [
        ("0a", "crash", 1),
        ("0b", "crash", 1),
        ("3a", "raise", 3),
        ("3b", "raise", 3),
        ("4b", "bad_output", 1),
        ("5a", "timeout", 3),
        ("5b", "timeout", 3),
    ]


def test_a_failed_item_has_its_mini_batch_message_and_log(books: Books) -> None:
    books.commit(given_up=[failure(1)])
    assert next(books.load().failed_items(books.items_in)) == {
        "item": "1a",
        "mini_batch": 1,
        "attempts": 3,
        "kind": "raise",
        "message": "1 went wrong",
        "log": "logs/x.txt",
        "fingerprint": fingerprint("raise 1 went wrong", ""),
        "seconds": 0.1,
    }


@pytest.mark.timeout(30)
def test_ten_thousand_failures_in_one_record_are_named_without_reading_it_ten_thousand_times(books: Books) -> None:
    books.mini_batches = 10_000
    books.commit(given_up=[failure(index) for index in range(10_000)])
    assert books.failed() == [(item, "raise", 3) for index in range(10_000) for item, _ in books.items_in(index)]


def test_rows_that_have_not_reached_the_disk_are_not_scored(books: Books) -> None:
    books.commit(books.segment(0, text="0\n"), books.segment(1, 2, text="1\n2\n"))
    books.commit(books.segment(3, part="other", text="3\n", failed_items=1), item_failures=[short(3, "3b")])
    with (books.folder / "parts" / "part").open("r+") as part:
        part.truncate(5)
    (books.folder / "parts" / "other").unlink()
    account = books.load()
    assert (account.settled(), list(account.pieces()), account.rows) == ([(0, 1)], [("part", 0, 2)], 1)
    assert (account.tally.succeeded_items, account.tally.failed_items, books.failed()) == (2, 0, [])


def test_what_was_scored_anew_after_its_rows_were_lost_counts_once(books: Books) -> None:
    books.commit(books.segment(0, 2, part="lost", text="0\n1\n"))
    (books.folder / "parts" / "lost").unlink()
    books.commit(books.segment(0, part="new", text="0\n"), books.segment(1, part="new", text="1\n"))
    account = books.load()
    assert (account.settled(), list(account.pieces()), account.rows) == ([(0, 2)], [("new", 0, 4)], 2)


def test_a_completed_run_keeps_its_account_without_its_parts(books: Books) -> None:
    books.commit(books.segment(0, 10, text="x\n" * 10))
    books.say("end", status="Completed")
    (books.folder / "parts" / "part").unlink()
    account = books.load()
    assert (account.status, account.rows, account.tally.succeeded_items) == (Status.COMPLETED, 10, 20)


def test_the_header_of_each_segment_is_kept(books: Books) -> None:
    books.commit(books.segment(4, header="a b\n"))
    books.commit(books.segment(1, header="a\n"))
    assert min(books.load().headers) == (1, "a\n")


def test_the_first_trouble_is_that_of_the_last_session(books: Books) -> None:
    books.say("trouble", traceback="of yesterday", log="old.txt")
    books.say("resume", forget_failures=False)
    assert books.load().first_trouble is None
    books.say("trouble", traceback="of today", log="new.txt")
    assert books.load().first_trouble == ("of today", "new.txt")


def test_a_resumed_run_has_no_status_until_it_ends_again(books: Books) -> None:
    books.say("end", status="Canceled")
    assert books.load().status is Status.CANCELED
    books.say("resume", forget_failures=False)
    assert books.load().status is None


def test_seconds_are_those_of_all_sessions(books: Books) -> None:
    for session in ([3.0, 10.0], [4.0], [1.0, 2.5]):
        for books.seconds in session:
            books.commit(attempts=1)
        books.say("resume", forget_failures=False)
    assert books.load().seconds == 16.5


def test_a_resumed_run_that_had_failed_tries_what_it_had_given_up(books: Books) -> None:
    books.commit(books.segment(0, text="0\n", failed_items=1), item_failures=[short(0, "0b")])
    books.commit(given_up=[failure(1), failure(2)])
    books.say("resume", forget_failures=True)
    assert books.load().settled() == [(0, 1)]
    assert (books.load().tally.given_up_mini_batches, books.load().tally.failed_items) == (0, 1)
    assert books.failed() == [("0b", "bad_output", 1)]


def test_what_a_resumed_run_gives_up_again_counts_once(books: Books) -> None:
    books.commit(given_up=[failure(1), failure(2)])
    books.say("resume", forget_failures=True)
    books.commit(books.segment(1, text="1\n"), given_up=[failure(2, Kind.CRASH, attempts=1)])
    assert books.load().settled() == [(1, 2)]
    assert books.failed() == [("2a", "crash", 1), ("2b", "crash", 1)]
    assert (books.load().tally.succeeded_items, books.load().tally.failed_items) == (2, 2)


def test_a_canceled_run_that_is_resumed_keeps_what_it_had_given_up(books: Books) -> None:
    books.commit(given_up=[failure(1)])
    books.say("resume", forget_failures=False)
    assert (books.load().settled(), len(books.failed())) == ([(1, 1)], 2)


def test_an_account_carries_on_in_the_ledger(books: Books) -> None:
    books.commit(books.segment(2, 3, text="x\n" * 3), given_up=[failure(7)])
    account = books.load()
    ledger = Ledger(10, 20, 3, lambda _: 2)
    ledger.restore(account.settled(), account.tally, account.rows)
    _, spans, _ = ledger.hand_out(100)
    assert [(span.first, span.size) for span in spans] == [(0, 2), (5, 2), (8, 2)]
    assert (ledger.rows, ledger.tally.succeeded_items, ledger.tally.failed_items) == (3, 6, 2)


fates = st.tuples(st.sampled_from(["scored", "silent", "short", "given up", "open"]), st.integers(1, 4))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=st.lists(fates, max_size=12), data=st.data())
def test_any_history_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, plan: list[tuple[str, int]], data: st.DataObject
) -> None:
    sizes = [size if fate in ("scored", "silent") else 1 for fate, size in plan]
    starts = [sum(sizes[:place]) for place in range(len(plan))]
    books = Books(tmp_path_factory.mktemp("run") / "state", mini_batches=sum(sizes))
    order = data.draw(st.permutations(range(len(plan))))
    while order:
        some, order = order[: (n := data.draw(st.integers(1, len(order))))], order[n:]
        commit_fates(books, [(plan[place][0], starts[place], sizes[place]) for place in some])
    books.journal.close()
    account = books.load()

    found = [(fate, first, size) for (fate, _), first, size in zip(plan, starts, sizes, strict=True)]
    assert indices(account.settled()) == [
        i for fate, first, size in found if fate != "open" for i in range(first, first + size)
    ]
    assert all(sum(one) < other[0] for one, other in pairwise(account.settled()))
    rows = b"".join((books.folder / "parts" / part).read_bytes()[at:][:n] for part, at, n in account.pieces())
    assert rows.decode() == "".join(rows_of(fate, first, size) for fate, first, size in found)
    assert account.rows == rows.count(b"\n")
    failed = [f"{first}{which}" for fate, first, _ in found for which in {"short": "b", "given up": "ab"}.get(fate, "")]
    assert [item for item, _, _ in books.failed()] == failed
    assert account.tally.failed_items == len(failed)
    assert account.tally.succeeded_items == 2 * len(indices(account.settled())) - len(failed)
    assert account.tally.given_up_mini_batches == sum(fate == "given up" for fate, _, _ in found)
    assert account.tally.short_mini_batches == sum(fate == "short" for fate, _, _ in found)


def indices(spans: list[tuple[int, int]]) -> list[int]:
    return [index for first, size in spans for index in range(first, first + size)]


def rows_of(fate: str, first: int, size: int) -> str:
    return "".join(f"{index}\n" for index in range(first, first + size)) if fate in ("scored", "short") else ""


def commit_fates(books: Books, fates: list[tuple[str, int, int]]) -> None:
    """One settlement, whose rows are spread over two parts with rubbish between them."""
    segments, item_failures, given_up = [], [], []
    for fate, first, size in fates:
        if fate == "given up":
            given_up.append(failure(first))
        elif fate != "open":
            part = f"part{first % 2}"
            segments.append(
                books.segment(
                    first, size, part=part, text=rows_of(fate, first, size), failed_items=int(fate == "short")
                )
            )
            item_failures += [short(first, f"{first}b")] if fate == "short" else []
            if first % 3 == 0:
                books.segment(first, part=part, text="rows of an attempt that was lost\n")
    books.commit(*segments, item_failures=item_failures, given_up=given_up)
