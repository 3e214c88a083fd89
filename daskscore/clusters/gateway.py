"""A cluster that a dask-gateway server starts for us, and ends with the run.

How the user proves who they are is dask-gateway's own configuration: `gateway: auth:` in Dask's, or DASK_GATEWAY__AUTH__….
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from daskscore.clusters import versions
from daskscore.clusters.interface import Started, Wanted
from daskscore.errors import ConfigError, RunError

if TYPE_CHECKING:
    from dask_gateway import Gateway, GatewayCluster

LOOK_SECONDS = 0.5
KNOWN = ("address", "proxy_address", "options")


def start(wanted: Wanted) -> AbstractContextManager[Started]:
    """Workers as many as node_count says; with a range, as many as there is work for."""
    try:
        import dask_gateway  # noqa: F401 - whether it is there
    except ImportError:
        raise ConfigError(
            "cluster: gateway needs the package dask-gateway. Install it: pip install 'daskscore[gateway]'"
        ) from None
    for name in wanted.options:
        if name not in KNOWN:
            raise ConfigError(f"cluster: gateway takes no option {name}. Known are {', '.join(KNOWN)}")
    address, proxy = wanted.options.get("address"), wanted.options.get("proxy_address")
    more = wanted.options.get("options", {})
    if not isinstance(more, Mapping):
        raise ConfigError("cluster: gateway: options: is a mapping of what the server offers, like {worker_cores: 4}")
    for name, value in (("address", address), ("proxy_address", proxy)):
        if value is not None and not (isinstance(value, str) and "://" in value):
            raise ConfigError(f"cluster: gateway: {name}: is no address. Write it like https://gateway.example.org")
    return _started(wanted, _gateway(address, proxy), dict(more))


def _gateway(address: str | None, proxy: str | None) -> Gateway:
    from dask_gateway import Gateway

    try:
        return Gateway(address, proxy)
    except (ValueError, ImportError) as error:
        raise ConfigError(
            f"cluster: gateway: {error}. Write address: https://…, or set gateway: in Dask's configuration"
        ) from None


@contextmanager
def _started(wanted: Wanted, gateway: Gateway, options: dict[str, Any]) -> Iterator[Started]:
    with ExitStack() as stack:
        stack.callback(gateway.close)
        with _in_words(gateway.address):
            cluster = _cluster(wanted, gateway, options)
            stack.callback(cluster.close, shutdown=True)
            client = stack.enter_context(cluster.get_client(set_as_default=False))
            if (most := wanted.most_nodes or 0) > wanted.node_count:
                cluster.adapt(minimum=wanted.node_count, maximum=most)
            else:
                cluster.scale(wanted.node_count)
        whose = f"cluster: {cluster.name} of the gateway at {gateway.address}"
        yield Started(client, notes=(whose, *versions.check(client)))


def _cluster(wanted: Wanted, gateway: Gateway, options: dict[str, Any]) -> GatewayCluster:
    """Where the gateway lets it wait, not longer than the job waits for a first worker."""
    name = gateway.submit(**options)
    try:
        _wait(wanted, gateway, name)
        return gateway.connect(name, shutdown_on_close=True)
    except BaseException:
        with suppress(*_errors()):
            gateway.stop_cluster(name)
        raise


def _wait(wanted: Wanted, gateway: Gateway, name: str) -> None:
    from dask_gateway.client import ClusterStatus

    deadline = time.monotonic() + wanted.patience_seconds
    while (status := gateway.get_cluster(name).status) is not ClusterStatus.RUNNING:
        if status in (ClusterStatus.FAILED, ClusterStatus.STOPPED, ClusterStatus.STOPPING):
            raise RunError(f"the gateway at {gateway.address} could not start {name}. Its own log says why")
        if wanted.interrupted():
            raise RunError("interrupted")
        if time.monotonic() > deadline:
            raise RunError(
                f"the gateway at {gateway.address} has not started {name} within {wanted.patience_seconds:g} s. Ask for "
                "less, or raise first_task_creation_timeout"
            )
        time.sleep(LOOK_SECONDS)


@contextmanager
def _in_words(address: str) -> Iterator[None]:
    try:
        yield
    except _errors() as error:
        said = str(error) or type(error).__name__
        raise RunError(
            f"the gateway at {address} cannot be used: {said.rstrip('.')}. Is this its address, are you known there (gateway: "
            "auth: in Dask's configuration), and does it offer these options?"
        ) from error


def _errors() -> tuple[type[Exception], ...]:
    from aiohttp import ClientError
    from dask_gateway import GatewayClusterError, GatewayServerError

    return (ClientError, GatewayClusterError, GatewayServerError, OSError, TimeoutError, ValueError)
