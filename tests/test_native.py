"""Scripts over Dask collections, with the schedulers that need no cluster, and on a worker inside this process."""

from __future__ import annotations

import _thread
import gzip
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import dask.bag
import dask.dataframe as dd
import pandas
import pytest
from dask.bag import Bag
from distributed import Client

import daskscore
from daskscore.errors import ConfigError, DaskscoreError, InputError, ScriptError
from daskscore.worker import keeping
from tests.support import Workbench, nothing_left_of, processes_with, wait_until

ECHO = """
    from pathlib import Path
    def run(mini_batch, context):
        return [(Path(item).read_text(), context.minibatch_index) for item in mini_batch]
"""
WORDS = "def run(mini_batch): return [str(item) for item in mini_batch]"
TWICE = "def run(frame): return frame.assign(twice=frame['x'] * 2)"


@pytest.fixture(autouse=True)
def _own_keeper(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test leaves in this process ends with it."""
    here: dict[int, keeping.Keeper] = {}
    monkeypatch.setattr(keeping, "_HERE", here)
    with dask.config.set(scheduler="threads"):
        yield
    for keeper in here.values():
        keeper.close()


@pytest.fixture
def names(bench: Workbench) -> Path:
    return bench.inputs("a", "b", "c", "d", "e")


@pytest.fixture
def numbers() -> dd.DataFrame:
    return dd.from_pandas(pandas.DataFrame({"x": range(10)}), npartitions=3)


def test_files_are_a_bag_with_a_partition_for_each_mini_batch(names: Path) -> None:
    bag = daskscore.read(names, mini_batch_size=2)
    assert isinstance(bag, Bag)
    assert bag.npartitions == 3
    assert bag.compute() == [str(names / name) for name in "abcde"]


@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_every_scheduler_of_dask_scores_with_scorers(bench: Workbench, names: Path, scheduler: str) -> None:
    scored = daskscore.score(daskscore.read(names, mini_batch_size=2), bench.script(ECHO))
    assert scored.compute(scheduler=scheduler) == [("a", 0), ("b", 0), ("c", 1), ("d", 1), ("e", 2)]


def test_names_stay_names_through_what_dask_does_with_them(bench: Workbench, names: Path) -> None:
    bag = (
        daskscore.read(names, mini_batch_size=2).filter(lambda name: not name.endswith("a")).repartition(npartitions=1)
    )
    assert daskscore.score(bag, bench.script(ECHO)).pluck(0).compute() == list("bcde")


def test_any_items_can_be_scored_as_they_are(bench: Workbench) -> None:
    bag = dask.bag.from_sequence([{"n": 1}, (2,), None], npartitions=1).map(lambda item: item)
    assert daskscore.score(bag, bench.script(WORDS)).compute() == ["{'n': 1}", "(2,)", "None"]


def test_an_empty_partition_is_not_given_to_the_script(bench: Workbench, numbers: dd.DataFrame) -> None:
    script = bench.script("def run(frame): assert len(frame); return frame")
    assert daskscore.score(numbers[numbers.x > 8], script).compute()["x"].tolist() == [9]
    bag = dask.bag.from_sequence(range(4), npartitions=2).filter(lambda number: number < 1)
    assert daskscore.score(bag, bench.script(WORDS)).compute() == ["0"]


def test_files_and_other_items_in_one_partition_are_refused(bench: Workbench, names: Path) -> None:
    bag = dask.bag.concat([daskscore.read(names), dask.bag.from_sequence(["word"])]).repartition(npartitions=1)
    with pytest.raises(daskscore.MiniBatchError, match="beside other items, like 'word'"):
        daskscore.score(bag, bench.script(ECHO)).compute()


def test_files_of_two_inputs_may_meet_in_one_partition(bench: Workbench, names: Path) -> None:
    both = dask.bag.concat([daskscore.read(names / "a"), daskscore.read(names / "e")]).repartition(npartitions=1)
    assert daskscore.score(both, bench.script(ECHO)).compute() == [("a", 0), ("e", 0)]


@pytest.mark.parametrize(
    ("ending", "write"),
    [
        ("csv", lambda frame, path: frame.to_csv(path, index=False)),
        ("csv.gz", lambda frame, path: path.write_bytes(gzip.compress(frame.to_csv(index=False).encode()))),
        ("jsonl", lambda frame, path: frame.to_json(path, orient="records", lines=True, date_format="iso")),
        ("parquet", lambda frame, path: frame.to_parquet(path)),
        ("feather", lambda frame, path: frame.to_feather(path)),
    ],
)
def test_records_have_the_dtypes_that_were_said_before(
    tmp_path: Path, ending: str, write: Callable[[pandas.DataFrame, Path], None]
) -> None:
    told = pandas.DataFrame({"x": range(50), "text": "é", "share": 0.5, "when": pandas.Timestamp("2026-01-02")})
    told["lists"] = [[number] for number in range(50)]
    (tmp_path / "day=1").mkdir()
    write(told if ending in ("parquet", "feather") else told.drop(columns="lists"), tmp_path / "day=1" / f"t.{ending}")
    options = {"type": "tabular", "path_column": "file", "dtypes": {"when": "datetime"}, "partition_keys": "day"}
    frame = daskscore.read(tmp_path, **options)
    (whole,) = dask.compute(frame)
    assert frame.dtypes.equals(whole.dtypes)
    assert frame.dtypes["text"] == pandas.Series(["é"]).astype("str").dtype  # as in a job
    assert list(frame.columns) == list(whole.columns)
    assert whole["x"].tolist() == list(range(50))
    assert whole.attrs == {"partition_key_value": {"day": "1"}}


def test_the_index_of_a_parquet_file_stays_the_index(tmp_path: Path) -> None:
    pandas.DataFrame({"x": [1, 2]}, index=pandas.Index(["a", "b"], name="key")).to_parquet(tmp_path / "t.parquet")
    frame = daskscore.read(tmp_path / "t.parquet", type="tabular")
    assert frame.index.name == "key"
    assert frame.compute().index.tolist() == ["a", "b"]


def test_inputs_with_other_columns_are_no_one_dataframe(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    (tmp_path / "b.csv").write_text("y\n1\n")
    with pytest.raises(ConfigError, match="Read them one by one"):
        daskscore.read([tmp_path / "a.csv", tmp_path / "b.csv"], type="tabular")


def test_scripts_are_told_the_key_of_a_mini_batch(bench: Workbench) -> None:
    for user in "uv":
        (bench.folder / f"in/user={user}").mkdir(parents=True)
        (bench.folder / f"in/user={user}/t.csv").write_text("x\n1\n2\n")
    script = bench.script("def run(mini_batch, context): return [context.partition_key_value['user'], len(mini_batch)]")
    files = daskscore.read(bench.folder / "in", partition_keys=["user"])
    assert daskscore.score(files, script).compute() == ["u", 1, "v", 1]
    frame = daskscore.read(bench.folder / "in", type="tabular", partition_keys="user")
    assert daskscore.score(frame[frame.x > 1], script, meta=list).compute() == ["u", 1, "v", 1]


def test_records_that_lie_apart_by_their_keys_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("user,x\nu,1\nv,1\nu,2\n")
    with pytest.raises(InputError, match="do not lie together by user"):
        daskscore.read(tmp_path, type="tabular", partition_keys=["user"])


def test_skipped_records_are_warned_of(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x\n1\nword\n3\n")
    frame = daskscore.read(tmp_path, dtypes={"x": "int"}, on_bad_record="skip")
    with pytest.warns(
        UserWarning, match=r"bad records are skipped \(1\); the first: .*t.csv line 3: column x is 'word'"
    ):
        assert frame.compute(scheduler="sync")["x"].tolist() == [1, 3]


def test_a_dataframe_that_is_returned_is_a_dataframe(bench: Workbench, numbers: dd.DataFrame) -> None:
    scored = daskscore.score(numbers[numbers.x > 2], bench.script(TWICE))
    assert scored.dtypes.to_dict() == {"x": "int64", "twice": "int64"}
    assert scored["twice"].sum().compute() == 84


def test_a_series_in_and_a_series_out(bench: Workbench, numbers: dd.DataFrame) -> None:
    scored = daskscore.score(numbers["x"], bench.script("def run(series): return series + 0.5"))
    assert (scored.name, scored.dtype) == ("x", "float64")
    assert scored.max().compute() == 9.5


def test_anything_else_that_is_returned_is_a_bag(bench: Workbench, numbers: dd.DataFrame) -> None:
    script = bench.script("def run(frame): return [{'n': len(frame)}]")
    scored = daskscore.score(numbers, script)
    assert isinstance(scored, Bag)
    assert scored.pluck("n").compute() == [4, 3, 3]
    assert daskscore.score(numbers, bench.script(TWICE), meta=list).take(1) == ({"x": 0, "twice": 0},)


def test_a_bag_becomes_a_dataframe_with_meta(bench: Workbench, names: Path) -> None:
    script = bench.script(
        """
        import pandas
        def run(files): return pandas.DataFrame({"name": [file[-1] for file in files], "size": [1.0] * len(files)})
        """
    )
    files = daskscore.read(names, mini_batch_size=2)
    scored = daskscore.score(files, script, meta={"name": "str", "size": "int32"})
    assert scored.dtypes.astype(str).to_dict()["size"] == "int32"
    (found,) = dask.compute(scored)
    assert found.dtypes.equals(scored.dtypes)
    assert found["name"].tolist() == list("abcde")
    assert daskscore.score(files, script).pluck("name").compute() == list("abcde")


@pytest.mark.parametrize(
    ("meta", "sentence"),
    [
        ({"x": "int64"}, "returned the columns x, twice, and meta has x"),
        ({"x": "int64", "twice": "datetime64[ns, UTC]"}, None),
        ({"x": "int8", "twice": "int64"}, "returned x as int64, and in meta it is int8: some are no whole numbers"),
        (("x", "int64"), "returned a DataFrame, and meta is a Series"),
    ],
)
def test_meta_that_is_not_what_comes_is_an_error(bench: Workbench, meta: Any, sentence: str | None) -> None:
    frame = dd.from_pandas(pandas.DataFrame({"x": [1000]}), npartitions=1)
    scored = daskscore.score(frame, bench.script(TWICE), meta=meta)
    if sentence is None:
        assert scored.compute().dtypes.equals(scored.dtypes)
        return
    with pytest.raises(daskscore.MiniBatchError, match=sentence):
        scored.compute()


def test_nothing_runs_before_compute(bench: Workbench, names: Path) -> None:
    """Where meta says what comes, or no DataFrame goes in."""
    script = bench.script("open(__file__ + '.ran', 'w').close()\ndef run(mini_batch): return mini_batch")
    frame = dd.from_pandas(pandas.DataFrame({"x": [1]}), npartitions=1)
    scored = [daskscore.score(daskscore.read(names), script), daskscore.score(frame, script, meta={"x": "int64"})]
    assert not Path(f"{script}.ran").exists()
    for each in scored:
        each.compute()
        assert Path(f"{script}.ran").exists()
        Path(f"{script}.ran").unlink()


def test_a_script_that_fails_on_made_up_records_is_told_of_meta(bench: Workbench, numbers: dd.DataFrame) -> None:
    script = bench.script("def run(frame): return frame['y']")
    with pytest.raises(ScriptError, match=r"(?s)fails on two made-up records; say it with meta=.*KeyError: 'y'"):
        daskscore.score(numbers, script)


FLAKY = """
    import os, time
    def run(mini_batch, context):
        for item in mini_batch:
            act = os.path.basename(item)
            if act == "raise": raise ValueError("it says so")
            if act == "once" and context.retry_count == 0: os._exit(3)
            if act == "exit": os._exit(3)
            if act == "hang": time.sleep(60)
        return [(os.path.basename(item), context.retry_count) for item in mini_batch]
"""


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        ("raise", r"raise\): run\(\) raised ValueError: it says so \(attempt 2 of 2\)\n\nTraceback .*score.py"),
        ("exit", r"exit\): the process exited with code 3 in run\(\) \(attempt 2 of 2\)"),
        ("hang", r"hang\): run\(\) gave no answer within 0.5 s \(attempt 2 of 2\)"),
    ],
)
def test_a_mini_batch_that_fails_each_time_fails_its_task(bench: Workbench, act: str, sentence: str) -> None:
    files = daskscore.read(bench.inputs("a", act), mini_batch_size=1)
    scored = daskscore.score(files, bench.script(FLAKY), run_max_try=2, run_invocation_timeout=0.5)
    with pytest.raises(daskscore.MiniBatchError, match=f"(?s)score.py: mini-batch 1 .*{sentence}"):
        scored.compute()


def test_a_mini_batch_that_fails_once_is_tried_again(bench: Workbench) -> None:
    files = daskscore.read(bench.inputs("a", "once"), mini_batch_size=1)
    assert daskscore.score(files, bench.script(FLAKY)).compute() == [("a", 0), ("once", 1)]


def test_failed_mini_batches_are_skipped_with_a_warning(bench: Workbench) -> None:
    files = daskscore.read(bench.inputs("a", "raise", "z"), mini_batch_size=1)
    scored = daskscore.score(files, bench.script(FLAKY), on_error="skip", run_max_try=2)
    with pytest.warns(
        UserWarning, match=r"(?s)score.py: 1 of \d mini-batches of this worker .* ValueError: it says so"
    ):
        assert scored.compute(scheduler="sync") == [("a", 0), ("z", 0)]


def test_a_file_that_is_gone_fails_its_task_or_is_skipped(bench: Workbench, names: Path) -> None:
    files = daskscore.read(names, mini_batch_size=5)
    (names / "c").unlink()
    with pytest.raises(daskscore.MiniBatchError, match=r"lacks 1 items: .*/c cannot be read: No such file"):
        daskscore.score(files, bench.script(ECHO)).compute()
    with pytest.warns(UserWarning, match="0 of 1 mini-batches and 1 items of this worker"):
        found = daskscore.score(files, bench.script(ECHO), on_error="skip").pluck(0).compute(scheduler="sync")
    assert found == list("abde")


def test_a_script_without_a_beginning_is_never_skipped(bench: Workbench, names: Path) -> None:
    script = bench.script("def init(): raise OSError('no model')\ndef run(mini_batch): return mini_batch")
    with pytest.raises(daskscore.MiniBatchError, match=r"(?s)cannot run init\(\): OSError: no model.*Traceback"):
        daskscore.score(daskscore.read(names), script, on_error="skip").compute()


def test_results_of_a_class_of_the_script_are_refused(bench: Workbench, names: Path) -> None:
    script = bench.script("class Row: pass\ndef run(mini_batch): return [Row()]")
    with pytest.raises(daskscore.MiniBatchError, match=r"cannot be read outside of it: .*move the class into a module"):
        daskscore.score(daskscore.read(names), script).compute()


def test_fewer_results_than_items_are_what_the_script_wants(bench: Workbench, names: Path) -> None:
    script = bench.script("def run(mini_batch): return mini_batch[:1]")
    assert [Path(name).name for name in daskscore.score(daskscore.read(names), script).compute()] == ["a"]


def test_scripts_have_their_own_arguments_and_environment(bench: Workbench, names: Path) -> None:
    script = bench.script("import os, sys\ndef run(mini_batch): return [os.environ['WORD'], *sys.argv[1:]]")
    settings: dict[str, Any] = {
        "arguments": ["--mine", "${{side_inputs.model}}"],
        "environment_variables": {"WORD": "here"},
        "side_inputs": {"model": str(names / "a")},
    }
    word, *arguments = daskscore.score(daskscore.read(names), script, **settings).compute()
    assert (word, arguments[-2:]) == ("here", ["--mine", str(names / "a")])
    assert "--run_max_try" in arguments
    assert "--output" not in arguments


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"output": "out"}, "score\\(\\) has no setting output. Known are"),
        ({"run_max_tries": 2}, "Did you mean run_max_try?"),
        ({"run_max_try": 0}, "run_max_try"),
        ({"on_error": "ignore"}, "Write raise or skip"),
        ({"script": "other.py"}, "other.py does not exist in"),
        ({"collection": [1]}, "the collection is a list"),
    ],
)
def test_what_cannot_be_is_said_at_once(bench: Workbench, settings: dict[str, Any], sentence: str) -> None:
    given = {"collection": dask.bag.from_sequence([1]), "script": bench.script(WORDS), **settings}
    with pytest.raises(DaskscoreError, match=sentence):
        daskscore.score(**given)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"inputs": "nowhere/"}, "nowhere"),
        ({"inputs": []}, "nothing is named"),
        ({"inputs": "memory://x/"}, "in the memory of this process"),
        ({"inputs": ".", "mini_batch_size": 2, "partition_keys": ["a"]}, "two ways to cut"),
        ({"inputs": ".", "mini_batch_size": 0}, "is no number of files"),
        ({"inputs": ".", "delimeter": ";"}, "Did you mean delimiter"),
    ],
)
def test_inputs_that_cannot_be_read_are_said_at_once(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DaskscoreError, match=sentence):
        daskscore.read(**settings)


def test_a_name_brings_its_origin_along(names: Path) -> None:
    (item, *_) = daskscore.read({"path": str(names), "include": "a"}).compute()
    other = pickle.loads(pickle.dumps(item))
    assert (other, other.origin.id) == (item, item.origin.id)


def test_idle_scorers_end_with_all_that_is_theirs(
    bench: Workbench, client: Client, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "IDLE_SECONDS", 0.2)
    inputs, scratch = bench.inputs("a", "b"), tmp_path_factory.mktemp("scratch")
    with nothing_left_of(scratch) as mark:
        for _ in range(2):  # and the worker is not spoilt for those that come later
            scored = daskscore.score(daskscore.read(inputs, mini_batch_size=1), bench.script(ECHO))
            assert client.compute(scored).result() == [("a", 0), ("b", 1)]
            wait_until(lambda: not processes_with(mark), "the end of idle scorers")


def test_an_interrupted_mini_batch_is_not_answered_for_another(bench: Workbench) -> None:
    """As with Ctrl-C in a notebook, where the tasks run in the main thread."""
    script = bench.script(
        """
        import time
        from pathlib import Path
        def run(mini_batch):
            Path(__file__ + ".begun").touch()
            while mini_batch == [0] and not Path(__file__ + ".go").exists(): time.sleep(0.01)
            return mini_batch
        """
    )
    scored = daskscore.score(dask.bag.from_sequence([0, 1], npartitions=2), script)
    first = dask.bag.Bag(scored.dask, scored.name, 1)

    over = threading.Event()

    def interrupt() -> None:
        wait_until(Path(f"{script}.begun").exists, "a mini-batch at work")
        while not over.is_set():  # Python drops one that comes in a destructor
            _thread.interrupt_main()
            over.wait(5)

    # An earlier test may have had a worker in this process, which leaves Ctrl-C to its driver.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            first.compute(scheduler="sync")
    finally:
        over.set()
        signal.signal(signal.SIGINT, before)
    Path(f"{script}.go").touch()
    assert scored.compute(scheduler="sync") == [0, 1]


def test_a_process_that_ends_leaves_nothing(bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> None:
    """With the schedulers that have no workers, whose end would be known."""
    bench.script(ECHO)
    bench.inputs("a")
    code = "import daskscore; print(daskscore.score(daskscore.read('in'), 'score.py').compute(scheduler='sync'))"
    with nothing_left_of(tmp_path_factory.mktemp("scratch")):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=bench.folder, capture_output=True, text=True, timeout=60
        )
    assert (done.stdout, done.stderr) == ("[('a', 0)]\n", "")


def test_a_closed_keeper_closes_what_it_keeps() -> None:
    class Thing:
        closed = 0

        def close(self) -> None:
            self.closed += 1

    keeper, thing = keeping.Keeper(), Thing()
    with keeper.use("thing", lambda: thing) as found, keeper.use("thing", Thing) as same:
        assert found is same is thing
    keeper.close()
    assert thing.closed == 1
    with pytest.raises(daskscore.RunError, match="this process ends"), keeper.use("thing", Thing):
        pass
