"""Score bundles with the user's script until the command pipe closes.

Forked by the guard, on three descriptors. Frames in: first the settings, then `{"do": "score"}` with a bundle's spans
and, as the body, its lines of the plan. Frames out, each a word about what came before it:

    {"word": "loaded"}                 the script is imported (all that a preflight wants)
    {"word": "broken", …}              it is not; or init() raised
    {"word": "ready"}                  init() has returned
    {"word": "scored", segment}        consecutive mini-batches have their rows in the part
    {"word": "failed", failure}        one mini-batch has no rows
    {"word": "end", next}              the bundle is over; mini-batches from position `next` on were not started
    {"word": "stuck", …}               the part cannot be written; the run cannot go on

Rows go to the part file at once, so what is said or marked as done survives this process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from types import GeneratorType
from typing import NoReturn

from daskscore.core.attempts import Recent
from daskscore.core.model import Kind
from daskscore.core.planning import Content, count_items
from daskscore.core.protocol import Frames, Head, Mark, send
from daskscore.scorer import stacks, standins
from daskscore.scorer.attempts import Attempts
from daskscore.scorer.context import MiniBatchContext
from daskscore.scorer.descriptors import mend_standard_descriptors, move_up, redirect
from daskscore.scorer.joining import Beside, Join
from daskscore.scorer.loading import CannotRead, loader
from daskscore.scorer.refused import without_refused
from daskscore.scorer.rows import BadOutput, RowFormat
from daskscore.scorer.script import BrokenScript, Script, advice, load, user_traceback
from daskscore.scorer.transient import retry_after

MESSAGE_CHARACTERS = 4_000
TRACEBACK_CHARACTERS = 40_000
LOG_CHARACTERS = 1_000_000
"""Of one failure: in what is told to the driver, and in the log."""


def main(commands: int, words: int, mark: int) -> None:
    """The whole life of a scorer."""
    commands, words, mark = (move_up(fd) for fd in (commands, words, mark))
    stacks.begin(mark)
    frames = Frames(commands)
    first = frames.read()
    if first is None:
        return
    settings, _ = first
    redirect(settings["stdout_log"], settings["stderr_log"])
    pid = os.getpid()
    try:
        script = _prepare(settings)
        _only_in(pid)
        stacks.be_ready(mark)
    except BaseException as error:
        _only_in(pid)
        _say_broken(words, settings, error, while_doing=f"load {settings['entry_script']}")
        return
    send(words, {"word": "loaded"})
    if settings["only_load"]:
        return
    try:
        if script.init is not None:
            script.init()
        _only_in(pid)
        stacks.be_ready(mark)
        scorer = Scorer(settings, script, words=words, page=mark)
    except BaseException as error:
        _only_in(pid)
        _say_broken(words, settings, error, while_doing="run init()")
        return
    send(words, {"word": "ready"})
    while (frame := frames.read()) is not None:
        scorer.score(*frame)
    if script.shutdown is not None:
        with _errors_logged(settings):
            script.shutdown()


class Scorer:
    """One script, its part file, and what it has told the supervisor so far."""

    def __init__(self, settings: Head, script: Script, *, words: int, page: int) -> None:
        self.script = script
        self.words = words
        self.mark = Mark.open(page)
        self.format = RowFormat(**settings["rows"])
        self.join = Join(**settings["join"]) if settings["join"] else None
        self.content = Content(settings["content"])
        self.loader = loader(self.content, settings["readings"])
        self.error_log: str = settings["error_log"]
        self.pid = os.getpid()
        self.part = self._open_part(settings["part"])
        self.attempts = self._open_attempts(settings, page)
        self.sent = 0
        self.header: str | None = None
        self.run_seconds = 0.0
        """Of the attempt in hand."""
        self._start_segment(0)

    def score(self, command: Head, body: bytes) -> None:
        """Score one bundle, mini-batch by mini-batch, until it is done, its time is up or the worker says stop."""
        lines = iter(body.decode("ascii").split("\n"))
        deadline = time.monotonic() + command["box_seconds"]
        self.sent = 0
        self.attempts.begin_bundle(command)
        position = expected = 0
        for index, tries in _mini_batches(command["spans"]):
            now = time.monotonic()
            if self.mark.stop_asked or (now > deadline and position > 0):
                break
            if index != expected or not self.done:
                self._tell_segment()
                self._start_segment(index)
            expected = index + 1
            # While it is read, the time of run() does not pass: a negative beginning says so.
            started = -now if self.loader.reads else now
            self.mark.write(self.sent, position, started, self.done, self.rows, self.items, self.length)
            line = "" if self.content is Content.RANK else next(lines)
            self.attempts.begin(index, tries, line, now)
            self._score_one(index, tries, position, line)
            position += 1
        self._tell_segment()
        self._start_segment(0)
        self.mark.write(self.sent, -1, 0.0, 0, 0, 0, 0)
        self.attempts.flush()
        send(self.words, {"word": "end", "next": position})

    def _score_one(self, index: int, tries: int, position: int, line: str) -> None:
        mend_standard_descriptors()
        self.run_seconds = 0.0
        try:
            given = self.loader.load(index, line)
        except CannotRead as error:
            self._fail(index, Kind.INPUT, str(error), "", items=count_items(line.encode()))
            return
        if self.loader.reads:
            now = time.monotonic()
            self.mark.write(self.sent, position, now, self.done, self.rows, self.items, self.length)
        if given.notes:
            self._keep("".join(f"mini-batch {index}: {note}\n" for note in given.notes))
        standins.Place.here.mini_batch = index
        beside: Beside | None = None
        try:
            beside = self.join.beside(given) if self.join is not None else None
        except BadOutput as error:
            self._fail(index, Kind.BAD_OUTPUT, str(error), "", items=given.items)
            return
        began = time.monotonic()
        try:
            if self.script.takes_context:
                result = self.script.run(given.mini_batch, MiniBatchContext(index, tries, given.keys))
            else:
                result = self.script.run(given.mini_batch)
            if isinstance(result, GeneratorType):
                result = list(result)
            self._only_here()
        except BaseException as error:
            self.run_seconds = time.monotonic() - began
            kind = Kind.MEMORY if isinstance(error, MemoryError) else Kind.RAISE
            message = f"run() raised {_brief(error)}"
            after = retry_after(error)
            self._fail(index, kind, message, user_traceback(error), items=given.items, after=after)
            return
        self.run_seconds = time.monotonic() - began
        try:
            result, refused = without_refused(result, given)
            if beside is not None and self.join is not None:
                result = self.join(result, beside.without([position for position, _ in refused]))
            rows = self.format.render(result)
        except BadOutput as error:
            self._fail(index, Kind.BAD_OUTPUT, str(error), "", items=given.items)
            return
        except BaseException as error:
            kind = Kind.MEMORY if isinstance(error, MemoryError) else Kind.BAD_OUTPUT
            message = f"what run() returned cannot be written: {_brief(error)}"
            self._fail(index, kind, message, user_traceback(error), items=given.items)
            return
        given.lost += [given.refused(position, reason) for position, reason in refused]
        short = max(0, given.present - len(refused) - rows.number)
        failed = len(given.lost) + short
        if failed or rows.header != self.header:
            self._tell_segment()
            self._start_segment(index)
            self.header = rows.header
        self._write(rows.data)
        self.done += 1
        self.rows += rows.number
        self.items += given.items
        if not failed:
            self.attempts.done(given.items, 0, self.run_seconds)
        else:
            words = _short(index, given.present, rows.number) if short else given.lost[0]["message"]
            kind = Kind.BAD_OUTPUT if short else given.lost[0]["kind"]
            self.attempts.done(given.items, failed, self.run_seconds, kind, words)
            named = given.after(rows.number, words) if short else []
            self._tell_segment(failed, given.lost + named)
            self._start_segment(index + 1)

    def _only_here(self) -> None:
        _only_in(self.pid)

    def _open_attempts(self, settings: Head, page: int) -> Attempts:
        place = settings["place"]
        try:
            return Attempts(settings["attempts"], f"{settings['node']}/{place['process']}", Recent.open(page))
        except OSError as error:
            self._stuck(error)

    def _open_part(self, path: str) -> int:
        try:
            return move_up(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        except OSError as error:
            self._stuck(error)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self.part, view) :]
        except OSError as error:
            self._stuck(error)
        self.length += len(data)

    def _stuck(self, error: OSError) -> NoReturn:
        doing = f"while opening {error.filename}" if error.filename else "while writing rows"
        send(self.words, {"word": "stuck", "message": f"{error.strerror} ({doing})"})
        os._exit(1)

    def _start_segment(self, first: int) -> None:
        self.first = first
        self.done = self.rows = self.items = self.length = 0
        self.header = None

    def _tell_segment(self, failed_items: int = 0, named: Sequence[Head] = ()) -> None:
        if not self.done:
            return
        word: Head = {
            "word": "scored",
            "first": self.first,
            "done": self.done,
            "rows": self.rows,
            "items": self.items,
            "length": self.length,
        }
        if self.header is not None:
            word["header"] = self.header
        if failed_items:
            word |= {"failed_items": failed_items, "named": named, **self._cost()}
        self._say(word)

    def _fail(
        self, index: int, kind: Kind, message: str, trace: str, *, items: int, after: float | None = None
    ) -> None:
        self._only_here()
        self.attempts.failed(items, self.run_seconds, kind, message)
        self._tell_segment()
        self._start_segment(index + 1)
        if trace:
            self._keep(f"mini-batch {index}: {message}\n{trace}\n")
        told = shortened(trace, TRACEBACK_CHARACTERS)
        word: Head = {"word": "failed", "index": index, "kind": kind, "message": message, "traceback": told}
        if after is not None:
            word["retry_after"] = after
        self._say(word | self._cost())

    def _cost(self) -> Head:
        """What the attempt took that failed, and the most bytes that this process has held."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1024 if sys.platform == "linux" else 1)
        return {"seconds": round(time.monotonic() - self.attempts.began, 6), "peak": peak}

    def _keep(self, text: str) -> None:
        """In the log; a full disk ends the run with the next row."""
        with contextlib.suppress(OSError):
            _log(self.error_log, text)

    def _say(self, word: Head) -> None:
        send(self.words, word)
        self.sent += 1
        self.mark.write(self.sent, -1, 0.0, 0, 0, 0, 0)


def _only_in(pid: int) -> None:
    """A child that the script forked, and that comes back out of it, must not go on as a second scorer."""
    if os.getpid() != pid:
        os._exit(0)


def _mini_batches(spans: list[list[int]]) -> Iterator[tuple[int, int]]:
    for first, count, tries in spans:
        for index in range(first, first + count):
            yield index, tries


def _short(index: int, items: int, rows: int) -> str:
    known = "" if not rows else ". Which of them are missing is not known; the last ones are named"
    return f"run() returned {rows} results for the {items} items of mini-batch {index}{known}"


def _prepare(settings: Head) -> Script:
    sys.argv = [settings["entry_script"], *settings["arguments"]]
    logging.basicConfig(
        stream=sys.stdout, level=settings["logging_level"], format="%(asctime)s|%(levelname)s|%(process)d|%(message)s"
    )
    place = standins.Place(**settings["place"])
    if place.model_folder:
        os.environ["AZUREML_MODEL_DIR"] = place.model_folder
    if place.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = place.gpus
    standins.install(place)
    return load(settings["entry_script"], settings["source_directory"])


def _say_broken(words: int, settings: Head, error: BaseException, *, while_doing: str) -> None:
    trace = "" if isinstance(error, BrokenScript) else shortened(user_traceback(error), TRACEBACK_CHARACTERS)
    message = str(error) if isinstance(error, BrokenScript) else f"cannot {while_doing}: {_brief(error)}{advice(error)}"
    with contextlib.suppress(OSError):
        _log(settings["error_log"], f"{message}\n{trace}\n")
    send(words, {"word": "broken", "message": message, "traceback": trace})


@contextlib.contextmanager
def _errors_logged(settings: Head) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        _log(settings["error_log"], f"shutdown() raised {_brief(error)}\n{user_traceback(error)}\n")


def _brief(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:
        text = "(its text cannot be made)"
    text = shortened(text, MESSAGE_CHARACTERS)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def shortened(text: str, most: int) -> str:
    """Its beginning and its end, where an exception carries a whole data set in its text."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]} … ({len(text)} characters) … {text[-most // 2 :]}"


def _log(path: str, text: str) -> None:
    text = shortened(text, LOG_CHARACTERS)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, text.encode(errors="backslashreplace"))
    finally:
        os.close(fd)
