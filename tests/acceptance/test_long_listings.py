"""A listing that takes long does not keep its first mini-batches waiting, and what ends it early does not undo them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from distributed import Client

import daskscore
from tests.support import Workbench

pytestmark = pytest.mark.slow

INPUT = """
    import os, time
    from daskscore.errors import InputError

    class Slow:
        files = False

        def __init__(self, folder, fails=False):
            self.folder, self.fails = folder, fails

        def items(self):
            yield from ("a", "b")
            while not os.path.exists(os.path.join(self.folder, "scored a")):
                time.sleep(0.01)
            if self.fails and not os.path.exists(os.path.join(self.folder, "mended")):
                raise InputError("the storage of slow things is gone. Look for it")
            yield from ("c", "d", "e")
"""
SCRIPT = """
    import os
    def run(mini_batch):
        for item in mini_batch:
            open(f"{os.environ['FOLDER']}/scored {item}", "x").close()
        return mini_batch
"""


@pytest.fixture
def run(bench: Workbench, client: Client, monkeypatch: pytest.MonkeyPatch) -> Callable[..., daskscore.Report]:
    monkeypatch.syspath_prepend(bench.folder)
    monkeypatch.setattr("daskscore.driver.job_inputs.LISTING_SECONDS", 0.0)
    bench.script(INPUT, "slow_input.py")
    bench.script(SCRIPT)
    (bench.folder / "done").mkdir()

    def score(**settings: Any) -> daskscore.Report:
        sys.modules.pop("slow_input", None)
        options = {"kind": "slow_input:Slow", "folder": str(bench.folder / "done"), **settings.pop("options", {})}
        return daskscore.run(
            entry_script=bench.folder / "score.py",
            inputs=options,
            output=bench.output,
            mini_batch_size=1,
            client=client,
            preflight=False,
            environment_variables={"FOLDER": str(bench.folder / "done")},
            **settings,
        )

    return score


def test_scoring_begins_before_the_listing_ends(run: Callable[..., daskscore.Report], bench: Workbench) -> None:
    report = run()
    assert (report.status, report.items.total) == ("Completed", 5)
    assert (bench.output / "parallel_run_step.txt").read_text() == "a\nb\nc\nd\ne\n"
    overview = (bench.output / "logs" / "job_progress_overview.txt").read_text()
    assert "Scheduled 5 mini batches. There are 5 tasks with 5 items." in overview


def test_a_listing_that_fails_ends_the_run_and_a_resume_goes_on(
    run: Callable[..., daskscore.Report], bench: Workbench
) -> None:
    failed = run(options={"fails": True})
    assert failed.status == "Failed"
    assert failed.message == (
        "the inputs could not be listed to their end: the storage of slow things is gone. Look for it. What is committed "
        "is kept: run the same command with --resume"
    )
    assert json.loads((bench.output / "report.json").read_text())["items"]["succeeded"] >= 1
    (bench.folder / "done" / "mended").touch()
    report = run(options={"fails": True}, resume=True)  # `scored a` cannot be made a second time
    assert (report.status, report.items.succeeded) == ("Completed", 5)
    assert (bench.output / "parallel_run_step.txt").read_text() == "a\nb\nc\nd\ne\n"
