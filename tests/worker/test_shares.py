"""What the scorers of a machine share: GPUs, one for each as far as they go, and processors."""

from __future__ import annotations

import json

import pytest
from dask.system import cpu_count
from hypothesis import given
from hypothesis import strategies as st

from daskscore.worker.shares import THREADS, Gpus, gpus_here, threads_each
from tests.support import Workbench


@given(st.integers(0, 8), st.integers(0, 4), st.lists(st.integers(0, 7), max_size=40))
def test_no_gpu_is_given_twice_and_none_is_lost(number: int, each: int, ends: list[int]) -> None:
    names = [str(name) for name in range(number)]
    gpus, held = Gpus(names, each), []
    for end in ends:
        if end < len(held):
            gpus.give_back(held.pop(end))
        else:
            held.append(gpus.take())
        taken = [name for some in held for name in some]
        assert len(taken) == len(set(taken))
        assert all(len(some) in (0, each) for some in held)
    for some in held:
        gpus.give_back(some)
    assert not each or number < each or gpus.take() == names[:each]


def test_the_lowest_that_is_free_comes_first() -> None:
    gpus = Gpus([str(name) for name in range(12)], 1)
    taken = [gpus.take() for _ in range(12)]
    assert gpus.take() == []
    for some in (taken[10], taken[9], taken[2]):
        gpus.give_back(some)
    assert [gpus.take() for _ in range(4)] == [["2"], ["9"], ["10"], []]


@pytest.mark.parametrize(
    ("declared", "visible", "names"),
    [
        (3, None, ["0", "1", "2"]),
        (0, None, []),
        (None, "2,5", ["2", "5"]),
        (1, "2,5", ["2"]),
        (None, "GPU-1f, GPU-2e", ["GPU-1f", "GPU-2e"]),
        (None, "", []),
        (4, "-1", []),
    ],
)
def test_gpus_are_declared_or_visible(declared: int | None, visible: str | None, names: list[str]) -> None:
    assert gpus_here(declared, {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) == names


def test_slots_share_the_processors_unless_the_user_says_otherwise() -> None:
    cores = cpu_count() or 1
    assert threads_each(1, {}) == dict.fromkeys(THREADS, str(cores))
    assert threads_each(10 * cores, {}) == dict.fromkeys(THREADS, "1")
    assert "MKL_NUM_THREADS" not in threads_each(1, {"MKL_NUM_THREADS": "3"})
    assert "OMP_NUM_THREADS" in threads_each(1, {"OMP_NUM_THREADS": "1"}), "Dask's nanny sets this"


def test_each_process_has_a_gpu_of_its_own_and_those_beyond_have_none(bench: Workbench) -> None:
    bench.script(
        """
        import json, os, time

        def init():
            open(f"ready-{os.getpid()}", "w").close()
            while len([name for name in os.listdir() if name.startswith("ready-")]) < 3:
                time.sleep(0.01)

        def run(mini_batch):
            name = os.path.basename(mini_batch[0])
            if name == "crash" and not os.path.exists("crashed"):
                open("crashed", "w").close()
                os._exit(1)
            time.sleep(0.05)
            told = os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ["OMP_NUM_THREADS"]
            return [json.dumps([os.getpid(), *told])]
        """
    )
    bench.inputs("crash", *(f"{number:02d}" for number in range(40)))
    words = ("--mini-batch-size", "1", "--process-count-per-node", "3", "--set", "gpus_per_node=2")
    done = bench.run(*words, environment={"CUDA_VISIBLE_DEVICES": "4,7"})
    assert done.code == 0, done.stderr
    seen = {pid: (gpu, threads) for pid, gpu, threads in map(json.loads, done.rows)}
    assert {gpu for gpu, _ in seen.values()} >= {"4", "7"}
    assert len(seen) in (3, 4), "the one that crashed may have scored something before"
    assert {threads for _, threads in seen.values()} == {str(max(1, (cpu_count() or 1) // 3))}
