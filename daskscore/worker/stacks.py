"""Where a scorer stood when its time was up, in the words of a traceback."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from daskscore.core.fingerprints import STOOD
from daskscore.core.tracebacks import end_of

NATIVE_SECONDS = 3.0
"""How long py-spy may look at a process."""

DUMP_BYTES = 1 << 20
NATIVE_CHARACTERS = 10_000
CHARACTERS = 40_000

_OURS = (str(Path(__file__).parents[1]) + os.sep, "<frozen ", "<string>")
"""What daskscore's own frames stand in, and those that import the script."""
_NATIVE_OURS = re.compile(r"\((daskscore/|<string>:|<frozen )")

_HEADER = re.compile(r".*0x([0-9a-f]+).*\(most recent call first\):$")
_FRAME = re.compile(r'  File "(.*)", line (\S+) in (.*)$')


def told(dump: bytes, native: str, message: str) -> str:
    """What faulthandler has written, in a process whose main thread stands first in the dump; empty if it has not.

    The main thread comes last and its newest call at its end, because it is the end that is kept of a long text.
    """
    main, _, text = dump.decode("ascii", "replace").partition("\n")
    stacks = _stacks(text)
    mine = stacks.pop(int(main, 16), None) if re.fullmatch(r"[0-9a-f]+", main) else None
    alike: dict[str, list[int]] = {}
    for thread, frames in stacks.items():
        if any(not _is_ours(frame) for frame in frames):
            alike.setdefault(_lines(frames), []).append(thread)
    parts = [f"With native frames, as py-spy sees them (most recent call first):\n{native}"] if native else []
    for lines, threads in alike.items():
        who = f"Thread {threads[0]:#x}" if len(threads) == 1 else f"{len(threads)} threads"
        parts.append(f"{who} (most recent call last):\n{lines}")
    if mine is not None:
        parts.append(f"{STOOD}\n{_lines(mine)}")
    if not parts:
        return ""
    text = "\n\n".join(parts)
    return f"{end_of(text, CHARACTERS)}\n{message}\n"


def native(pid: int) -> str:
    """The stacks that py-spy sees, C code included; empty where it is not installed, not permitted, or takes too long."""
    program = shutil.which(
        "py-spy", path=os.pathsep.join([os.environ.get("PATH", ""), os.path.dirname(sys.executable)])
    )
    if program is None:
        return ""
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [program, "dump", "--native", "--pid", str(pid)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=NATIVE_SECONDS,
        )
        text = done.stdout.decode(errors="replace").replace("\r", "")
        if done.returncode == 0 and "Thread" in text:
            lines = text[text.index("Thread") :].splitlines()
            return "\n".join(line for line in lines if not _NATIVE_OURS.search(line))[:NATIVE_CHARACTERS].rstrip()
    return ""


def _stacks(text: str) -> dict[int, list[str]]:
    """The lines of each thread, the oldest call first."""
    found: dict[int, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if header := _HEADER.fullmatch(line):
            lines = found[int(header[1], 16)] = []
        elif line.startswith("  "):  # not "...", which stands for all threads but the newest hundred
            lines.insert(0, line)
    return found


def _lines(frames: list[str]) -> str:
    """As tracebacks write them, from the first frame on that is not daskscore's."""
    first = next((place for place, frame in enumerate(frames) if not _is_ours(frame)), 0)
    return "\n".join(_FRAME.sub(r'  File "\1", line \2, in \3', frame) for frame in frames[first:])


def _is_ours(frame: str) -> bool:
    found = _FRAME.match(frame)
    return found is not None and found[1].startswith(_OURS)
