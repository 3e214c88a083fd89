"""Wire one run: the one place that chooses implementations."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskscore import plugins
from daskscore.config import JobConfig, load
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


def run(
    job: str | Path | Mapping[str, Any] | JobConfig | None = None,
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
    config = load(job, settings)
    interruption = interruption or Interruption()
    layout = Layout(Path(os.path.abspath(config.output)))
    with (
        interruption.listening(),
        claim(layout, config.append_row_file_name, resume=resume, overwrite=overwrite) as held,
    ):
        plan = _prepare(config, held, accept_script_change=accept_script_change)
        from daskscore.driver.session import Session

        session = Session(config, layout, plan, _sink(config, layout), Progress(quiet=quiet), interruption)
        return session.score(lambda: _cluster(config, client))


def _prepare(config: JobConfig, held: Claim, *, accept_script_change: bool) -> Plan:
    """Everything that can be known to be wrong, before any work starts."""
    layout = held.layout
    shape = identity.shape(config)
    with ThreadPoolExecutor(1) as pool:
        check = pool.submit(_preflight, config, layout) if config.preflight else None
        _plan(config, layout)
        import distributed  # noqa: F401 - takes as long as the preflight, so it is loaded meanwhile

        if check is not None:
            check.result()
    if held.continues:
        identity.check_same_job(layout, held.stored_job(), shape, accept_script_change=accept_script_change)
        identity.check_same_plan(layout)
        layout.parts.mkdir(exist_ok=True)
        held.keep = True
    else:
        held.begin(shape)
    return Plan(layout.plan)


def _preflight(config: JobConfig, layout: Layout) -> None:
    settings = scorers.script_settings(config, layout, files=False)
    preflight(settings, scorers.environment(config, layout), scorers.limits(config))


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
    make = plugins.find("input", kind)
    if kind == "local":
        path = options.get("path")
        if not isinstance(path, str) or not path:
            raise ConfigError(f"inputs: {entry!r} names no path. Write a file, a folder or a glob")
        scheme = path.split("://")[0] if "://" in path else ""
        if scheme not in ("", "file"):
            raise ConfigError(f"inputs: {path}: {scheme}:// is not supported. Name a local file, folder or glob")
        options = {**options, "path": path.removeprefix("file://"), "skip": skip}
    try:
        found: Input = make(**options)
    except TypeError as error:
        raise ConfigError(f"inputs: {entry!r} is not usable: {error}") from error
    return found


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
        return nullcontext(Started(client))
    kind, options = _cluster_kind(config.cluster)
    start = plugins.find("cluster", kind)
    started: AbstractContextManager[Started] = start(Wanted(config.node_count, config.processes, options))
    return started


def _cluster_kind(cluster: str | dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if isinstance(cluster, dict):
        options = dict(cluster)
        kind = options.pop("kind", None)
        if not isinstance(kind, str):
            raise ConfigError("cluster: the mapping names no kind. Write kind: local, or the address of a scheduler")
        return kind, options
    if "://" in cluster or cluster.endswith(".json"):
        return "existing", {"address": cluster}
    return cluster, {}


__all__ = ["run"]
