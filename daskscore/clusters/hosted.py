"""Runs on a host that `ssh` has reached: a scheduler or a worker, which ends when its driver has gone.

    driver → here    on standard input, first `Asked` as a line of JSON; then a byte now and then, as a sign of life
    here → driver    on standard output, the address after MARK; on standard error all that is said otherwise

The end of the input, or silence on it, is the end of this process: sshd ends nothing when a driver was killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import shutil
import signal
import threading
from typing import Any, TypedDict

MARK = b"daskscore serves at "
SIGN_SECONDS = 10.0
"""How often the driver gives a sign of life."""

SILENCE_SECONDS = 90.0
CLOSE_SECONDS = 20.0
"""How long the end may take: what hangs is ended all the same."""


class Asked(TypedDict):
    """What the driver wants to run here."""

    server: str
    """Scheduler or Nanny."""
    settings: dict[str, Any]
    """Of Dask's configuration."""
    security: dict[str, Any]
    options: dict[str, Any]


def main() -> None:
    """Serve until the driver has gone."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    answers = os.dup(1)
    os.dup2(2, 1)  # what others print is no answer
    asked: Asked = json.loads(_first_line())

    from daskscore.worker.nursery import Nursery, passing_folder

    scratch = passing_folder()
    keeper = Nursery(environment=os.environ, remove_at_end=[(scratch, 0)])
    try:
        os.mkdir(scratch, 0o700)
        asyncio.run(_serve(asked, scratch, answers))
    except Exception as error:
        raise SystemExit(cause(error)) from error
    finally:
        keeper.close()
        shutil.rmtree(scratch, ignore_errors=True)  # where somebody has killed the keeper


def cause(error: BaseException) -> str:
    """Dask wraps what went wrong in `Nanny failed to start`."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"


def _first_line() -> bytes:
    """Byte by byte: what comes behind it is read elsewhere, without a buffer."""
    line = b""
    while byte := os.read(0, 1):
        line += byte
        if byte == b"\n":
            break
    return line


async def _serve(asked: Asked, scratch: str, answers: int) -> None:
    import dask
    from distributed import Nanny, Scheduler
    from distributed.security import Security

    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    threading.Thread(target=lambda: _listen(loop, gone), daemon=True).start()
    options = {"security": Security(**asked["security"]), "dashboard_address": "127.0.0.1:0", **asked["options"]}
    with dask.config.set({**asked["settings"], "temporary-directory": scratch}):
        if asked["server"] == "Scheduler":
            server: Any = Scheduler(**{"host": _our_address(), "protocol": "tls", "dashboard": False, **options})
        else:
            server = Nanny(**{"local_directory": scratch, "memory_limit": 0, **options})
        async with server:
            address = server.address if asked["server"] == "Scheduler" else server.worker_address
            os.write(answers, MARK + address.encode() + b"\n")
            ends = [asyncio.ensure_future(end) for end in (gone.wait(), server.finished())]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            _end_soon()


def _our_address() -> str | None:
    """The one at which ssh has reached this host: others in its network most likely reach it there too."""
    words = os.environ.get("SSH_CONNECTION", "").split()
    return words[2] if len(words) == 4 else None


def _listen(loop: asyncio.AbstractEventLoop, gone: asyncio.Event) -> None:
    while select.select([0], [], [], SILENCE_SECONDS)[0] and os.read(0, 4096):
        pass
    _end_soon()
    loop.call_soon_threadsafe(gone.set)


def _end_soon() -> None:
    """Whatever hangs; workers and keepers know by themselves when this process is gone."""
    timer = threading.Timer(CLOSE_SECONDS, os._exit, [1])
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    main()
