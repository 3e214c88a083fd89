"""A wall clock that jumps, for the processes of one run: a library that is loaded before all others adds an offset."""

from __future__ import annotations

import functools
import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

OFFSET = struct.Struct("d")
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile double *offset;

__attribute__((constructor)) static void open_offset(void) {
    const char *path = getenv("TORTURE_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *page = mmap(0, sizeof(double), PROT_READ, MAP_SHARED, fd, 0);
    if (page != MAP_FAILED) offset = page;
    close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(clock, now);
    if (!code && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += (time_t)*offset;
    return code;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec found;
    int code = clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return code;
}

time_t time(time_t *now) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (now) *now = found.tv_sec;
    return found.tv_sec;
}
"""


def environment(file: Path) -> dict[str, str]:
    """For a process that shall see this clock, and all that it starts."""
    return {"LD_PRELOAD": str(_library()), "TORTURE_CLOCK": str(file)}


def jump(file: Path, seconds: float) -> None:
    """The clock goes on so many seconds further; the first time, from the true one."""
    before = OFFSET.unpack(file.read_bytes())[0] if file.exists() else 0.0
    with file.open("r+b" if file.exists() else "wb") as clock:
        clock.write(OFFSET.pack(before + seconds))


@functools.cache
def _library() -> Path:
    """Made once for all runs."""
    folder = Path(tempfile.gettempdir()) / f"daskscore-torture-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    source, library = folder / f"clock-{os.getpid()}.c", folder / f"clock-{os.getpid()}.so"
    source.write_text(SOURCE)
    compiler = shutil.which("cc") or shutil.which("gcc") or "cc"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    return library
