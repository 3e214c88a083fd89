from __future__ import annotations

import subprocess
import sys

from tests.support import DEADLINE_SECONDS, Workbench


def test_a_plain_script_without_a_main_guard_may_call_run(bench: Workbench) -> None:
    bench.script("def run(mini_batch):\n    return mini_batch\n")
    bench.inputs("a", "b")
    plain = bench.script(
        """
        import daskscore
        print("once")
        report = daskscore.run(entry_script="score.py", inputs="in", output="out", node_count=2)
        print(report.status, __file__)
        """,
        name="plain.py",
    )
    done = subprocess.run(
        [sys.executable, plain], cwd=bench.folder, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=True
    )
    assert done.stdout.splitlines() == ["once", f"Completed {plain}"]
