from __future__ import annotations

import asyncio
import filecmp
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest

from daskscore.core.backoff import Backoff
from daskscore.core.layout import Layout
from daskscore.core.model import Status
from daskscore.core.report import Count, Report
from daskscore.driver.claim import claim
from daskscore.driver.journal import Journal
from daskscore.driver.remote_folder import RemoteFolder
from daskscore.driver.remote_lock import LOCK, Lease
from daskscore.driver.remote_output import Place, working_folder
from daskscore.driver.remote_writing import MOST_PARTS, PART_BYTES, PARTS_AT_A_TIME, Uploads, part_bytes
from daskscore.driver.working_folders import cache_folder
from daskscore.errors import OutputError, RunError
from daskscore.inputs.patience import Patience
from tests.servers import AZURE_KEY, BUSY, FORBIDDEN, RESET, AzureServer, Fault, Proxy, S3Server, _Handler
from tests.support import wait_until

pytest_plugins = ["tests.servers"]

ROWS = "parallel_run_step.txt"
LEASE = Lease()
QUICK = Patience(20, Backoff(attempts=2, seconds=20, first_pause=0.01))
CANARY = "canary+4711/geheim=="
CANARY_KEY = "Y2FuYXJ5NDcxMWNhbmFyeTQ3MTFjYW5hcnk0NzExY2FuYXJ5NDcxMQ=="


@dataclass
class Machine:
    """Somewhere a driver runs: what it keeps is seen there only."""

    uri: str
    options: dict[str, Any]
    cache: Path
    said: list[str] = field(default_factory=list)

    def open(
        self, *, resume: bool = False, overwrite: bool = False, lease: Lease = LEASE, **more: Any
    ) -> AbstractContextManager[Place]:
        return working_folder(
            self.uri,
            self.options,
            ROWS,
            resume=resume,
            overwrite=overwrite,
            cache=self.cache,
            say=self.said.append,
            lease=lease,
            patience=QUICK,
            patience_at_the_end=QUICK,
            **more,
        )

    @contextmanager
    def begun(self, *, resume: bool = False, overwrite: bool = False, **more: Any) -> Iterator[Place]:
        """As far as a run gets before its first mini-batch."""
        with self.open(resume=resume, overwrite=overwrite, **more) as place:
            take(place, resume=resume, overwrite=overwrite)
            yield place

    def run(self, words: str, *, ends: Status = Status.COMPLETED, **how: bool) -> None:
        with self.begun(**how) as place:
            place.publish(finish(place, words, ends))

    @cached_property
    def remote(self) -> RemoteFolder:
        return RemoteFolder(self.uri, self.options, patience=QUICK)

    @property
    def published(self) -> dict[str, str]:
        """The whole remote folder."""
        remote = self.remote
        return {name: (remote.read(name) or b"").decode() for name in remote.files("")}

    @property
    def kept(self) -> list[Path]:
        return [path for path in self.cache.rglob("*") if path.is_file()]


def take(place: Place, *, resume: bool = False, overwrite: bool = False) -> None:
    layout = Layout(place.folder)
    with claim(layout, ROWS, resume=resume, overwrite=overwrite) as held:
        if not held.continues:
            layout.new_plan.mkdir()
            (layout.new_plan / "header.json").write_text("the plan")
            held.begin({"append_row_file_name": ROWS})
        held.keep = True
        place.taken()


def finish(place: Place, words: str, status: Status) -> Report:
    """What a run leaves in its folder; each one adds its words to the journal and to a part."""
    layout = Layout(place.folder)
    journal = Journal(layout.journal)
    journal.append({"record": "commit", "words": words})
    journal.append({"record": "end", "status": status})
    journal.close()
    log = layout.logs / "user" / "stdout" / "0" / "process000.stdout.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(words)
    layout.failed_items.write_text("{}\n")
    if status is Status.COMPLETED:
        layout.rows(ROWS).write_text(words)
        for part in layout.parts.iterdir():
            part.unlink()
        layout.parts.rmdir()
    else:
        layout.part(f"part-{words}").write_text(words)
    report = told(place, status)
    layout.report.write_text(json.dumps(report.as_dict()))
    return report


def told(place: Place, status: Status) -> Report:
    done = Count(1, 1, 0)
    folder, rows = place.shown(place.folder), place.shown(place.folder / ROWS)
    return Report(status, done, done, 1, 1, 0, 0.1, rows, folder)


def words_in(place: Place) -> list[str]:
    """What the journal of a working folder remembers."""
    from daskscore.driver import journal

    return [record["words"] for _, record in journal.read(Layout(place.folder).journal) if "words" in record]


@pytest.fixture(params=["s3", "abfs", "memory"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    name = f"out-{uuid4().hex[:8]}"
    match request.param:
        case "s3":
            server: S3Server = request.getfixturevalue("s3")
            server.put(name, {"outside.txt": b"not ours", "run/own.txt": b"the user's"})
            return Machine(f"s3://{name}/run", server.options, tmp_path / "cache")
        case "abfs":
            blobs: AzureServer = request.getfixturevalue("azure")
            blobs.put(name, {"outside.txt": b"not ours", "run/own.txt": b"the user's"})
            return Machine(f"abfs://{name}/run/", blobs.options, tmp_path / "cache")
    fsspec.filesystem("memory").pipe(f"/{name}/run/own.txt", b"the user's")
    return Machine(f"memory://{name}/run/", {}, tmp_path / "cache")


@pytest.fixture
def elsewhere(machine: Machine, tmp_path: Path) -> Machine:
    """Another machine, for the same output."""
    return replace(machine, cache=tmp_path / "elsewhere", said=[])


@pytest.fixture
def on_s3(s3: S3Server, tmp_path: Path) -> Machine:
    name = f"out-{uuid4().hex[:8]}"
    s3.put(name, {})
    return Machine(f"s3://{name}/run/", s3.options, tmp_path / "cache")


def test_a_completed_run_is_published_and_leaves_nothing_here(machine: Machine) -> None:
    machine.run("one")
    published = machine.published
    assert sorted(published) == [
        ".daskscore/edition",
        ".daskscore/job.json",
        ".daskscore/journal",
        ".daskscore/plan/header.json",
        "failed_items.jsonl",
        "logs/user/stdout/0/process000.stdout.txt",
        "own.txt",
        ROWS,
        "report.json",
    ]
    assert published[ROWS] == "one"
    uri = machine.remote.uri
    assert uri.endswith("/run/")
    report = json.loads(published["report.json"])
    assert (report["output"], report["folder"]) == (f"{uri}{ROWS}", uri)
    assert machine.kept == []


def test_the_report_is_the_last_thing_to_come(on_s3: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    upload = RemoteFolder.upload

    def noting(self: RemoteFolder, names: Any, source: Path) -> None:
        names = list(names)
        order.extend(names)
        upload(self, names, source)

    monkeypatch.setattr(RemoteFolder, "upload", noting)
    on_s3.run("one")
    assert order[0] == ".daskscore/job.json"
    assert order[-2:] == [".daskscore/journal", "report.json"]
    assert len(set(order)) == len(order)


def test_an_output_that_holds_a_run_is_refused(machine: Machine) -> None:
    machine.run("one")
    before = machine.published
    with pytest.raises(OutputError, match=rf"output already there: .*/run/{ROWS}\. Name another .* with --overwrite"):
        machine.run("two")
    assert machine.published == before
    assert machine.kept == []


@pytest.mark.parametrize(("name", "how"), [(ROWS, {"resume": True}), ("logs/a.txt", {"overwrite": True})])
def test_what_somebody_else_wrote_is_not_touched(machine: Machine, name: str, how: dict[str, bool]) -> None:
    machine.remote.write(name, b"theirs")
    with pytest.raises(OutputError, match="is there, but no run of daskscore wrote it"):
        machine.run("one", **how)
    assert machine.published[name] == "theirs"


def test_overwriting_removes_what_is_ours_and_nothing_else(machine: Machine) -> None:
    machine.run("one", ends=Status.FAILED)
    machine.remote.write("logs/old.txt", b"old")
    with machine.begun(overwrite=True) as place:
        assert sorted(machine.published) == [LOCK, "own.txt"]
        place.publish(finish(place, "two", Status.COMPLETED))
    published = machine.published
    assert published[ROWS] == "two"
    assert "logs/old.txt" not in published
    assert "own.txt" in published


def test_rows_that_had_another_name_go_when_their_run_is_overwritten(on_s3: Machine) -> None:
    on_s3.run("one")
    remote = on_s3.remote
    remote.write(".daskscore/job.json", b'{"append_row_file_name": "old.csv"}')
    remote.write("old.csv", b"rows")
    on_s3.run("two", overwrite=True)
    assert "old.csv" not in on_s3.published


def test_an_overwriting_run_that_is_refused_removes_nothing(machine: Machine) -> None:
    machine.run("one")
    before = machine.published
    with machine.open(overwrite=True):
        pass  # the job had a mistake
    assert machine.published == before
    assert machine.kept == []


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELED])
def test_what_another_machine_has_published_is_resumed(machine: Machine, elsewhere: Machine, status: Status) -> None:
    machine.run("one", ends=status)
    assert json.loads(machine.published["report.json"])["status"] == status
    with elsewhere.begun(resume=True) as place:
        assert words_in(place) == ["one"]
        assert Layout(place.folder).part("part-one").read_text() == "one"
        place.publish(finish(place, "two", Status.COMPLETED))
    published = machine.published
    assert published[ROWS] == "two"
    assert not [name for name in published if "/parts/" in name]
    assert elsewhere.kept == []


def test_a_run_that_went_on_elsewhere_is_taken_from_there(machine: Machine, elsewhere: Machine) -> None:
    machine.run("one", ends=Status.FAILED)
    elsewhere.run("two", ends=Status.FAILED, resume=True)
    with machine.begun(resume=True) as place:
        assert words_in(place) == ["one", "two"]
    assert any("continued elsewhere" in text for text in machine.said)


def test_a_working_folder_with_newer_work_is_not_given_up(machine: Machine, elsewhere: Machine) -> None:
    machine.run("one", ends=Status.FAILED)
    with machine.begun(resume=True) as place:
        finish(place, "two", Status.FAILED)  # and this driver dies
    with machine.begun(resume=True) as place:
        assert words_in(place) == ["one", "two"]
    elsewhere.run("three", ends=Status.FAILED, resume=True)
    with pytest.raises(OutputError, match=r"holds work of this machine .* Remove that folder"):
        machine.run("four", resume=True)
    machine.run("four", overwrite=True)
    assert machine.published[ROWS] == "four"


def test_resuming_a_completed_run_changes_nothing(machine: Machine, elsewhere: Machine) -> None:
    machine.run("one")
    before = machine.published
    with elsewhere.begun(resume=True) as place:
        assert Layout(place.folder).rows(ROWS).exists()
        place.publish(told(place, Status.COMPLETED))
    assert machine.published == before
    assert elsewhere.kept == []


def test_rows_that_only_stand_for_those_of_the_storage_are_never_published(machine: Machine) -> None:
    machine.run("one")
    machine.remote.remove(["report.json"])  # the publication broke off just before it
    with machine.begun(resume=True):
        pass  # and this driver dies, too
    with machine.begun(resume=True) as place:
        Layout(place.folder).report.write_text("{}")
        place.publish(told(place, Status.COMPLETED))
    assert machine.published[ROWS] == "one"
    assert machine.published["report.json"] == "{}"


KILLED = """
    import sys, time
    from pathlib import Path
    from daskscore.core.model import Status
    from tests.driver.test_remote_output import Machine, finish
    import json

    machine = Machine(sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3]))
    with machine.begun() as place:
        finish(place, "one", Status.FAILED)
        print("ready", flush=True)
        time.sleep(300)
"""


def test_a_killed_driver_is_resumed_on_its_machine_at_once(on_s3: Machine, tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(KILLED), on_s3.uri, json.dumps(on_s3.options), str(on_s3.cache)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "ready\n"
        with pytest.raises(OutputError, match=rf"in use by process {driver.pid} on "):
            on_s3.run("two", resume=True)
        with pytest.raises(OutputError, match=rf"in use by process {driver.pid} on .*sign of life: \d+ s ago"):
            replace(on_s3, cache=tmp_path / "elsewhere").run("two", resume=True)
        os.kill(driver.pid, signal.SIGKILL)
    assert sorted(on_s3.published) == [LOCK]
    with pytest.raises(OutputError, match=r"not yet published .* continue that run with --resume"):
        on_s3.run("two")
    with on_s3.begun(resume=True) as place:
        assert words_in(place) == ["one"]
        place.publish(finish(place, "two", Status.COMPLETED))
    assert on_s3.published[ROWS] == "two"
    assert LOCK not in on_s3.published


class _Uploads(_Handler):
    def handle_expect_100(self) -> bool:
        """A client that sends much asks first whether it may, and waits for the answer."""
        may = super().handle_expect_100()
        self.wfile.flush()
        return may


class Gate(Proxy):
    """Stands before a server; while it is shut, requests meet a fault."""

    shut: Fault | None = None
    only: str = ""

    def __init__(self, port: int, latency_seconds: float = 0.0) -> None:
        super().__init__(port, latency_seconds)
        self._server.RequestHandlerClass = _Uploads

    def begin(self, method: str, path: str) -> Fault | None:
        super().begin(method, path)
        return self.shut if self.only in f"{method} {path}" else None


@pytest.fixture
def gate(s3: S3Server) -> Iterator[Gate]:
    gate = Gate(s3.port)
    yield gate
    gate.close()


def test_a_publication_that_fails_loses_nothing(on_s3: Machine, s3: S3Server, gate: Gate) -> None:
    machine = replace(on_s3, options=s3.behind(gate))
    with machine.begun() as place:
        report = finish(place, "one", Status.COMPLETED)
        gate.shut = BUSY
        with pytest.raises(
            RunError, match=r"is in trouble: 503 SlowDown, 2 times\. The run is Completed, .* run the same .* --resume"
        ) as caught:
            place.publish(report)
        assert str(place.folder) in str(caught.value)
    assert any("kept in" in text for text in machine.said)
    gate.shut = None
    with machine.begun(resume=True) as place:
        place.publish(told(place, Status.COMPLETED))
    assert machine.published[ROWS] == "one"
    assert "report.json" in machine.published
    assert machine.kept == []


@pytest.mark.parametrize(
    "where", ["PUT /{}/run/.daskscore/edition", "PUT /{}/run/report.json", f"PUT /{{}}/run/{ROWS}"]
)
def test_a_publication_that_broke_off_is_mended_from_either_machine(
    on_s3: Machine, s3: S3Server, gate: Gate, tmp_path: Path, where: str
) -> None:
    """Of the parts of a Failed run nothing is lost, wherever a Completed one breaks off."""
    machine = replace(on_s3, options=s3.behind(gate))
    machine.run("one", ends=Status.FAILED)
    with machine.begun(resume=True) as place:
        report = finish(place, "two", Status.COMPLETED)
        gate.only, gate.shut = where.format(on_s3.remote.address.container), FORBIDDEN
        with pytest.raises(RunError, match="403 AccessDenied"):
            place.publish(report)
    gate.shut = None
    assert "report.json" not in machine.published
    elsewhere = replace(machine, cache=tmp_path / "elsewhere")
    with elsewhere.open(resume=True) as place:
        done = "two" in words_in(place)
        assert done or Layout(place.folder).part("part-one").read_text() == "one"
    with machine.begun(resume=True) as place:
        assert words_in(place) == ["one", "two"]
        place.publish(told(place, Status.COMPLETED))
    published = machine.published
    assert published[ROWS] == "two"
    assert "report.json" in published
    assert not [name for name in published if "/parts/" in name]


def test_a_storage_in_trouble_for_a_moment_is_asked_again(on_s3: Machine, s3: S3Server, gate: Gate) -> None:
    faults = iter([BUSY, RESET])
    seen: set[str] = set()

    def once(method: str, path: str) -> Fault | None:
        """Each object's first PUT fails."""
        if method != "PUT" or path in seen:
            return None
        seen.add(path)
        return next(faults, BUSY)

    gate.begin = once  # type: ignore[method-assign]
    gate.end = lambda: None  # type: ignore[method-assign]
    replace(on_s3, options=s3.behind(gate)).run("one")
    assert on_s3.published[ROWS] == "one"


def test_a_storage_that_may_not_be_written_is_found_before_any_work(on_s3: Machine, s3: S3Server, gate: Gate) -> None:
    machine = replace(on_s3, options=s3.behind(gate))
    gate.only, gate.shut = "PUT", FORBIDDEN
    with pytest.raises(
        OutputError, match=r"output s3://.*: it may not be written: .* 403 AccessDenied. .*s3:PutObject"
    ):
        machine.run("one")
    assert machine.kept == []


def test_a_bucket_that_does_not_exist_is_found_before_any_work(machine: Machine) -> None:
    if machine.uri.startswith("memory"):
        pytest.skip("memory has no buckets")
    scheme = machine.uri.partition("://")[0]
    nowhere = replace(machine, uri=f"{scheme}://nowhere/run/")
    with pytest.raises(OutputError, match=rf"output {scheme}://nowhere/run/: there is no .* nowhere at .* Make the "):
        nowhere.run("one")
    assert machine.kept == []


def test_who_is_silent_for_too_long_is_replaced_and_does_no_harm(machine: Machine, elsewhere: Machine) -> None:
    with machine.begun() as place:
        with pytest.raises(OutputError, match=r"is in use by process \d+ on .* \(its last sign of life: \d+ s ago\)"):
            elsewhere.run("two")
        with elsewhere.begun(lease=Lease(stale_seconds=0)) as other:
            other.publish(finish(other, "two", Status.COMPLETED))
        report = finish(place, "one", Status.COMPLETED)
        with pytest.raises(RunError, match="Nothing was published; the result of this run is kept in"):
            place.publish(report)
    assert any("gave no sign of life for" in text for text in elsewhere.said)
    assert machine.published[ROWS] == "two"
    assert LOCK not in machine.published


def test_a_driver_that_was_replaced_is_told(machine: Machine, elsewhere: Machine) -> None:
    told = threading.Event()
    with machine.begun(lease=Lease(renew_seconds=0.05), on_loss=told.set) as place:
        text = json.loads(machine.remote.read(LOCK) or b"")
        theirs = json.dumps({**text, "token": "other", "host": "node-9"}).encode()

        def told_of_it() -> bool:
            machine.remote.write(LOCK, theirs)  # again: ours may have been written over it at the same moment
            return told.wait(0.1)

        wait_until(told_of_it, "the word of the loss")
        with pytest.raises(RunError, match=r"in use by process \d+ on node-9\. .*Nothing was published"):
            place.publish(finish(place, "one", Status.COMPLETED))
    assert any("taken over by process" in text for text in machine.said)
    assert LOCK in machine.published  # it is theirs


def test_a_living_driver_renews_its_lock(machine: Machine, elsewhere: Machine) -> None:
    with machine.begun(lease=Lease(renew_seconds=0.05)):
        machine.remote.remove([LOCK])
        wait_until(lambda: LOCK in machine.published, "the lock")
    assert LOCK not in machine.published


def test_a_lock_that_cannot_be_read_is_somebodys(machine: Machine) -> None:
    machine.remote.write(LOCK, b"\xff{")
    with pytest.raises(OutputError, match="is in use by another process"):
        machine.run("one")


@pytest.mark.parametrize("kind", ["s3", "abfs"])
def test_large_files_go_in_parts(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    name = f"large-{uuid4().hex[:8]}"
    server = request.getfixturevalue({"s3": "s3", "abfs": "azure"}[kind])
    server.put(name, {})
    rows = tmp_path / "rows.txt"
    size = 5 * PART_BYTES + 3
    with rows.open("wb") as file:
        for number in range(size // 8 + 1):
            file.write(b"%07d\n" % number)
        file.truncate(size)
    remote = RemoteFolder(f"{kind}://{name}/", server.options, patience=QUICK)
    remote.upload(["rows.txt"], tmp_path)
    remote.download(["rows.txt"], tmp_path / "back", incoming=tmp_path / "incoming")
    assert filecmp.cmp(rows, tmp_path / "back" / "rows.txt", shallow=False)


def test_an_upload_that_is_given_up_leaves_no_parts(on_s3: Machine, s3: S3Server, gate: Gate, tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_bytes(bytes(2 * PART_BYTES))
    gate.only, gate.shut = "partNumber=2", FORBIDDEN
    remote = RemoteFolder(on_s3.uri, s3.behind(gate), patience=QUICK)
    with pytest.raises(OutputError, match="403 AccessDenied"):
        remote.upload(["rows.txt"], tmp_path)
    gate.shut = None
    fs = fsspec.filesystem("s3", **s3.options, skip_instance_cache=True)
    assert not fs.call_s3("list_multipart_uploads", Bucket=remote.address.container).get("Uploads")
    assert not remote.has("rows.txt")


def test_whatever_the_size_a_few_parts_are_in_memory(tmp_path: Path) -> None:
    most = now = 0

    async def request(number: int, data: bytes) -> int:
        nonlocal most, now
        now += len(data)
        most = max(most, now)
        await asyncio.sleep(0)
        now -= len(data)
        return number

    async def ask(question: Callable[[], Awaitable[Any]], sent: int) -> Any:
        return await question()

    async def send() -> list[list[int]]:
        uploads = Uploads()
        return await asyncio.gather(*(uploads.send_parts(ask, file, 50 * PART_BYTES, request) for _ in range(2)))

    file = tmp_path / "rows.txt"
    with file.open("wb") as rows:
        rows.truncate(50 * PART_BYTES)
    assert asyncio.run(send()) == [list(range(50))] * 2
    assert 0 < most <= PARTS_AT_A_TIME * PART_BYTES


@pytest.mark.parametrize("size", [0, 1, 100 << 30, 5 << 40])
def test_no_file_has_more_parts_than_a_storage_takes(size: int) -> None:
    assert part_bytes(size) >= PART_BYTES
    assert size <= part_bytes(size) * MOST_PARTS


def test_many_small_files_go_side_by_side(on_s3: Machine, s3: S3Server, tmp_path: Path) -> None:
    gate = Gate(s3.port, latency_seconds=0.02)
    for number in range(60):
        (tmp_path / f"{number}.txt").write_text(str(number))
    remote = RemoteFolder(on_s3.uri, s3.behind(gate), patience=QUICK)
    remote.upload([f"{number}.txt" for number in range(60)], tmp_path)
    gate.close()
    assert 4 <= gate.most_at_a_time <= 32
    assert len(remote_files := on_s3.remote.files("")) == 60, remote_files


def test_no_secret_is_written_or_told(azure: AzureServer, tmp_path: Path) -> None:
    name = f"secret-{uuid4().hex[:8]}"
    azure.put(name, {})
    wrong = azure.behind(azure.port, key=CANARY_KEY)
    denied = Machine(f"abfs://{name}/run/", wrong, tmp_path / "denied")
    with pytest.raises(OutputError, match=r"it may not be written: .* 403 Auth") as caught:
        denied.run("one")
    assert CANARY_KEY not in "".join(traceback.format_exception(caught.value))
    signed = Machine(f"abfs://{name}/run/?sv=2024&sig={CANARY}", azure.options, tmp_path / "cache")
    with signed.begun() as place:
        report = finish(place, "one", Status.FAILED)
        place.publish(report)
    texts = [*signed.published.values(), *signed.said, repr(report)]
    texts += [path.read_text(errors="replace") for path in signed.kept]
    assert signed.kept
    for text in texts:
        assert "canary" not in text
        assert AZURE_KEY not in text


def test_a_web_server_takes_no_output(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"output https://host/x is on a web server, which takes no files"):
        Machine("https://host/x", {}, tmp_path).run("one")


def test_an_address_that_cannot_be_used_is_told_of_as_an_output(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"^output s3:// names no bucket"):
        Machine("s3://", {}, tmp_path).run("one")


def test_a_working_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OutputError, match=r"output memory://x/ needs a working folder .* DASKSCORE_CACHE"):
        Machine("memory://x", {}, tmp_path / "cache").run("one")


def test_any_storage_of_fsspec_will_do(tmp_path: Path) -> None:
    """Where objects do not appear whole, they come under a passing name first."""
    machine = Machine(f"local://{tmp_path}/out", {}, tmp_path / "cache")
    machine.run("one", ends=Status.FAILED)
    machine.run("two", resume=True)
    assert (tmp_path / "out" / ROWS).read_text() == "two"
    assert not list((tmp_path / "out").rglob("*.unfinished"))


def test_the_cache_is_where_the_environment_says() -> None:
    assert cache_folder({"DASKSCORE_CACHE": "/fast", "XDG_CACHE_HOME": "/xdg"}) == Path("/fast")
    assert cache_folder({"XDG_CACHE_HOME": "/xdg"}) == Path("/xdg/daskscore")
    assert cache_folder({"HOME": "/home/me"}) == Path.home() / ".cache" / "daskscore"
