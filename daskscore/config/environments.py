"""What the key `environment` may say."""

from __future__ import annotations

import os
from collections.abc import Mapping

from daskscore.config.values import check_path, not_usable
from daskscore.workspace.references import is_reference

CURRENT = "current"
"""The worker's own Python."""

KNOWN = ("conda_file", "dependencies", "channels", "name", "variables", "prefix")


def read_environment(value: object) -> object:
    """A path, a mapping with a conda file or with what stands in one; None for the worker's own Python."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        for name in value:
            if name not in KNOWN:
                raise ValueError(
                    f"a mapping has no key {name} here. Write {{conda_file: conda.yml}}, or what stands in a conda file"
                )
        if ("conda_file" in value) == ("dependencies" in value):
            raise ValueError("a mapping has either conda_file or dependencies. Write {conda_file: conda.yml}")
        return dict(value)
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise not_usable()
    if text.strip().lower() == CURRENT:
        return None
    if is_reference(text):
        raise ValueError(f"{text} is a registered environment, of which nothing is known here. Name a conda file")
    return check_path(text)
