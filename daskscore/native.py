"""Dask-native use: an input as a lazy collection, and a script over a lazy collection. Called in the user's process."""

from __future__ import annotations

import difflib
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import IO, Any, Literal, cast

import dask
import dask.bag
from dask.bag import Bag
from dask.delayed import delayed

from daskscore import config
from daskscore.config import JobConfig
from daskscore.config.paths import absolute, current_folder
from daskscore.core.layout import Layout
from daskscore.core.planning import Content
from daskscore.core.tables import Reading
from daskscore.driver import scorers, side_inputs
from daskscore.driver.job_inputs import JobInputs
from daskscore.errors import ConfigError, InputError, ScriptError
from daskscore.inputs.addresses import is_remote, parse
from daskscore.inputs.entries import Cutting, Source, joined_stores, open_entry
from daskscore.worker import partitions
from daskscore.worker.crews import MiniBatchError, Scoring
from daskscore.worker.partitions import Origin, ReadRecords
from daskscore.worker.session import Assignment

SETTINGS = (
    "arguments",
    "environment_variables",
    "init_timeout",
    "logging_level",
    "memory_limit_per_process",
    "models",
    "process_count_per_node",
    "run_invocation_timeout",
    "run_max_try",
    "side_inputs",
    "source_directory",
    "staging_limit",
    "task_overhead_timeout",
)
"""The keys of a job that mean something for a collection."""

OF_A_JOB = ("--output", "--append_row_file_name", "--output_action", "--error_threshold", "--mini_batch_size")
"""System arguments that a script finds in a job, and that have no value here."""

AS_IT_IS = {"dataframe.convert-string": False}
"""Texts stay what they are in a job's mini-batches, and what run() has made them."""

Inputs = str | os.PathLike[str] | Mapping[str, Any] | Sequence[str | os.PathLike[str] | Mapping[str, Any]]


def read(
    inputs: Inputs,
    *,
    mini_batch_size: int | str | None = None,
    partition_keys: str | Sequence[str] = (),
    **options: Any,
) -> Any:
    """One or more inputs, as a job has them, with a partition for each mini-batch: files as a Bag, records as a DataFrame.

    `options` are keys of an entry (`type`, `include`, `storage_options` and so on), for all of them. Inputs are listed
    now, and read when the collection is computed. The items of the Bag are names; `score` brings the files themselves.
    """
    keys = (partition_keys,) if isinstance(partition_keys, str) else tuple(partition_keys)
    if keys and mini_batch_size is not None:
        raise ConfigError("mini_batch_size and partition_keys are two ways to cut an input. Remove one of the two")
    if isinstance(mini_batch_size, int) and mini_batch_size < 1:
        raise ConfigError(f"mini_batch_size: {mini_batch_size} is no number of files. Write one like 10")
    entries = absolute({"inputs": inputs}, current_folder())["inputs"]
    if not isinstance(entries, list) or not entries:
        raise ConfigError("inputs: nothing is named. Write a file, a folder, a glob or an address, or a list of these")
    cutting = Cutting(mini_batch_size, keys)
    sources = [_open(entry, options, cutting, number) for number, entry in enumerate(entries)]
    if len({source.content for source in sources}) > 1:
        raise ConfigError("inputs: some are files and some are records. Read them one by one")
    origin = Origin(
        secrets.token_hex(6),
        joined_stores([source.stores for source in sources if source.stores is not None]),
        tuple(source.reading.to_json() for source in sources if source.reading is not None),
    )
    lines = [text for source in sources for text, _ in source.lines]
    if sources[0].content is Content.RECORDS:
        return _frame(lines, sources, origin)
    texts = dask.bag.from_sequence(lines, partition_size=1)
    if sources[0].content is Content.WORDS:
        return texts.map_partitions(partitions.read_words)
    return texts.map_partitions(partitions.read_files, _once(origin))


def score(
    collection: Any,
    script: str | os.PathLike[str],
    *,
    meta: Any = None,
    on_error: Literal["raise", "skip"] = "raise",
    **settings: Any,
) -> Any:
    """What the script's run() returns for each partition of a Dask Bag or DataFrame, as a lazy collection.

    `meta` is what DataFrames it returns look like, as for Dask's map_partitions. Where it is not given, a Bag becomes a
    Bag, and for a DataFrame the script is tried here on two made-up records, unless `meta` is `list`: then it becomes a
    Bag, too. `on_error`: a mini-batch that fails at each try fails its Dask task, or is skipped with a warning. The
    settings are those of a job: run_invocation_timeout, run_max_try, arguments, models and so on.
    """
    if on_error not in ("raise", "skip"):
        raise ConfigError(f"on_error: {on_error!r} is not known. Write raise or skip")
    is_bag = isinstance(collection, Bag)
    if not is_bag and not _is_frame(collection):
        raise ConfigError(
            f"the collection is a {type(collection).__name__}. Give a Dask Bag or a Dask DataFrame, as daskscore.read makes"
        )
    scoring = _scoring(script, settings, skip=on_error == "skip")
    if meta is None and not is_bag:
        meta = _tried(collection, scoring)
    if meta is None or meta is list:
        return _to_bag(collection, scoring)
    from dask.dataframe.dispatch import make_meta

    return _to_frame(collection, replace(scoring, meta=make_meta(meta)))


def _open(entry: Any, options: Mapping[str, Any], cutting: Cutting, number: int) -> Source:
    given = {**(dict(entry) if isinstance(entry, Mapping) else {"path": entry}), **options}
    path = given.get("path")
    if isinstance(path, str) and is_remote(path) and parse(path).protocol == "memory":
        raise InputError(
            f"input {path} is in the memory of this process, and Dask may compute in others. Write it to a folder or a "
            "storage, or begin with dask.bag.from_sequence or dask.dataframe.from_pandas"
        )
    source = open_entry(given, cutting, number=number)
    if source.unsorted is not None:
        raise InputError(
            f"partition_keys: the records of {path} do not lie together by {', '.join(cutting.keys)}. Read them without "
            "partition_keys and group them with Dask, or let daskscore.run() sort them"
        )
    return source


def _once(found: Origin | Scoring) -> Any:
    """The same for all tasks, and so not sent with each of them."""
    return delayed(found, name=f"daskscore-{secrets.token_hex(6)}", traverse=False)


def _frame(lines: list[bytes], sources: Sequence[Source], origin: Origin) -> Any:
    import json

    import dask.dataframe

    first: dict[int, Any] = {}
    for piece in chain.from_iterable(json.loads(text)["pieces"] for text in lines):
        first.setdefault(piece["input"], piece)
    metas = [
        partitions.without_records(first[number], cast(Reading, source.reading), lambda name: _opened(name, origin))
        for number, source in enumerate(sources)
    ]
    for other in metas[1:]:
        if not other.dtypes.equals(metas[0].dtypes) or other.index.names != metas[0].index.names:
            raise ConfigError(
                "inputs: their records have different columns, or dtypes. Read them one by one, or say columns and dtypes"
            )
    with dask.config.set(AS_IT_IS):
        return dask.dataframe.from_map(ReadRecords(origin), lines, meta=metas[0], label="daskscore-read")


def _opened(name: str, origin: Origin) -> IO[bytes]:
    if not is_remote(name):
        return open(name, "rb")
    assert origin.stores is not None
    filesystem, path = origin.stores.filesystem(name)
    return cast(IO[bytes], filesystem.open(path, "rb"))


def _is_frame(collection: object) -> bool:
    from dask.dataframe import DataFrame, Series

    return isinstance(collection, (DataFrame, Series))


def _scoring(script: str | os.PathLike[str], settings: Mapping[str, Any], *, skip: bool) -> Scoring:
    for name in settings:
        if name not in SETTINGS:
            nearest = difflib.get_close_matches(name, SETTINGS, n=1)
            hint = f"Did you mean {nearest[0]}?" if nearest else f"Known are {', '.join(SETTINGS)}"
            raise ConfigError(f"score() has no setting {name}. {hint}")
    job = config.load(None, {**settings, "entry_script": script, "inputs": ".", "output": "."})
    if job.entry_script.endswith(".py") and not any(map(Path.is_file, job.script_files)):
        raise ScriptError(f"script {job.entry_script} does not exist in {job.source_directory}. Check the path")
    id = secrets.token_hex(6)
    return Scoring(id, _assignment(job, id), job.run_max_try, skip)


def _assignment(job: JobConfig, id: str) -> Assignment:
    needed = side_inputs.find(job)
    nowhere = Layout(Path())
    settings = scorers.script_settings(job, nowhere, JobInputs(Content.OBJECTS), needed)
    own = len(settings["arguments"]) - len(job.arguments)
    environment = scorers.environment(job, nowhere)
    if "AZUREML_BI_OUTPUT_PATH" not in job.environment_variables:
        del environment["AZUREML_BI_OUTPUT_PATH"]
    return Assignment(
        run=id,
        output="",  # no folder that the workers share: results and logs come back with each mini-batch
        token=secrets.token_hex(16),
        slots=job.process_count_per_node,
        settings={
            **settings,
            "arguments": [*_without_job(settings["arguments"][:own]), *settings["arguments"][own:]],
            "rows": {"format": "objects"},
        },
        environment=environment,
        limits=replace(scorers.limits(job), monitor_seconds=0),  # nobody reads what it would write
        side_inputs=scorers.brought(needed),
        side_stores=needed.stores,
        staging_limit=job.staging_limit,
    )


def _without_job(arguments: Sequence[str]) -> Iterator[str]:
    for name, value in zip(arguments[::2], arguments[1::2], strict=True):
        if name not in OF_A_JOB:
            yield from (name, value)


def _tried(collection: Any, scoring: Scoring) -> Any:
    """What the script makes of the collection, without a look at its records."""
    import pandas

    try:
        result = partitions.score_once(collection._meta_nonempty, replace(scoring, tries=1, skip=False))
    except MiniBatchError as error:
        raise ScriptError(
            f"what {scoring.script} returns is not known, as it fails on two made-up records; say it with meta=, or meta=list "
            f"for anything but DataFrames.\n{error}"
        ) from None
    return result.iloc[:0] if isinstance(result, (pandas.DataFrame, pandas.Series)) else list


def _to_bag(collection: Any, scoring: Scoring) -> Any:
    once = _once(scoring)
    if isinstance(collection, Bag):
        return collection.map_partitions(partitions.score_items, _numbers(collection), once)
    step = delayed(partitions.score_frame_to_items, pure=False)
    parts = [step(part, number, once) for number, part in enumerate(collection.to_delayed())]
    return dask.bag.from_delayed(parts)


def _to_frame(collection: Any, scoring: Scoring) -> Any:
    import dask.dataframe

    once, meta = _once(scoring), scoring.meta
    if not isinstance(collection, Bag):
        return collection.map_partitions(
            partitions.score_frame, once, meta=meta, enforce_metadata=False, clear_divisions=True
        )
    parts = collection.map_partitions(partitions.score_items_to_frame, _numbers(collection), once).to_delayed()
    with dask.config.set(AS_IT_IS):
        return dask.dataframe.from_delayed(parts, meta=meta, verify_meta=False)


def _numbers(collection: Bag) -> Any:
    """Those of its partitions, one in each."""
    return dask.bag.from_sequence(range(collection.npartitions), partition_size=1)
