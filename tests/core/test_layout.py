"""Every path of a run lies in its output folder, and no two are the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from daskscore.core.layout import Layout, error_log, node_log, process_log, process_name, stderr_log, stdout_log

OUT = Path("out")
LAYOUT = Layout(OUT)
PATHS = [
    LAYOUT.rows("rows.txt"),
    LAYOUT.failed_items,
    LAYOUT.report,
    LAYOUT.lock,
    LAYOUT.job,
    LAYOUT.plan,
    LAYOUT.journal,
    LAYOUT.part("a"),
    *(OUT / log("node", "process000") for log in (error_log, stdout_log, stderr_log, process_log)),
    OUT / node_log("node"),
    LAYOUT.job_report,
]


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_a_path_lies_in_the_output_folder(path: Path) -> None:
    assert OUT in path.parents


def test_no_two_paths_are_the_same() -> None:
    assert len(set(PATHS)) == len(PATHS)


@pytest.mark.parametrize("path", [LAYOUT.lock, LAYOUT.job, LAYOUT.plan, LAYOUT.journal, LAYOUT.part("a")], ids=str)
def test_what_a_resume_needs_stands_in_the_state_folder(path: Path) -> None:
    assert LAYOUT.state in path.parents


@pytest.mark.parametrize("log", [error_log, stdout_log, stderr_log, process_log])
def test_logs_of_scripts_stand_where_the_layout_has_logs(log: Callable[[str, str], str]) -> None:
    assert LAYOUT.logs in (OUT / log("node", "process000")).parents


@pytest.mark.parametrize(("number", "name"), [(0, "process000"), (7, "process007"), (1234, "process1234")])
def test_processes_are_named_by_three_digits_or_more(number: int, name: str) -> None:
    assert process_name(number) == name
