from __future__ import annotations

import asyncio
import os
import pickle
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import Client, LocalCluster

from daskscore.core.layout import Layout
from daskscore.core.model import Bundle, Outcome, Span
from daskscore.core.planning import line
from daskscore.worker import session as sessions
from daskscore.worker.capping import dropped
from daskscore.worker.process import Limits
from daskscore.worker.session import Assignment, Session, plugin_name
from daskscore.worker.task import ask_to_stop, last_logs, score_bundle
from tests.desks import script_settings
from tests.support import nothing_left_of, processes_with, wait_until


def bundle(number: int, first: int, *batches: list[str]) -> Bundle:
    return Bundle(number, (Span(first, len(batches)),), b"".join(map(line, batches)), box_seconds=60)


@dataclass
class Run:
    """A run as its driver prepares it, and the sessions that workers have of it."""

    folder: Path
    assignment: Assignment
    mark: str
    sessions: list[Session]

    @property
    def output(self) -> Path:
        return self.folder / "out"

    def session(self, *, threads: int = 2, **changes: Any) -> Session:
        """On a worker with that many threads."""
        session: Session = pickle.loads(pickle.dumps(Session(replace(self.assignment, **changes))))
        worker: Any = SimpleNamespace(name="tcp://node:1", state=SimpleNamespace(nthreads=threads))
        session.setup(worker)
        self.sessions.append(session)
        return session

    def processes(self) -> int:
        return len(processes_with(self.mark))


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    (tmp_path / "scratch").mkdir()
    layout = Layout(tmp_path / "out")
    layout.parts.mkdir(parents=True)
    (layout.state / "shared").write_text("token")
    assignment = Assignment(
        run="run",
        output=str(layout.output),
        token="token",
        slots=None,
        settings=script_settings(tmp_path),
        environment={"OF_THE_JOB": "1"},
        limits=Limits(run_seconds=30, init_seconds=30, overhead_seconds=30),
    )
    with nothing_left_of(tmp_path / "scratch") as mark, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
        run = Run(tmp_path, assignment, mark, [])
        yield run
        for session in run.sessions:
            session.close()


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    sort = {"processes": False, "protocol": "tcp://", "dashboard_address": "127.0.0.1:0"}
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, **sort) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def test_a_dask_worker_scores_bundles_between_setup_and_teardown(run: Run, client: Client) -> None:
    client.register_plugin(Session(run.assignment))
    future = client.submit(score_bundle, "run", bundle(1, 5, ["a"], ["raise"], ["c"]), pure=False)
    outcome: Outcome = future.result()
    client.unregister_worker_plugin(plugin_name("run"))
    assert [(s.first, s.size) for s in outcome.segments] == [(5, 1), (7, 1)]
    assert [failure.index for failure in outcome.failures] == [6]
    assert outcome.address in client.scheduler_info()["workers"]
    assert run.processes() == 0


def test_a_worker_that_is_asked_to_stop_hands_back_what_it_is_given(run: Run, client: Client) -> None:
    client.register_plugin(Session(run.assignment))
    client.run(ask_to_stop, "run")
    outcome = client.submit(score_bundle, "run", bundle(1, 0, ["a"], ["b"]), pure=False).result()
    logs = client.run(last_logs, "run")
    client.unregister_worker_plugin(plugin_name("run"))
    assert (outcome.unstarted, list(logs.values())) == ((Span(0, 2),), [{}])


def test_where_the_output_is_shared_rows_and_logs_stand_there(run: Run) -> None:
    session = run.session()
    outcome = session.score(bundle(1, 0, ["a"], ["b"]))
    (segment,) = outcome.segments
    assert Layout(run.output).part(segment.part).read_bytes() == b"a\nb\n"
    assert (outcome.shipped, outcome.logs, session.last_logs()) == (None, None, {})
    assert (run.output / "logs/user/stdout/tcp_node_1/process000.stdout.txt").exists()


def test_where_it_is_not_rows_and_logs_ride_back(run: Run) -> None:
    outcome = run.session(token="that of another folder").score(bundle(1, 0, ["a"], ["raise"], ["c"]))
    (part,) = {segment.part for segment in outcome.segments}
    assert outcome.shipped == {part: b"a\nc\n"}
    assert outcome.logs is not None
    assert b"ValueError: raise" in outcome.logs[outcome.failures[0].log]
    assert not list(Layout(run.output).parts.iterdir())


def test_shipped_rows_keep_their_places_from_bundle_to_bundle(run: Run) -> None:
    session = run.session(token="another", slots=1)
    first = session.score(bundle(1, 0, ["a"], ["short", "b"]))
    second = session.score(bundle(2, 2, ["c"], ["raise"], ["d"]))
    for outcome, rows in ((first, ["a", "b"]), (second, ["c", "d"])):
        assert outcome.shipped is not None
        found = [outcome.shipped[s.part][s.offset :][: s.length].decode().strip() for s in outcome.segments]
        assert found == rows


def test_shipped_rows_take_no_space_on_the_worker(run: Run) -> None:
    session = run.session(token="another", slots=1)
    for number, act in enumerate(["a", "b", "exit", "d"]):
        session.score(bundle(number, number, [f"row {number}"], [act]))
    parts = (run.folder / "scratch").glob("*/.daskscore/parts/*")
    assert [part.stat().st_size for part in parts] == [0]


def test_each_byte_of_a_log_is_shipped_once(run: Run) -> None:
    session = run.session(token="another", slots=1)
    (run.folder / "score.py").write_text("def run(mini_batch):\n    print(*mini_batch)\n    return [1]\n")
    shipped: dict[str, bytes] = {}
    for number in range(3):
        for name, data in (session.score(bundle(number, number, [f"word {number}"])).logs or {}).items():
            shipped[name] = shipped.get(name, b"") + data
    assert shipped.pop("logs/user/stdout/tcp_node_1/process000.stdout.txt") == b"word 0\nword 1\nword 2\n"
    attempts = shipped.pop("logs/sys/node/tcp_node_1/process000.txt")
    assert [line[:4] for line in attempts.splitlines()[2:]] == [b"0,1,", b"1,1,", b"2,1,"]
    assert list(shipped) == ["logs/sys/node/tcp_node_1/_main.txt"]


def test_how_scorers_ended_is_shipped_when_the_run_is_over(run: Run) -> None:
    session = run.session(token="another", slots=1)
    session.score(bundle(1, 0, ["a"], ["raise"]))
    last = session.last_logs()
    assert b"# 2 mini-batches: 1 done, 1 failed; 2 items: 1 succeeded, 1 failed\n# ended" in last.pop(
        "logs/sys/node/tcp_node_1/process000.txt"
    )
    assert b"process000 ended: there is no more work for it." in last.pop("logs/sys/node/tcp_node_1/_main.txt")
    assert (last, session.last_logs()) == ({}, {})


def test_what_no_outcome_has_brought_of_a_log_comes_at_the_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "LOG_BYTES_PER_OUTCOME", 3)
    session = run.session(token="another", slots=1)
    (run.folder / "score.py").write_text("def run(mini_batch):\n    print('word')\n    return [1]\n")
    log = "logs/user/stdout/tcp_node_1/process000.stdout.txt"
    first = session.score(bundle(1, 0, ["a"])).logs or {}
    last = session.last_logs()
    assert sum(map(len, first.values())) == 3
    assert first.get(log, b"") + last[log] == b"word\n"


def test_of_a_long_log_the_beginning_and_the_newest_end_are_shipped(run: Run) -> None:
    limits = replace(run.assignment.limits, log_bytes=4_000)
    session = run.session(token="another", slots=1, limits=limits)
    (run.folder / "score.py").write_text(
        "def run(mini_batch):\n    for n in range(1000): print(f'line {n:04}')\n    return [1]\n"
    )
    log = "logs/user/stdout/tcp_node_1/process000.stdout.txt"
    shipped = (session.score(bundle(1, 0, ["a"])).logs or {})[log] + session.last_logs()[log]
    lines = [b"line %04d" % number for number in range(1000)]
    assert shipped == b"\n".join([*lines[:100], b"", dropped(7_010).strip(), *lines[801:], b""])


def test_metrics_are_shipped_like_any_log(run: Run) -> None:
    session = run.session(token="another", slots=1)
    (run.folder / "score.py").write_text(
        "from azureml.core import Run\n\ndef run(mini_batch):\n"
        "    Run.get_context().log('n', 7)\n    return mini_batch\n"
    )
    outcome = session.score(bundle(1, 0, ["a"]))
    assert b'"value": 7' in (outcome.logs or {})["logs/user/metrics/tcp_node_1/process000.jsonl"]


def test_there_are_no_more_scorers_than_slots(run: Run) -> None:
    session = run.session(threads=4, slots=1)
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(session.score, [bundle(n, n, ["slow"]) for n in range(8)]))
    assert len({outcome.segments[0].part for outcome in outcomes}) == 1


def test_without_a_number_there_are_as_many_slots_as_threads(run: Run) -> None:
    session = run.session(threads=3)
    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(session.score, [bundle(n, n, *[["slow"]] * 20) for n in range(6)]))
    assert len({outcome.segments[0].part for outcome in outcomes}) == 3


def test_the_scorers_know_the_environment_of_the_job(run: Run) -> None:
    (run.folder / "score.py").write_text("import os\ndef run(mini_batch): return [os.environ['OF_THE_JOB']]")
    session = run.session(token="another")
    assert list((session.score(bundle(1, 0, ["a"])).shipped or {}).values()) == [b"1\n"]


def test_an_idle_scorer_is_ended_and_replaced_when_there_is_work_again(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "IDLE_SECONDS", 0.2)
    session = run.session(threads=1)
    first = session.score(bundle(1, 0, ["a"]))
    wait_until(lambda: run.processes() == 1, "the guard alone")
    second = session.score(bundle(2, 1, ["b"]))
    assert first.segments[0].part != second.segments[0].part


@pytest.mark.parametrize("who", ["guard", "nursery"])
def test_a_guard_or_nursery_that_was_killed_is_replaced(run: Run, who: str) -> None:
    (run.folder / "score.py").write_text("import os\ndef run(mini_batch): return [os.getppid()]")
    session = run.session(threads=1, token="another")
    (data,) = (session.score(bundle(1, 0, ["a"])).shipped or {}).values()
    nursery = session._living_nursery()._process.pid
    os.kill(int(data) if who == "guard" else nursery, signal.SIGKILL)
    wait_until(lambda: run.processes() == (who == "guard"), "the end of the scorer")
    assert session.score(bundle(2, 1, ["b"])).unstarted == (Span(1, 1),)
    assert list((session.score(bundle(3, 1, ["b"])).shipped or {}).values()) != [data]


def test_stopping_ends_the_bundles_in_hand(run: Run) -> None:
    session = run.session(threads=1)
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(session.score, bundle(1, 0, *[["slow"]] * 3000))
        wait_until(lambda: any(p.stat().st_size for p in Layout(run.output).parts.iterdir()), "the first rows")
        session.stop()
    (left,) = outcome.result().unstarted
    assert (0 < left.first < 3000, left.stop) == (True, 3000)


def test_closing_ends_processes_threads_and_scratch(run: Run) -> None:
    session = run.session(token="another")
    session.score(bundle(1, 0, ["a"]))
    asyncio.run(session.teardown(None))  # type: ignore[arg-type]  # the worker is not looked at
    assert (run.processes(), list((run.folder / "scratch").iterdir())) == (0, [])
    wait_until(lambda: "daskscore-idle" not in {thread.name for thread in threading.enumerate()}, "the idle thread")


def test_a_bundle_that_waits_for_a_slot_is_handed_back_when_the_run_is_closed(run: Run) -> None:
    session = run.session(threads=2, slots=1)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(session.score, bundle(n, n, *[["slow"]] * 3000)) for n in range(3)]
        wait_until(lambda: any(p.stat().st_size for p in Layout(run.output).parts.iterdir()), "the first rows")
        session.close()
    assert all(outcome.result().unstarted for outcome in waiting)


def test_a_bundle_that_comes_too_late_holds_no_thread(run: Run) -> None:
    session = run.session(token="another")
    session.close()
    late = daemon_thread(session.score, bundle(1, 0, ["a"]))
    assert late.result(timeout=20).unstarted == (Span(0, 1),)


def daemon_thread(function: Callable[..., Outcome], *arguments: Any) -> Future[Outcome]:
    """The future result of a thread that does not keep the test alive."""
    future: Future[Outcome] = Future()
    threading.Thread(target=lambda: future.set_result(function(*arguments)), daemon=True).start()
    return future
