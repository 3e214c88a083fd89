"""A scheduler that is already there: by address, or by the scheduler file it wrote."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager

from distributed import Client
from distributed.comm.addressing import parse_address, parse_host_port
from distributed.comm.core import connect as dask_connect
from distributed.comm.registry import backends
from distributed.security import Security

from daskscore.clusters import versions
from daskscore.clusters.interface import Started, Wanted
from daskscore.clusters.security import of_files
from daskscore.errors import ConfigError, RunError

CONNECT_SECONDS = 30


def connect(wanted: Wanted) -> AbstractContextManager[Started]:
    """Its workers stay as they were; only our session leaves them."""
    options = dict(wanted.options)
    address = options.pop("address", None)
    if not isinstance(address, str):
        raise ConfigError("cluster: existing needs an address. Write address: tcp://host:port, or that of a file")
    security = of_files(options.pop("security")) if "security" in options else None
    if options:
        raise ConfigError(f"cluster: existing takes no option {next(iter(options))}. Remove it")
    if "://" not in address:
        address = _address_in(address)
    _check(address, security)
    return _connected(address, security, min(CONNECT_SECONDS, wanted.patience_seconds))


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


def _check(address: str, security: Security | None) -> None:
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
    if security is not None and scheme == "tcp":
        raise ConfigError(
            f"cluster: {address} is not encrypted, and security: says that it is. Write tls://{place}, or remove security"
        )
    if scheme == "tls" and (security or Security()).get_connection_args("client").get("ssl_context") is None:
        raise ConfigError(
            f"cluster: {address} needs certificates. Name them in security: {{ca: …, cert: …, key: …}}, or in Dask's "
            "configuration, in distributed.comm.tls"
        )


@contextmanager
def _connected(address: str, security: Security | None, seconds: float) -> Iterator[Started]:
    try:
        with ThreadPoolExecutor(1) as pool:  # the caller's thread may have an event loop of its own
            pool.submit(asyncio.run, _greet(address, security or Security(), seconds)).result()
        client = Client(address, security=security, timeout=seconds, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise RunError(
            f"the Dask scheduler at {address} did not answer within {seconds:g} s. Is it running, can this machine reach it, "
            f"and is this not the port of its dashboard?{_about_tls(address)}"
        ) from error
    with client:
        threads = client.nthreads()
        whose = f"cluster: the scheduler at {address} has {_count(len(threads), 'worker')} with "
        yield Started(client, notes=(f"{whose}{_count(sum(threads.values()), 'thread')}", *versions.check(client)))


async def _greet(address: str, security: Security, seconds: float) -> None:
    """With a deadline: a Client waits for ever where something takes its connection and says nothing of Dask's."""
    async with asyncio.timeout(seconds):
        comm = await dask_connect(address, timeout=seconds, **security.get_connection_args("client"))
        await comm.close()


def _about_tls(address: str) -> str:
    if address.startswith("tls://"):
        return " Does it know the CA that has signed this certificate?"
    return " If it listens with TLS only, its address begins with tls://" if address.startswith("tcp://") else ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
