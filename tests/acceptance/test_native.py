"""Scripts over Dask collections on a cluster of processes: what comes before and after, and what is left behind."""

from __future__ import annotations

import io
import os
import re
import signal
import warnings
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import dask
import dask.dataframe as dd
import pandas
import pytest
from distributed import Client, LocalCluster

import daskscore
from tests.servers import BUSY, Proxy, S3Server
from tests.support import Workbench, nothing_left_of, processes_with, wait_until

pytest_plugins = ["tests.servers"]
pytestmark = pytest.mark.slow

NAMES = [f"{number:02d}.txt" for number in range(24)]
TEXTS = """
    import os
    from pathlib import Path
    def init():
        Path(__file__ + f".init.{os.getpid()}").touch()
    def run(mini_batch):
        return [(Path(item).name, Path(item).read_text(), os.getpid()) for item in mini_batch]
"""
TWICE = "def run(frame): return frame.assign(twice=frame['number'] * 2)"


@pytest.fixture(scope="module")
def client(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Of a cluster of two workers, that is found by all that is computed here; it ends before the storage does."""
    resource_tracker.ensure_running()  # Python's own, which stays as long as this process
    scratch, local = tmp_path_factory.mktemp("scratch"), tmp_path_factory.mktemp("local")
    how: dict[str, Any] = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "memory_limit": 0}
    with (
        nothing_left_of(scratch),
        LocalCluster(n_workers=2, threads_per_worker=1, local_directory=str(local), **how) as cluster,
        Client(cluster) as client,
    ):
        yield client


def table(rows: int = 1000) -> pandas.DataFrame:
    return pandas.DataFrame({"number": range(rows), "text": [f"é{number}" for number in range(rows)]})


def test_each_scorer_process_begins_once_and_scores_many_mini_batches(client: Client, bench: Workbench) -> None:
    script = bench.script(TEXTS)
    scored = daskscore.score(daskscore.read(bench.inputs(*NAMES), mini_batch_size=2), script).compute()
    assert [(name, text) for name, text, _ in scored] == [(name, name) for name in NAMES]
    begun = {int(path.suffix[1:]) for path in bench.folder.glob("score.py.init.*")}
    assert begun == {pid for _, _, pid in scored}
    assert len(begun) <= 2


def test_remote_files_are_brought_to_the_script(client: Client, bench: Workbench, s3: S3Server, proxied: Any) -> None:
    s3.put("native-files", {f"in/{name}": name.encode() for name in NAMES})
    proxy: Proxy = proxied(s3.port)
    files = daskscore.read("s3://native-files/in/", mini_batch_size=5, storage_options=s3.behind(proxy))
    assert files.npartitions == 5
    assert files.take(1) == ("s3://native-files/in/00.txt",)
    assert proxy.gets(".txt") == 0
    proxy.will("03.txt", BUSY, BUSY)
    some = files.filter(lambda name: not name.endswith("0.txt"))
    scored = daskscore.score(some, bench.script(TEXTS), run_max_try=1).compute()
    assert [(name, text) for name, text, _ in scored] == [(n, n) for n in NAMES if not n.endswith("0.txt")]
    assert (proxy.gets("/00.txt"), proxy.gets("/03.txt")) == (0, 3)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_remote_records_are_scored_into_parquet(client: Client, bench: Workbench, s3: S3Server, ending: str) -> None:
    first, second = io.BytesIO(), io.BytesIO()
    for file, part in ((first, table()[:500]), (second, table()[500:])):
        part.to_csv(file, index=False) if ending == "csv" else part.to_parquet(file, row_group_size=90)
    s3.put(f"native-{ending}", {f"a.{ending}": first.getvalue(), f"b.{ending}": second.getvalue()})
    frame = daskscore.read(
        f"s3://native-{ending}/*.{ending}", type="tabular", mini_batch_size="200 rows", storage_options=s3.options
    )
    assert frame.npartitions == 6
    scored = daskscore.score(frame, bench.script(TWICE))
    scored.to_parquet(bench.folder / "out", write_index=False)
    found = pandas.read_parquet(bench.folder / "out")
    expected = table().assign(twice=table()["number"] * 2)
    pandas.testing.assert_frame_equal(found, expected, check_dtype=False)
    assert found.dtypes["twice"] == "int64"


def test_an_object_that_goes_meanwhile_fails_its_task(client: Client, bench: Workbench, s3: S3Server) -> None:
    s3.put("native-gone", {"in/a": b"a", "in/b": b"b"})
    files = daskscore.read("s3://native-gone/in/", storage_options=s3.options)
    s3.remove("native-gone", "in/b")
    with pytest.raises(daskscore.MiniBatchError, match=r"lacks 1 items: s3://native-gone/in/b .*not there"):
        daskscore.score(files, bench.script(TEXTS)).compute()


def test_it_composes_with_frames_that_come_from_elsewhere(client: Client, bench: Workbench) -> None:
    frame = dd.from_pandas(table(), npartitions=7)
    even = frame[frame["number"] % 2 == 0].assign(group=frame["number"] % 10)
    sums = daskscore.score(even, bench.script(TWICE)).groupby("group")["twice"].sum().compute()
    assert sums.sort_index().to_dict() == {group: 2 * sum(range(group, 1000, 10)) for group in (0, 2, 4, 6, 8)}


def test_one_script_after_the_other_and_two_at_once(client: Client, bench: Workbench) -> None:
    frame = dd.from_pandas(table(100), npartitions=4)
    twice = daskscore.score(frame, bench.script(TWICE))
    again = daskscore.score(
        twice, bench.script(TWICE.replace("'number'", "'twice'").replace("twice=", "four="), "b.py")
    )
    other = daskscore.score(frame, bench.script("def run(frame): return frame[['number']] + 1", "c.py"))
    four, one = dask.compute(again["four"].sum(), other["number"].sum())
    assert (four, one) == (4 * 4950, 4950 + 100)


def test_what_a_script_does_to_itself_fails_its_task_and_no_worker(client: Client, bench: Workbench) -> None:
    script = bench.script(
        """
        import ctypes, os
        def run(mini_batch):
            for item in mini_batch:
                act = os.path.basename(item)
                if act == "raise": raise ValueError("it says so")
                if act == "segfault": ctypes.string_at(0)
                if act == "spin": ctypes.PyDLL(None).pause()
                if act == "hoard": held = b"x" * (300 << 20); ctypes.PyDLL(None).pause()
            return mini_batch
        """
    )
    workers = set(client.scheduler_info()["workers"])
    limits: dict[str, Any] = {"run_max_try": 1, "run_invocation_timeout": 2, "memory_limit_per_process": "200MB"}
    for act, sentence in {
        "raise": r'(?s)ValueError: it says so.*score.py", line 6, in run',
        "segfault": "ended by signal 11",
        "spin": "no answer within 2 s",
        "hoard": "more than memory_limit_per_process",
    }.items():
        files = daskscore.read(str(bench.inputs(act) / act))
        with pytest.raises(daskscore.MiniBatchError, match=sentence):
            daskscore.score(files, script, **limits).compute()
    assert set(client.scheduler_info()["workers"]) == workers


def test_a_skipped_mini_batch_is_warned_of_at_the_client(client: Client, bench: Workbench) -> None:
    script = bench.script("def run(frame): assert frame['number'].iloc[0]; return frame")
    frame = dd.from_pandas(table(100), npartitions=4)
    scored = daskscore.score(frame, script, meta=table(), on_error="skip", run_max_try=2)["number"].min()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert scored.compute() == 25
        wait_until(lambda: warned, "a warning")
    assert re.search(r"score.py: 1 of \d+ mini-batches of this worker have no results", str(warned[0].message))


def test_kill_9_of_a_worker_costs_no_result_and_leaves_no_scorer(client: Client, bench: Workbench) -> None:
    script = bench.script(
        """
        import os, time
        from pathlib import Path
        def run(mini_batch):
            Path(__file__ + f".ran.{os.getpid()}").touch()
            while not Path(__file__ + ".go").exists(): time.sleep(0.01)
            return list(mini_batch)
        """
    )
    scored = daskscore.score(daskscore.read(bench.inputs(*NAMES), mini_batch_size=2), script)
    future = client.compute(scored)
    ran = wait_until(lambda: list(bench.folder.glob("*.ran.*"))[1:], "two scorers at work")
    victim = min(client.run(os.getpid).values())
    os.kill(victim, signal.SIGKILL)
    (bench.folder / "score.py.go").touch()
    assert [Path(name).name for name in future.result(timeout=60)] == NAMES
    assert ran
    client.wait_for_workers(2, timeout=60)


def test_a_worker_that_retires_costs_no_result(bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> None:
    script = bench.script(
        """
        import os, time
        from pathlib import Path
        def run(mini_batch):
            Path(__file__ + f".ran.{os.getpid()}").touch()
            time.sleep(0.2)
            return list(mini_batch)
        """
    )
    files = daskscore.read(bench.inputs(*NAMES), mini_batch_size=1)
    local = str(tmp_path_factory.mktemp("local"))
    how: dict[str, Any] = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "local_directory": local}
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, **how) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        future = client.compute(daskscore.score(files, script))
        wait_until(lambda: list(bench.folder.glob("*.ran.*"))[1:], "two scorers at work")
        client.retire_workers([min(client.scheduler_info()["workers"])])
        assert [Path(name).name for name in future.result(timeout=60)] == NAMES


def test_a_cluster_that_closes_leaves_nothing(bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> None:
    """With a scorer that idles and one that is at work."""
    script = bench.script(
        """
        import time
        from pathlib import Path
        def run(mini_batch):
            if mini_batch[0].endswith("01.txt"):
                Path(__file__ + ".slow").touch()
                time.sleep(600)
            return list(mini_batch)
        """
    )
    files = daskscore.read(bench.inputs("00.txt", "01.txt"), mini_batch_size=1)
    resource_tracker.ensure_running()
    with nothing_left_of(tmp_path_factory.mktemp("scratch")) as mark:
        local = str(tmp_path_factory.mktemp("local"))
        with (
            LocalCluster(
                n_workers=1,
                threads_per_worker=2,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                local_directory=local,
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            future = client.compute(daskscore.score(files, script))
            wait_until((bench.folder / "score.py.slow").exists, "a scorer at work")
            assert processes_with(mark)
            future.cancel()
