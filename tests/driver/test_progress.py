from __future__ import annotations

from io import StringIO

import pytest

from daskscore.core.ledger import Ledger
from daskscore.core.model import Failure, Kind, Outcome, Segment
from daskscore.driver.progress import Progress


class Clock:
    """Says what the test wants."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(10, 20, 1, lambda _: 2)


def score(ledger: Ledger, count: int) -> None:
    number, (span,), _ = ledger.hand_out(count)
    ledger.settle(Outcome(number, "node", segments=(Segment(span.first, count, "part", 0, 0, 0, 2 * count),)))


def give_up(ledger: Ledger) -> None:
    number, (span,), _ = ledger.hand_out(1)
    ledger.settle(Outcome(number, "node", failures=(Failure(span.first, Kind.RAISE, "", ""),)))


def watch(stream: StringIO, clock: Clock, ledger: Ledger, seconds: float, step: float = 0.0625) -> None:
    """Show the progress as often as an engine does, for so long."""
    progress = Progress(stream=stream, clock=clock)
    end = clock.now + seconds
    while clock.now < end:
        progress.show(ledger)
        clock.now += step


def test_a_file_gets_a_line_every_ten_seconds(clock: Clock, ledger: Ledger) -> None:
    watch(stream := StringIO(), clock, ledger, 35)
    assert stream.getvalue() == "".join(f"Processed 0 of 10 mini-batches in {n} s.\n" for n in (10, 20, 30))


def test_a_terminal_has_one_line_that_is_rewritten_five_times_a_second(clock: Clock, ledger: Ledger) -> None:
    watch(stream := Terminal(), clock, ledger, 3)
    lines = stream.getvalue().split("\r")
    assert (set(lines), "\n" in stream.getvalue()) == (
        {f"Processed 0 of 10 mini-batches in {n} s." for n in range(4)},
        False,
    )
    assert 10 <= len(lines) <= 15


def test_what_was_given_up_is_processed_too_and_its_items_are_failed(clock: Clock, ledger: Ledger) -> None:
    stream = StringIO()
    progress = Progress(stream=stream, clock=clock)
    progress.show(ledger)
    score(ledger, 3)
    give_up(ledger)
    clock.now += 61
    progress.show(ledger)
    assert stream.getvalue() == "Processed 4 of 10 mini-batches in 61 s, 2 items failed.\n"


def test_a_shorter_line_leaves_nothing_of_the_longer_one_behind(clock: Clock, ledger: Ledger) -> None:
    stream = Terminal()
    progress = Progress(stream=stream, clock=clock)
    progress.show(ledger)
    clock.now += 1
    progress.show(ledger)
    progress.say("short")
    line = "Processed 0 of 10 mini-batches in 1 s."
    assert stream.getvalue() == f"{line}\rshort{' ' * (len(line) - 5)}\n"


def test_an_event_on_a_terminal_does_not_end_up_in_the_line(clock: Clock, ledger: Ledger) -> None:
    stream = Terminal()
    progress = Progress(stream=stream, clock=clock)
    progress.say("first")
    progress.show(ledger)
    clock.now += 1
    progress.show(ledger)
    assert stream.getvalue() == "first\nProcessed 0 of 10 mini-batches in 1 s."


def test_the_last_line_on_a_terminal_is_kept(clock: Clock, ledger: Ledger) -> None:
    stream = Terminal()
    progress = Progress(stream=stream, clock=clock)
    for progress_seconds in (0, 2):
        clock.now += progress_seconds
        progress.show(ledger)
    score(ledger, 10)
    progress.finish(ledger)
    assert stream.getvalue().endswith("\rProcessed 10 of 10 mini-batches in 2 s.\n")


def test_a_run_that_was_too_quick_for_a_line_has_none(clock: Clock, ledger: Ledger) -> None:
    for stream in (StringIO(), Terminal()):
        progress = Progress(stream=stream, clock=clock)
        progress.show(ledger)
        progress.finish(ledger)
        assert stream.getvalue() == ""


def test_quiet_says_nothing(clock: Clock, ledger: Ledger) -> None:
    progress = Progress(stream=(stream := Terminal()), quiet=True, clock=clock)
    for _ in range(3):
        clock.now += 60
        progress.show(ledger)
    progress.say("an event")
    progress.lost(3)
    progress.finish(ledger)
    assert stream.getvalue() == ""


def test_a_lost_worker_is_worth_a_line(clock: Clock) -> None:
    Progress(stream=(stream := StringIO()), clock=clock).lost(7)
    assert stream.getvalue() == "a worker was lost; its 7 mini-batches in flight are tried elsewhere\n"
