"""Wire one run: the one place that chooses implementations."""

from __future__ import annotations

import inspect
import os
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskscore import jobfiles, plugins
from daskscore.config import JobConfig
from daskscore.config.paths import REGISTERED
from daskscore.core.layout import Layout
from daskscore.core.report import Report
from daskscore.driver import identity, scorers
from daskscore.driver.claim import Claim, claim
from daskscore.driver.interruption import Interruption
from daskscore.driver.plan import Plan, write_plan, write_rank_plan
from daskscore.driver.preflight import preflight
from daskscore.driver.progress import Progress
from daskscore.errors import ConfigError
from daskscore.inputs.interface import Input
from daskscore.sinks.interface import Sink

if TYPE_CHECKING:
    from distributed import Client

    from daskscore.clusters.interface import Started

LOOK_SECONDS = 0.25
"""How often an interrupt is looked for that Python has dropped, as it does with one that comes in a destructor."""


def run(
    job: str | os.PathLike[str] | Mapping[str, Any] | JobConfig | None = None,
    *,
    client: Client | None = None,
    resume: bool = False,
    overwrite: bool = False,
    accept_script_change: bool = False,
    quiet: bool = True,
    interruption: Interruption | None = None,
    **settings: Any,
) -> Report:
    """Run one job to its end: from a job file, a mapping, or the keys of one as keyword arguments.

    A job that fails returns a report whose `status` is `Failed`; what can be known to be wrong before any work starts
    raises a UsageError. With `client`, the job runs on that client's cluster and leaves it as it was.
    """
    found = jobfiles.steps(job, settings)
    if len(found) > 1:
        names = ", ".join(step.name for step in found)
        raise ConfigError(
            f"{job} holds {len(found)} jobs ({names}). Run it with `daskscore run`, which does one after another"
        )
    return run_step(
        found[0],
        client=client,
        resume=resume,
        overwrite=overwrite,
        accept_script_change=accept_script_change,
        quiet=quiet,
        interruption=interruption,
    )


def run_step(
    step: jobfiles.Step,
    *,
    client: Client | None = None,
    resume: bool = False,
    overwrite: bool = False,
    accept_script_change: bool = False,
    quiet: bool = True,
    interruption: Interruption | None = None,
) -> Report:
    """Run one job of a file; its notes are the caller's to show."""
    config = step.config
    interruption = interruption or Interruption()
    layout = Layout(Path(os.path.abspath(config.output)))
    with (
        interruption.listening(),
        claim(layout, config.append_row_file_name, resume=resume, overwrite=overwrite) as held,
    ):
        _check(config, layout, interruption)
        cluster = _cluster(config, client)
        plan = _take(config, held, accept_script_change=accept_script_change)
        for folder in step.folders:  # not before: a job that is refused leaves nothing
            folder.mkdir(parents=True, exist_ok=True)
        from daskscore.driver.session import Session

        session = Session(config, layout, plan, _sink(config, layout), Progress(quiet=quiet), interruption)
        return session.score(lambda: cluster)


def _check(config: JobConfig, layout: Layout, interruption: Interruption) -> None:
    """The script and the inputs, before any work starts; leaves the plan of this job as `new_plan`."""
    over = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        check = pool.submit(_preflight, config, layout, over.is_set) if config.preflight else None
        try:
            _plan(config, layout)
            import distributed  # noqa: F401 - takes as long as the preflight, so it is loaded meanwhile

            while check is not None and not interruption():
                wait([check], timeout=LOOK_SECONDS)
                if check.done():
                    check.result()
                    break
        finally:
            over.set()  # an interrupt, or a mistake in the inputs, does not wait for an import of minutes


def _take(config: JobConfig, held: Claim, *, accept_script_change: bool) -> Plan:
    """Continue the run that stands in the output folder, or begin a new one."""
    layout, shape = held.layout, identity.shape(config)
    if held.continues:
        identity.check_same_job(layout, held.stored_job(), shape, accept_script_change=accept_script_change)
        identity.check_same_plan(layout)
        layout.parts.mkdir(exist_ok=True)
        held.keep = True
    else:
        held.begin(shape)
    return Plan(layout.plan)


def _preflight(config: JobConfig, layout: Layout, over: Callable[[], bool]) -> None:
    settings = scorers.script_settings(config, layout, files=False)
    preflight(settings, scorers.environment(config, layout), scorers.limits(config), stopping=over)


def _plan(config: JobConfig, layout: Layout) -> None:
    shape = identity.plan_shape(config)
    for name, path in config.side_inputs.items():
        if not path.exists():
            raise ConfigError(f"side_inputs.{name}: {path} does not exist. Check the path")
    if config.rank_mini_batch_count is not None:
        write_rank_plan(layout.new_plan, config.rank_mini_batch_count, shape=shape)
        return
    inputs = [_input(entry, str(layout.output)) for entry in config.inputs]
    if len({found.files for found in inputs}) > 1:
        raise ConfigError("inputs: some are files and some are not. A job's inputs must be of one sort: make two jobs")
    items = (found.items() for found in inputs)
    write_plan(layout.new_plan, items, size=config.mini_batch_size, files=inputs[0].files, shape=shape)


def _input(entry: str | dict[str, Any], skip: str) -> Input:
    options = {"path": entry} if isinstance(entry, str) else dict(entry)
    kind = options.pop("kind", "local")
    if not isinstance(kind, str):
        raise ConfigError(f"inputs: {kind!r} is no kind of input. Write its name, like kind: local")
    make = plugins.find("input", kind)
    own: dict[str, Any] = {}
    if kind == "local":
        path = options.get("path")
        if not isinstance(path, str):
            raise ConfigError(f"inputs: {entry!r} names no path. Write a file, a folder or a glob")
        path = _registered(path)
        scheme = path.split("://")[0] if "://" in path else ""
        if scheme not in ("", "file"):
            raise ConfigError(f"inputs: {path}: {scheme}:// is not supported. Name a local file, folder or glob")
        own = {"path": path.removeprefix("file://"), "skip": skip}
    known = [name for name in inspect.signature(make).parameters if name == "path" or name not in own]
    for name in options:
        if name not in known:
            raise ConfigError(f"inputs: {kind} has no option {name}. It knows {', '.join(known)}")
    try:
        found: Input = make(**{**options, **own})
    except TypeError as error:
        raise ConfigError(f"inputs: {entry!r} is not usable: {error}") from error
    return found


def _registered(path: str) -> str:
    """Where registered data stands; other paths are what they are."""
    if not REGISTERED.match(path):
        return path
    from daskscore.workspace.locations import resolve
    from daskscore.workspace.store import open_workspace

    return resolve(open_workspace(), path).uri


def _sink(config: JobConfig, layout: Layout) -> Sink:
    make = plugins.find("sink", config.output_action)
    options: dict[str, Any] = {"output": layout.output}
    if config.output_action == "append_row":
        options = {"path": layout.rows(config.append_row_file_name), "scratch": layout.state}
    sink: Sink = make(**options)
    return sink


def _cluster(config: JobConfig, client: Client | None) -> AbstractContextManager[Started]:
    from daskscore.clusters.interface import Started, Wanted

    if client is not None:
        _check_client(client)
        return nullcontext(Started(client))
    kind, options = _cluster_kind(config.cluster)
    start = plugins.find("cluster", kind)
    started: AbstractContextManager[Started] = start(
        Wanted(config.node_count, config.processes, options, config.first_task_creation_timeout)
    )
    return started


def _check_client(client: object) -> None:
    from distributed import Client

    if not isinstance(client, Client):
        raise ConfigError(f"client: {client!r} is no dask.distributed.Client. An address is given with cluster=")
    if client.asynchronous:
        raise ConfigError("client: it is asynchronous. Make one without asynchronous=True")
    if client.status != "running":
        raise ConfigError(f"client: it is {client.status}. Give one that is connected to its scheduler")


def _cluster_kind(cluster: str | dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if isinstance(cluster, dict):
        options = dict(cluster)
        kind = options.pop("kind", None)
        if not isinstance(kind, str):
            raise ConfigError("cluster: the mapping names no kind. Write kind: local, or the address of a scheduler")
        return kind, options
    if re.fullmatch(r"[\w.-]+:\d+", cluster):
        return "existing", {"address": f"tcp://{cluster}"}
    if "://" in cluster or cluster.endswith(".json"):
        return "existing", {"address": cluster}
    return cluster, {}


__all__ = ["run", "run_step"]
