"""A scheduler that is already there: by address, or by the scheduler file it wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from distributed import Client
from distributed.comm.addressing import parse_address, parse_host_port
from distributed.comm.registry import backends
from distributed.security import Security

from daskscore.clusters.interface import Started, Wanted
from daskscore.errors import ConfigError, RunError

CONNECT_SECONDS = 30


def connect(wanted: Wanted) -> AbstractContextManager[Started]:
    """Its workers stay as they were; only our session leaves them."""
    options = dict(wanted.options)
    address = options.pop("address", None)
    if not isinstance(address, str):
        raise ConfigError("cluster: existing needs an address. Write address: tcp://host:port, or that of a file")
    if options:
        raise ConfigError(f"cluster: existing takes no option {next(iter(options))}. Remove it")
    if "://" not in address:
        address = _address_in(address)
    _check(address)
    return _connected(address, min(CONNECT_SECONDS, wanted.patience_seconds))


def _address_in(scheduler_file: str) -> str:
    try:
        with open(scheduler_file) as file:
            return str(json.load(file)["address"])
    except OSError as error:
        raise ConfigError(
            f"cluster: the scheduler file {scheduler_file} cannot be read: {error.strerror}. "
            "Check the path, or give the scheduler's address, like tcp://host:8786"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            f"cluster: {scheduler_file} is no scheduler file: it names no address. "
            "Name the one that was given to dask scheduler --scheduler-file"
        ) from None


def _check(address: str) -> None:
    """Refuse what Dask would not understand."""
    scheme, place = parse_address(address)
    if scheme not in backends:
        raise ConfigError(f"cluster: {address} begins with no protocol of Dask's. It has {', '.join(sorted(backends))}")
    if scheme in ("tcp", "tls"):
        try:
            parse_host_port(place)
        except ValueError:
            raise ConfigError(
                f"cluster: {address} names no host and port. Write it like {scheme}://host:8786"
            ) from None
    if scheme == "tls" and Security().get_connection_args("client").get("ssl_context") is None:
        raise ConfigError(
            f"cluster: {address} needs certificates. Name them in Dask's configuration, in distributed.comm.tls"
        )


@contextmanager
def _connected(address: str, seconds: float) -> Iterator[Started]:
    try:
        client = Client(address, timeout=seconds, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise RunError(
            f"the Dask scheduler at {address} did not answer within {seconds:g} s. Is it running, and can this machine "
            "reach it?"
        ) from error
    with client:
        yield Started(client)
