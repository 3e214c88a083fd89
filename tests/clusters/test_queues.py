"""What the commands of batch schedulers print, as their manuals show it."""

from __future__ import annotations

import sys
import time

import pytest

from daskscore.clusters.queues import QUEUES, CommandFailed, Phase, Standing, command

RUNNING, PENDING = Standing(Phase.RUNNING), Standing(Phase.PENDING)

SGE = """\
job-ID  prior   name       user         state submit/start at     queue                          slots ja-task-ID
-----------------------------------------------------------------------------------------------------------------
     11 0.50000 daskscore- alice        r     11/20/2026 18:00:00 all.q@node1                        1
     12 0.50000 daskscore- alice        qw    11/20/2026 18:00:01                                    1
     13 0.50000 daskscore- alice        Eqw   11/20/2026 18:00:01                                    1
     14 0.50000 daskscore- alice        dr    11/20/2026 18:00:01 all.q@node1                        1
     15 0.50000 daskscore- alice        hqw   11/20/2026 18:00:01                                    1
"""
PBS = """\
Job id            Name             User              Time Use S Queue
----------------  ---------------- ----------------  -------- - -----
11.server         daskscore-abcde  alice             00:00:10 R workq
12.server         daskscore-abcde  alice                    0 Q workq
13.server         daskscore-abcde  alice                    0 H workq
14.server         daskscore-abcde  alice             00:00:10 E workq
"""

PRINTED = {
    "slurm": (
        "11|RUNNING|None\n12|PENDING|Resources\n13|PENDING|None\n14|COMPLETING|None\n15|SUSPENDED|None\n",
        {
            "11": RUNNING,
            "12": Standing(Phase.PENDING, "Resources"),
            "13": PENDING,
            "15": Standing(Phase.PENDING, "suspended"),
        },
    ),
    "sge": (
        SGE,
        {
            "11": RUNNING,
            "12": PENDING,
            "13": Standing(Phase.STUCK, "its state is Eqw; qstat -j 13 says why"),
            "15": Standing(Phase.PENDING, "hqw"),
        },
    ),
    "pbs": (PBS, {"11": RUNNING, "12": PENDING, "13": Standing(Phase.PENDING, "held")}),
    "lsf": (
        "11 RUN\n12 PEND\n13 PSUSP\n14 EXIT\n",
        {"11": RUNNING, "12": PENDING, "13": Standing(Phase.PENDING, "suspended")},
    ),
    "htcondor": (
        "11 0 2 undefined\n12 0 1 undefined\n13 0 5 no disk\n14 0 4 undefined\n",
        {"11.0": RUNNING, "12.0": PENDING, "13.0": Standing(Phase.STUCK, "it is held: no disk")},
    ),
    "oar": (
        '{"11": {"state": "Running"}, "12": {"state": "Waiting"}, "13": {"state": "Hold"}, "14": {"state": "Error"}}',
        {"11": RUNNING, "12": PENDING, "13": Standing(Phase.PENDING, "hold")},
    ),
}


@pytest.mark.parametrize("kind", QUEUES)
def test_what_a_queue_prints_is_read(kind: str) -> None:
    printed, standings = PRINTED[kind]
    assert QUEUES[kind].read(printed) == standings


@pytest.mark.parametrize("kind", QUEUES)
def test_an_empty_queue_is_read(kind: str) -> None:
    assert QUEUES[kind].read("") == {}


def test_a_command_that_hangs_is_ended_with_all_it_has_started() -> None:
    began = time.monotonic()
    with pytest.raises(CommandFailed, match=r"^sh gave no answer within 0\.2 s$"):
        command(["sh", "-c", "sleep 60 | sleep 60"], 0.2)
    assert time.monotonic() - began < 10


def test_a_command_that_fails_is_told_in_its_own_words() -> None:
    with pytest.raises(CommandFailed, match=r"^sh: invalid partition specified: nope$"):
        command(["sh", "-c", "echo invalid partition specified: nope >&2; exit 1"], 10)
    with pytest.raises(CommandFailed, match="exit code 3"):
        command([sys.executable, "-c", "raise SystemExit(3)"], 10)
    with pytest.raises(CommandFailed, match="there-is-none cannot be started: No such file or directory"):
        command(["there-is-none"], 10)
