"""What a node and its processes use, now and then; and the limits of their logs, all the time. One thread of a worker."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import psutil  # comes with distributed

from daskscore.core.layout import perf_logs
from daskscore.worker.attempts import append
from daskscore.worker.capping import LOOK_SECONDS, Caps

FIRST_SECONDS = 1.0
"""A run that is over before leaves no table of one line."""
PS_SECONDS = 10.0
PS = ("ps", "-eo", "user,pid,ppid,pcpu,pmem,vsz,rss,tty,stat,start,time,comm")
"""Names without arguments: what others have on their command lines is not ours to keep."""

NODE = (
    "Utc Time",
    "Cpu Percent",
    "Memory Total (MB)",
    "Memory Available (MB)",
    "Memory Used (MB)",
    "Memory Used Percent",
    "Disk Io Read Count",
    "Disk Io Write Count",
    "Disk Io Read (MB)",
    "Disk Io Write (MB)",
    "Network Sent (MB)",
    "Network Recv (MB)",
    "# of TCP Connections",
    "# of UDP Connections",
)
PROCESSES = (
    "Utc Time",
    "Process",
    "PID",
    "Cpu Percent",
    "Cpu Seconds",
    "Memory Rss (MB)",
    "Memory Vms (MB)",
    "Threads",
    "Open Files",
)
DISKS = ("Utc Time", "Path", "Total (MB)", "Used (MB)", "Free (MB)", "Used Percent")


class Monitor:
    """Called by nobody: it looks by itself until it is closed."""

    def __init__(
        self, output: Path, node: str, scorers: Callable[[], Mapping[str, int]], caps: Caps, seconds: float
    ) -> None:
        self._folder = output / perf_logs(node)
        self._disks = {str(output), tempfile.gettempdir()}
        self._scorers = scorers
        self._caps = caps
        self._seconds = seconds
        self._known: dict[int, psutil.Process] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="daskscore-monitor", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(timeout=PS_SECONDS)

    def _work(self) -> None:
        due = time.monotonic() + min(FIRST_SECONDS, self._seconds) if self._seconds else float("inf")
        while not self._closing.wait(LOOK_SECONDS):
            self._caps.look()
            if time.monotonic() >= due:
                due = time.monotonic() + self._seconds
                with suppress(OSError, psutil.Error):  # a machine that does not tell is no reason to fail
                    self.look()

    def look(self) -> None:
        """One line of each table, and one snapshot."""
        now = datetime.now(UTC).replace(tzinfo=None)
        stamp = now.isoformat(timespec="microseconds")
        self._add("node_resource_usage.csv", NODE, [(stamp, *_node())])
        self._add("processes_resource_usage.csv", PROCESSES, ((stamp, *used) for used in self._processes()))
        self._add("node_disk_usage.csv", DISKS, ((stamp, *used) for used in map(_disk, sorted(self._disks))))
        snapshot = self._folder / "os" / f"{now:%Y%m%d%H}" / f"processes_{now:%M}"
        snapshot.parent.mkdir(parents=True, exist_ok=True)
        snapshot.write_text(_snapshot(), errors="backslashreplace")

    def _processes(self) -> Iterable[Sequence[object]]:
        named = {"worker": os.getpid(), **self._scorers()}
        self._known = {pid: known for pid, known in self._known.items() if pid in named.values()}
        for name, pid in named.items():
            with suppress(psutil.Error):
                process = self._known.setdefault(pid, psutil.Process(pid))
                with process.oneshot():
                    times, memory = process.cpu_times(), process.memory_info()
                    threads, files = process.num_threads(), process.num_fds()
                    used = process.cpu_percent()
                cpu = f"{times.user + times.system:.2f}"
                yield name, pid, used, cpu, _mb(memory.rss), _mb(memory.vms), threads, files

    def _add(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        path = self._folder / name
        self._folder.mkdir(parents=True, exist_ok=True)
        text = StringIO()
        table = csv.writer(text, lineterminator="\n")
        if not path.exists():
            table.writerow(columns)
        table.writerows(rows)
        append(path, text.getvalue().encode(errors="backslashreplace"))


def _node() -> Sequence[object]:
    memory, disk, network = psutil.virtual_memory(), psutil.disk_io_counters(), psutil.net_io_counters()
    disks = (disk.read_count, disk.write_count, _mb(disk.read_bytes), _mb(disk.write_bytes)) if disk else (0, 0, 0, 0)
    return (
        psutil.cpu_percent(),
        _mb(memory.total),
        _mb(memory.available),
        _mb(memory.used),
        memory.percent,
        *disks,
        _mb(network.bytes_sent),
        _mb(network.bytes_recv),
        _connections("tcp"),
        _connections("udp"),
    )


def _connections(kind: str) -> int:
    """As the kernel lists them; psutil would look through all files of all processes."""
    count = 0
    for name in (kind, f"{kind}6"):
        with suppress(OSError), open(f"/proc/net/{name}", "rb") as table:
            count += max(0, sum(1 for _ in table) - 1)
    return count


def _disk(path: str) -> Sequence[object]:
    used = shutil.disk_usage(path)
    percent = round(100 * used.used / used.total, 1) if used.total else 0
    return path, _mb(used.total), _mb(used.used), _mb(used.free), percent


def _snapshot() -> str:
    """What `ps` says, or what is known where there is none."""
    try:
        done = subprocess.run(PS, capture_output=True, text=True, errors="replace", timeout=PS_SECONDS)
        if done.returncode == 0:
            return done.stdout
    except (OSError, subprocess.SubprocessError):
        pass
    lines = ["PID PPID STATUS NAME"]
    for process in psutil.process_iter(["pid", "ppid", "status", "name"]):
        lines.append(" ".join(str(process.info[key]) for key in ("pid", "ppid", "status", "name")))
    return "\n".join(lines) + "\n"


def _mb(number: int) -> float:
    return round(number / (1 << 20), 3)
