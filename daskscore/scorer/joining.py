"""Results beside what they are results of: the item's own name, or the input's columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from daskscore.scorer.rows import BadOutput

if TYPE_CHECKING:
    import pandas

    from daskscore.scorer.loading import Given


@dataclass(frozen=True, slots=True)
class Join:
    """What stands before each result, and which columns are kept; all where none are named."""

    how: str
    """`key`: the name of the item, or file and row. `input`: the columns of the mini-batch."""
    inputs: Sequence[str] = ()
    outputs: Sequence[str] = ()

    def beside(self, given: Given) -> Beside:
        """Taken before run() has the mini-batch, which may change it."""
        return Beside(_keys(given) if self.how == "key" else self._inputs(given), given.present)

    def __call__(self, result: Any, beside: Beside) -> pandas.DataFrame:
        """A row for each item, in order."""
        outputs = _frame(result)
        if len(outputs) != beside.items:
            raise BadOutput(
                f"join: {self.how} needs one result for each item, in order: run() returned {len(outputs)} for "
                f"{beside.items}. Return one each, or say join: none"
            )
        outputs = _chosen(outputs, self.outputs, "columns.out", "what run() returned")
        before = beside.columns
        if self.how == "input" and not self.inputs:
            # A script that returns its mini-batch with a column more has said itself what these are.
            before = before[[name for name in before.columns if name not in outputs.columns]]
        for place, name in enumerate(before.columns):
            if name in outputs.columns:
                raise BadOutput(
                    f"join: {self.how} adds a column {name}, and run() returned one of that name. Rename that one, or "
                    "leave it out with columns.out"
                )
            outputs.insert(place, name, before[name].array)
        return outputs

    def _inputs(self, given: Given) -> pandas.DataFrame:
        return _chosen(given.mini_batch.reset_index(drop=True), self.inputs, "columns.in", "the input").copy()


class Beside(NamedTuple):
    """What stands before the results of one mini-batch."""

    columns: pandas.DataFrame
    items: int

    def without(self, positions: Sequence[int]) -> Beside:
        """For the results that are left when some items have none."""
        if not positions:
            return self
        return Beside(self.columns.drop(index=list(positions)).reset_index(drop=True), self.items - len(positions))


def _frame(result: Any) -> pandas.DataFrame:
    import pandas

    if isinstance(result, pandas.DataFrame):
        return result.reset_index(drop=True)
    if isinstance(result, pandas.Series):
        return result.reset_index(drop=True).to_frame(name="result" if result.name is None else result.name)
    if isinstance(result, (str, bytes, Mapping)) or not hasattr(result, "__iter__"):
        raise BadOutput(f"join needs a list, an array or a DataFrame, and run() returned a {type(result).__name__}")
    elements = list(result)
    if elements and all(isinstance(element, Mapping) for element in elements):
        return pandas.DataFrame(elements)
    return pandas.DataFrame({"result": pandas.Series(elements, dtype=None if elements else "object")})


def _chosen(frame: pandas.DataFrame, names: Sequence[str], key: str, what: str) -> pandas.DataFrame:
    lacking = next((name for name in names if name not in frame.columns), None)
    if lacking is not None:
        known = ", ".join(map(str, frame.columns))
        raise BadOutput(f"{key}: {what} has no column {lacking}. It has {known}")
    return frame[list(names)].copy() if names else frame.copy(deep=False)


def _keys(given: Given) -> pandas.DataFrame:
    import pandas

    if given.rows:
        pairs = [(rows.file, row) for rows in given.rows for row in range(rows.start, rows.stop)]
        return pandas.DataFrame(pairs, columns=["file", "row"])
    return pandas.DataFrame({"item": list(_names(given))}, dtype="object")


def _names(given: Given) -> Iterator[str]:
    yield from given.names or given.mini_batch
