from __future__ import annotations

import pytest

from tests.support import Workbench


@pytest.mark.usefixtures("nothing_left_behind")
def test_an_exception_that_carries_a_data_set_is_shortened_with_its_beginning_and_end(bench: Workbench) -> None:
    bench.script("def run(mini_batch):\n    raise ValueError('begin' + 'x' * 30_000_000 + 'end')\n")
    bench.inputs("a")
    done = bench.run("--run-max-try", "1")
    assert done.code == 1
    (item,) = done.failed_items
    assert item["message"].startswith("run() raised ValueError: beginx")
    assert item["message"].endswith("xend")
    assert len(item["message"]) < 5_000
    assert len(done.stderr) < 100_000
    assert sum(path.stat().st_size for path in bench.output.rglob("*") if path.is_file()) < 3_000_000
