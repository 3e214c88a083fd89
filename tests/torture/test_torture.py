"""A few ordeals of `python -m benchmarks.torture`: whatever happens to a run, its output is right to the byte."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.torture import runs, summary, tables
from benchmarks.torture.faults import KINDS, Ordeal, draw, of_kinds
from benchmarks.torture.jobs import Job, Shape
from benchmarks.torture.means import possible
from benchmarks.torture.runs import endure
from benchmarks.torture.storages import Storages
from tests.consistency import check
from tests.support import processes_with, wait_until

RUNS = 20
SEED = 7_000_000
DEAR = ("cut", "stall", "nanny")
"""Half a minute each: once is enough here."""
APART = ("clock-back",)
"""Dask's own sending waits by the wall clock, and stands still for as long as that was set back."""


@pytest.fixture(scope="module")
def storages() -> Iterator[Storages]:
    with Storages() as found:
        yield found


def suffer(ordeal: Ordeal, folder: Path, storages: Storages) -> None:
    """Skipped where this machine cannot do that to a run."""
    if lacking := possible(ordeal.kinds):
        pytest.skip("; ".join(f"{kind}: {why}" for kind, why in lacking.items()))
    result = endure(ordeal, folder / "run", storages)
    assert not result.problems, summary.story(result)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(RUNS))
def test_a_run_gets_over_what_its_seed_says(number: int, tmp_path: Path, storages: Storages) -> None:
    suffer(draw(SEED + number, [kind for kind in KINDS if kind not in (*DEAR, *APART)]), tmp_path, storages)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("cut", *APART)])
def test_a_run_gets_over_each_kind_of_fault(kind: str, tmp_path: Path, storages: Storages) -> None:
    suffer(of_kinds(SEED, (kind,)), tmp_path, storages)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [3.0, 25.0], ids=["shorter than the timeouts", "longer than the timeouts"])
def test_a_run_gets_over_a_cut_network(seconds: float, tmp_path: Path, storages: Storages) -> None:
    ordeal = of_kinds(SEED, ("cut",))
    suffer(replace(ordeal, acts=tuple(replace(act, seconds=seconds) for act in ordeal.acts)), tmp_path, storages)


@pytest.mark.slow
@pytest.mark.parametrize("isolate", [True, False], ids=["isolated", "not isolated"])
def test_a_run_gets_over_a_script_that_does_everything(isolate: bool, tmp_path: Path, storages: Storages) -> None:
    words = [word for word in tables.KINDS if word != "short"]
    table = {f"item_{7 * number:03}": [word] for number, word in enumerate(words)}
    table |= {f"item_{7 * number + 3:03}": [word, tables.OK] for number, word in enumerate(words)}
    table |= {f"item_{80 + number:03}": [word] for number, word in enumerate(tables.HARMLESS)}
    table["item_090"] = ["short"]
    shape = Shape(items=92, mini_batch_size=3, isolate=isolate, run_seconds=1, table=table)
    suffer(Ordeal(1, ("misbehave",), shape, ()), tmp_path, storages)


def test_what_is_wrong_is_found_and_told_with_its_repetition(
    tmp_path: Path, storages: Storages, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Job.content
    monkeypatch.setattr(Job, "row", lambda job, item, edition=0: f"{item} {len(right(job, item, edition))}")
    ordeal = of_kinds(5, ("keeper",))
    result = endure(replace(ordeal, shape=Shape(items=6)), tmp_path / "run", storages)
    assert [problem.sort for problem in result.problems] == ["bytes"]
    assert "6 too many (item_000 " in summary.story(result)
    assert "--repeat 5 --just keeper" in summary.story(replace(result, ordeal=ordeal))
    check(tmp_path / "run" / "disk" / "out")


def test_a_hang_is_ended_and_told_with_its_stacks(
    tmp_path: Path, storages: Storages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "DEADLINE_SECONDS", 4.0)
    ordeal = Ordeal(6, (), Shape(items=2, item_seconds=1000), ())
    result = endure(ordeal, tmp_path / "run", storages)
    assert [problem.sort for problem in result.problems] == ["hang"]
    assert "daskscore run job.yml" in (tmp_path / "run" / "stacks.txt").read_text()
    wait_until(lambda: not processes_with(str(tmp_path)), "the end of all processes")


@pytest.mark.parametrize("seed", range(30))
def test_a_seed_says_the_same_each_time(seed: int) -> None:
    assert draw(seed, KINDS) == draw(seed, KINDS)


ITEMS = [["a", "b", "c"], ["d", "e", "f"], ["g", "h", "i"]]


def test_poison_takes_its_mini_batch_with_it_where_nothing_is_isolated() -> None:
    found = tables.expect(ITEMS, {"b": ["hang"], "c": ["raise"], "d": ["exit", "ok"]}, isolate=False)
    assert found.fails == {"a": "timeout", "b": "timeout", "c": "timeout"}


def test_what_is_done_first_is_what_an_attempt_fails_with() -> None:
    found = tables.expect(ITEMS, {"a": ["none"], "c": ["segv"]}, isolate=False)
    assert found.fails == {"a": "crash", "b": "crash", "c": "crash"}


def test_poison_fails_alone_where_it_is_isolated() -> None:
    found = tables.expect(ITEMS, {"b": ["hang"], "c": ["raise"], "d": ["exit", "ok"]}, isolate=True)
    assert found.fails == {"b": "timeout", "c": "raise"}
    assert found.may_fail == {}


def test_a_kill_may_hit_an_item_that_is_tried_alone() -> None:
    found = tables.expect(ITEMS, {"b": ["raise"]}, isolate=True, costly=frozenset(("crash",)), hits=1)
    assert found.kinds("b", frozenset()) == {"raise"}
    assert found.kinds("a", frozenset()) == {"crash"}
    assert found.kinds("d", frozenset()) == frozenset()


def test_of_a_short_return_the_last_item_fails() -> None:
    assert tables.expect(ITEMS, {"d": ["short"]}, isolate=True).fails == {"f": "bad_output"}


def test_an_act_waits_for_its_moment() -> None:
    ordeal = of_kinds(3, ("driver",))
    assert replace(ordeal, acts=()).told().endswith("nothing happens")
    assert {act.kind for act in ordeal.acts} == {"driver"}
