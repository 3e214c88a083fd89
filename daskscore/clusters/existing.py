"""A scheduler that is already there: by address, or by the scheduler file it wrote."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from distributed import Client

from daskscore.clusters.interface import Started, Wanted
from daskscore.errors import RunError, UsageError

CONNECT_SECONDS = 30


@contextmanager
def connect(wanted: Wanted) -> Iterator[Started]:
    """Its workers stay as they were; only our session leaves them."""
    address = wanted.options["address"]
    try:
        if "://" in address:
            client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        elif os.path.isfile(address):
            client = Client(scheduler_file=address, timeout=CONNECT_SECONDS, set_as_default=False)
        else:
            raise UsageError(f"cluster: there is no scheduler file {address}")
    except (OSError, TimeoutError) as error:
        raise RunError(
            f"the Dask scheduler at {address} did not answer within {CONNECT_SECONDS} s: {error}. Is it running?"
        ) from error
    with client:
        yield Started(client)
