"""The table of attempts is that of all processes, each attempt once, and its sums are right."""

from __future__ import annotations

import csv
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from daskscore.core.attempts import HEADER, failed_line
from daskscore.core.layout import Layout, process_log
from daskscore.core.model import Kind
from daskscore.driver.job_report import JobReport


@pytest.fixture
def report(tmp_path: Path) -> JobReport:
    found = JobReport(Layout(tmp_path))
    found.begin()
    return found


def done(index: int, *, items: int = 3, seconds: float = 1.25) -> str:
    times = f"{seconds:.6f},{seconds / 2:.6f},{seconds / 5:.6f}"
    return f'{index},1,0/process000,2026-01-02T03:04:05.678901,{items},{items},0,{times},RUN_DONE,,,"[""a,b""]"\n'


def failed(index: int) -> str:
    message = 'oh, "no",RUN_DONE,'
    return failed_line(
        index, 1, "0/process000", 0.0, 3, "RUN_TIMEOUT", Kind.TIMEOUT, message, '["a"]', elapsed=60.5
    ).decode()


def write(report: JobReport, text: str, process: str = "process000", node: str = "0") -> None:
    path = report.layout.output / process_log(node, process)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        text = (
            f"# {process} on node {node}: host here (10.0.0.4), PID 42, started 2026-01-02T03:04:05.0\n{HEADER}{text}"
        )
    with path.open("a") as file:
        file.write(text)


def lines(report: JobReport, name: str = "processed_mini-batches") -> list[dict[str, Any]]:
    report.look()
    report.sum_up()
    return list(csv.DictReader((report.layout.job_report / f"{name}.csv").read_text().splitlines()))


def test_each_attempt_of_each_process_is_there_once(report: JobReport) -> None:
    write(report, done(0))
    assert [line["Mini-batch Id"] for line in lines(report)] == ["0"]
    write(report, done(1))
    write(report, done(2), "process001")
    write(report, done(3), "process000", "other")
    (report.layout.node_logs / "0" / "_main.txt").write_text(done(4))
    assert [line["Mini-batch Id"] for line in lines(report)] == ["0", "1", "2", "3"]


def test_a_line_that_is_not_whole_waits_for_its_rest(report: JobReport) -> None:
    write(report, done(0) + done(1)[:30])
    assert len(lines(report)) == 1
    write(report, done(1)[30:] + "# 2 mini-batches\n# ended\n")
    assert [line["Mini-batch Id"] for line in lines(report)] == ["0", "1"]


def test_a_resumed_run_has_the_attempts_of_all_its_sessions_once(report: JobReport) -> None:
    write(report, done(0))
    report.look()
    resumed = JobReport(report.layout)
    resumed.begin()
    write(resumed, done(1))
    assert [line["Mini-batch Id"] for line in lines(resumed)] == ["0", "1"]
    assert lines(resumed, "process_summary")[0]["Mini-batches"] == "2"


def test_what_a_full_disk_has_torn_is_left_out(report: JobReport) -> None:
    write(report, done(0) + done(1)[:40] + done(2) + done(3))
    found = [line["Mini-batch Id"] for line in lines(report)]
    assert found == ["0", "3"]
    assert lines(report, "process_summary")[0]["Total"] == "6"


def test_sums_are_those_of_the_lines(report: JobReport) -> None:
    write(report, done(0, seconds=0.000001) + failed(1) + done(2, items=1234567, seconds=98765.432109))
    write(report, done(3), "process001")
    first, second = lines(report, "process_summary")
    assert (first["Process"], first["Host"], first["PID"]) == ("0/process000", "here", "42")
    counts = ("Mini-batches", "Done", "Failed Mini-batches", "Total", "Succeeded", "Failed")
    assert [first[name] for name in counts] == ["3", "2", "1", "1234573", "1234570", "3"]
    assert float(first["Elapsed Seconds"]) == pytest.approx(98765.43211 + 60.5, abs=1e-6)
    assert float(first["Process Seconds"]) == pytest.approx(49382.716055, abs=2e-6)
    assert second["Elapsed Seconds"] == "1.250000"
    (node,) = lines(report, "node_summary")
    assert (node["Node"], node["Processes"], node["Mini-batches"], node["Total"]) == ("0", "2", "4", "1234576")


def test_memory_does_not_grow_with_the_attempts(report: JobReport) -> None:
    peaks = []
    for _ in range(2):
        write(report, done(1) * 20_000)
        tracemalloc.start()
        report.look()
        peaks.append(tracemalloc.get_traced_memory())
        tracemalloc.stop()
        write(report, done(1) * 180_000)
        report.look()
    assert peaks[1][0] < 100_000
    assert peaks[1][1] < 60 << 20
