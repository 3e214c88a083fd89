"""An output in a storage is the one that a folder would hold, and a run that was broken off goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

import daskscore
from daskscore.inputs.stores import Stores
from tests.servers import AzureServer, S3Server
from tests.support import Workbench, wait_until

pytest_plugins = ["tests.servers"]
pytestmark = pytest.mark.slow

SCRIPT = """
    import os
    def run(mini_batch):
        names = [os.path.basename(path) for path in mini_batch]
        with open(os.environ["CALLS"], "a") as calls: calls.writelines(name + "\\n" for name in names)
        if "bad" in names and not os.path.exists(os.environ["MENDED"]): raise ValueError("it is bad")
        if "stops" in names and not os.path.exists(os.environ["MENDED"]): __import__("time").sleep(60)
        return names
"""


@pytest.fixture(params=["s3", "azure"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    name = tmp_path.name.replace("_", "-").lower()[:40].strip("-")
    if request.param == "s3":
        s3: S3Server = request.getfixturevalue("s3")
        s3.put(name, {})
        return f"s3://{name}/results/", s3.options
    azure: AzureServer = request.getfixturevalue("azure")
    azure.put(name, {})
    return f"az://{name}/results/", azure.options


def objects(place: tuple[str, dict[str, Any]]) -> dict[str, bytes]:
    uri, options = place
    address, stores = Stores.of(uri, options)
    filesystem, path = stores.filesystem(address.uri)
    top = path.rstrip("/") + "/"
    return {name.removeprefix(top): filesystem.cat_file(name) for name in filesystem.find(path)}


@pytest.fixture
def job(bench: Workbench, client: Client, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("DASKSCORE_CACHE", str(bench.folder / "cache"))
    variables = {"CALLS": str(bench.folder / "calls"), "MENDED": str(bench.folder / "mended")}

    def run(output: Any, **settings: Any) -> Any:
        bench.script(SCRIPT)
        return daskscore.run(
            entry_script=bench.folder / "score.py",
            inputs=bench.folder / "in",
            output=output,
            mini_batch_size=1,
            client=client,
            environment_variables=variables,
            **settings,
        )

    return run


def test_it_holds_what_a_folder_would(job: Callable[..., Any], bench: Workbench, place: Any) -> None:
    bench.inputs("a", "b", "c")
    job(bench.output)
    uri, options = place
    report = job({"path": uri, "storage_options": options})
    found = objects(place)
    assert (report.status, report.output) == ("Completed", f"{uri}parallel_run_step.txt")
    assert found["parallel_run_step.txt"] == (bench.output / "parallel_run_step.txt").read_bytes()
    told = json.loads(found["report.json"])
    assert (told["items"], told["output"]) == ({"total": 3, "succeeded": 3, "failed": 0}, report.output)
    assert {"logs/job_result.txt", "logs/readme.txt"} <= set(found)
    assert not [*(bench.folder / "cache").rglob("parallel_run_step.txt")]
    with pytest.raises(daskscore.UsageError, match=rf"output already there: {uri}"):
        job({"path": uri, "storage_options": options})
    assert job({"path": uri, "storage_options": options}, overwrite=True).status == "Completed"


def test_a_failed_run_goes_on_on_another_machine(
    job: Callable[..., Any], bench: Workbench, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.inputs("a", "bad", "c")
    uri, options = place
    output = {"path": uri, "storage_options": options}
    failed = job(output, error_threshold=0, run_max_try=1, process_count_per_node=1)
    assert failed.status == "Failed"
    assert json.loads(objects(place)["report.json"])["status"] == "Failed"
    monkeypatch.setenv("DASKSCORE_CACHE", str(bench.folder / "another"))
    (bench.folder / "mended").touch()
    report = job(output, error_threshold=0, run_max_try=1, process_count_per_node=1, resume=True)
    assert report.status == "Completed"
    assert objects(place)["parallel_run_step.txt"] == b"a\nbad\nc\n"
    assert (bench.folder / "calls").read_text().split().count("a") == 1


def test_a_driver_that_was_killed_goes_on(bench: Workbench, place: Any, nothing_left_behind: str) -> None:
    bench.inputs("a", "stops", "z")
    bench.script(SCRIPT)
    uri, options = place
    job = bench.folder / "job.yml"
    job.write_text(
        json.dumps(
            {
                "entry_script": "score.py",
                "inputs": "in",
                "output": {"path": uri, "storage_options": options},
                "mini_batch_size": 1,
                "process_count_per_node": 1,
                "environment_variables": {
                    "CALLS": str(bench.folder / "calls"),
                    "MENDED": str(bench.folder / "mended"),
                },
            }
        )
    )
    environment = {**os.environ, "DASKSCORE_CACHE": str(bench.folder / "cache"), "MARK": nothing_left_behind}
    command = ["daskscore", "run", str(job)]
    with subprocess.Popen([sys.executable, "-m", *command], env=environment, stderr=subprocess.PIPE) as driver:
        calls = bench.folder / "calls"
        wait_until(lambda: calls.exists() and "stops" in calls.read_text(), "the second mini-batch", 60)
        driver.send_signal(signal.SIGKILL)
    (bench.folder / "mended").touch()
    done = subprocess.run(
        [sys.executable, "-m", *command, "--resume"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert objects(place)["parallel_run_step.txt"] == b"a\nstops\nz\n"
