from __future__ import annotations

import pytest

from tests.support import Workbench


@pytest.mark.usefixtures("nothing_left_behind")
def test_a_script_and_a_folder_become_one_exact_output(bench: Workbench) -> None:
    bench.script(
        """
        import os
        def run(mini_batch):
            return [f"{os.path.basename(path)} {open(path).read()}" for path in mini_batch]
        """
    )
    bench.inputs(*"edcba")
    done = bench.run("--mini-batch-size", "2")
    assert done.code == 0, done.stderr
    assert done.rows == ["a a", "b b", "c c", "d d", "e e"]
    assert done.report["items"] == {"total": 5, "succeeded": 5, "failed": 0}
