"""Start a scorer, give it bundles, hold its deadlines, and say what became of each mini-batch, whatever it does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daskscore.core.model import Bundle, Failure, InitFailure, ItemFailure, Kind, Outcome, Segment, Span
from daskscore.core.planning import count_items
from daskscore.core.protocol import Head, Progress
from daskscore.errors import InputError, RunError
from daskscore.worker import process as processes
from daskscore.worker.nursery import STARTS, GuardGone, Nursery, NurseryGone
from daskscore.worker.process import Desk, Ended, ScorerProcess

if TYPE_CHECKING:
    from daskscore.worker.feeding import Delivery, Feed


@dataclass(slots=True)
class _Told:
    """What is known of a bundle so far."""

    spans: tuple[Span, ...]
    plan: bytes = b""
    """The bundle's lines of the plan."""
    next: int = 0
    """How many of the bundle's mini-batches are settled."""
    words: int = 0
    segments: list[Segment] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    item_failures: list[ItemFailure] = field(default_factory=list)
    init_failure: InitFailure | None = None
    before: int = 0
    """How many were settled before the scorer was given what it has in hand."""
    delivery: Delivery | None = None
    """What it has in hand, if that was brought for it."""
    lines: list[bytes] | None = None

    def line(self, position: int) -> bytes:
        """Of the plan; rank mini-batches have none. Asked for those that failed, and those that are brought."""
        if self.lines is None:
            self.lines = self.plan.splitlines()
        return self.lines[position] if position < len(self.lines) else b""

    def begin(self, delivery: Delivery) -> None:
        """The scorer is about to be given one mini-batch."""
        self.delivery, self.before, self.words = delivery, self.next, 0

    def name_of(self, item: str) -> str:
        """In the plan."""
        return self.delivery.names.get(item, item) if self.delivery is not None else item


class Supervisor:
    """One slot: at most one scorer at a time, replaced when it has ended."""

    def __init__(self, desk: Desk, nursery: Callable[[], Nursery], stopping: Callable[[], bool]) -> None:
        self.desk = desk
        self._nursery = nursery
        self._stopping = stopping
        self._scorer: ScorerProcess | None = None
        self._in_hand = self._dropped = -1
        """The bundle that is scored, and the last one that is not wanted any more."""
        self.idle_since = time.monotonic()

    def score(self, bundle: Bundle, feed: Feed | None = None) -> Outcome:
        """Called once per bundle, in a thread of the Dask worker; `feed` brings items that are elsewhere."""
        began = time.monotonic()
        told = _Told(bundle.spans, bundle.lines)
        self._in_hand = bundle.id
        if self._stopping():
            return self._outcome(bundle, told, began)
        if self._scorer is None:
            scorer = self._start()
            if isinstance(scorer, InitFailure):
                told.init_failure = scorer if scorer.kind is not Kind.LOST else None
                return self._outcome(bundle, told, began)
            self._scorer = scorer
            began = time.monotonic()
        try:
            if feed is None:
                self._scorer.give(bundle)
                self._follow(self._scorer, told)
            else:
                self._score_fed(self._scorer, bundle, told, feed)
        except Ended as ended:
            self._account_for_the_dead(self._scorer, told, ended)
            self._scorer.close()
            self._scorer = None
        self.idle_since = time.monotonic()
        return self._outcome(bundle, told, began)

    def drop(self, bundle: int) -> None:
        """Called in another thread."""
        if self._in_hand == bundle:
            self._dropped = bundle

    @property
    def place(self) -> str:
        """Node and process of the scorer that lives."""
        return self._scorer.place if self._scorer is not None else ""

    def end(self) -> None:
        """Let the scorer run its shutdown() and go; kill it when it takes too long."""
        scorer, self._scorer = self._scorer, None
        if scorer is not None:
            scorer.end()

    @property
    def scorer(self) -> tuple[str, int] | None:
        """The name and the PID of the one that lives."""
        scorer = self._scorer
        return (scorer.process, scorer.guard.scorer) if scorer is not None else None

    def rows_taken(self, parts: set[str]) -> None:
        """The rows in these parts have been sent to the driver: give back their space."""
        for part in parts:
            if self._scorer is not None and self._scorer.part == part:
                self._scorer.empty_part()
            else:
                (self.desk.parts / part).unlink(missing_ok=True)

    def preflight(self) -> InitFailure | None:
        """Only import the script, in a scorer that ends at once."""
        scorer = self._start()
        if isinstance(scorer, InitFailure):
            return scorer
        scorer.end()
        return None

    def _new_process(self) -> ScorerProcess:
        for _ in range(STARTS):
            with suppress(GuardGone):
                return ScorerProcess(self.desk, self._nursery())
        raise RunError(
            f"no scorer process could be started: its guard ended {STARTS} times before its first word. Is this machine out "
            "of processes or memory?"
        )

    def _start(self) -> ScorerProcess | InitFailure:
        try:
            scorer = self._new_process()
        except NurseryGone:
            return InitFailure(Kind.LOST, "the nursery of the scorer processes was killed", "")
        except InputError as error:
            return InitFailure(Kind.INPUT, str(error), "")
        except OSError as error:
            raise RunError(
                f"{error.strerror}: {error.filename or 'a scorer'} cannot be made. What is committed is kept: once the "
                "cause is mended, run the same command with --resume"
            ) from error
        limit = self.desk.limits.init_seconds
        began = time.monotonic()
        deadline = began + limit
        wanted = "loaded" if self.desk.settings["only_load"] else "ready"
        try:
            scorer.prepare()
            while (word := scorer.hear()) is None or word["word"] != wanted:
                if word is not None and word["word"] == "loaded":
                    scorer.doing = "in init()"
                if word is not None and word["word"] == "stuck":
                    scorer.end()
                    raise _stuck(scorer, word)
                if word is not None and word["word"] == "broken":
                    scorer.end(word["message"])
                    return InitFailure(Kind.RAISE, word["message"], scorer.error_log, word["traceback"])
                if time.monotonic() > deadline:
                    raise scorer.kill(Kind.TIMEOUT, f"it takes more than {limit:g} s (init_timeout)")
                scorer.check_memory()
                if self._stopping():
                    raise scorer.kill(Kind.LOST, "the run was stopped before init() returned")
        except Ended as ended:
            scorer.close()
            what = "run init()" if scorer.doing == "in init()" else f"load {self.desk.settings['entry_script']}"
            message = f"cannot {what}: {ended}"
            return InitFailure(ended.kind, message, scorer.stderr_log, scorer.stood(ended, message))
        self.desk.log.say(f"{scorer.process} is ready: the script and init() took {time.monotonic() - began:.3f} s.")
        return scorer

    def _score_fed(self, scorer: ScorerProcess, bundle: Bundle, told: _Told, feed: Feed) -> None:
        """One mini-batch after the other, each as soon as its items are here."""
        deadline = time.monotonic() + bundle.box_seconds
        spans = [Span(index, 1, span.tries) for span in bundle.spans for index in range(span.first, span.stop)]
        for position, span in enumerate(spans):
            if told.next and time.monotonic() > deadline:
                return
            while (delivery := feed.next(processes.LOOK_SECONDS)) is None:
                if self._stopping():
                    return
            if self._stopping():
                return
            if delivery.failure:
                failure = Failure(
                    span.first,
                    Kind.INPUT,
                    delivery.failure,
                    scorer.stdout_log,
                    may_pass=delivery.may_pass,
                    place=scorer.place,
                )
                told.failures.append(failure)
                told.next += 1
                scorer.attempts.failed(failure, span.tries, told.line(position), 0.0, loading=True)
                continue
            before = told.next
            told.begin(delivery)
            line = told.line(position)
            given = Bundle(bundle.id, (span,), delivery.line, bundle.box_seconds)
            scorer.give(given, line=line.decode("ascii"), lost=len(delivery.lost))
            self._follow(scorer, told)
            if told.next == before or self._scorer is None:
                return
            feed.done(delivery.position)

    def _follow(self, scorer: ScorerProcess, told: _Told) -> None:
        """Until the bundle is over or the scorer has ended."""
        limits = self.desk.limits
        heard = time.monotonic()
        stop_by: float | None = None
        while True:
            word = scorer.hear()
            now = time.monotonic()
            if word is not None:
                heard = now
                if word["word"] == "end":
                    if scorer.over_limit():
                        self.end()
                    return
                self._note(scorer, told, word)
                continue
            if stop_by is None and self._stopping():
                scorer.mark.ask_to_stop()
                stop_by = now + processes.GRACE_SECONDS
            progress = scorer.mark.read()
            in_run = progress.position >= 0 and progress.words == told.words
            if in_run:
                heard = max(heard, abs(progress.started))
                if progress.started < 0 and now + progress.started > limits.overhead_seconds:
                    raise scorer.kill(
                        Kind.TIMEOUT, f"the records could not be read within {limits.overhead_seconds:g} s"
                    )
                if progress.started >= 0 and now - progress.started > limits.run_seconds:
                    raise scorer.kill(Kind.TIMEOUT, f"run() gave no answer within {limits.run_seconds:g} s")
            elif now - heard > limits.overhead_seconds:
                raise scorer.kill(
                    Kind.TIMEOUT, f"the scorer gave no sign of life for {limits.overhead_seconds:g} s outside run()"
                )
            if self._dropped == self._in_hand:
                raise scorer.kill(Kind.LOST, "another attempt was faster")
            if stop_by is not None and now > stop_by:
                raise scorer.kill(Kind.LOST, "the run was stopped")
            scorer.check_memory()

    def _note(self, scorer: ScorerProcess, told: _Told, word: Head) -> None:
        if word["word"] == "stuck":
            self.end()
            raise _stuck(scorer, word)
        if word["word"] not in ("scored", "failed"):
            raise scorer.kill(Kind.CRASH, "the scorer spoke out of turn. Does the script fork and go on in the child?")
        told.words += 1
        if word["word"] == "scored":
            lost = told.delivery.lost if told.delivery is not None else []
            segment = scorer.segment(
                word["first"], word["done"], word["length"], word["rows"], word["items"] + len(lost)
            )
            failed = word.get("failed_items", 0) + len(lost)
            segment = segment._replace(failed_items=failed, header=word.get("header"))
            told.segments.append(segment)
            scorer.attempts.sums.scored(segment)
            of = {"seconds": word.get("seconds", 0.0), "peak_memory": word.get("peak", 0), "place": scorer.place}
            told.item_failures += [
                ItemFailure(word["first"], item, Kind.INPUT, message, scorer.stdout_log, **of) for item, message in lost
            ]
            told.item_failures += [
                ItemFailure(
                    word["first"],
                    told.name_of(item["item"]),
                    Kind(item["kind"]),
                    item["message"],
                    scorer.stdout_log,
                    items=item.get("items", 1),
                    **of,
                )
                for item in word.get("named", ())
            ]
            told.next += word["done"]
        else:
            log = scorer.error_log if word["traceback"] else scorer.stdout_log
            told.failures.append(
                Failure(
                    word["index"],
                    Kind(word["kind"]),
                    word["message"],
                    log,
                    word["traceback"],
                    retry_after=word.get("retry_after"),
                    seconds=word["seconds"],
                    place=scorer.place,
                    peak_memory=word["peak"],
                )
            )
            line = told.line(told.next)
            scorer.attempts.sums.failed(count_items(line) if line else 1)
            told.next += 1

    def _account_for_the_dead(self, scorer: ScorerProcess, told: _Told, ended: Ended) -> None:
        """What the scorer had said, what it had marked as done, and which mini-batch it was at when it ended."""
        for word in scorer.last_words():
            if word["word"] in ("scored", "failed", "stuck"):
                self._note(scorer, told, word)
        progress = scorer.mark.read()
        failure: Failure | None = None
        if progress.words == told.words:
            self._take_marked(scorer, told, progress)
            failure = self._blamed(scorer, told, ended, progress)
        rest = next(_rest(told.spans, told.next), None)
        scorer.attempts.rescue(rest.first if rest is not None else -1)
        if failure is not None and rest is not None:
            told.failures.append(failure)
            line = told.line(told.next)
            scorer.attempts.failed(failure, rest.tries, line, failure.seconds, loading=progress.started < 0)
            told.next += 1

    def _take_marked(self, scorer: ScorerProcess, told: _Told, progress: Progress) -> None:
        if not progress.done:
            return
        first = next(_rest(told.spans, told.next)).first
        lost = told.delivery.lost if told.delivery is not None else []
        segment = scorer.segment(first, progress.done, progress.length, progress.rows, progress.items + len(lost))
        segment = segment._replace(failed_items=len(lost))
        told.segments.append(segment)
        scorer.attempts.sums.scored(segment)
        told.item_failures += [
            ItemFailure(first, item, Kind.INPUT, message, scorer.stdout_log, place=scorer.place)
            for item, message in lost
        ]
        told.next += progress.done

    def _blamed(self, scorer: ScorerProcess, told: _Told, ended: Ended, progress: Progress) -> Failure | None:
        """The mini-batch that was in hand when the scorer ended, if that was its doing."""
        if progress.position < 0 or progress.position != told.next - told.before or ended.kind is Kind.LOST:
            return None
        seconds = ended.at - abs(progress.started)
        if ended.kind is Kind.TIMEOUT and progress.started >= 0 and seconds <= self.desk.limits.run_seconds:
            return None  # The one that took too long came to its end after all, before it could be killed.
        index = next(_rest(told.spans, told.next)).first
        return Failure(
            index,
            ended.kind,
            str(ended),
            scorer.stderr_log,
            scorer.stood(ended, f"mini-batch {index}: {ended}"),
            seconds=seconds,
            place=scorer.place,
            peak_memory=ended.peak_bytes,
            signal=ended.signal,
            exit_code=ended.exit_code,
        )

    def _outcome(self, bundle: Bundle, told: _Told, began: float) -> Outcome:
        return Outcome(
            bundle=bundle.id,
            node=self.desk.node,
            segments=tuple(told.segments),
            failures=tuple(told.failures),
            item_failures=tuple(told.item_failures),
            unstarted=tuple(_rest(bundle.spans, told.next)),
            init_failure=told.init_failure,
            initialized=self._scorer is not None or told.next > 0,
            seconds=time.monotonic() - began,
        )


def _stuck(scorer: ScorerProcess, word: Head) -> RunError:
    return RunError(f"{word['message']}: {scorer.part_path}")


def _rest(spans: tuple[Span, ...], done: int) -> Iterator[Span]:
    """The spans without their first `done` mini-batches."""
    for span in spans:
        if done < span.size:
            yield Span(span.first + done, span.size - done, span.tries)
        done = max(0, done - span.size)
