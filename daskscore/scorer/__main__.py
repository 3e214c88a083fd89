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

import codecs
import contextlib
import ctypes
import errno
import faulthandler
import fcntl
import io
import json
import logging
import os
import select
import sys
import time
from collections.abc import Iterator
from types import GeneratorType
from typing import Any, NoReturn

from daskscore.core.model import Kind
from daskscore.core.protocol import Frames, Head, Mark, send
from daskscore.scorer import standins
from daskscore.scorer.context import MiniBatch, MiniBatchContext
from daskscore.scorer.rows import BadOutput, RowFormat
from daskscore.scorer.script import BrokenScript, Script, advice, load, user_traceback

OUT_OF_THE_WAY = 200
"""Descriptors from here on are ours; a script that closes "all" of the first hundred does not meet them."""


def main(commands: int, words: int, mark: int) -> None:
    """The whole life of a scorer."""
    commands, words, mark = (_move_up(fd) for fd in (commands, words, mark))
    frames = Frames(commands)
    first = frames.read()
    if first is None:
        return
    settings, _ = first
    _redirect(settings)
    try:
        script = _prepare(settings)
    except BaseException as error:
        _say_broken(words, settings, error, while_doing=f"load {settings['entry_script']}")
        return
    send(words, {"word": "loaded"})
    if settings["only_load"]:
        return
    if script.init is not None:
        try:
            script.init()
        except BaseException as error:
            _say_broken(words, settings, error, while_doing="run init()")
            return
    send(words, {"word": "ready"})
    scorer = Scorer(settings, script, words=words, mark=Mark.open(mark))
    while (frame := frames.read()) is not None:
        scorer.score(*frame)
    if script.shutdown is not None:
        with _errors_logged(settings):
            script.shutdown()


class Scorer:
    """One script, its part file, and what it has told the supervisor so far."""

    def __init__(self, settings: Head, script: Script, *, words: int, mark: Mark) -> None:
        self.script = script
        self.words = words
        self.mark = mark
        self.format = RowFormat(**settings["rows"])
        self.rank: bool = settings["rank"]
        self.files: bool = settings["files"]
        self.error_log: str = settings["error_log"]
        self.pid = os.getpid()
        self.part = self._open_part(settings["part"])
        self.sent = 0
        self.header: str | None = None
        self._start_segment(0)

    def score(self, command: Head, body: bytes) -> None:
        """Score one bundle, mini-batch by mini-batch, until it is done, its time is up or the worker says stop."""
        lines = iter(body.decode("ascii").split("\n"))
        deadline = time.monotonic() + command["box_seconds"]
        self.sent = 0
        position = expected = 0
        for index, tries in _mini_batches(command["spans"]):
            now = time.monotonic()
            if self.mark.stop_asked or (now > deadline and position > 0):
                break
            if index != expected or not self.done:
                self._tell_segment()
                self._start_segment(index)
            expected = index + 1
            self.mark.write(self.sent, position, now, self.done, self.rows, self.items, self.length)
            items = [] if self.rank else json.loads(next(lines))
            self._score_one(index, tries, items)
            position += 1
        self._tell_segment()
        self._start_segment(0)
        self.mark.write(self.sent, -1, 0.0, 0, 0, 0, 0)
        send(self.words, {"word": "end", "next": position})

    def _score_one(self, index: int, tries: int, items: list[str]) -> None:
        _mend_standard_descriptors()
        there = [item for item in items if os.access(item, os.R_OK)] if self.files else items
        gone = [item for item in items if item not in there] if len(there) < len(items) else []
        if gone and not there:
            self._fail(index, Kind.INPUT, _cannot_read(gone[0]), "")
            return
        mini_batch = MiniBatch(there, index)
        standins.Place.here.mini_batch = index
        try:
            if self.script.takes_context:
                result = self.script.run(mini_batch, MiniBatchContext(index, tries))
            else:
                result = self.script.run(mini_batch)
            if isinstance(result, GeneratorType):
                result = list(result)
            self._only_here()
        except BaseException as error:
            kind = Kind.MEMORY if isinstance(error, MemoryError) else Kind.RAISE
            self._fail(index, kind, f"run() raised {_brief(error)}", user_traceback(error))
            return
        try:
            rows = self.format.render(result)
        except BadOutput as error:
            self._fail(index, Kind.BAD_OUTPUT, str(error), "")
            return
        except BaseException as error:
            kind = Kind.MEMORY if isinstance(error, MemoryError) else Kind.BAD_OUTPUT
            message = f"what run() returned cannot be written: {_brief(error)}"
            self._fail(index, kind, message, user_traceback(error))
            return
        total = len(items) or 1
        short = 0 if self.rank else max(0, len(there) - rows.number)
        if short or gone or rows.header != self.header:
            self._tell_segment()
            self._start_segment(index)
            self.header = rows.header
        self._write(rows.data)
        self.done += 1
        self.rows += rows.number
        self.items += total
        if short or gone:
            self._tell_segment(failed_items=short + len(gone), short=(there, rows.number) if short else None, gone=gone)
            self._start_segment(index + 1)

    def _only_here(self) -> None:
        """A child that the script forked and let return from run() must not go on as a second scorer."""
        if os.getpid() != self.pid:
            os._exit(0)

    def _open_part(self, path: str) -> int:
        try:
            return _move_up(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
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
        send(self.words, {"word": "stuck", "message": f"{error.strerror} (while writing rows)"})
        os._exit(1)

    def _start_segment(self, first: int) -> None:
        self.first = first
        self.done = self.rows = self.items = self.length = 0
        self.header = None

    def _tell_segment(
        self, *, failed_items: int = 0, short: tuple[list[str], int] | None = None, gone: list[str] | None = None
    ) -> None:
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
            word["failed_items"] = [_input_failure(item) for item in gone or ()]
            if short is not None:
                items, count = short
                message = _short(self.first, len(items), count)
                word["failed_items"] += [
                    {"item": item, "kind": Kind.BAD_OUTPUT, "message": message} for item in items[count:]
                ]
        self._say(word)

    def _fail(self, index: int, kind: Kind, message: str, trace: str) -> None:
        self._only_here()
        self._tell_segment()
        self._start_segment(index + 1)
        if trace:
            _log(self.error_log, f"mini-batch {index}: {message}\n{trace}\n")
        self._say({"word": "failed", "index": index, "kind": kind, "message": message, "traceback": trace})

    def _say(self, word: Head) -> None:
        send(self.words, word)
        self.sent += 1
        self.mark.write(self.sent, -1, 0.0, 0, 0, 0, 0)


def _mini_batches(spans: list[list[int]]) -> Iterator[tuple[int, int]]:
    for first, count, tries in spans:
        for index in range(first, first + count):
            yield index, tries


def _cannot_read(item: str) -> str:
    try:
        os.stat(item)
    except OSError as error:
        return f"{item} cannot be read: {error.strerror}. It was there when the run was planned"
    return f"{item} cannot be read: Permission denied. Give this user the right to read it"


def _input_failure(item: str) -> dict[str, str]:
    return {"item": item, "kind": Kind.INPUT, "message": _cannot_read(item)}


def _short(index: int, items: int, rows: int) -> str:
    known = "" if not rows else ". Which of them are missing is not known; the last ones are named"
    return f"run() returned {rows} results for the {items} items of mini-batch {index}{known}"


def _prepare(settings: Head) -> Script:
    sys.argv = [settings["entry_script"], *settings["arguments"]]
    logging.basicConfig(
        stream=sys.stdout, level=settings["logging_level"], format="%(asctime)s|%(levelname)s|%(process)d|%(message)s"
    )
    standins.install(standins.Place(**settings["place"]))
    return load(settings["entry_script"], settings["source_directory"])


def _redirect(settings: Head) -> None:
    """Standard output and error become the user's log files, whatever is printed; never a pipe that could fill."""
    for fd, path in ((1, settings["stdout_log"]), (2, settings["stderr_log"])):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, fd)
        os.close(file)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    # Python's own streams stand on descriptors of their own: prints go on after a script has closed 1 or 2.
    _SPARE[:] = [_move_up(os.dup(fd)) for fd in (0, 1, 2)]
    sys.stdin = sys.__stdin__ = open(_SPARE[0], closefd=False)  # type: ignore[misc]  # noqa: SIM115
    sys.stdout = sys.__stdout__ = _stream(_SPARE[1], "daskscore")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _stream(_SPARE[2], "backslashreplace")  # type: ignore[misc]
    faulthandler.enable(_SPARE[2])
    _line_buffer_c()


def _stream(fd: int, errors: str) -> io.TextIOWrapper:
    """Nothing waits in a buffer, where a crash would lose it."""
    codecs.register_error("daskscore", _any_text)
    raw = _LogFile(fd, "w", closefd=False)
    return io.TextIOWrapper(raw, encoding="utf-8", errors=errors, write_through=True)


class _LogFile(io.FileIO):
    """On a full disk a print is lost; it is no failure of the script, and the next row ends the run with the cause."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return memoryview(data).nbytes


def _any_text(error: UnicodeError) -> tuple[str | bytes, int]:
    """The bytes of a file name come out as they went in; what is no text at all is shown as an escape."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


def _line_buffer_c() -> None:
    """What C code prints, neither."""
    libc = ctypes.CDLL(None)
    with contextlib.suppress(ValueError, AttributeError):
        libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, 1, 0)


_SPARE = [-1, -1, -1]
"""Copies of the standard descriptors."""

_CLOSED = select.poll()
"""Tells, in one system call, which of the standard descriptors are no longer open."""
for _fd in range(len(_SPARE)):
    _CLOSED.register(_fd, 0)


def _mend_standard_descriptors() -> None:
    """A script has closed some: the programs that it starts later must not find something else of ours there."""
    for fd, event in _CLOSED.poll(0):
        if event & select.POLLNVAL:
            with contextlib.suppress(OSError):
                os.dup2(_SPARE[fd], fd)


def _say_broken(words: int, settings: Head, error: BaseException, *, while_doing: str) -> None:
    trace = "" if isinstance(error, BrokenScript) else user_traceback(error)
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
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _log(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, text.encode(errors="backslashreplace"))
    finally:
        os.close(fd)


def _move_up(fd: int) -> int:
    """The same descriptor at a number that scripts do not touch, and that their programs do not inherit."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, OUT_OF_THE_WAY)
    os.close(fd)
    return moved
