"""Memory does not grow with the number of mini-batches."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support import Workbench

FEW, MANY = 10_000, 1_000_000

SCORE = "def run(mini_batch):\n    return [mini_batch.task_id]\n"

MEASURE = """
import json, resource, sys
import daskscore
report = daskscore.run(
    entry_script="score.py", rank_mini_batch_count=int(sys.argv[1]), output=sys.argv[1], process_count_per_node=2
)
peaks = [resource.getrusage(who).ru_maxrss // 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps([report.status, report.items.succeeded, *peaks]))
"""


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_left_behind")
def test_a_million_mini_batches_need_the_memory_of_ten_thousand(bench: Workbench) -> None:
    bench.script(SCORE)
    measure = bench.script(MEASURE, "measure.py")
    peaks = {}
    for count in (FEW, MANY):
        done = subprocess.run(
            [sys.executable, measure, str(count)], cwd=bench.folder, capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, done.stderr
        status, succeeded, *peaks[count] = json.loads(done.stdout)
        assert (status, succeeded) == ("Completed", count)
        rows = (bench.folder / str(count) / "parallel_run_step.txt").read_bytes()
        assert rows == b"".join(b"%d\n" % number for number in range(count))
    for few, many, who in zip(peaks[FEW], peaks[MANY], ("driver", "worker, guard or scorer"), strict=True):
        assert many - few < 100, f"{who}: {few} MiB for {FEW} mini-batches, {many} MiB for {MANY}"
