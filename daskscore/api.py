"""Wire one run: the one place that chooses implementations."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskscore import plugins
from daskscore.config import JobConfig, load
from daskscore.core.layout import Layout
from daskscore.core.model import Status
from daskscore.core.report import Report
from daskscore.core.thresholds import Thresholds
from daskscore.driver import account as accounts
from daskscore.driver import journal as journals
from daskscore.driver import results
from daskscore.driver.claim import Claim, claim
from daskscore.driver.interruption import Interruption
from daskscore.driver.plan import Plan, first_difference, write_plan, write_rank_plan
from daskscore.driver.preflight import preflight
from daskscore.driver.progress import Progress
from daskscore.errors import ConfigError, DaskscoreError, OutputError, RunError
from daskscore.inputs.interface import Input
from daskscore.sinks.interface import Sink
from daskscore.version import VERSION
from daskscore.worker.supervisor import Limits

if TYPE_CHECKING:
    from distributed import Client

    from daskscore.clusters.interface import Started, Wanted
    from daskscore.driver.engine import Engine, Verdict


PLAN_KEYS = ("inputs", "mini_batch_size", "rank_mini_batch_count")
ROW_KEYS = (
    "entry_script",
    "arguments",
    "output_action",
    "append_row_format",
    "append_row_separator",
    "append_row_header",
    "append_row_index",
    "append_row_file_name",
)


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
        session = _Session(config, layout, plan, Progress(quiet=quiet), interruption)
        return session.run(client)


def _prepare(config: JobConfig, held: Claim, *, accept_script_change: bool) -> Plan:
    """Everything that can be known to be wrong, before any work starts."""
    layout = held.layout
    shape = _shape(config)
    with ThreadPoolExecutor(1) as pool:
        check = pool.submit(_preflight, config, layout) if config.preflight else None
        new = layout.state / "plan.new"
        _plan(config, new, skip=str(layout.output))
        import distributed  # noqa: F401 - takes as long as the preflight, so it is loaded meanwhile

        if check is not None:
            check.result()
    if held.continues:
        _same_job(held, shape, accept_script_change=accept_script_change)
        old, now = Plan(layout.plan).header, Plan(new).header
        if old.fingerprint != now.fingerprint:
            what = first_difference(layout.plan, new) if not old.rank else "their settings differ"
            raise OutputError(
                f"--resume: the inputs are no longer those of the run in {layout.output}: {what}. "
                "Restore them, or start anew with --overwrite or another --output"
            )
        layout.parts.mkdir(exist_ok=True)
        held.keep = True
    else:
        held.begin(shape)
    return Plan(layout.plan)


def _preflight(config: JobConfig, layout: Layout) -> None:
    preflight(_script_settings(config, layout), _environment(config, layout), _limits(config))


def _plan(config: JobConfig, folder: Path, *, skip: str) -> None:
    shape = {key: getattr(config, key) for key in PLAN_KEYS}
    for name, path in config.side_inputs.items():
        if not path.exists():
            raise ConfigError(f"side_inputs.{name}: {path} does not exist. Check the path")
    if config.rank_mini_batch_count is not None:
        write_rank_plan(folder, config.rank_mini_batch_count, shape=shape)
        return
    inputs = [_input(entry, skip) for entry in config.inputs]
    if len({found.files for found in inputs}) > 1:
        raise ConfigError("inputs: some are files and some are not. A job's inputs must be of one sort: make two jobs")
    write_plan(
        folder, (found.items() for found in inputs), size=config.mini_batch_size, files=inputs[0].files, shape=shape
    )


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


def _shape(config: JobConfig) -> dict[str, Any]:
    """What the rows depend on, as it is kept with the run; a resume must bring the same."""
    shape = {key: getattr(config, key) for key in PLAN_KEYS + ROW_KEYS}
    script = config.source_directory / config.entry_script
    digest = hashlib.sha256(script.read_bytes()).hexdigest() if script.is_file() else None
    return {**shape, "script_sha256": digest}


def _same_job(held: Claim, shape: dict[str, Any], *, accept_script_change: bool) -> None:
    stored = held.stored_job()
    for key, value in shape.items():
        before = stored.get(key)
        if before == value or (key == "script_sha256" and accept_script_change):
            continue
        what = (
            f"{shape['entry_script']} has changed since. Restore it, accept the change for what is not yet scored with "
            "--accept-script-change,"
            if key == "script_sha256"
            else f"{key} was {before!r} and is {value!r} now. Restore it,"
        )
        raise OutputError(
            f"--resume: the run in {held.layout.output} is another one: {what} or start anew with --overwrite"
        )


def _limits(config: JobConfig) -> Limits:
    return Limits(
        run_seconds=config.run_invocation_timeout,
        init_seconds=config.init_seconds,
        overhead_seconds=config.task_overhead_timeout,
        memory_bytes=config.memory_limit_per_process,
    )


def _environment(config: JobConfig, layout: Layout) -> dict[str, str]:
    """Of every scorer; the user's own words win."""
    return {
        # One hash seed for all processes: a script that walks through a set gives the same rows everywhere.
        "PYTHONHASHSEED": "0",
        "AZUREML_BI_OUTPUT_PATH": str(layout.output),
        **config.environment_variables,
    }


def _script_settings(config: JobConfig, layout: Layout) -> dict[str, Any]:
    side_inputs = {f"${{{{side_inputs.{name}}}}}": str(path) for name, path in config.side_inputs.items()}
    arguments = []
    for word in config.arguments:
        for reference, path in side_inputs.items():
            word = word.replace(reference, path)
        arguments.append(word)
    return {
        "entry_script": config.entry_script,
        "source_directory": str(config.source_directory),
        "arguments": [*_system_arguments(config, layout), *arguments],
        "logging_level": config.logging_level,
        "rank": config.rank_mini_batch_count is not None,
        "files": False,
        "only_load": False,
        "rows": {
            "write": config.output_action == "append_row",
            "format": config.append_row_format,
            "separator": config.append_row_separator,
            "header": config.append_row_header,
            "index": config.append_row_index,
        },
    }


def _system_arguments(config: JobConfig, layout: Layout) -> list[str]:
    """What scripts written for ParallelRunStep find in `sys.argv` before their own arguments."""
    given = {
        "client_sdk_version": VERSION,
        "scoring_module_name": config.entry_script,
        "mini_batch_size": config.mini_batch_size,
        "error_threshold": config.error_threshold,
        "output_action": config.output_action,
        "logging_level": config.logging_level,
        "run_invocation_timeout": f"{config.run_invocation_timeout:g}",
        "run_max_try": config.run_max_try,
        "create_snapshot_at_runtime": True,
        "allowed_failed_count": config.allowed_failed_count,
        "allowed_failed_percent": config.allowed_failed_percent,
        "append_row_file_name": config.append_row_file_name,
        "output": layout.output,
        "process_count_per_node": config.process_count_per_node,
    }
    return [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]


@dataclass(slots=True)
class _Session:
    """One driver's share of a run: from the first worker to the report."""

    config: JobConfig
    layout: Layout
    plan: Plan
    progress: Progress
    interruption: Interruption

    def run(self, client: Client | None) -> Report:
        before = self._account()
        if before.status is Status.COMPLETED:
            return self._report(before, _verdict(Status.COMPLETED), seconds=before.seconds)
        began = time.monotonic()
        journal = journals.Journal(self.layout.journal)
        try:
            if before.attempts or before.status is not None:
                journal.append({"record": "resume", "forget_failures": before.status is Status.FAILED})
                before = self._account()
            try:
                with self.interruption.in_good_order(), self._cluster(client) as started:
                    verdict = self._score(started, before, journal)
            except RunError as error:
                verdict = _verdict(Status.FAILED, str(error))
            report = self._finish(verdict, seconds=before.seconds + time.monotonic() - began)
            journal.append({"record": "end", "status": report.status})
            journal.sync()
        finally:
            journal.close()
        if report.status is Status.COMPLETED:
            results.remove_parts(self.layout)
        return report

    def _score(self, started: Started, before: accounts.Account, journal: journals.Journal) -> Verdict:
        from daskscore.driver.engine import write_shared_token
        from daskscore.worker.session import Assignment, Session, plugin_name
        from daskscore.worker.task import last_logs

        run_id = secrets.token_hex(4)
        token = secrets.token_hex(16)
        write_shared_token(self.layout, token)
        assignment = Assignment(
            run=run_id,
            output=str(self.layout.output),
            token=token,
            slots=self.config.process_count_per_node,
            settings={**_script_settings(self.config, self.layout), "files": self.plan.header.files},
            environment=_environment(self.config, self.layout),
            limits=_limits(self.config),
            own_cluster=started.own,
            driver=os.getpid() if started.own else 0,
            scratch=started.scratch,
        )
        client = started.client
        client.register_plugin(Session(assignment))
        engine = self._engine(client, run_id, before, journal)
        try:
            verdict = engine.run()
            for logs in client.run(last_logs, run_id, on_error="ignore").values():
                engine._keep_logs(logs or {})
        finally:
            if engine.first_trouble is not None:
                trouble = engine.first_trouble
                text = trouble.traceback or trouble.message
                journal.append({"record": "trouble", "traceback": text, "log": trouble.log})
            client.unregister_worker_plugin(plugin_name(run_id))
        return verdict

    def _engine(self, client: Client, run_id: str, before: accounts.Account, journal: journals.Journal) -> Engine:
        from daskscore.core.health import Health
        from daskscore.core.ledger import Ledger
        from daskscore.core.pacing import Pacing
        from daskscore.driver.engine import Engine, Patience

        config, header = self.config, self.plan.header
        ledger = Ledger(header.mini_batches, header.items, config.run_max_try, self.plan.count_items)
        ledger.restore(before.settled(), before.tally, before.rows)
        return Engine(
            client=client,
            run_id=run_id,
            plan=self.plan,
            layout=self.layout,
            ledger=ledger,
            journal=journal,
            pacing=Pacing(fixed=config.bundle_size if isinstance(config.bundle_size, int) else None),
            thresholds=self._thresholds,
            health=Health(config.processes),
            patience=Patience(config.first_task_creation_timeout, config.progress_seconds),
            progress=self.progress,
            slots_per_worker=config.process_count_per_node,
            interrupted=self.interruption,
        )

    def _cluster(self, client: Client | None) -> AbstractContextManager[Started]:
        from daskscore.clusters.interface import Started, Wanted

        if client is not None:
            return nullcontext(Started(client))
        kind, options = _cluster_kind(self.config.cluster)
        wanted: Wanted = Wanted(self.config.node_count, self.config.processes, options)
        start = plugins.find("cluster", kind)
        started: AbstractContextManager[Started] = start(wanted)
        return started

    def _finish(self, verdict: Verdict, *, seconds: float) -> Report:
        account = self._account()
        account.first_traceback = account.first_traceback or None
        if verdict.status is Status.COMPLETED:
            try:
                results.assemble(account, self.layout, self._sink)
            except RunError as error:
                verdict = _verdict(Status.FAILED, str(error))
        return self._report(account, verdict, seconds=seconds)

    def _report(self, account: accounts.Account, verdict: Verdict, *, seconds: float) -> Report:
        warnings: tuple[str, ...] = ()
        if len({header for _, header in account.headers}) > 1:
            warnings = ("the mini-batches' DataFrames have different columns; the header is that of the first one",)
        failures: dict[str, int] = {}
        message = verdict.message
        try:
            failures = results.write_failed_items(account, self.layout, self.plan)
        except OSError as error:
            message = f"{message}\n{error.strerror}: {self.layout.failed_items}".strip()
        rows = self.layout.rows(self.config.append_row_file_name)
        report = results.make_report(
            account,
            self._thresholds,
            status=verdict.status,
            output=str(rows if self.config.output_action == "append_row" else self.layout.output),
            folder=str(self.layout.output),
            seconds=seconds,
            message=message,
            failures=failures,
            warnings=warnings,
        )
        try:
            results.write_report(report, self.layout)
        except OSError as error:
            self.progress.say(f"{error.strerror}: {self.layout.report} could not be written")
        return report

    def _account(self) -> accounts.Account:
        header = self.plan.header
        return accounts.load(
            self.layout.journal,
            parts=self.layout.parts,
            items=header.items,
            mini_batches=header.mini_batches,
            count_items=self.plan.count_items,
        )

    @property
    def _sink(self) -> Sink:
        make = plugins.find("sink", self.config.output_action)
        options: dict[str, Any] = {"output": self.layout.output}
        if self.config.output_action == "append_row":
            options = {"path": self.layout.rows(self.config.append_row_file_name), "scratch": self.layout.state}
        sink: Sink = make(**options)
        return sink

    @property
    def _thresholds(self) -> Thresholds:
        config = self.config
        return Thresholds(
            error_threshold=config.error_threshold,
            mini_batch_error_threshold=config.mini_batch_error_threshold,
            allowed_failed_count=config.allowed_failed_count,
            allowed_failed_percent=config.allowed_failed_percent,
            append_row=config.output_action == "append_row",
        )


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


def _verdict(status: Status, message: str = "") -> Verdict:
    from daskscore.driver.engine import Verdict

    return Verdict(status, message)


__all__ = ["DaskscoreError", "run"]
