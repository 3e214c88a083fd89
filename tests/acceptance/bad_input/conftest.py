from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import daskscore
from tests.acceptance.bad_input.job import JOB, SCRIPT, Refused, Run, everything_below
from tests.support import DEADLINE_SECONDS, Workbench

OUR_FRAMES = f'  File "{Path(daskscore.__file__).parent}'
WITHOUT_SUPERPOWERS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


@pytest.fixture
def refused(bench: Workbench, run: Run) -> Refused:
    """What is said about a job that ends before any work has started, and leaves the output as it was."""

    def message(*words: str, ends: int = 2) -> str:
        before = everything_below(bench.output)
        done = run(*JOB, *words, ends=ends)
        assert everything_below(bench.output) == before
        assert bench.output.exists() == bool(before)
        assert not any(line.startswith(OUR_FRAMES) for line in done.output.splitlines())
        assert not done.stdout
        return done.stderr.removeprefix("daskscore: ").rstrip("\n")

    return message


@pytest.fixture
def like_other_users(bench: Workbench) -> Callable[..., Any]:
    """`daskscore run` in a process that rights of files hold for, even where the tests are run by root."""
    prefix: tuple[str, ...] = ()
    if os.geteuid() == 0:
        prefix = WITHOUT_SUPERPOWERS
        if shutil.which("setpriv") is None or subprocess.run([*prefix, "true"], capture_output=True).returncode:
            pytest.skip("root reads everything, and setpriv cannot take that away here")

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*prefix, *bench.command(*words)],
            cwd=bench.folder,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
        )

    return command


@pytest.fixture
def finished(bench: Workbench, run: Run) -> Workbench:
    bench.script(SCRIPT)
    bench.inputs(*"abc")
    run(*JOB, "--mini-batch-size", "1", "--set", "preflight=no")
    return bench
