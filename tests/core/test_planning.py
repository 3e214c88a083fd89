"""Laws of the plan: nothing lost, nothing twice, any name survives, and a change is noticed."""

from __future__ import annotations

import json
import os
from itertools import chain, count, islice, pairwise
from pathlib import Path
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from daskscore.core.planning import (
    DEFAULT_ITEMS,
    Named,
    count_items,
    cut,
    fingerprint,
    line,
    line_of_pieces,
    names_in,
    records_wanted,
    share_of,
    sources_in,
)

file_names = st.binary(min_size=1).map(os.fsdecode)
names = file_names | st.text(st.characters(exclude_categories=["Cs"]))
sizes = st.integers(1, 12)
plans = st.lists(st.lists(names, max_size=3), max_size=3)
keys = st.none() | st.dictionaries(st.text(max_size=3), st.text(max_size=3) | st.integers(), max_size=2)
pieces = st.lists(
    st.fixed_dictionaries(
        {
            "input": st.integers(0, 2),
            "file": st.sampled_from(["/data/a.csv", "/data/b row 7", "s3://bucket/c.parquet", "sorted/1"]),
            "items": st.integers(1, 9),
            "row": st.integers(0, 99),
        }
    ),
    min_size=1,
    max_size=5,
)
lines = st.builds(line, st.lists(names, min_size=1, max_size=20), keys) | st.builds(line_of_pieces, pieces, keys)
shapes = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=3)


@given(st.lists(names), sizes)
def test_mini_batches_joined_are_the_items_in_order(items: list[str], size: int) -> None:
    assert list(chain.from_iterable(cut(items, size))) == items


@given(st.lists(names), sizes)
def test_all_mini_batches_but_the_last_are_full(items: list[str], size: int) -> None:
    assert all(len(batch) == size for batch in list(cut(items, size))[:-1])


@given(st.lists(names), sizes)
def test_the_last_mini_batch_is_neither_empty_nor_too_large(items: list[str], size: int) -> None:
    assert all(1 <= len(batch) <= size for batch in list(cut(items, size))[-1:])


def test_items_are_taken_only_as_mini_batches_are_asked_for() -> None:
    endless = (str(number) for number in count())
    assert list(islice(cut(endless, 2), 2)) == [["0", "1"], ["2", "3"]]
    assert next(endless) == "4"


def test_ten_items_make_a_mini_batch_where_the_job_does_not_say() -> None:
    assert DEFAULT_ITEMS == 10


@given(st.lists(names))
def test_what_a_line_was_made_from_comes_back(items: list[str]) -> None:
    assert sources_in(line(items)) == items


@given(st.lists(names))
def test_a_line_is_one_line_whatever_the_names(items: list[str]) -> None:
    text = line(items)
    assert text.endswith(b"\n")
    assert text.count(b"\n") == 1


def test_a_line_is_spelled_as_in_earlier_releases() -> None:
    """Or a run that one of them began could not be resumed."""
    assert line(["a b", "ü"]) == rb'["a b","\u00fc"]' + b"\n"


@given(st.lists(names))
def test_a_line_is_plain_ascii(items: list[str]) -> None:
    assert line(items).isascii()


@given(shapes)
def test_the_order_of_settings_does_not_change_a_plan(shape: dict[str, object]) -> None:
    turned = dict(reversed(shape.items()))
    assert fingerprint(turned).digest() == fingerprint(shape).digest()


@given(shapes, shapes)
def test_other_settings_make_another_plan(one: dict[str, object], other: dict[str, object]) -> None:
    assume(one != other)
    assert fingerprint(one).digest() != fingerprint(other).digest()


def test_a_path_may_shape_a_plan() -> None:
    assert fingerprint({"input": Path("a")}).digest() != fingerprint({"input": Path("b")}).digest()


@given(plans, plans)
def test_other_lines_make_another_plan(one: list[list[str]], other: list[list[str]]) -> None:
    assume(one != other)
    assert _plan(one) != _plan(other)


def _plan(batches: list[list[str]]) -> bytes:
    digest = fingerprint({})
    for batch in batches:
        digest.update(line(batch))
    return digest.digest()


# Shares of a mini-batch.


@given(lines, st.data())
def test_shares_joined_name_the_items_of_the_whole_in_order(whole: bytes, data: st.DataObject) -> None:
    items = count_items(whole)
    cuts = sorted({0, items, *data.draw(st.sets(st.integers(1, items)))})
    shares = [share_of(whole, start, stop) for start, stop in pairwise(cuts)]
    assert [count_items(share) for share in shares] == [stop - start for start, stop in pairwise(cuts)]
    assert [name for share in shares for name in each(share)] == each(whole)


@given(lines, st.data())
def test_a_share_of_a_share_names_what_both_have(whole: bytes, data: st.DataObject) -> None:
    start, stop = data.draw(borders(count_items(whole)))
    share = share_of(whole, start, stop)
    inner = data.draw(borders(stop - start))
    assert share_of(share, *inner) == share_of(whole, start + inner[0], start + inner[1])
    assert each(share_of(share, *inner)) == each(whole)[start:stop][inner[0] : inner[1]]


@given(lines, st.data())
def test_a_share_is_one_line_with_the_keys_of_the_whole(whole: bytes, data: st.DataObject) -> None:
    share = share_of(whole, *data.draw(borders(count_items(whole))))
    assert share.isascii()
    assert share.endswith(b"\n")
    assert share.count(b"\n") == 1
    assert keys_in(share) == keys_in(whole)


@given(pieces, st.data())
def test_a_share_has_no_piece_of_which_nothing_is_wanted(some: list[Any], data: st.DataObject) -> None:
    whole = line_of_pieces(some)
    share = json.loads(share_of(whole, *data.draw(borders(count_items(whole)))))
    wanted = records_wanted(share)
    assert len(wanted) == len(share["pieces"]) >= 1
    assert all(
        0 <= start < stop <= piece["items"] for piece, (start, stop) in zip(share["pieces"], wanted, strict=True)
    )


@given(pieces)
def test_all_records_of_a_whole_mini_batch_are_wanted(some: list[Any]) -> None:
    assert records_wanted(json.loads(line_of_pieces(some))) == [(0, piece["items"]) for piece in some]


def test_a_share_of_records_is_named_by_their_rows_in_the_file() -> None:
    first = {"input": 0, "file": "/a.csv", "items": 4, "row": 10}
    second = {"input": 0, "file": "/b.csv", "items": 3, "row": 0}
    whole = line_of_pieces([first, second])  # type: ignore[list-item]  # as the plan has them
    assert names_in(share_of(whole, 3, 6)) == [Named("/a.csv row 13"), Named("/b.csv rows 0-1", 2)]
    assert names_in(share_of(whole, 4, 7)) == [Named("/b.csv rows 0-2", 3)]


def test_an_item_that_stands_in_the_list_twice_is_in_both_shares() -> None:
    whole = line(["a", "a", "b"])
    assert [names_in(share_of(whole, *share)) for share in ((0, 1), (1, 3))] == [[Named("a")], [Named("a"), Named("b")]]


def borders(items: int) -> st.SearchStrategy[tuple[int, int]]:
    """From and to, with something between them."""
    return st.tuples(st.integers(0, items - 1), st.integers(1, items)).filter(lambda share: share[0] < share[1])


def each(plan_line: bytes) -> list[str]:
    """The items of a line, one by one."""
    found = []
    for named in names_in(plan_line):
        source, _, rows = named.name.rpartition(" rows ")
        first, _, last = rows.partition("-")
        found += (
            [f"{source} row {row}" for row in range(int(first), int(last) + 1)] if named.items > 1 else [named.name]
        )
    return found


def keys_in(plan_line: bytes) -> Any:
    found = json.loads(plan_line)
    return found.get("keys") if isinstance(found, dict) else None
