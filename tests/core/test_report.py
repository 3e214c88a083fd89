"""What `report.json` holds, and the exit code that it stands for."""

from __future__ import annotations

import json

import pytest

from daskscore.core.model import Status
from daskscore.core.report import Count, Report

COUNT = Count(total=3, succeeded=2, failed=1)


def report(status: Status = Status.COMPLETED) -> Report:
    return Report(
        status,
        items=COUNT,
        mini_batches=COUNT,
        rows=2,
        attempts=4,
        lost_attempts=0,
        seconds=1.5,
        output="o",
        folder="f",
    )


@pytest.mark.parametrize(("status", "code"), [(Status.COMPLETED, 0), (Status.FAILED, 1), (Status.CANCELED, 130)])
def test_each_ending_has_its_exit_code(status: Status, code: int) -> None:
    assert report(status).exit_code == code


def test_a_report_is_plain_json() -> None:
    assert json.loads(json.dumps(report().as_dict())) == report().as_dict()


def test_a_report_names_what_users_look_for() -> None:
    promised = {"status", "items", "mini_batches", "rows", "attempts", "lost_attempts", "seconds", "output"}
    assert promised <= report().as_dict().keys()


def test_items_and_mini_batches_are_counted_in_three_words() -> None:
    assert report().as_dict()["items"] == {"total": 3, "succeeded": 2, "failed": 1}


@pytest.mark.parametrize("status", Status)
def test_a_status_is_written_as_its_word(status: Status) -> None:
    assert json.loads(json.dumps(report(status).as_dict()))["status"] == status.value
