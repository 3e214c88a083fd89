"""Partitions of Dask collections: mini-batches of an input as their items or records, and their results.

Given to Dask by `daskscore.read` and `daskscore.score`, and run in the worker, or wherever else Dask runs tasks.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import reduce
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import warn

from daskscore.core.model import Bundle, Span
from daskscore.core.planning import Content, Keys, line
from daskscore.core.tables import Format, OnBadRecord, Piece, Reading
from daskscore.errors import InputError
from daskscore.inputs.addresses import is_remote
from daskscore.inputs.stores import Stores
from daskscore.scorer.tables import Reader, Unreadable, joined
from daskscore.worker.crews import Crew, MiniBatchError, Scoring
from daskscore.worker.feeding import Staging
from daskscore.worker.keeping import keeper
from daskscore.worker.nursery import Nursery, passing_folder
from daskscore.worker.staging import STAGING_LIMIT

if TYPE_CHECKING:
    import pandas

    from daskscore.inputs.text_files import Opener

LOOK_SECONDS = 1.0
KEYS = "partition_key_value"
"""In the `attrs` of a DataFrame whose records have them in common."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What one `daskscore.read` knows of its inputs."""

    id: str
    stores: Stores | None = None
    """Opens the items that are in storages; None: all are files that every worker sees."""
    readings: tuple[str, ...] = ()
    """How the records of each input are read, as JSON."""


class FileItem(str):
    """The name of a file: the script gets a local path in its place, wherever the file is."""

    origin: Origin
    keys: Keys | None
    """What the files of its mini-batch have in common, where the input has partition_keys."""


def read_files(lines: Iterable[bytes], origin: Origin) -> list[FileItem]:
    """The names of one mini-batch; the files themselves are not touched."""
    items = []
    for found in map(json.loads, lines):
        names, keys = (found, None) if isinstance(found, list) else (found["files"], found["keys"])
        for name in names:
            item = FileItem(name)
            item.origin, item.keys = origin, keys
            items.append(item)
    return items


def read_words(lines: Iterable[bytes]) -> list[str]:
    """The items of one mini-batch that only the script understands."""
    return [item for found in map(json.loads, lines) for item in found]


@dataclass(frozen=True, slots=True)
class ReadRecords:
    """The records of a mini-batch as a DataFrame; raises InputError for those that cannot be read."""

    origin: Origin

    def __call__(self, text: bytes) -> pandas.DataFrame:
        found = json.loads(text)
        pieces: list[Piece] = found["pieces"]
        if any(is_remote(piece["file"]) for piece in pieces):
            kept = keeper()
            with kept.use(f"room-{self.origin.id}", lambda: _Room(self.origin)) as room:
                frame = room.read(text, pieces, self.origin, kept.check)
        else:
            frame = _frame(pieces, [("", 0)] * len(pieces), self.origin)
        if "keys" in found:
            frame.attrs[KEYS] = found["keys"]
        return frame


def _frame(pieces: Sequence[Piece], places: Sequence[tuple[str, int]], origin: Origin) -> pandas.DataFrame:
    readings = [Reading.from_json(text) for text in origin.readings]
    frames = []
    with closing(Reader(readings)) as reader:
        for piece, (path, first_byte) in zip(pieces, places, strict=True):
            try:
                table = reader.read(piece, path, first_byte)
            except Unreadable as error:
                raise InputError(str(error)) from error
            if table.bad and readings[piece["input"]].on_bad_record is OnBadRecord.SKIP:
                bad = table.bad[0]
                warn(f"bad records are skipped ({len(table.bad)}); the first: {bad.place}: {bad.reason}", stacklevel=2)
            frames.append(table.frame)
    return frames[0] if len(frames) == 1 else joined(frames)


class _Room:
    """Where parts of remote tables are while one process reads them."""

    def __init__(self, origin: Origin) -> None:
        assert origin.stores is not None
        self._folder = Path(passing_folder())
        self._nursery = Nursery(environment=os.environ, remove_at_end=[(str(self._folder), 0)])
        self._folder.mkdir(0o700)
        readings = [Reading.from_json(text) for text in origin.readings]
        self._staging = Staging(self._folder / "items", origin.stores, readings, STAGING_LIMIT)
        self._numbers = count()

    def read(self, text: bytes, pieces: Sequence[Piece], origin: Origin, check: Any) -> pandas.DataFrame:
        bundle = Bundle(next(self._numbers), (Span(0, 1),), text)
        feed = self._staging.feed(bundle, lambda: False)
        assert feed is not None  # nobody else closes this staging
        try:
            while (delivery := feed.next(LOOK_SECONDS)) is None:
                check()
            if delivery.failure:
                raise InputError(delivery.failure)
            return _frame(pieces, json.loads(delivery.line)["at"], origin)
        finally:
            self._staging.over(bundle)

    def close(self) -> None:
        self._staging.close()
        self._nursery.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def without_records(first: Piece, reading: Reading, opener: Opener) -> pandas.DataFrame:
    """A DataFrame as the records of an input become it, without any. Called where the collection is made."""
    piece: Piece = {"input": 0, "file": first["file"], "items": 0, "row": 0, "bytes": [0, 0]}
    if "header" in first:
        piece["header"] = first["header"]
    with closing(Reader([reading])) as reader:
        if reading.format not in (Format.PARQUET, Format.ARROW):
            return reader.read(piece, os.devnull).frame
        import pyarrow as pa
        import pyarrow.parquet as pq

        with opener(first["file"]) as file:
            schema = pq.read_schema(file) if reading.format is Format.PARQUET else pa.ipc.open_file(file).schema
        with tempfile.TemporaryDirectory(prefix="daskscore-") as folder:
            path = os.path.join(folder, "empty.arrow")
            with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
                writer.write_table(schema.empty_table())
            return reader.read_arrow(piece, path).frame


def score_items(items: Iterable[Any], numbers: Iterable[int], scoring: Scoring) -> list[Any]:
    """The results of a Bag's partition, in a Bag."""
    return _as_list(_score(list(items), next(iter(numbers)), scoring))


def score_items_to_frame(items: Iterable[Any], numbers: Iterable[int], scoring: Scoring) -> Any:
    """The results of a Bag's partition, in a DataFrame."""
    return _as_promised(_score(list(items), next(iter(numbers)), scoring), scoring)


def score_frame(frame: Any, scoring: Scoring, partition_info: Mapping[str, Any] | None = None) -> Any:
    """The results of a DataFrame's partition, in a DataFrame."""
    return _as_promised(_score(frame, (partition_info or {}).get("number", 0), scoring), scoring)


def score_frame_to_items(frame: Any, number: int, scoring: Scoring) -> list[Any]:
    """The results of a DataFrame's partition, in a Bag."""
    return _as_list(_score(frame, number, scoring))


def score_once(frame: Any, scoring: Scoring) -> Any:
    """In a scorer of this process that ends at once."""
    crew = Crew(scoring.assignment, slots=1)
    with closing(crew), crew.handed_over(frame, None) as text:
        return crew.score(text, 0, "made up", scoring, keeper())


def _score(found: Any, number: int, scoring: Scoring) -> Any:
    """What run() returned; None where there is nothing to score, or the mini-batch is skipped."""
    if not len(found):
        return None
    kept = keeper()
    if type(found) is list and any(isinstance(item, FileItem) for item in found):
        assignment, id = _for_files(found, scoring)
        with kept.use(id, lambda: Crew(assignment)) as crew:
            keys = found[0].keys if all(item.keys == found[0].keys for item in found) else None
            return crew.score(line(found, keys), number, _name(found), scoring, kept)
    keys = getattr(found, "attrs", {}).get(KEYS)
    with kept.use(scoring.id, lambda: Crew(scoring.assignment)) as crew, crew.handed_over(found, keys) as text:
        return crew.score(text, number, f"{len(found)} items", scoring, kept)


def _for_files(items: list[Any], scoring: Scoring) -> tuple[Any, str]:
    """What the scorers of such files are told, and the name of their crew."""
    if stranger := next((item for item in items if not isinstance(item, FileItem)), None):
        raise MiniBatchError(
            f"a partition has files that daskscore.read has found beside other items, like {str(stranger)[:60]!r}. "
            "Score them one by one, and join the results"
        )
    origins = {item.origin.id: item.origin for item in items}
    stores = [origin.stores for origin in origins.values() if origin.stores is not None]
    assignment = replace(
        scoring.assignment,
        settings={**scoring.assignment.settings, "content": Content.FILES},
        stores=reduce(Stores.joined, stores) if stores else None,
    )
    return assignment, "-".join([scoring.id, *origins])


def _name(items: Sequence[str]) -> str:
    return items[0] + (f" and {len(items) - 1} other files" if items[1:] else "")


def _as_list(result: Any) -> list[Any]:
    import pandas

    if result is None:
        return []
    if isinstance(result, pandas.DataFrame):
        return result.to_dict("records")
    return result.tolist() if isinstance(result, pandas.Series) else result


def _as_promised(result: Any, scoring: Scoring) -> Any:
    """With the dtypes of meta; raises MiniBatchError where there are other columns, or values of no such dtype."""
    import pandas

    meta = scoring.meta
    if result is None:
        return meta
    if type(result) is not type(meta):
        raise MiniBatchError(
            f"run() in {scoring.script} returned a {type(result).__name__}, and meta is a {type(meta).__name__}. "
            "Return one, or score without meta (meta=list where the input is a DataFrame) to get a Bag"
        )
    if isinstance(result, pandas.Series):
        return _fitted(result, meta, scoring).rename(meta.name)
    if list(result.columns) != list(meta.columns):
        raise MiniBatchError(
            f"run() in {scoring.script} returned the columns {', '.join(map(str, result.columns))}, and meta has "
            f"{', '.join(map(str, meta.columns))}. Say with meta= what it returns"
        )
    wrong = [name for name in meta.columns if result[name].dtype != meta[name].dtype]
    return result.assign(**{name: _fitted(result[name], meta[name], scoring) for name in wrong}) if wrong else result


def _fitted(values: Any, meta: Any, scoring: Scoring) -> Any:
    import pandas

    if values.dtype == meta.dtype or isinstance(meta.dtype, pandas.CategoricalDtype):
        return values
    try:
        found = values.astype(meta.dtype)
        if pandas.api.types.is_integer_dtype(meta.dtype) and not (found == values).all():
            raise ValueError("some are no whole numbers, or too large")
    except (TypeError, ValueError, OverflowError) as error:
        raise MiniBatchError(
            f"run() in {scoring.script} returned {values.name} as {values.dtype}, and in meta it is {meta.dtype}: {error}. "
            "Say with meta= what it returns"
        ) from None
    return found
