from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Workbench, processes_with, wait_until


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


@pytest.fixture
def nothing_left_behind(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """No process and no temporary file of what the test starts outlives the test; gives the mark they carry."""
    mark = f"DASKSCORE_TEST_MARK={secrets.token_hex(8)}"
    scratch = tmp_path_factory.mktemp("scratch")
    monkeypatch.setenv(*mark.split("="))
    monkeypatch.setenv("TMPDIR", str(scratch))
    yield mark
    wait_until(lambda: not processes_with(mark), f"the end of all processes: {processes_with(mark)}", seconds=20)
    wait_until(lambda: not list(scratch.iterdir()), f"an empty {scratch}: {list(scratch.iterdir())}", seconds=10)
