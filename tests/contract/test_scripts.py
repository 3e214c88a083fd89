"""Entry scripts, sections 1.1 to 1.4: what is called, with what, and what becomes of what it returns."""

from __future__ import annotations

from collections.abc import Callable

from tests.contract.conftest import Scored
from tests.contract.tables import table
from tests.support import Finished, Workbench

Scores = Callable[..., Scored]
Score = Callable[..., Finished]

WRONG_TYPE = (
    "The run() method in the entry script should return a list or a pandas DataFrame. The length of returned result is "
    "considered as succeeded number of items. For --output_action=append_row, the returned result is what to write into "
    "the result file. The actual type of output is {}."
)


@table(
    "script, rows",
    ("1.1 init is optional", "def run(mini_batch): return mini_batch", ["a", "b", "c"]),
    (
        "1.1 init once before any run",
        "calls = []\ndef init(): calls.append('init')\ndef run(mini_batch): return [str(calls)] * len(mini_batch)",
        ["['init']"] * 3,
    ),
    ("1.1 run, any parameter name", "def run(batch_input): return batch_input", ["a", "b", "c"]),
    (
        "1.1 run with a context",
        "def run(data, ctx): return [str(ctx.minibatch_index)] * len(data)",
        ["0", "0", "1"],
    ),
    ("1.1 run with an optional context", "def run(data, ctx=None): return [ctx is None for _ in data]", ["False"] * 3),
    (
        "1.1 state in module globals, imported once",
        "import itertools\nnumbers = itertools.count()\ndef run(data): return [next(numbers) for _ in data]",
        ["0", "1", "2"],
    ),
    (
        "1.2 a list with task_id",
        "def run(m): return [f'{isinstance(m, list)} {len(m)} {m.task_id}' for _ in m]",
        ["True 2 0", "True 2 0", "True 1 1"],
    ),
    (
        "1.2 the first task_id is 0 as a text",
        "def run(m): return [str(m.task_id) == '0' for _ in m]",
        ["True", "True", "False"],
    ),
    ("1.2 printable", "def run(m): return [f'{m}' == str(list(m)) for _ in m]", ["True"] * 3),
    (
        "1.3 partition_key_value without keys",
        "def run(m, ctx): return [list(ctx.partition_key_value.values()) for _ in m]",
        ["[]"] * 3,
    ),
    ("1.3 dataset", "def run(m, ctx): return [hasattr(ctx, 'dataset') for _ in m]", ["True"] * 3),
    (
        "1.3 minibatch_index in a file name",
        "def run(m, ctx): return [f'results_{ctx.minibatch_index}.jsonl' for _ in m]",
        ["results_0.jsonl", "results_0.jsonl", "results_1.jsonl"],
    ),
    ("1.3 retry_count of a first try", "def run(m, ctx): return [ctx.retry_count for _ in m]", ["0"] * 3),
    ("1.4 list", "def run(m): return [1] * len(m)", ["1"] * 3),
    ("1.4 tuple", "def run(m): return tuple(m)", ["a", "b", "c"]),
    ("1.4 DataFrame", "import pandas\ndef run(m): return pandas.DataFrame({'a': m, 'b': 1})", ["a 1", "b 1", "c 1"]),
    ("1.4 the mini_batch itself", "def run(m): return m", ["a", "b", "c"]),
    ("1.4 array", "import numpy\ndef run(m): return numpy.ones(len(m), dtype=int)", ["1"] * 3),
    (
        "1.4 array of rows",
        "import numpy\ndef run(m): return numpy.ones((len(m), 2), dtype=int)",
        ["[1 1]"] * 3,
    ),
    ("1.4 list of dict", "def run(m): return [{'a': item} for item in m]", ["{'a': 'a'}", "{'a': 'b'}", "{'a': 'c'}"]),
    ("1.4 list of list", "def run(m): return [[item, 1] for item in m]", ["['a', 1]", "['b', 1]", "['c', 1]"]),
    (
        "1.4 DataFrame with more rows than inputs",
        "import pandas\ndef run(m): return pandas.DataFrame({'a': [*m, 'more']})",
        ["a", "b", "more", "c", "more"],
    ),
    ("1.4 generator, on purpose", "def run(m): yield from m", ["a", "b", "c"]),
)
def test_what_a_script_gets_and_what_becomes_of_its_rows(scored: Scores, script: str, rows: list[str]) -> None:
    assert scored(script) == (rows, [])


@table(
    "result, name",
    ("1.4 None", "None", "NoneType"),
    ("1.4 str", "'a'", "str"),
    ("1.4 dict", "{'a': 1}", "dict"),
    ("1.4 int", "1", "int"),
    ("1.4 set", "set(mini_batch)", "set"),
)
def test_another_type_fails_the_attempt_in_the_words_of_the_reference(scored: Scores, result: str, name: str) -> None:
    assert scored(f"def run(mini_batch): return {result}") == ([], [WRONG_TYPE.format(name)] * 2)


@table(
    "script, rows, message",
    (
        "1.4 a list shorter than the input",
        "def run(m): return m[:1]",
        ["a", "c"],
        "run() returned 1 results for the 2 items of mini-batch 0. Which of them are missing is not known; the last ones "
        "are named",
    ),
    ("1.4 []", "def run(m): return m if len(m) < 2 else []", ["c"], "run() returned 0 results for the 2 items of mini-batch 0"),
    (
        "1.4 raises",
        "def run(m): raise ValueError(m[0]) if len(m) == 2 else SystemExit(3)",
        [],
        "run() raised ValueError: a",
    ),
)  # fmt: skip
def test_what_is_missing_is_a_failure(scored: Scores, script: str, rows: list[str], message: str) -> None:
    found, messages = scored(script)
    assert (found, messages[0]) == (rows, message)


def test_nothing_in_time_is_a_failure(scored: Scores) -> None:
    """1.4 nothing before run_invocation_timeout; 1.7 the process is stopped and replaced by one that runs init."""
    script = """
        import threading
        ready = []
        def init(): ready.append(True)
        def run(m):
            if len(m) == 2: threading.Event().wait()
            return [len(ready)]
    """
    assert scored(script, run_seconds=0.3) == (["1"], ["run() gave no answer within 0.3 s"])


# 1.2, of real inputs.


def test_items_are_local_paths(score: Score) -> None:
    """1.2 FileDataset, uri_folder, endpoints."""
    done = score(
        """
        import os
        from pathlib import Path
        def run(mini_batch):
            return [f"{os.path.basename(p)} {Path(p).stem} {Path(p).exists()} {open(p).read()} {type(p).__name__}"
                    for p in mini_batch]
        """
    )
    assert done.rows == ["a a True a str", "b b True b str", "c c True c str"]


SIZES = "def run(frame, ctx): return [f'{ctx.minibatch_index} {len(frame)} {[*frame]}'] * len(frame)"


def made(bench: Workbench, files: dict[str, str]) -> str:
    """A folder with these files."""
    for name, text in files.items():
        path = bench.folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(bench.folder / "data")


@table(
    "size, rows",
    ("1.2 a small file is one mini-batch", "1KB", [(0, 5), (1, 1)]),
    ("1.2 a large file is cut, and the header holds for all of it", "3 rows", [(0, 3), (1, 2), (2, 1)]),
    ("1.2 a bare number is bytes", 12, [(0, 3), (1, 2), (2, 1)]),
)
def test_tables_come_as_data_frames_of_one_file_each(
    score: Score, bench: Workbench, size: str, rows: list[tuple[int, int]]
) -> None:
    folder = made(bench, {"x.csv": "a,b\n1,1\n2,2\n3,3\n4,4\n5,5\n", "y.csv": "a,b\n6,6\n"})
    done = score(SIZES, inputs={"path": folder, "type": "tabular"}, mini_batch_size=size)
    assert list(dict.fromkeys(done.rows)) == [f"{index} {items} ['a', 'b']" for index, items in rows]


def test_the_table_of_iris_loses_its_first_line_to_a_header(score: Score, bench: Workbench) -> None:
    """1.2 "Do not fix this"."""
    transformations = "transformations: [read_delimited: {header: all_files_same_headers}]\n"
    text = "paths: [file: ./iris.csv]\n" + transformations
    folder = made(bench, {"iris.csv": "5.1,3.5,setosa\n" * 75, "MLTable": text})
    done = score(SIZES, inputs={"path": folder, "type": "mltable"})
    assert set(done.rows) == {"0 74 ['5.1', '3.5', 'setosa']"}
    assert len(done.rows) == 74


def test_a_partition_of_a_table_has_its_keys_after_its_columns(score: Score, bench: Workbench) -> None:
    """1.2 partitioned tabular dataset; 1.3 partition_key_value, in the order of the keys."""
    folder = made(bench, {"sales.csv": "Store,Week,Brand,Price\n1,7,x,3\n2,8,x,4\n1,9,x,5\n"})
    done = score(
        """
        def run(frame, ctx):
            assert list(frame.columns) == ["Week", "Price", "Brand", "Store"], list(frame.columns)
            return [f"{'/'.join(map(str, ctx.partition_key_value.values()))} {week}" for week in frame.Week]
        """,
        inputs={"path": folder, "type": "tabular"},
        partition_keys=["Brand", "Store"],
    )
    assert sorted(done.rows) == ["x/1 7", "x/1 9", "x/2 8"]


def test_a_partition_of_files_is_all_paths_with_its_keys(score: Score, bench: Workbench) -> None:
    """1.2 partitioned file dataset."""
    folder = made(bench, {"u1/a.wav": "", "u1/b.wav": "", "u2/a.wav": ""})
    done = score(
        """
        import os
        def run(mini_batch, ctx):
            return [f"{dict(ctx.partition_key_value)} {sorted(map(os.path.basename, mini_batch))}"] * len(mini_batch)
        """,
        inputs={"path": folder, "partition_format": "{user}/{file}.wav"},
        partition_keys=["user"],
    )
    assert set(done.rows) == {"{'user': 'u1'} ['a.wav', 'b.wav']", "{'user': 'u2'} ['a.wav']"}


def test_ranks_come_without_any_input(score: Score) -> None:
    """1.2 rank mini-batch, 1.15 --rank_mini_batch_count."""
    done = score("def run(m): return [f'{m.task_id} {len(m)}']", rank_mini_batch_count=3)
    assert done.rows == ["0 0", "1 0", "2 0"]


def test_batches_of_files_are_cut_by_their_number(score: Score, bench: Workbench) -> None:
    """1.2 "by file count only"; nested files belong to a folder."""
    folder = made(bench, {"a": "x" * 5000, "b": "", "deeper/c": "", "deeper/d": "", "e": ""})
    done = score("def run(m): return [m.task_id for _ in m]", inputs=folder, mini_batch_size=2)
    assert done.rows == ["0", "0", "1", "1", "2"]


# 1.1, of whole runs.


def test_init_and_shutdown_once_in_each_process(score: Score, bench: Workbench) -> None:
    """1.1 init, shutdown."""
    done = score(
        """
        import os
        from pathlib import Path
        log = Path("calls.txt")
        def say(word):
            with log.open("a") as file:
                file.write(f"{os.getpid()} {word}\\n")
        def init(): say("init")
        def run(mini_batch): say("run"); return mini_batch
        def shutdown(): say("shutdown")
        """,
        mini_batch_size=1,
        process_count_per_node=2,
        bundle_size=1,
    )
    assert len(done.rows) == 3
    words: dict[str, list[str]] = {}
    for line in (bench.folder / "calls.txt").read_text().splitlines():
        pid, word = line.split()
        words.setdefault(pid, []).append(word)
    assert {(said[0], said[-1], set(said[1:-1]) <= {"run"}) for said in words.values()} == {("init", "shutdown", True)}
    assert sum(said.count("run") for said in words.values()) == 3
