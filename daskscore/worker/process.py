"""A living scorer process: its pipes, its mark, the names of its files, and how it ended."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from select import POLLOUT
from typing import TYPE_CHECKING, Any

from daskscore.core.attempts import RECENT_BYTES, Recent
from daskscore.core.layout import (
    entry_script_logs,
    error_log,
    metrics_log,
    process_log,
    process_name,
    stderr_log,
    stdout_log,
)
from daskscore.core.model import Bundle, Kind, Segment
from daskscore.core.protocol import MARK_BYTES, Frames, Head, Mark, frame, shared_page
from daskscore.worker import stacks
from daskscore.worker.attempts import AttemptFile, NodeLog, append
from daskscore.worker.capping import Caps
from daskscore.worker.nursery import Ending, Nursery, ready, resident_bytes
from daskscore.worker.shares import Gpus

if TYPE_CHECKING:
    from daskscore.worker.rooms import Room
    from daskscore.worker.side_inputs import SideInputs

LOOK_SECONDS = 0.05
"""How often a working scorer's deadline and memory are looked at."""

GRACE_SECONDS = 5.0
"""How long a scorer may finish its mini-batch, or its shutdown(), once it is asked to end."""

SILENT_SECONDS = 1.0
"""How long a scorer that has closed its pipes may take to end by itself."""


DEFAULT_LOG_BYTES = 100 << 20
DEFAULT_MONITOR_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Limits:
    """The deadlines of one scorer; each has its own sentence when it passes."""

    run_seconds: float
    init_seconds: float
    overhead_seconds: float
    memory_bytes: int | None = None
    log_bytes: int = DEFAULT_LOG_BYTES
    """How large a log of the script may become."""
    monitor_seconds: float = DEFAULT_MONITOR_SECONDS
    """Between two looks at what the node uses; 0: none is taken."""
    gpus_per_process: int = 1
    gpus_per_node: int | None = None
    """None: as many as are found."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a node's scorers work: the script's settings, and the folders their files go to."""

    node: str
    settings: Head
    output: Path
    """Holds logs and, where the driver can see it, parts."""
    parts: Path
    limits: Limits
    token: str
    """Makes the part names of this worker unlike those of any other."""
    side_inputs: SideInputs | None = None
    """What is brought before the first scorer starts."""
    room: Room | None = None
    """The script's folder, where it may have to come from the driver, and the job's own environment."""
    model_view: str = ""
    """A folder that passes, in which a model can stand alone."""
    gpus: Gpus = field(default_factory=lambda: Gpus([], 0))
    numbers: Iterator[int] = field(default_factory=count)
    """Of this node's scorers, old and new."""
    caps: Caps = field(init=False)
    """Holds the logs of the living scorers within their limit."""
    log: NodeLog = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "caps", Caps(self.output, self.node, self.limits.log_bytes))
        object.__setattr__(self, "log", NodeLog(self.output, self.node))


class Ended(Exception):
    """The scorer is gone, by itself or because it had to be killed."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.at = time.monotonic()
        self.stood = b"", ""
        """Where it stood when its time was up, as it has written that itself and as py-spy has seen it."""
        self.peak_bytes = 0
        self.status: int | None = None
        """Its exit code, or minus the signal, where it has ended by itself."""

    @property
    def signal(self) -> int | None:
        return -self.status if self.status is not None and self.status < 0 else None

    @property
    def exit_code(self) -> int | None:
        return self.status if self.status is not None and self.status >= 0 else None


class ScorerProcess:
    """A living scorer process, its pipes and its mark."""

    def __init__(self, desk: Desk, nursery: Nursery) -> None:
        self.desk = desk
        self._folder = desk.room.folder() if desk.room is not None else ""
        self._brought = desk.side_inputs.paths() if desk.side_inputs is not None else {}
        self.process = _reserve_name(desk)
        self.place = f"{desk.node}/{self.process}"
        self.error_log = error_log(desk.node, self.process)
        self.stdout_log = stdout_log(desk.node, self.process)
        self.stderr_log = stderr_log(desk.node, self.process)
        self.part = f"{desk.node}-{self.process}-{desk.token}"
        self.part_path = desk.parts / self.part
        self._written = 0
        self.doing = "while the script was imported"
        command_end, self._commands = os.pipe()
        words, word_end = os.pipe()
        os.set_blocking(self._commands, False)
        self._page = page = shared_page()
        os.ftruncate(page, MARK_BYTES + RECENT_BYTES)
        self.attempts = AttemptFile(
            desk.output / process_log(desk.node, self.process), desk.node, self.process, Recent.open(page)
        )
        self._why = ""
        """It ended; empty while it lives, or when it was asked to."""
        self.mark = Mark.open(page)
        self.mark.write(0, -1, 0.0, 0, 0, 0, 0)
        try:
            self.guard = nursery.start(command_end, word_end, page)
        except BaseException:
            for fd in (self._commands, words, page):
                os.close(fd)
            raise
        finally:
            for fd in (command_end, word_end):
                os.close(fd)
        self._frames = Frames(words)
        self._gpus = desk.gpus.take()
        self.attempts.begin(self.guard.scorer)
        desk.caps.watch(self.process)
        desk.log.say(f"{self.process} was started (PID {self.guard.scorer}).")

    def prepare(self) -> None:
        """Have it load the script and call init()."""
        self._tell(self._settings(), b"")

    def give(self, bundle: Bundle, **delivered: Any) -> None:
        """`delivered`, of one mini-batch whose items were brought: its own `line`, and how many are `lost`."""
        self.doing = "in run()"
        self.mark.go_on()
        spans = [list(span) for span in bundle.spans]
        self._tell({"do": "score", "spans": spans, "box_seconds": bundle.box_seconds, **delivered}, bundle.lines)

    def hear(self) -> Head | None:
        """The next word; None when there was none for a moment."""
        said = self._frames.pop()
        if said is None:
            readable = ready([self._frames.fd, self.guard.fileno()], LOOK_SECONDS)
            if self._frames.fd in readable:
                if not self._frames.fill():
                    raise self._silent()
            elif readable:  # The words need not have ended: a process that the script has forked may hold their pipe.
                raise self._ended(self.guard.wait(0) or self.guard.end())
            said = self._frames.pop()
        return said[0] if said else None

    def last_words(self) -> Iterator[Head]:
        """What had been said before the end and not been heard."""
        while (said := self._frames.pop()) or (ready([self._frames.fd], GRACE_SECONDS) and self._frames.fill()):
            if said:
                yield said[0]

    def segment(self, first: int, count: int, length: int, rows: int, items: int) -> Segment:
        offset, self._written = self._written, self._written + length
        return Segment(first, count, self.part, offset, length, rows, items)

    def empty_part(self) -> None:
        os.truncate(self.part_path, 0)
        self._written = 0

    def over_limit(self) -> int:
        """How many bytes the process holds, if these are more than it may."""
        limit = self.desk.limits.memory_bytes
        resident = resident_bytes(self.guard.scorer) if limit is not None else 0
        return resident if limit is not None and resident > limit else 0

    def check_memory(self) -> None:
        limit = self.desk.limits.memory_bytes
        if limit is not None and (resident := self.over_limit()):
            raise self.kill(
                Kind.MEMORY,
                f"the process held {resident >> 20} MiB, more than memory_limit_per_process ({limit >> 20} MiB)",
            )

    def kill(self, kind: Kind, message: str) -> Ended:
        """End it now; to be raised."""
        ended = Ended(kind, message)
        self._why = f"it was killed: {message}"
        if kind is Kind.TIMEOUT:
            seen = stacks.native(self.guard.scorer)
            ended.peak_bytes = self.guard.end_with_stacks().peak_bytes
            ended.stood = os.pread(self._page, stacks.DUMP_BYTES, MARK_BYTES + RECENT_BYTES), seen
        else:
            ended.peak_bytes = self.guard.end().peak_bytes
        self._close_commands()
        return ended

    def stood(self, ended: Ended, message: str) -> str:
        """Where it hung, for its logs and as a traceback that ends with the message; empty where that is not known."""
        text = stacks.told(*ended.stood, message)
        if text:
            append(self.desk.output / self.stderr_log, text.encode(errors="backslashreplace"))
            append(self.desk.output / self.error_log, f"{message}\n{text}\n".encode(errors="backslashreplace"))
        return text

    def end(self, why: str = "") -> None:
        """End it in peace, or by force after the grace."""
        self._why = why
        self._close_commands()
        if (ending := self.guard.wait(GRACE_SECONDS)) is None:
            self._why = f"it was killed: it did not end within {GRACE_SECONDS:g} s"
            self.guard.end()
        elif ending.status:
            self._why = f"the process {_how(ending, 'while it was ended')}"
        self.close()

    def close(self) -> None:
        """Give back the descriptors of a scorer that is gone."""
        self._close_commands()
        if self._frames.fd >= 0:
            os.close(self._frames.fd)
            os.close(self._page)
            self._frames.fd = -1
        self.guard.close()
        self.desk.gpus.give_back(self._gpus)
        self._gpus = []
        self.mark.memory.close()
        why = self._why or "there is no more work for it"
        self.attempts.close(why)
        self.desk.caps.ended(self.process)
        self.desk.log.say(f"{self.process} ended: {why}.", "WARNING" if self._why else "INFO")

    def _tell(self, head: Head, body: bytes) -> None:
        limit = self.desk.limits.overhead_seconds
        deadline = time.monotonic() + limit
        try:
            view = memoryview(frame(head, body))
            while view:
                if time.monotonic() > deadline:
                    raise self.kill(Kind.TIMEOUT, f"the scorer took no work for {limit:g} s")
                if ready([self._commands], LOOK_SECONDS, event=POLLOUT):
                    view = view[os.write(self._commands, view) :]
        except BrokenPipeError:
            raise self._silent() from None

    def _close_commands(self) -> None:
        if self._commands >= 0:
            os.close(self._commands)
            self._commands = -1

    def _silent(self) -> Ended:
        """Its pipes are closed: it has ended, or it has closed all its descriptors."""
        if ending := self.guard.wait(SILENT_SECONDS):
            return self._ended(ending)
        ending = self.guard.end()
        if ending.status == -signal.SIGKILL:
            self._why = f"the process closed descriptors that it had not opened {self.doing}"
            ended = Ended(Kind.CRASH, self._why)
            ended.peak_bytes = ending.peak_bytes
            return ended
        return self._ended(ending)

    def _ended(self, ending: Ending) -> Ended:
        self._close_commands()
        reading = self.doing == "in run()" and self.mark.read().started < 0
        self._why = f"the process {_how(ending, 'while its records were read' if reading else self.doing)}"
        ended = Ended(Kind.CRASH, self._why)
        ended.peak_bytes, ended.status = ending.peak_bytes, ending.status
        return ended

    def _settings(self) -> Head:
        output = self.desk.output
        paths = {
            "error_log": self.error_log,
            "stdout_log": self.stdout_log,
            "stderr_log": self.stderr_log,
            "attempts": process_log(self.desk.node, self.process),
        }
        settings = self.desk.settings
        place = settings["place"]
        models = {
            name: {version: self._brought.get(path, path) for version, path in versions.items()}
            for name, versions in place["models"].items()
        }
        folder = self._brought.get(place["model_folder"], place["model_folder"])
        return {**settings, **{key: str(output / path) for key, path in paths.items()}} | {
            "part": str(self.part_path),
            "node": self.desk.node,
            "source_directory": self._folder or settings["source_directory"],
            "arguments": [_filled(word, self._brought) for word in settings["arguments"]],
            "place": {
                **place,
                "source_directory": self._folder or place["source_directory"],
                "models": models,
                "model_folder": _alone(folder, self.desk.model_view) if folder else "",
                "gpus": ",".join(self._gpus),
                "process": self.process,
                "output": str(output),
                "log_folder": str(output / entry_script_logs(self.desk.node)),
                "metrics_file": str(output / metrics_log(self.desk.node, self.process)),
            },
        }


def _filled(word: str, brought: Mapping[str, str]) -> str:
    return re.sub(r"\$\{\{\s*(side_inputs\.[^}\s]+)\s*\}\}", lambda found: brought.get(found[1], found[0]), word)


def _how(ending: Ending, when: str) -> str:
    status = ending.status
    if status is None:
        return f"was killed {when}, together with its guard"
    if status >= 0:
        return f"exited with code {status} {when}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = "unknown"
    hint = "; the machine may be out of memory" if name == "SIGKILL" else ""
    return f"was ended by signal {-status} ({name}) {when}{hint}"


def _reserve_name(desk: Desk) -> str:
    """The next process name without a log on this node, so that a resumed run never writes into another's."""
    for number in desk.numbers:
        name = process_name(number)
        path = desk.output / stdout_log(desk.node, name)
        for log in (path, desk.output / stderr_log(desk.node, name), desk.output / error_log(desk.node, name)):
            log.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            continue
        return name
    raise AssertionError("numbers never end")


def _alone(model: str, view: str) -> str:
    """The folder that holds the model and nothing else; where there is none, one with a link to it."""
    holder = os.path.dirname(model)
    if not view or os.listdir(holder) == [os.path.basename(model)]:
        return holder
    with suppress(FileExistsError):  # another scorer of this worker has made it
        os.symlink(model, os.path.join(view, os.path.basename(model)))
    return view
