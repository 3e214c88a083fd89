"""Settings of a run as v2 writes them, in jobs and in deployments."""

from __future__ import annotations

from typing import Any

from daskscore.jobfiles.reading import Section, shown


def logging_level(section: Section) -> str | None:
    level = section.text("logging_level")
    return None if level is None else {"WARN": "WARNING"}.get(level.upper(), level.upper())


def environment_variables(section: Section) -> dict[str, Any] | None:
    variables = section.section("environment_variables")
    return {name: variables.get(name) for name in variables.names() if variables.has(name)} or None


def threshold(node: Section, key: str) -> int:
    value = node.whole(key, least=-1)
    return -1 if value is None else value


def count(section: Section, key: str) -> int | None:
    """A number of machines or processes; -1 leaves it to the cluster."""
    value = section.whole(key, least=-1)
    if value == 0:
        raise section.wrong(key, "is 0. Write a whole number, at least 1")
    return None if value == -1 else value


def partition_keys(node: Section) -> list[str] | None:
    keys = node.get("partition_keys")
    if keys is None:
        return None
    if not isinstance(keys, list) or not keys or not all(isinstance(key, str) and key for key in keys):
        raise node.wrong("partition_keys", f"is {shown(keys)}. Write a list of names, like [Store, Brand]")
    return keys
