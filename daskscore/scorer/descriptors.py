"""The descriptors of a scorer: standard ones that survive the script, and ours out of its way."""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import errno
import faulthandler
import fcntl
import io
import os
import select
import sys
from typing import Any

OUT_OF_THE_WAY = 200
"""Descriptors from here on are ours; a script that closes "all" of the first hundred does not meet them."""


def redirect(stdout_log: str, stderr_log: str) -> None:
    """Standard output and error become the user's log files, whatever is printed; never a pipe that could fill."""
    for fd, path in ((1, stdout_log), (2, stderr_log)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, fd)
        os.close(file)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    # Python's own streams stand on descriptors of their own: prints go on after a script has closed 1 or 2.
    _SPARE[:] = [move_up(os.dup(fd)) for fd in (0, 1, 2)]
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


def mend_standard_descriptors() -> None:
    """A script has closed some: the programs that it starts later must not find something else of ours there."""
    for fd, event in _CLOSED.poll(0):
        if event & select.POLLNVAL:
            with contextlib.suppress(OSError):
                os.dup2(_SPARE[fd], fd)


def move_up(fd: int) -> int:
    """The same descriptor at a number that scripts do not touch, and that their programs do not inherit."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, OUT_OF_THE_WAY)
    os.close(fd)
    return moved
