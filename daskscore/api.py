"""Wire one run: the one place that chooses implementations."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from daskscore import jobfiles, plugins
from daskscore.config import JobConfig, absolute
from daskscore.config.paths import current_folder
from daskscore.core.layout import Layout
from daskscore.core.planning import Content
from daskscore.core.report import Report
from daskscore.driver import identity, outputs, results, retrying, scorers, side_inputs
from daskscore.driver.claim import Claim, claim
from daskscore.driver.interruption import Interruption
from daskscore.driver.job_inputs import JobInputs, open_inputs
from daskscore.driver.plan import Plan
from daskscore.driver.preflight import preflight
from daskscore.driver.progress import Progress
from daskscore.driver.side_inputs import Needed
from daskscore.errors import ConfigError, OutputError
from daskscore.sinks.interface import Sink

if TYPE_CHECKING:
    from distributed import Client

    from daskscore.clusters.interface import Started
    from daskscore.worker.environments import Recipe

LOOK_SECONDS = 0.25
"""How often an interrupt is looked for that Python has dropped, as it does with one that comes in a destructor."""


def run(
    job: str | os.PathLike[str] | Mapping[str, Any] | JobConfig | None = None,
    *,
    client: Client | None = None,
    resume: bool = False,
    overwrite: bool = False,
    retry: bool = False,
    accept_script_change: bool = False,
    quiet: bool = True,
    interruption: Interruption | None = None,
    **settings: Any,
) -> Report:
    """Run one job to its end: from a job file, a mapping, or the keys of one as keyword arguments.

    With `retry`, only what failed in the run that stands in the output is scored, and merged into it. A job that fails returns a report whose `status` is `Failed`; what can be known to be wrong before any work starts
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
        retry=retry,
        accept_script_change=accept_script_change,
        quiet=quiet,
        interruption=interruption,
    )


def retry(
    output: str | os.PathLike[str] | Mapping[str, Any],
    *,
    client: Client | None = None,
    quiet: bool = True,
    interruption: Interruption | None = None,
    **settings: Any,
) -> Report:
    """Score what failed in a run that is over, with its script as it is now, and merge the rows into the same output.

    `output` is the run's folder, or its address (a mapping with `path` and `storage_options` where it needs these). The job
    is the one that is kept there; `settings` may replace what changes no row, like run_invocation_timeout.
    """
    place = absolute({"output": output}, current_folder())["output"]
    shown = str(place["path"] if isinstance(place, Mapping) else place)
    stored = retrying.settings_of(outputs.stored_job(place), shown, settings)
    step = jobfiles.steps({**stored, "output": place}, settings)[0]
    return run_step(step, client=client, retry=True, quiet=quiet, interruption=interruption)


def run_step(
    step: jobfiles.Step,
    *,
    client: Client | None = None,
    resume: bool = False,
    overwrite: bool = False,
    retry: bool = False,
    accept_script_change: bool = False,
    quiet: bool = True,
    interruption: Interruption | None = None,
) -> Report:
    """Run one job of a file; its notes are the caller's to show."""
    if retry and (resume or overwrite):
        other = "--resume goes on with a run that was interrupted" if resume else "--overwrite starts it anew"
        raise OutputError(f"--retry scores what failed in a run that is over, and {other}. Give one of the two")
    if client is None:
        attend(step.config.cluster)
    interruption = interruption or Interruption()
    progress = Progress(quiet=quiet)
    with (
        interruption.listening(),
        outputs.opened(
            step.config, resume=resume or retry, overwrite=overwrite, say=progress.say, on_loss=interruption.ask
        ) as place,
    ):
        how = {
            "resume": resume,
            "overwrite": overwrite,
            "retry": retry,
            "accept_script_change": accept_script_change,
        }
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
    retry: bool,
    accept_script_change: bool,
) -> Report:
    config, layout = step.config, Layout(place.folder)
    with claim(layout, config.append_row_file_name, resume=resume or retry, overwrite=overwrite) as held:
        if retry and (report := _nothing_to_retry(held, place, progress)):
            return report
        needed = side_inputs.find(config)
        loads = partial(_preflight, config, layout, needed, _recipe(config), progress.say, client is None)
        inputs = _check(config, place, loads, interruption, resume=held.continues)
        try:
            if inputs.content is Content.RECORDS and isinstance(config.mini_batch_size, int):
                size = config.mini_batch_size
                progress.say(f"mini_batch_size: {size} means {size} bytes of records; '{size} rows' would count them")
            cluster = _cluster(config, client, interruption)
            if retry:
                plan = _take_again(config, held, inputs, needed, progress)
            else:
                plan = _take(config, held, inputs, needed, accept_script_change=accept_script_change)
            place.taken()
            for folder in step.folders:  # not before: a job that is refused leaves nothing
                folder.mkdir(parents=True, exist_ok=True)
            from daskscore.driver.session import Session

            sink = _sink(config, layout)
            session = Session(config, layout, inputs, needed, plan, sink, progress, interruption, place.shown)
            session.retry, session.reopen = retry, place.reopen
            return session.score(lambda: cluster)
        finally:
            inputs.stop()


def _check(
    config: JobConfig, place: outputs.Place, loads: Callable[..., None], interruption: Interruption, *, resume: bool
) -> JobInputs:
    """The script and the inputs, before any work starts; leaves the plan of this job, or its beginning, as `new_plan`."""
    layout = Layout(place.folder)
    over = threading.Event()
    inputs: JobInputs | None = None
    with ThreadPoolExecutor(1) as pool:
        check = pool.submit(loads, over.is_set) if config.preflight else None
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
        held.begin({**shape, **retrying.kept_settings(config)})
    return Plan(layout.plan, inputs.planner)


def _nothing_to_retry(held: Claim, place: outputs.Place, progress: Progress) -> Report | None:
    """The report of a run in which nothing failed that could be scored again."""
    shown = place.shown(held.layout.output)
    if not held.continues:
        raise OutputError(f"there is no run in {shown} whose failures could be scored again. Name its output folder")
    if retrying.is_due(held.layout, shown):
        return None
    progress.say(f"nothing failed in {shown} that could be scored again: it stays as it is")
    return results.read_report(held.layout)


def _take_again(config: JobConfig, held: Claim, inputs: JobInputs, needed: Needed, progress: Progress) -> Plan:
    """Go on with a run that is over, with its script as it is now."""
    layout, shape, stored = held.layout, identity.shape(config, needed), held.stored_job()
    identity.check_same_job(layout, stored, shape, accept_script_change=True, how="retry")
    if identity.has_other_script(stored, shape):
        progress.say(f"{config.entry_script} has changed since: what failed is scored with it as it is now")
    identity.check_same_plan(layout, how="retry")
    held.store({**stored, "script_sha256": shape["script_sha256"]})
    layout.parts.mkdir(exist_ok=True)
    held.keep = True
    return Plan(layout.plan, inputs.planner)


def _recipe(config: JobConfig) -> Recipe | None:
    if config.environment is None:
        return None
    from daskscore.driver import environments  # here, as it loads what most jobs do not need

    return environments.recipe(config)


def _preflight(
    config: JobConfig,
    layout: Layout,
    needed: Needed,
    recipe: Recipe | None,
    say: Callable[[str], None],
    own_cluster: bool,
    over: Callable[[], bool],
) -> None:
    preflight(
        scorers.script_settings(config, layout, JobInputs(Content.WORDS), needed),
        scorers.environment(config, layout),
        scorers.limits(config),
        stopping=over,
        recipe=recipe,
        works_here=own_cluster and _cluster_kind(config.cluster)[0] == "local",
        say=say,
    )


def _sink(config: JobConfig, layout: Layout) -> Sink:
    make = plugins.find("sink", config.output_action)
    options: dict[str, Any] = {"output": layout.output}
    if config.output_action == "append_row":
        rows = scorers.rows(config)
        options = {"path": layout.rows(config.append_row_file_name), "scratch": layout.state, "rows": rows}
    sink: Sink = make(**options)
    return sink


def attend(cluster: str | dict[str, Any]) -> None:
    """Where mpirun has started us, and the cluster is mpi: only rank 0 comes back from here."""
    if _cluster_kind(cluster)[0] == "mpi":
        from daskscore.clusters import mpi

        mpi.attend()


def _cluster(config: JobConfig, client: Client | None, interruption: Interruption) -> AbstractContextManager[Started]:
    from daskscore.clusters.interface import Started, Wanted

    if client is not None:
        _check_client(client)
        return nullcontext(Started(client))
    kind, options = _cluster_kind(config.cluster)
    start = plugins.find("cluster", kind)
    started: AbstractContextManager[Started] = start(
        Wanted(
            config.fewest_nodes,
            config.processes,
            options,
            config.first_task_creation_timeout,
            most_nodes=config.most_nodes,
            node_count_given="node_count" in config.model_fields_set,
            process_count_given=config.process_count_per_node is not None,
            interrupted=interruption,
        )
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


__all__ = ["retry", "run", "run_step"]
