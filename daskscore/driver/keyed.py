"""Mini-batches of records that lie apart by their partition keys: sorted on the run's own cluster, and planned anew."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby

from distributed import Client

from daskscore.core.layout import Layout
from daskscore.core.model import Span
from daskscore.core.planning import Content, line_of_pieces
from daskscore.core.sorted_rows import sorted_reading
from daskscore.core.tables import OnBadRecord, Piece, Reading
from daskscore.driver.job_inputs import JobInputs
from daskscore.driver.plan import Plan, Planner, read_header, readings_in
from daskscore.driver.shuffle import BAD_RECORDS, Shuffle
from daskscore.errors import DaskscoreError, RunError
from daskscore.inputs.troubles import explain

LOOK_SECONDS = 0.25


def is_sorted(layout: Layout) -> bool:
    """An earlier session of the run has done it."""
    return read_header(layout.sorted / "plan") is not None


def sorted_plan(layout: Layout) -> Plan:
    return Plan(layout.sorted / "plan")


def with_sorted(inputs: JobInputs, layout: Layout) -> JobInputs:
    """The inputs as the scorers find them once their records are sorted."""
    readings = [Reading.from_json(text) for text in readings_in(layout.sorted / "plan")]
    found = (
        replace(reading, folder=str(layout.sorted)) if number in inputs.unsorted else reading
        for number, reading in enumerate(readings)
    )
    return replace(inputs, readings=tuple(reading.to_json() for reading in found))


def sort(
    inputs: JobInputs,
    plan: Plan,
    layout: Layout,
    keys: tuple[str, ...],
    client: Client,
    interrupted: Callable[[], bool],
) -> None:
    """Bring the records of each key together, and plan a mini-batch for each."""
    inputs.wait(interrupted, whole=True)
    if interrupted() or not plan.planned.complete:
        raise RunError("interrupted before all inputs were listed. Run the same command with --resume")
    shutil.rmtree(layout.sorted, ignore_errors=True)
    readings = tuple(
        sorted_reading(inputs.unsorted[number].reading, keys).to_json() if number in inputs.unsorted else text
        for number, text in enumerate(inputs.readings)
    )
    lines = _lines(inputs, plan, layout, keys, client, interrupted)
    planner = Planner(layout.sorted / "plan", lines, content=Content.RECORDS, shape={}, readings=readings)
    planner.start()
    while not planner.wait(LOOK_SECONDS):
        continue
    try:
        planner.check()
    except DaskscoreError:
        raise
    except Exception as error:
        raise _in_words(error, inputs) from error


def kept_records(inputs: JobInputs, layout: Layout) -> int:
    """How many bad records the script sees, with what could be read of them."""
    return sum(1 for _ in _bad_records(inputs, layout, OnBadRecord.KEEP))


def lost_records(inputs: JobInputs, layout: Layout) -> int:
    """How many records were skipped while they were sorted."""
    return sum(1 for _ in bad_records(inputs, layout))


def bad_records(inputs: JobInputs, layout: Layout) -> Iterator[dict[str, str]]:
    """Those that were skipped, with `place` and `reason`."""
    return _bad_records(inputs, layout, OnBadRecord.SKIP)


def _bad_records(inputs: JobInputs, layout: Layout, fate: OnBadRecord) -> Iterator[dict[str, str]]:
    for number, unsorted in sorted(inputs.unsorted.items()):
        path = layout.sorted / str(number) / BAD_RECORDS
        if unsorted.reading.on_bad_record is fate and path.exists():
            with path.open() as file:
                yield from map(json.loads, file)


def _lines(
    inputs: JobInputs,
    plan: Plan,
    layout: Layout,
    keys: tuple[str, ...],
    client: Client,
    interrupted: Callable[[], bool],
) -> Iterator[tuple[bytes, int]]:
    texts = (plan.lines([Span(index, 1)]) for index in range(plan.planned.mini_batches))
    for number, group in groupby(texts, key=_input):
        unsorted = inputs.unsorted.get(number)
        if unsorted is None:
            yield from ((text, sum(piece["items"] for piece in _pieces(text))) for text in group)
            continue
        shuffle = Shuffle(
            client,
            unsorted.reading,
            keys,
            layout.sorted / str(number),
            unsorted.opener,
            number,
            unsorted.stores,
            interrupted,
        )
        pieces = (piece for text in group for piece in _pieces(text))
        for values, found in shuffle.mini_batches(pieces):
            for piece in found:  # the folder may be elsewhere when the run goes on
                piece["file"] = os.path.relpath(piece["file"], layout.sorted)
            yield line_of_pieces(found, values), sum(piece["items"] for piece in found)


def _in_words(error: Exception, inputs: JobInputs) -> Exception:
    """What a storage library has raised."""
    trouble = explain(error)
    if trouble is None:
        return error
    words = trouble.words if inputs.stores is None else inputs.stores.mask(trouble.words)
    return RunError(f"the inputs cannot be sorted by partition_keys: {words}. Mend that and use --resume")


def _input(text: bytes) -> int:
    return _pieces(text)[0]["input"]


def _pieces(text: bytes) -> list[Piece]:
    found: list[Piece] = json.loads(text)["pieces"]
    return found
