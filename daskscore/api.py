"""Wire one run: the one place that chooses implementations."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from daskscore import jobfiles, plugins
from daskscore.config import JobConfig
from daskscore.core.layout import Layout
from daskscore.core.planning import Content
from daskscore.core.report import Report
from daskscore.driver import identity, outputs, scorers, side_inputs
from daskscore.driver.claim import Claim, claim
from daskscore.driver.interruption import Interruption
from daskscore.driver.job_inputs import JobInputs, open_inputs
from daskscore.driver.plan import Plan
from daskscore.driver.preflight import preflight
from daskscore.driver.progress import Progress
from daskscore.driver.side_inputs import Needed
from daskscore.errors import ConfigError
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
    interruption = interruption or Interruption()
    progress = Progress(quiet=quiet)
    with (
        interruption.listening(),
        outputs.opened(
            step.config, resume=resume, overwrite=overwrite, say=progress.say, on_loss=interruption.ask
        ) as place,
    ):
        how = {"resume": resume, "overwrite": overwrite, "accept_script_change": accept_script_change}
        report = _score(step, place, client, progress, interruption, **how)
        with interruption.in_good_order():
            place.publish(report)
        return report


def _score(
    step: jobfiles.Step,
    place: outputs.Place,
    client: Client | None,
    progress: Progress,
    interruption: Interruption,
    *,
    resume: bool,
    overwrite: bool,
    accept_script_change: bool,
) -> Report:
    config, layout = step.config, Layout(place.folder)
    with claim(layout, config.append_row_file_name, resume=resume, overwrite=overwrite) as held:
        needed = side_inputs.find(config)
        inputs = _check(config, place, needed, interruption, resume=held.continues)
        try:
            if inputs.content is Content.RECORDS and isinstance(config.mini_batch_size, int):
                size = config.mini_batch_size
                progress.say(f"mini_batch_size: {size} means {size} bytes of records; '{size} rows' would count them")
            cluster = _cluster(config, client)
            plan = _take(config, held, inputs, needed, accept_script_change=accept_script_change)
            place.taken()
            for folder in step.folders:  # not before: a job that is refused leaves nothing
                folder.mkdir(parents=True, exist_ok=True)
            from daskscore.driver.session import Session

            sink = _sink(config, layout)
            session = Session(config, layout, inputs, needed, plan, sink, progress, interruption, place.shown)
            return session.score(lambda: cluster)
        finally:
            inputs.stop()


def _check(
    config: JobConfig, place: outputs.Place, needed: Needed, interruption: Interruption, *, resume: bool
) -> JobInputs:
    """The script and the inputs, before any work starts; leaves the plan of this job, or its beginning, as `new_plan`."""
    layout = Layout(place.folder)
    over = threading.Event()
    inputs: JobInputs | None = None
    with ThreadPoolExecutor(1) as pool:
        check = pool.submit(_preflight, config, layout, needed, over.is_set) if config.preflight else None
        try:
            inputs = open_inputs(config, layout, skip=place.uri)
            import distributed  # noqa: F401 - takes as long as the preflight, so it is loaded meanwhile

            inputs.wait(interruption, whole=resume)
            while check is not None and not interruption():
                wait([check], timeout=LOOK_SECONDS)
                if check.done():
                    check.result()
                    break
        except BaseException:
            if inputs is not None:
                inputs.stop()
            raise
        finally:
            over.set()  # an interrupt, or a mistake in the inputs, does not wait for an import of minutes
    return inputs


def _take(config: JobConfig, held: Claim, inputs: JobInputs, needed: Needed, *, accept_script_change: bool) -> Plan:
    """Continue the run that stands in the output folder, or begin a new one."""
    layout, shape = held.layout, identity.shape(config, needed)
    if held.continues:
        identity.check_same_job(layout, held.stored_job(), shape, accept_script_change=accept_script_change)
        identity.check_same_plan(layout)
        layout.parts.mkdir(exist_ok=True)
        held.keep = True
    else:
        held.begin(shape)
    return Plan(layout.plan, inputs.planner)


def _preflight(config: JobConfig, layout: Layout, needed: Needed, over: Callable[[], bool]) -> None:
    settings = scorers.script_settings(config, layout, JobInputs(Content.WORDS), needed)
    preflight(settings, scorers.environment(config, layout), scorers.limits(config), stopping=over)


def _sink(config: JobConfig, layout: Layout) -> Sink:
    make = plugins.find("sink", config.output_action)
    options: dict[str, Any] = {"output": layout.output}
    if config.output_action == "append_row":
        rows = scorers.rows(config)
        options = {"path": layout.rows(config.append_row_file_name), "scratch": layout.state, "rows": rows}
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
