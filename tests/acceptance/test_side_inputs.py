"""Side inputs and models: each machine has them once, whole or not at all, and nothing of them stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from daskscore.errors import InputError
from daskscore.inputs.stores import Stores
from daskscore.worker.side_inputs import SideInputs
from tests.servers import BROKEN, BUSY, GONE, TRUNCATED, Proxy, S3Server
from tests.support import DEADLINE_SECONDS, Workbench, processes_with, wait_until

pytest_plugins = ["tests.servers"]

MODEL = {"best/m.bin": b"m" * 50_000, "best/code/a b.txt": b"text", "best/_empty": b"", "words.txt": b"good bad"}
SCRIPT = """
    import os, sys
    def files(top):
        if os.path.isfile(top): return [(os.path.basename(top), os.path.getsize(top))]
        found = [os.path.join(folder, name) for folder, _, names in os.walk(top) for name in names]
        return sorted((os.path.relpath(path, os.path.dirname(top)), os.path.getsize(path)) for path in found)
    def run(mini_batch):
        return [sys.argv[sys.argv.index("--places") + 1:], *map(files, sys.argv[sys.argv.index("--places") + 1:])]
"""
FOLDER = "[('best/_empty', 0), ('best/code/a b.txt', 4), ('best/m.bin', 50000)]"
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def storage(s3: S3Server) -> S3Server:
    s3.put("side-inputs", MODEL)
    return s3


@pytest.fixture
def local(bench: Workbench) -> Path:
    for name, data in MODEL.items():
        path = bench.folder / "local" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return bench.folder / "local"


def job(
    bench: Workbench, side: dict[str, Any], *words: str, script: str = SCRIPT, places: bool = True
) -> tuple[str, ...]:
    bench.script(script)
    how = ("--entry-script", "score.py", "--rank-mini-batch-count", "1", "--output", "out", "--set", "preflight=no")
    names = [f"${{{{side_inputs.{name}}}}}" for name in side]
    return (*how, "--set", f"side_inputs={json.dumps(side)}", *words, *(("--", "--places", *names) if places else ()))


def rows(bench: Workbench) -> list[str]:
    return (bench.output / "parallel_run_step.txt").read_text().splitlines()


def test_files_and_folders_of_this_machine_and_of_a_storage_are_paths(
    bench: Workbench, run: Run, storage: S3Server, local: Path
) -> None:
    options = {"storage_options": storage.options}
    side = {
        "file": "local/words.txt",
        "folder": "local/best/",
        "far_file": {"path": "s3://side-inputs/words.txt", **options},
        "far_folder": {"path": "s3://side-inputs/best/", **options},
        "far_without_slash": {"path": "s3://side-inputs/best", **options},
    }
    run(*job(bench, side))
    paths, *found = rows(bench)
    assert found == ["[('words.txt', 8)]", FOLDER, "[('words.txt', 8)]", FOLDER, FOLDER]
    assert eval(paths)[:2] == [str(local / "words.txt"), str(local / "best")]
    assert not any(os.path.exists(path) for path in eval(paths)[2:])


def test_all_workers_of_a_machine_share_one_copy(
    bench: Workbench, storage: S3Server, proxied: Callable[..., Proxy], nothing_left_behind: str
) -> None:
    proxy = proxied(storage.port, 0.02)
    side = {"model": {"path": "s3://side-inputs/best/", "storage_options": storage.behind(proxy)}}
    words = ("--node-count", "2", "--process-count-per-node", "2", "--rank-mini-batch-count", "8")
    done = bench.daskscore("run", *job(bench, side, *words))
    assert done.code == 0, done.stderr
    assert rows(bench)[1::2] == [FOLDER] * 8
    assert proxy.gets("best/m.bin") == 1


@pytest.mark.parametrize("fault", [BUSY, TRUNCATED, BROKEN], ids=["503", "truncated", "500"])
def test_what_passes_is_tried_again_and_nobody_sees_half_a_file(
    bench: Workbench, run: Run, storage: S3Server, proxied: Callable[..., Proxy], fault: Any
) -> None:
    proxy = proxied(storage.port)
    proxy.will("best/m.bin", fault)
    run(*job(bench, {"model": {"path": "s3://side-inputs/best/", "storage_options": storage.behind(proxy)}}))
    assert rows(bench)[1] == FOLDER
    assert proxy.gets("best/m.bin") == 2


def test_an_object_that_goes_after_the_driver_has_seen_it_fails_the_run_with_its_name(
    bench: Workbench, run: Run, storage: S3Server, proxied: Callable[..., Proxy]
) -> None:
    proxy = proxied(storage.port)
    proxy.will("best/m.bin", *[GONE] * 99)
    side = {
        "model": {"path": "s3://side-inputs/best/", "storage_options": {**storage.behind(proxy), "secret": "c4nary"}}
    }
    done = run(*job(bench, side), ends=1)
    assert "side input s3://side-inputs/best/: s3://side-inputs/best/m.bin cannot be brought" in done.output
    assert "c4nary" not in done.output
    assert json.loads((bench.output / "report.json").read_text())["status"] == "Failed"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("s3://side-inputs/none", "s3://side-inputs/none does not exist, neither as an object nor as a folder. Check the path: capitals count"),
        ("s3://side-inputs/none/", "s3://side-inputs/none/ holds no objects (hidden and empty marker objects do not count). Check the path"),
        ("s3:side-inputs/none", "s3:side-inputs/none is no URI: after s3: it needs two slashes. Write s3://bucket/folder/"),
        ("local/none", "{}/local/none does not exist. Check the path"),
        ("x" * 300, "{}/" + "x" * 300 + " does not exist. Check the path"),
        ("local/words.txt", "storage_options are for addresses, and {}/local/words.txt is a local path. Remove them"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["side_inputs.model", "models"])
def test_what_is_not_there_is_said_before_any_work(
    bench: Workbench, run: Run, storage: S3Server, local: Path, key: str, entry: str, message: str
) -> None:
    with_options = entry.startswith("s3:") or message.startswith("storage_options")
    given = {"path": entry, "storage_options": {**storage.options, "token": "c4nary"}} if with_options else entry
    side = {"model": given} if key.startswith("side") else {}
    words = () if side else ("--set", f"models={json.dumps([given])}")
    wanted = job(bench, side, *words)
    before = {*bench.folder.rglob("*")}
    done = run(*wanted, ends=2)
    assert done.output == f"daskscore: {key}: {message.format(bench.folder)}\n"
    assert {*bench.folder.rglob("*")} == before


def test_a_variable_that_only_the_worker_lacks_is_named(tmp_path: Path) -> None:
    uri = "s3://side-inputs/best/"
    side_inputs = SideInputs({"model": uri}, Stores({uri: {"key": "${env:LACKING}"}}, {}), tmp_path / "side")
    with pytest.raises(
        InputError, match=r"the environment variable LACKING is not set on .*\. Set it where the driver"
    ):
        side_inputs.paths()
    side_inputs.close()


MODELS = """
    import os
    from azureml.core.model import Model
    def run(mini_batch):
        one, other = Model.get_model_path("best"), Model.get_model_path("words.txt", version=1)
        folder = os.environ["AZUREML_MODEL_DIR"]
        return [[sorted(os.listdir(one)), open(other).read(), os.listdir(folder), os.path.samefile(one, folder + "/best")]]
"""


@pytest.mark.parametrize("where", ["local", "s3://side-inputs"])
def test_models_are_found_by_name_and_their_folder_is_the_one_that_azure_has(
    bench: Workbench, run: Run, storage: S3Server, local: Path, where: str
) -> None:
    options = {"storage_options": storage.options} if "://" in where else {}
    models = [{"path": f"{where}/best/", **options}, {"path": f"{where}/words.txt", **options}]
    words = ("--set", f"models={json.dumps(models)}")
    run(*job(bench, {}, *words, script=MODELS, places=False))
    assert rows(bench) == [str([["_empty", "code", "m.bin"], "good bad", ["best"], True])]


def test_the_users_own_word_on_the_folder_of_models_wins(bench: Workbench, run: Run, local: Path) -> None:
    words = ("--set", "models=[local/best]", "--set", "environment_variables={AZUREML_MODEL_DIR: /mine}")
    script = "    import os\n    def run(mini_batch): return [os.environ['AZUREML_MODEL_DIR']]\n"
    run(*job(bench, {}, *words, script=script, places=False))
    assert rows(bench) == ["/mine"]


HOLDING = """
    import os, sys, time
    def run(mini_batch):
        place = sys.argv[-1]
        open("place", "w").write(place)
        while not os.path.exists("go"): time.sleep(0.01)
        return [str(os.path.getsize(place + "/m.bin"))]
"""


@pytest.mark.parametrize("victim", ["driver", "worker"])
def test_nothing_of_them_outlives_a_killed_process(
    bench: Workbench, storage: S3Server, nothing_left_behind: str, victim: str
) -> None:
    side = {"model": {"path": "s3://side-inputs/best/", "storage_options": storage.options}}
    words = job(bench, side, "--process-count-per-node", "1", script=HOLDING)
    place = bench.folder / "place"
    command = [*bench.command()[:3], "run", *words]
    with subprocess.Popen(command, cwd=bench.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        wait_until(lambda: place.exists() and place.read_text(), "the first call of run()", 60)
        assert Path(place.read_text()).is_dir()
        workers = [pid for pid, words in processes_with(nothing_left_behind).items() if "spawn_main" in words]
        os.kill(driver.pid if victim == "driver" else max(workers), signal.SIGKILL)
        (bench.folder / "go").touch()
        code = driver.wait(DEADLINE_SECONDS)
    assert code == (-signal.SIGKILL if victim == "driver" else 0)
    if victim == "worker":
        assert rows(bench) == ["50000"]


def test_no_secret_of_them_stands_anywhere(
    bench: Workbench, run: Run, storage: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", "c4nary-from-the-environment")
    options = {**storage.options, "key": "c4nary-key", "secret": "${env:CANARY}"}
    one = {"path": "s3://side-inputs/best/", "storage_options": options}
    script = SCRIPT + "    def init(): print(sys.argv)\n"
    done = run(*job(bench, {"model": one}, "--set", f"models={json.dumps([one])}", script=script))
    found = [path for path in bench.output.rglob("*") if path.is_file() and b"c4nary" in path.read_bytes()]
    assert (found, "c4nary" in done.output) == ([], False)
