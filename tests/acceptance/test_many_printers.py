"""Fifty processes that print a thousand lines a second each: every line is there, whole, and in its own file."""

from __future__ import annotations

import re

import pytest

from tests.support import Workbench

pytestmark = pytest.mark.slow

PROCESSES, LINES = 50, 2000
SCRIPT = f"""
    import os, sys, time

    def run(mini_batch):
        began = time.monotonic()
        for number in range({LINES}):
            print(os.getpid(), number, "x" * 60)
            print(os.getpid(), number, "y" * 60, file=sys.stderr)
            if number % 100 == 99:
                time.sleep(max(0, began + (number + 1) / 1000 - time.monotonic()))
        return [os.getpid()]
"""


def test_no_line_is_torn_or_lost(bench: Workbench) -> None:
    bench.script(SCRIPT)
    done = bench.run("--rank-mini-batch-count", str(PROCESSES), "--process-count-per-node", str(PROCESSES))
    assert done.code == 0, done.stderr
    for stream, letter in (("stdout", "x"), ("stderr", "y")):
        printed = 0
        for path in (bench.output / "logs" / "user" / stream).rglob(f"*.{stream}.txt"):
            found = [re.fullmatch(rf"(\d+) (\d+) {letter}{{60}}", line) for line in path.read_text().splitlines()]
            assert all(found), f"a torn line in {path}"
            assert len({match[1] for match in found if match}) <= 1
            numbers = [int(match[2]) for match in found if match]
            assert numbers == [*range(LINES)] * (len(numbers) // LINES)
            printed += len(numbers)
        assert printed == PROCESSES * LINES
