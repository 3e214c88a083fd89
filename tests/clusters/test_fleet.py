from __future__ import annotations

import pytest

from daskscore.clusters.fleet import GROW_SECONDS, IDLE_SECONDS, REJOIN_SECONDS, SPARE_FAILURES, Ended, Fleet, Load
from daskscore.clusters.queues import Phase, Standing

PENDING, RUNNING = Standing(Phase.PENDING, "Resources"), Standing(Phase.RUNNING)
AT_WORK, FULL, IDLE = Load(1, 1), Load(3, 1), Load(0, 1)


def fleet(fewest: int, most: int = 0) -> Fleet:
    """All of whose first jobs were asked for at second 100."""
    made = Fleet(fewest, most or fewest, settles_seconds=3)
    for number in range(made.missing(100)):
        made.submitted(f"{number}", f"w{number}", 100)
    return made


def numbers(over: list[Ended]) -> list[str]:
    return [ended.job.number for ended in over]


def test_a_job_that_is_gone_is_replaced() -> None:
    found = fleet(2)
    assert found.look(110, {"0": RUNNING, "1": RUNNING}, {"w0": AT_WORK, "w1": AT_WORK}) == []
    (ended,) = found.look(120, {"0": RUNNING}, {"w0": AT_WORK})
    assert (ended.job.number, ended.failed, found.missing(120)) == ("1", False, 1)


def test_a_job_is_not_missed_before_the_queue_can_list_it() -> None:
    found = fleet(1)
    assert found.look(102, {}, {}) == []
    assert numbers(found.look(104, {}, {})) == ["0"]


def test_a_job_whose_worker_is_there_lives_whatever_the_queue_says() -> None:
    assert fleet(1).look(200, {}, {"w0": AT_WORK}) == []


def test_a_queue_that_says_nothing_ends_no_job() -> None:
    assert fleet(1).look(9999, None, {}) == []


@pytest.mark.parametrize("standings", [None, {"0": RUNNING}])
def test_a_worker_that_stays_away_is_replaced_with_or_without_the_queue(standings: dict[str, Standing] | None) -> None:
    found = fleet(1)
    found.look(110, standings, {"w0": AT_WORK})
    assert found.look(120, standings, {}) == []
    assert found.look(120 + REJOIN_SECONDS, standings, {}) == []
    assert numbers(found.look(121 + REJOIN_SECONDS, standings, {})) == ["0"]


def test_a_job_that_the_queue_starts_again_is_waited_for() -> None:
    found = fleet(1)
    found.look(110, {"0": RUNNING}, {"w0": AT_WORK})
    assert found.look(120, {"0": PENDING}, {}) == []
    assert found.look(120 + 2 * REJOIN_SECONDS, {"0": PENDING}, {}) == []


def test_job_after_job_that_fails_is_hopeless_but_a_worker_that_comes_makes_good() -> None:
    found, now = fleet(1), 200.0
    for number in range(1, SPARE_FAILURES + 1):
        assert not found.hopeless
        assert found.look(now, {}, {})[0].failed
        assert found.missing(now) == 0  # not at once: the queue is not flooded
        now += 100
        found.submitted(f"{number}", f"w{number}", now)
        now += 10
    found.look(now, {f"{SPARE_FAILURES}": RUNNING}, {f"w{SPARE_FAILURES}": AT_WORK})
    assert found.failures == 0


def test_as_many_failures_as_the_limit_are_hopeless() -> None:
    found = fleet(1)
    for number in range(SPARE_FAILURES):
        found.look(200 + number * 100, {}, {})
        found.submitted(f"{number + 1}", "w", 250 + number * 100)
    assert not found.hopeless
    found.look(1000, {}, {})
    assert found.hopeless


def test_a_held_job_counts_as_one_that_failed() -> None:
    (ended,) = fleet(1).look(200, {"0": Standing(Phase.STUCK, "it is held: no disk")}, {})
    assert (ended.failed, ended.why) == (True, "it is held: no disk")


def test_a_range_grows_while_all_are_busy_and_shrinks_when_some_are_idle() -> None:
    found = fleet(1, 3)
    found.look(100, {"0": RUNNING}, {"w0": FULL})
    found.look(101 + GROW_SECONDS, {"0": RUNNING}, {"w0": FULL})
    assert found.missing(150) == 1
    found.submitted("1", "w1", 150)
    loads = {"w0": AT_WORK, "w1": IDLE}
    assert found.look(160, {"0": RUNNING, "1": RUNNING}, loads) == []
    (ended,) = found.look(161 + IDLE_SECONDS, {"0": RUNNING, "1": RUNNING}, loads)
    assert (ended.job.number, ended.surplus, found.missing(300)) == ("1", True, 0)


def test_a_range_never_shrinks_below_its_fewest() -> None:
    found = fleet(2, 4)
    loads = {"w0": IDLE, "w1": IDLE}
    assert found.look(100, None, loads) == []
    assert found.look(9999, None, loads) == []


def test_a_fixed_number_does_not_grow() -> None:
    found = fleet(1)
    for now in range(100, 1000, 10):
        found.look(now, None, {"w0": FULL})
    assert found.missing(1000) == 0


def test_the_sentence_says_what_is_not_there_yet() -> None:
    found = fleet(4)
    found.look(110, dict.fromkeys("123", PENDING), {"w0": AT_WORK})
    assert found.sentence(153) == "4 jobs asked for: 1 runs, 3 are pending (Resources) since 40 s"
    found.look(160, {"1": RUNNING, "2": PENDING, "3": PENDING}, {"w0": AT_WORK})
    assert found.sentence(250) == "4 jobs asked for: 1 runs, 1 starts, 2 are pending (Resources) since 2 min"
    found.look(260, {}, {f"w{number}": AT_WORK for number in range(4)})
    assert found.sentence(260) == ""


def test_the_sentence_says_why_the_queue_is_silent() -> None:
    found = fleet(1)
    found.look(110, None, {})
    found.trouble = "squeue gave no answer within 10 s"
    assert found.sentence(110) == "1 job asked for: 1 is pending since 0 s; squeue gave no answer within 10 s"
