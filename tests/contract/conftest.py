from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from distributed import Client

import daskscore
from tests.jobfiles.conftest import files as files
from tests.support import Finished, Workbench
from tests.worker.conftest import Slot
from tests.worker.conftest import make_slot as make_slot
from tests.worker.conftest import nursery as nursery

MINI_BATCHES = (["a", "b"], ["c"])

Scored = tuple[list[str], list[str]]


@pytest.fixture
def scored(make_slot: Callable[..., Slot]) -> Callable[..., Scored]:
    """What a real scorer makes of two mini-batches, of a, b and of c: the rows, and the messages of what failed."""

    def scored(script: str, **wishes: Any) -> Scored:
        slot = make_slot(script, **wishes)
        ledger = slot.ledger(*MINI_BATCHES, max_try=1)
        messages = []
        while not ledger.finished:
            outcome = slot.score(ledger)
            assert outcome.init_failure is None, outcome.init_failure.message
            messages += [failure.message for failure in (*outcome.failures, *outcome.item_failures)]
        return slot.rows(), messages

    return scored


@pytest.fixture
def score(bench: Workbench, client: Client, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Finished]:
    """A whole run of a script with the files of the bench, or what else the settings say; its message is `stderr`."""
    monkeypatch.chdir(bench.folder)

    def score(script: str, ends: int = 0, **settings: Any) -> Finished:
        bench.script(script)
        if not settings.keys() & {"inputs", "rank_mini_batch_count"}:
            settings["inputs"] = bench.inputs("a", "b", "c")
        report = daskscore.run(
            client=client,
            **{"entry_script": "score.py", "output": bench.output, "preflight": False, "overwrite": True, **settings},
        )
        assert report.exit_code == ends, report.message
        return Finished(report.exit_code, report.traceback, report.message, bench.output)

    return score
