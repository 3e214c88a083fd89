"""Tests as tables: each row begins with its place in the contract, which becomes its name."""

from __future__ import annotations

from typing import Any

import pytest


def table(names: str, *rows: tuple[Any, ...]) -> pytest.MarkDecorator:
    """A test for each row; what stands after a row's name are the values of `names`."""
    return pytest.mark.parametrize(names.split(", "), [row[1:] for row in rows], ids=[row[0] for row in rows])
