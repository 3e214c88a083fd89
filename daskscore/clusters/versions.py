"""Whether the workers of a cluster that somebody else has set up can do our work."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from functools import partial
from typing import Any

from distributed import Client

from daskscore.errors import RunError

ASK_SECONDS = 30.0

SAME = {"daskscore": "daskscore.version:VERSION"}
"""The workers get tasks and classes of the driver's daskscore."""

TOLD = {"Python": "sys:version", "dask": "dask:__version__", "distributed": "distributed:__version__"}
"""Most differences of these do no harm, but one that does is hard to tell from other troubles."""

SCHEDULER = "the scheduler"


def check(client: Client) -> tuple[str, ...]:
    """Refuses workers without this daskscore; a line for Python and Dask where they are not those of the driver."""
    try:
        for name, where in SAME.items():
            if others := _others(client, where):
                raise RunError(
                    f"{_told(name, others)} Here it is {name} {_short(pkgutil.resolve_name(where))}. Install the same on "
                    "all of them, or run daskscore in their environment"
                )
        differences = [_told(name, others) for name, where in TOLD.items() if (others := _others(client, where))]
    except (TimeoutError, OSError) as error:
        return (f"the versions of the workers are not known: {str(error) or f'no answer in {ASK_SECONDS:g} s'}",)
    if not differences:
        return ()
    here = ", ".join(f"{name} {_short(pkgutil.resolve_name(where))}" for name, where in TOLD.items())
    return (f"warning: {' '.join(differences)} Here it is {here}.",)


def _others(client: Client, where: str) -> dict[str, str]:
    """What is not as it is here, by address."""
    # A function of the standard library: one of ours would not even arrive where daskscore is not installed.
    look = partial(client.run, pkgutil.resolve_name, where, on_error="return")
    found: dict[str, Any] = {SCHEDULER: _on_scheduler(client, where), **_ask(client, look)}
    here = _short(pkgutil.resolve_name(where))
    return {place: short for place, version in found.items() if (short := _short(version)) != here}


def _on_scheduler(client: Client, where: str) -> object:
    try:
        return _ask(client, partial(client.run_on_scheduler, pkgutil.resolve_name, where))
    except ImportError as error:
        return error


def _ask(client: Client, call: Callable[..., Any]) -> Any:
    return client.sync(partial(call, asynchronous=True), callback_timeout=ASK_SECONDS)


def _short(version: object) -> str:
    """What matters of it: of Python 3.11.7 (main, …) the 3.11; nothing where there is none."""
    if isinstance(version, BaseException):
        return ""
    text = str(version)
    return ".".join(text.split(".")[:2]) if " " in text else text


def _told(name: str, others: dict[str, str]) -> str:
    place, version = next(iter(others.items()))
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    return f"{place}{more}: {f'{name} {version}' if version else f'there is no {name}'}."
