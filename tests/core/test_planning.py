"""Laws of the plan: nothing lost, nothing twice, any name survives, and a change is noticed."""

from __future__ import annotations

import os
from itertools import chain, count, islice
from pathlib import Path

from hypothesis import assume, given
from hypothesis import strategies as st

from daskscore.core.planning import DEFAULT_ITEMS, cut, fingerprint, line, sources_in

file_names = st.binary(min_size=1).map(os.fsdecode)
names = file_names | st.text(st.characters(exclude_categories=["Cs"]))
sizes = st.integers(1, 12)
plans = st.lists(st.lists(names, max_size=3), max_size=3)
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
