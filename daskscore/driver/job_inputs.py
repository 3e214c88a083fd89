"""What a job scores: its inputs opened, and their plan begun."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from daskscore.config import JobConfig
from daskscore.core.layout import Layout
from daskscore.core.planning import Content
from daskscore.core.tables import Reading
from daskscore.driver import identity
from daskscore.driver.plan import Planner, write_rank_plan
from daskscore.errors import ConfigError
from daskscore.inputs.entries import Cutting, Source, joined_stores, open_entry

if TYPE_CHECKING:
    from daskscore.inputs.stores import Stores
    from daskscore.inputs.text_files import Opener

LISTING_SECONDS = 2.0
"""A listing that takes longer goes on while its first mini-batches are scored."""

LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Unsorted:
    """One input whose records do not lie together by their keys."""

    reading: Reading
    opener: Opener
    stores: Stores | None


@dataclass(frozen=True, slots=True)
class JobInputs:
    """The inputs of one job, as far as the scorers must know them."""

    content: Content
    planner: Planner | None = None
    """None: there is nothing to list."""
    readings: tuple[str, ...] = ()
    """How the records of each input are read, as JSON."""
    stores: Stores | None = None
    """None: all items are local files."""
    unsorted: Mapping[int, Unsorted] = field(default_factory=dict)
    """The inputs that are to be sorted by partition_keys before they are mini-batches, by number."""

    def wait(self, interrupted: Callable[[], bool], *, whole: bool) -> None:
        """Until mini-batches are there and the listing is over or takes long; with `whole`, until it is over."""
        if self.planner is None:
            return
        waited = 0.0
        while not self.planner.wait(LOOK_SECONDS) and not interrupted():
            waited += LOOK_SECONDS
            if waited >= LISTING_SECONDS and self.planner.planned.mini_batches and not whole:
                break
        self.planner.check()

    def stop(self) -> None:
        if self.planner is not None:
            self.planner.stop()


def open_inputs(config: JobConfig, layout: Layout, *, skip: str = "") -> JobInputs:
    """Open all inputs of a job, each with its first mini-batch, and begin their plan as `new_plan`."""
    shape = identity.plan_shape(config)
    if config.rank_mini_batch_count is not None:
        if config.join != "none":
            raise ConfigError("join: there are no items without inputs. Remove it")
        write_rank_plan(layout.new_plan, config.rank_mini_batch_count, shape=shape)
        return JobInputs(Content.RANK)
    cutting = Cutting(config.mini_batch_size, tuple(config.partition_keys), skip)
    sources = [open_entry(entry, cutting, number=number) for number, entry in enumerate(config.inputs)]
    content = _content(sources)
    _check_join(config.join, content, sources, config.columns.get("in", []))
    readings = tuple(source.reading.to_json() for source in sources if source.reading is not None)
    lines = chain.from_iterable(source.lines for source in sources)
    stores = [source.stores for source in sources if source.stores is not None]
    joined = joined_stores(stores)
    unsorted = {
        number: Unsorted(source.reading, source.unsorted, source.stores)
        for number, source in enumerate(sources)
        if source.unsorted is not None and source.reading is not None
    }
    planner = Planner(layout.new_plan, lines, content=content, shape=shape, readings=readings)
    planner.start()
    return JobInputs(content, planner, readings, joined, unsorted)


def _check_join(join: str, content: Content, sources: list[Source], wanted: Sequence[str]) -> None:
    if join == "input" and content is not Content.RECORDS:
        raise ConfigError(f"join: input writes the columns of records, and the inputs are {content}. Say join: key")
    for reading in [source.reading for source in sources if source.reading is not None and wanted]:
        known = [column.name for column in reading.columns]
        if lacking := next((name for name in wanted if name not in known), None):
            raise ConfigError(f"columns.in: the input has no column {lacking}. It has {', '.join(known)}")
    if join == "key" and any(source.unsorted is not None for source in sources):
        raise ConfigError(
            "join: key names file and row, and records that are sorted by partition_keys are in neither any more. "
            "Say join: input"
        )


def _content(sources: list[Source]) -> Content:
    found = dict.fromkeys(source.content for source in sources)
    if len(found) > 1:
        raise ConfigError(
            f"inputs: some are {' and some are '.join(found)}. The inputs of a job must be of one sort: make two jobs"
        )
    return next(iter(found))
