"""What lets somebody into a storage is seen by nobody who looks at a run's processes, files, logs or objects."""

from __future__ import annotations

import pickle
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import daskscore
from daskscore.config import JobConfig
from daskscore.errors import UsageError
from tests.servers import S3Server
from tests.support import DEADLINE_SECONDS, Workbench, processes_with, wait_until

pytest_plugins = ["tests.servers"]

CANARY = "c4nary"
SCRIPT = """
    import os, sys, time
    def init():
        print(sys.argv, dict(os.environ))
    def run(mini_batch):
        open("begun", "w").close()
        while not os.path.exists("go"): time.sleep(0.01)
        return [os.path.getsize(path) for path in mini_batch]
"""


def test_no_process_and_no_file_of_a_run_has_one(
    s3: S3Server, bench: Workbench, nothing_left_behind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put("secrets", {"in/a": b"a", "in/b": b"b", "side/m.bin": b"m"})
    options = {**s3.options, "key": f"{CANARY}-key", "secret": f"{CANARY}-secret", "token": f"{CANARY}-token"}
    where = {"storage_options": options}
    job: dict[str, Any] = {
        "entry_script": "score.py",
        "inputs": [{"path": "s3://secrets/in/", **where}],
        "side_inputs": {"model": {"path": "s3://secrets/side/", **where}},
        "models": [{"path": "s3://secrets/side/m.bin", **where}],
        "arguments": ["--model", "${{side_inputs.model}}"],
        "output": {"path": "s3://secrets/out/", **where},
        "logging_level": "DEBUG",
    }
    bench.script(SCRIPT)
    (bench.folder / "job.yml").write_text(yaml.safe_dump(job))
    monkeypatch.setenv("DASKSCORE_CACHE", str(bench.folder / "cache"))
    command = [*bench.command()[:3], "run", "job.yml"]
    with subprocess.Popen(command, cwd=bench.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as driver:
        wait_until((bench.folder / "begun").exists, "the first call of run()", 60)
        processes = processes_with(nothing_left_behind)
        assert len(processes) > 2
        for pid, words in processes.items():
            assert CANARY not in words
            assert CANARY.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
        assert files_with_a_secret(bench.folder) == ["job.yml"]
        (bench.folder / "go").touch()
        said = driver.communicate(timeout=DEADLINE_SECONDS)[0]
    assert (driver.returncode, CANARY.encode() in said) == (0, False)
    bench.script("def run(mini_batch): return [b'c4nary' in open(path, 'rb').read() for path in mini_batch]\n")
    job = {"entry_script": "score.py", "inputs": {"path": "s3://secrets/out/", **where}, "output": "seen"}
    (bench.folder / "job.yml").write_text(yaml.safe_dump(job))
    assert bench.daskscore("run", "job.yml").code == 0
    assert {*(bench.folder / "seen" / "parallel_run_step.txt").read_text().split()} == {"False"}
    assert files_with_a_secret(bench.folder) == ["job.yml"]


def files_with_a_secret(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes())
    return sorted(str(path.relative_to(folder)) for path in found if path.name != "score.py")


def test_a_job_that_is_printed_shows_none(tmp_path: Path) -> None:
    entry = {"path": "s3://bucket/x", "storage_options": {"key": CANARY, "client_kwargs": {"inner": CANARY}}}
    config = JobConfig(
        entry_script=str(tmp_path / "score.py"),
        inputs=[entry],
        output={"path": "s3://bucket/out", "storage_options": {"key": CANARY}},
        side_inputs={"model": entry},
        models=[entry],
    )  # type: ignore[call-arg]
    assert CANARY not in repr(config) + str(config) + repr(config.inputs) + repr(pickle.loads(pickle.dumps(config)))
    (found,) = config.inputs
    assert isinstance(found, dict)
    assert found == entry
    assert JobConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize(
    "settings",
    [
        {"inputs": [{"path": 3, "storage_options": {"key": CANARY}}]},
        {"inputs": [["x", {"key": CANARY}]]},
        {"models": [{"path": 3, "storage_options": {"key": CANARY}}]},
        {"side_inputs": [{"path": "x", "storage_options": {"key": CANARY}}]},
        {"side_inputs": {"a": {"path": 3, "storage_options": {"key": CANARY}}}},
        {"output": [{"path": "x", "storage_options": {"key": CANARY}}]},
        {"output": {"path": 3, "storage_options": CANARY}},
        {"source_directory": f"https://host/x?sig={CANARY}"},
        {"entry_script": f"https://user:{CANARY}@host/score.py"},
        {"cluster": {"kind": 3, "password": CANARY}},
        {"cluster": [{"kind": 3, "password": CANARY}]},
    ],
)
def test_what_is_said_about_a_job_that_is_not_usable_has_none(bench: Workbench, settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as refused:
        daskscore.run(
            {
                "entry_script": bench.script("def run(m): return m\n"),
                "output": bench.output,
                "inputs": "score.py",
                **settings,
            }
        )
    shown: BaseException | None = refused.value
    while shown is not None:
        assert CANARY not in f"{shown!r} {shown}"
        shown = shown.__cause__
