"""Keys of the reference that change nothing here, each with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from daskscore.jobfiles.interface import Ignored
from daskscore.jobfiles.reading import Section

CLUSTER = "the job runs on the cluster that the key cluster names"
MACHINES = "the machines are those of the cluster"
CONTAINER = "no container is started"
UNREAD = "nothing here reads them"
USER = "the script runs as the user who starts it"
ROWS = "append_row_to says that rows are written, and its absence that they are not"
FAILED_STEP = "a step that fails ends those that need it"

RESOURCES = {
    "resources.instance_type": MACHINES,
    "resources.locations": MACHINES,
    "resources.properties": MACHINES,
    "resources.max_instance_count": MACHINES,
    "resources.docker_args": CONTAINER,
    "resources.shm_size": CONTAINER,
}
JOB = {
    "compute": CLUSTER,
    "identity": USER,
    "properties": UNREAD,
    "services": "nothing here offers them",
    "limits": "run_invocation_timeout and progress_update_timeout end what hangs",
    "queue_settings": "the job runs at once",
    "output_data": "outputs are below the output folder",
    "output_action": ROWS,
    "task.output_action": ROWS,
    **RESOURCES,
}
PIPELINE = {
    "compute": CLUSTER,
    "identity": USER,
    "properties": UNREAD,
    "services": "nothing here offers them",
    "settings.default_compute": CLUSTER,
    "settings.default_datastore": "outputs are below the output folder",
    "settings.continue_on_step_failure": FAILED_STEP,
    "settings.continue_run_on_step_failure": FAILED_STEP,
    "settings.continue_run_on_failed_optional_input": FAILED_STEP,
    "settings.force_rerun": "every run is a new one, unless --resume continues it",
    "settings.on_init": "only parallel steps run here",
    "settings.on_finalize": "only parallel steps run here",
}
DEPLOYMENT = {
    "compute": CLUSTER,
    "endpoint_name": "the deployment runs as a job of its own",
    "properties": UNREAD,
    **RESOURCES,
}
PIPELINE_DEPLOYMENT = {**PIPELINE, "endpoint_name": DEPLOYMENT["endpoint_name"]}
RUN_CONFIG = {"compute_target_name": CLUSTER, "compute_target": CLUSTER}


def keys(table: Iterable[str], under: str = "") -> tuple[str, ...]:
    """The keys of a table that stand directly under another one, or at the top."""
    return tuple(key.rpartition(".")[2] for key in table if key.rpartition(".")[0] == under)


def found_in(section: Section, table: Mapping[str, str]) -> list[Ignored]:
    """Those of the table that the section gives."""
    found = []
    for key, why in table.items():
        outer, _, inner = key.rpartition(".")
        holder = section.section(outer) if outer else section
        if holder.has(inner):
            found.append(Ignored(holder.name_of(inner), why))
    return found
