"""One driver's share of a run: from the first worker to the report."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from distributed import Client

from daskscore.config import JobConfig
from daskscore.core.alike import Alike
from daskscore.core.health import Health
from daskscore.core.layout import Layout
from daskscore.core.ledger import Ledger
from daskscore.core.model import Kind, Status
from daskscore.core.pacing import Pacing
from daskscore.core.planning import Content
from daskscore.core.report import Report
from daskscore.core.thresholds import Thresholds
from daskscore.driver import account as accounts
from daskscore.driver import keyed, results, retrying, scorers
from daskscore.driver.account import Account
from daskscore.driver.engine import Engine, Patience, Verdict
from daskscore.driver.interruption import Interruption
from daskscore.driver.job_inputs import JobInputs
from daskscore.driver.journal import Journal, Record
from daskscore.driver.logs import Logs
from daskscore.driver.metrics import gather
from daskscore.driver.plan import Plan
from daskscore.driver.progress import Progress
from daskscore.driver.side_inputs import Needed
from daskscore.driver.workers import Workers
from daskscore.errors import InputError, OutputError, RunError
from daskscore.sinks.append_row import encoded
from daskscore.sinks.interface import Sink
from daskscore.worker.session import Assignment

if TYPE_CHECKING:
    from daskscore.worker.environments import Recipe
    from daskscore.worker.sources import Code


class Place(Protocol):
    """Where the workers are; what every cluster yields."""

    @property
    def client(self) -> Client: ...
    @property
    def own(self) -> bool: ...
    @property
    def scratch(self) -> str: ...
    @property
    def queue(self) -> Callable[[], str] | None: ...
    @property
    def notes(self) -> tuple[str, ...]: ...


@dataclass(slots=True)
class Session:
    """A run whose output folder is ours and whose plan stands; `score` ends in a report, whatever happens."""

    config: JobConfig
    layout: Layout
    inputs: JobInputs
    needed: Needed
    plan: Plan
    sink: Sink
    progress: Progress
    interruption: Interruption
    shown: Callable[[Path], str] = str
    """What the user calls a path of the output."""
    lost: int = 0
    """Records that were skipped before there were mini-batches."""
    retry: bool = False
    """What has failed in a run that is over is scored again."""
    reopen: Callable[[], None] = lambda: None
    """Called before a Completed run goes on: all that it left is brought to the output folder."""

    def score(self, open_cluster: Callable[[], AbstractContextManager[Place]]) -> Report:
        """Score what the journal does not have, assemble, report."""
        if self.inputs.unsorted and keyed.is_sorted(self.layout):
            self._use_sorted()
        before = self._account()
        if before.status is Status.COMPLETED and not (self.retry and before.has_failures):
            rows = self.layout.rows(self.config.append_row_file_name)
            if self.config.output_action == "append_row" and not rows.exists():
                raise OutputError(
                    f"--resume: the run in {self.layout.output} is Completed, but its rows {rows} are gone. "
                    "Score them anew with --overwrite"
                )
            self._remove_parts(before)  # The driver was killed after its last word, or a resume has made them.
            return self._report(before, Verdict(Status.COMPLETED), seconds=before.seconds)
        with self.interruption.in_good_order():
            return self._go_on(before, open_cluster)

    def _go_on(self, before: Account, open_cluster: Callable[[], AbstractContextManager[Place]]) -> Report:
        began = time.monotonic()
        journal = Journal(self.layout.journal)
        try:
            if self.retry and before.status in (Status.COMPLETED, Status.FAILED):
                journal.append(self._retry(before))
                journal.sync()
                before = self._account()
            elif before.attempts or before.status is not None:
                journal.append({"record": "resume", "forget_failures": before.status is Status.FAILED})
                before = self._account()
            logs = Logs(self.layout)
            verdict = self._run_engine(open_cluster, before, journal, logs)
            account = self._account()
            if verdict.status is Status.COMPLETED:
                verdict = self._missing(account) or self._assemble(account)
            seconds = before.seconds + time.monotonic() - began
            try:
                report = self._report(account, verdict, logs, seconds=seconds)
                journal.append({"record": "end", "status": report.status})
                journal.sync()
            except (OSError, RunError) as error:
                report = self._unreported(account, error, seconds=seconds)
        finally:
            journal.close()
        if report.status is Status.COMPLETED:
            self._remove_parts(account)
        return report

    def _retry(self, before: Account) -> Record:
        if before.status is Status.COMPLETED:
            rows = self.layout.rows(self.config.append_row_file_name)
            if self.config.output_action == "append_row" and not rows.exists():
                raise OutputError(
                    f"the run in {self.layout.output} is Completed, but its rows {rows} are gone, so nothing can be merged "
                    "into them. Score them anew with --overwrite"
                )
            if self.inputs.unsorted:
                retrying.check_sorted(self.layout)
            self.reopen()
        if failed := before.tally.failed_items:
            self.progress.say(f"{failed} items had failed: they are scored again")
        header = encoded(results.header_of(before) or "")
        return retrying.begin(before, self.layout, self.config, header)

    def _remove_parts(self, account: Account) -> None:
        keep_parts = retrying.keeps_parts(self.config, account)
        results.remove_parts(self.layout, keep_parts=keep_parts, keep_sorted=account.has_failures)

    def _run_engine(
        self, open_cluster: Callable[[], AbstractContextManager[Place]], before: Account, journal: Journal, logs: Logs
    ) -> Verdict:
        try:
            logs.begin()
            with self.interruption.in_good_order(), open_cluster() as place:
                for note in place.notes:
                    self.progress.say(note)
                    logs.event(note)
                workers = Workers(place.client, secrets.token_hex(4), self.config.process_count_per_node)
                if self.inputs.unsorted and not keyed.is_sorted(self.layout):
                    self.progress.say("records are sorted by partition_keys")
                    keys = tuple(self.config.partition_keys)
                    keyed.sort(self.inputs, self.plan, self.layout, keys, place.client, self.interruption)
                    self._use_sorted()
                    if kept := keyed.kept_records(self.inputs, self.layout):
                        logs.event(f"{kept} bad records are kept: {self.layout.sorted} names them.", level="WARNING")
                    before = self._account()
                assignment = self._assignment(place, workers.run_id)
                workers.welcome(assignment)
                try:
                    with self._prepared(workers, assignment):
                        engine = self._engine(workers, before, journal, logs, place.queue)
                        verdict = engine.run()
                        for sent in workers.last_logs():
                            engine.keep_logs(sent)
                finally:
                    workers.farewell()
                return verdict
        except (RunError, InputError) as error:
            # Who interrupts a run may have ended workers of ours that were just about to start.
            return Verdict(Status.CANCELED if self.interruption() else Status.FAILED, str(error))

    def _use_sorted(self) -> None:
        self.plan = keyed.sorted_plan(self.layout)
        self.inputs = keyed.with_sorted(self.inputs, self.layout)
        self.lost = keyed.lost_records(self.inputs, self.layout)

    def _assignment(self, place: Place, run_id: str) -> Assignment:
        token = secrets.token_hex(16)
        self.layout.shared.write_text(token)
        return Assignment(
            run=run_id,
            output=str(self.layout.output),
            token=token,
            slots=self.config.process_count_per_node,
            settings=scorers.script_settings(self.config, self.layout, self.inputs, self.needed),
            environment=scorers.environment(self.config, self.layout),
            limits=scorers.limits(self.config),
            own_cluster=place.own,
            driver=os.getpid() if place.own else 0,
            scratch=place.scratch,
            stores=self.inputs.stores,
            side_inputs=scorers.brought(self.needed),
            side_stores=self.needed.stores,
            staging_limit=self.config.staging_limit,
            code=None if place.own else self._seen(),
            recipe=self._recipe(),
        )

    def _seen(self) -> Code | None:
        from daskscore.driver import sources  # here, as it loads what a run on this machine does not need

        return sources.seen(self.config)

    def _recipe(self) -> Recipe | None:
        if self.config.environment is None:
            return None
        from daskscore.driver import environments

        return environments.recipe(self.config, tables=self.plan.content is Content.RECORDS)

    def _prepared(self, workers: Workers, assignment: Assignment) -> AbstractContextManager[None]:
        """Each worker has the script's folder and environment; where nothing of this is needed, nothing is asked."""
        if assignment.code is None and assignment.recipe is None:
            return nullcontext()
        from daskscore.driver.preparing import prepared

        say, interrupted = self.progress.say, self.interruption
        return prepared(workers, assignment, self.config, self.layout.state, say=say, interrupted=interrupted)

    def _engine(
        self,
        workers: Workers,
        before: Account,
        journal: Journal,
        logs: Logs,
        queue: Callable[[], str] | None,
    ) -> Engine:
        config, planned = self.config, self.plan.planned
        ledger = Ledger(
            planned.mini_batches,
            planned.items + self.lost,
            config.run_max_try,
            self.plan.count_items,
            complete=False,
            isolates=config.isolates and self.plan.content is not Content.OBJECTS,
            isolation_attempts=config.isolation_attempts,
        )
        ledger.restore(before.settled(), before.tally, before.rows, before.searched, before.divided.values())
        return Engine(
            workers=workers,
            plan=self.plan,
            layout=self.layout,
            ledger=ledger,
            journal=journal,
            pacing=Pacing(fixed=config.bundle_size if isinstance(config.bundle_size, int) else None),
            thresholds=self._thresholds,
            health=Health(config.processes),
            alike=Alike(-1 if before.retrying else config.alike_failures_limit),
            patience=Patience(config.first_task_creation_timeout, config.progress_seconds),
            progress=self.progress,
            logs=logs,
            interrupted=self.interruption,
            ask_queue=queue,
            lost=self.lost,
            backs_up=config.backs_up,
        )

    def _missing(self, account: Account) -> Verdict | None:
        """The engine has seen every mini-batch to its end; what the folder holds must say the same."""
        tally = account.tally
        gone = tally.total_mini_batches - tally.succeeded_mini_batches - tally.given_up_mini_batches
        if not gone:
            return None
        return Verdict(
            Status.FAILED,
            f"the rows of {gone} mini-batches are gone: something has removed or cut files below {self.layout.state} while "
            "the run went on. Run the same command with --resume to score them again",
        )

    def _assemble(self, account: Account) -> Verdict:
        try:
            results.assemble(account, self.layout, self.sink)
        except RunError as error:
            return Verdict(Status.FAILED, str(error))
        return Verdict(Status.COMPLETED)

    def _account(self) -> Account:
        planned = self.plan.planned
        return accounts.load(
            self.layout.journal,
            parts=self.layout.parts,
            items=planned.items,
            mini_batches=planned.mini_batches,
            lost=self.lost,
            count_items=self.plan.count_items,
        )

    def _report(self, account: Account, verdict: Verdict, logs: Logs | None = None, *, seconds: float) -> Report:
        """Written last, when all that it tells of is there."""
        failures = results.write_failed_items(account, self.layout, self.plan, self._lost_records())
        report = self._made(account, verdict, failures, gather(self.layout), seconds=seconds)
        if logs is not None:
            logs.end(report)
        results.write_report(report, self.layout)
        return report

    def _unreported(self, account: Account, error: OSError | RunError, *, seconds: float) -> Report:
        """The run is over, and cannot be told of: for the journal it is not."""
        told = str(error)
        if isinstance(error, OSError):
            told = f"{error.strerror or error}: {error.filename or self.layout.output}. All rows are kept: mend that and run the "
            told += "same command with --resume"
        verdict = Verdict(Status.FAILED, f"the run has come to its end, but its report cannot be written: {told}")
        report = self._made(account, verdict, {}, {}, seconds=seconds)
        with suppress(OSError):
            self.layout.report.unlink(missing_ok=True)
            results.write_report(report, self.layout)
        return report

    def _made(
        self, account: Account, verdict: Verdict, failures: dict[str, int], metrics: dict[str, Any], *, seconds: float
    ) -> Report:
        rows = self.layout.rows(self.config.append_row_file_name)
        return results.make_report(
            account,
            self._thresholds,
            status=verdict.status,
            output=self.shown(rows if self.config.output_action == "append_row" else self.layout.output),
            folder=self.shown(self.layout.output).rstrip("/"),
            seconds=seconds,
            message=verdict.message,
            failures=failures,
            metrics=metrics,
        )

    def _lost_records(self) -> Iterator[dict[str, Any]]:
        for record in keyed.bad_records(self.inputs, self.layout) if self.lost else ():
            yield {
                "item": record["place"],
                "mini_batch": None,
                "attempts": 0,
                "kind": Kind.INPUT.value,
                "message": record["reason"],
                "log": "",
            }

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
