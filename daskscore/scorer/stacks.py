"""Have a scorer that hangs write where all its threads stand, and end with that.

The handler of the signal is C code of Python's own: it runs while other C code holds the GIL or waits for something,
and whatever the script has made of `sys.stderr`. When it has written, it goes on to what the signal did before, which
ends the process: a call that the signal has interrupted never comes back to the script, and a time-out stays one.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import threading

if sys.platform == "linux":
    SIGNAL: int = signal.SIGRTMAX - 5
    """One that libraries leave alone (the JVM has one of the last, and glibc the first)."""
else:
    SIGNAL = signal.SIGVTALRM


def begin(fd: int) -> None:
    """Stacks go to the end of this file, behind a line that says which thread is the main one."""
    os.lseek(fd, 0, os.SEEK_END)
    with contextlib.suppress(OSError):  # where files may not become so long, there are no stacks
        os.write(fd, b"%x\n" % threading.get_ident())
    be_ready(fd)


def be_ready(fd: int) -> None:
    """Called again after the script could take over or block any signal: when it is loaded, and after init()."""
    faulthandler.unregister(SIGNAL)
    signal.signal(SIGNAL, signal.SIG_DFL)
    faulthandler.register(SIGNAL, file=fd, chain=True)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [SIGNAL])
