"""The output is a function of input, script and settings: slots, bundles and failures that heal change no byte of it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pytest
from distributed import Client, LocalCluster

import daskscore
from tests.support import Workbench

pytestmark = pytest.mark.slow

SCRIPT = """
import ctypes, itertools, json, os, signal
{imports}

FAILURES = json.loads(os.environ["FAILURES"])

def run(mini_batch):
    names = [os.path.basename(path) for path in mini_batch]
    for name in FAILURES.keys() & set(names):
        number = invocation(name)
        if number < len(FAILURES[name]):
            return globals()[FAILURES[name][number]]()
    return {result}

def invocation(name):
    for number in itertools.count():
        try:
            os.close(os.open(f"{{os.environ['TRIES']}}/{{name}} {{number}}", os.O_CREAT | os.O_EXCL))
            return number
        except FileExistsError:
            pass

def raises(): raise ValueError("it heals")
def exits(): os._exit(3)
def segfaults(): ctypes.string_at(0)
def returns_none(): return None
def hangs(): signal.pause()
def kills_its_guard(): os.kill(os.getppid(), signal.SIGKILL)
"""

FAILURES = {
    "item 000": ["raises", "exits"],
    "item 010": ["segfaults"],
    "item 011": ["returns_none", "exits", "raises", "segfaults"],
    "item 050": ["hangs"],
    "item 051": ["raises"],
    "item 052": ["kills_its_guard"],
    "item 100": ["exits", "exits"],
    "item 119": ["exits", "raises"],
}
"""What the first invocations of run() with these items do; those after them are well."""

LISTS = {"imports": "", "result": "[f'{name} holds {len(name)} \\u00e9' for name in names]"}
FRAMES = {
    "imports": "import pandas",
    "result": "pandas.DataFrame({'name': names, 'third': [int(name[-3:]) / 3 for name in names]})",
}
ALL = tuple(itertools.product((1, 2, 4), (1, "auto"), (False, True)))
SOME = ((1, 1, False), (2, "auto", True), (4, 1, True))
"""Slots, bundle size, and whether there are failures."""

FORMS = {
    "lists": (LISTS, {}, ALL),
    "lists as JSON": (LISTS, {"append_row_format": "jsonl"}, SOME),
    "data frames": (FRAMES, {"append_row_header": True, "append_row_separator": ","}, SOME),
    "data frames as JSON": (FRAMES, {"append_row_format": "jsonl"}, SOME),
}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=1, threads_per_worker=4, host="127.0.0.1", dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.mark.usefixtures("nothing_left_behind")
@pytest.mark.parametrize("form", FORMS)
def test_the_same_bytes_on_any_number_of_slots_in_any_bundles_after_any_failures(
    bench: Workbench, client: Client, form: str
) -> None:
    words, settings, variants = FORMS[form]
    script = bench.script(SCRIPT.format(**words))
    inputs = bench.inputs(*(f"item {number:03}" for number in range(120)))
    outputs = {}
    for slots, bundle_size, failing in variants:
        failures = FAILURES if failing else {}
        variant = f"{slots} slots, bundle size {bundle_size}, {len(failures)} items that fail at first"
        output = bench.folder / variant
        tries = bench.folder / f"tries of {variant}"
        tries.mkdir()
        report = daskscore.run(
            entry_script=script,
            inputs=inputs,
            output=output,
            mini_batch_size=3,
            process_count_per_node=slots,
            bundle_size=bundle_size,
            run_max_try=8,
            run_invocation_timeout=1,
            environment_variables={"FAILURES": json.dumps(failures), "TRIES": str(tries)},
            preflight=False,
            client=client,
            **settings,
        )
        assert (report.status, report.items.succeeded, report.rows) == ("Completed", 120, 120), (variant, report)
        assert all((tries / f"{item} {len(acts)}").exists() for item, acts in failures.items()), variant
        outputs[variant] = (output / "parallel_run_step.txt").read_bytes()
    first = next(iter(outputs.values()))
    assert first.count(b"item ") == 120
    assert [variant for variant, rows in outputs.items() if rows != first] == []
