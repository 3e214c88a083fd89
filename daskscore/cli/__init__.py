"""argv in, exit code out; nothing else prints. One module per command group."""

from __future__ import annotations

import io
import sys


def main() -> None:
    """The console script `daskscore`."""
    if sys.platform == "win32":
        sys.stderr.write("daskscore runs on Linux and macOS; on Windows, run it inside WSL.\n")
        raise SystemExit(2)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A path may hold bytes that are no text, or signs that the terminal has no code for: no reason to fail.
        sys.stdout.reconfigure(errors="backslashreplace")
    # Said by a helper of multiprocessing when a second Ctrl-C ends us at once; it cleans up all the same.
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")
    from daskscore.cli.root import root

    root(prog_name="daskscore")
