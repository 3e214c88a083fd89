"""Desks for scorers, as a worker has them, without a worker."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from daskscore import config
from daskscore.core.layout import Layout
from daskscore.core.planning import Content
from daskscore.core.protocol import Head
from daskscore.driver import scorers
from daskscore.driver.job_inputs import JobInputs
from daskscore.worker.process import Desk, Limits

ACTS = """
    import ctypes, os, subprocess, sys, time

    def run(mini_batch, context):
        rows = []
        for item in mini_batch:
            act = item.partition(" ")[0]
            if act == "raise": raise ValueError(item)
            if act == "once" and not context.retry_count: raise ValueError(item)
            if act == "quit": sys.exit(3)
            if act == "exit": os._exit(3)
            if act == "segfault": ctypes.string_at(0)
            if act == "spin": ctypes.PyDLL(None).pause()  # in C code, with the GIL
            if act == "hoard": held = b"x" * (400 << 20); ctypes.PyDLL(None).pause()
            if act == "none": return None
            if act == "slow": time.sleep(0.01)
            if act != "short": rows.append(item)
        return rows
"""
"""A script that does what its items say."""


def script_settings(folder: Path, script: str = ACTS, **changes: Any) -> Head:
    """What a driver tells of the script, which is written to the folder; items are words and no files."""
    path = folder / "score.py"
    path.write_text(textwrap.dedent(script))
    job = config.load(None, {"entry_script": str(path), "inputs": [str(folder)], "output": str(folder / "out")})
    return {**scorers.script_settings(job, Layout(folder / "out"), JobInputs(Content.WORDS)), **changes}


def desk(
    folder: Path,
    script: str = ACTS,
    *,
    run_seconds: float = 30.0,
    init_seconds: float = 30.0,
    memory_bytes: int | None = None,
    **settings: Any,
) -> Desk:
    """Its logs and its parts stand below the folder."""
    (folder / "parts").mkdir(exist_ok=True)
    return Desk(
        node="node",
        settings=script_settings(folder, script, **settings),
        output=folder,
        parts=folder / "parts",
        limits=Limits(run_seconds, init_seconds, overhead_seconds=30.0, memory_bytes=memory_bytes),
        token="token",
    )
