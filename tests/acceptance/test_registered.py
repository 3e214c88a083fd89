"""Registered data, models and datastores give what their places would, by whichever form they are named."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from daskscore.cli.root import root
from tests.servers import AzureServer, S3Server
from tests.support import Workbench

pytest_plugins = ["tests.servers"]

SCRIPT = """
    import os
    def run(mini_batch): return [f"{os.path.basename(path)}={open(path).read()}" for path in mini_batch]
"""
TABLE = "def run(frame): return [f'{type(frame).__name__} {row.x} {row.y}' for row in frame.itertuples()]\n"
OBJECTS = {
    "v1/a.txt": b"one",
    "v1/b.txt": b"two",
    "v2/c.txt": b"three",
    "tab/t.csv": b"x,y\n1,2\n",
    "model/m.bin": b"m",
}
OBJECTS |= {"mlt/MLTable": b"paths: [file: ./t.csv]\ntransformations: [read_delimited]\n", "mlt/t.csv": b"x,y\n3,4\n"}
SECRETS = {"TEST_S3_KEY": "test-key-id", "TEST_S3_SECRET": "c4nary-of-a-secret"}

Run = Callable[..., Result]


def register(*words: str, ends: int = 0) -> str:
    done = CliRunner().invoke(root, words)
    assert done.exit_code == ends, done.output
    return done.output


@pytest.fixture
def lakes(s3: S3Server, azure: AzureServer, bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    """Datastores `lake` on S3, `sea` on Azure and `disk` here, with the same data, and secrets in the environment."""
    monkeypatch.setenv("DASKSCORE_WORKSPACE", str(bench.folder / "workspace.db"))
    monkeypatch.setenv("DASKSCORE_CACHE", str(bench.folder / "cache"))
    for name, value in {**SECRETS, "TEST_AZURE": azure.connection_string}.items():
        monkeypatch.setenv(name, value)
    s3.put("lake", {f"top/{name}": data for name, data in OBJECTS.items()})
    azure.put("sea", OBJECTS)
    for name, data in OBJECTS.items():
        path = bench.folder / "disk" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    options = ["key=${env:TEST_S3_KEY}", "secret=${env:TEST_S3_SECRET}", f"endpoint_url={s3.url}"]
    words = [word for option in options for word in ("--storage-option", option)]
    register("datastore", "create", "--name", "lake", "--uri", "s3://lake/top", *words)
    option = "connection_string=${env:TEST_AZURE}"
    register("datastore", "create", "--name", "sea", "--uri", "az://sea", "--storage-option", option)
    register("datastore", "create", "--name", "disk", "--uri", str(bench.folder / "disk"))
    bench.script(SCRIPT)
    return bench


def rows(bench: Workbench) -> list[str]:
    return (bench.output / "parallel_run_step.txt").read_text().splitlines()


@pytest.mark.parametrize("store", ["lake", "sea", "disk"])
def test_each_form_of_a_name_leads_to_the_same_bytes(lakes: Workbench, run: Run, store: str) -> None:
    place = f"azureml://datastores/{store}/paths"
    for folder in ("v1", "v2"):
        register("data", "create", "--name", "texts", "--path", f"{place}/{folder}/")
    first, second = ["a.txt=one", "b.txt=two"], ["c.txt=three"]
    long = "azureml://subscriptions/s/resourcegroups/r/workspaces/w/data/texts/versions/1"
    for name, wanted in {
        "azureml:texts:1": first,
        "data:texts:1": first,
        long: first,
        f"{place}/v1/": first,
        f"{place}/v1/b.txt": first[1:],
        f"{place}/v1/*.txt": first,
        "azureml:texts@latest": second,
        "data:texts": second,
    }.items():
        words = ("--input", name, "--output", "out", "--set", "preflight=no", "--overwrite")
        run("--entry-script", "score.py", *words)
        assert rows(lakes) == wanted, name


@pytest.mark.parametrize("store", ["lake", "sea"])
def test_registered_tables_come_as_data_frames(lakes: Workbench, run: Run, store: str) -> None:
    lakes.script(TABLE)
    place = f"azureml://datastores/{store}/paths"
    register("data", "create", "--name", "tables", "--type", "tabular", "--path", f"{place}/tab/")
    register("data", "create", "--name", "tables", "--type", "mltable", "--path", f"{place}/mlt/")
    for name, wanted in {"data:tables:1": ["DataFrame 1 2"], "data:tables:2": ["DataFrame 3 4"]}.items():
        words = ("--input", name, "--output", "out", "--set", "preflight=no", "--overwrite")
        run("--entry-script", "score.py", *words)
        assert rows(lakes) == wanted


@pytest.mark.parametrize("where", ["azureml://datastores/lake/paths/tab/t.csv", "az://sea/tab/t.csv"])
def test_an_mltable_of_this_machine_may_name_files_of_a_storage(
    lakes: Workbench, run: Run, azure: AzureServer, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azure.connection_string)
    lakes.script(TABLE)
    (lakes.folder / "far").mkdir()
    far, near = f"- file: {where}", f"- file: file://{lakes.folder}/disk/tab/t.csv"
    text = f"paths:\n{far}\n{near}\ntransformations: [read_delimited]\n"
    (lakes.folder / "far" / "MLTable").write_text(text)
    register("data", "create", "--name", "far", "--path", str(lakes.folder / "far"))
    run("--entry-script", "score.py", "--input", "data:far", "--output", "out")
    assert rows(lakes) == ["DataFrame 1 2"] * 2


def test_a_version_that_is_registered_during_a_run_does_not_change_it(
    lakes: Workbench, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    register("data", "create", "--name", "texts", "--path", "azureml://datastores/lake/paths/v1/")
    words = ("data", "create", "--name", "texts", "--path", "azureml://datastores/lake/paths/v2/")
    new_version = f"from daskscore.cli.root import root; root({words!r}, standalone_mode=False)"
    lakes.script(f"def init():\n    {new_version}\n" + "\n".join(line[4:] for line in SCRIPT.splitlines()))
    how = ("--entry-script", "score.py", "--input", "data:texts", "--output", "out")
    environment = json.dumps({"DASKSCORE_WORKSPACE": os.environ["DASKSCORE_WORKSPACE"]})
    run(*how, "--set", f"environment_variables={environment}", "--set", "preflight=no", "--process-count-per-node", "1")
    assert rows(lakes) == ["a.txt=one", "b.txt=two"]
    refused = run(*how, "--resume", "--set", "preflight=no", ends=2)
    assert "--resume: the inputs are no longer those of the run in " in refused.stderr
    assert "s3://lake/top/v1/a.txt is gone (it was in mini-batch 0)" in refused.stderr
    run(*how[:3], "data:texts:1", *how[4:], "--overwrite")
    run(*how[:3], "data:texts:1", *how[4:], "--resume")


@pytest.mark.parametrize("store", ["lake", "sea", "disk"])
def test_an_output_on_a_datastore(lakes: Workbench, run: Run, s3: S3Server, azure: AzureServer, store: str) -> None:
    uri = f"azureml://datastores/{store}/paths/results/"
    words = ("--entry-script", "score.py", "--input", "disk/v1", "--output", uri, "--set", "preflight=no")
    assert uri not in run(*words).stdout
    found = f"azureml://datastores/{store}/paths/results/parallel_run_step.txt"
    run("--entry-script", "score.py", "--input", found, "--output", "out", "--set", "preflight=no")
    assert rows(lakes) == ["parallel_run_step.txt=a.txt=one", "b.txt=two", ""]
    assert "already there" in run(*words, ends=2).stderr


@pytest.mark.parametrize("store", ["lake", "sea", "disk"])
def test_models_and_side_inputs_by_name(lakes: Workbench, run: Run, store: str) -> None:
    for number, folder in enumerate(("v1", "model"), 1):
        place = f"azureml://datastores/{store}/paths/{folder}"
        register("model", "create", "--name", "best", "--path", f"{place}/" if number == 1 else f"{place}/m.bin")
        register("data", "create", "--name", "words", "--path", f"{place}/")
    lakes.script("""
        import os, sys
        from azureml.core.model import Model
        def run(mini_batch):
            old, new = Model.get_model_path("best", version=1), Model.get_model_path("best")
            side = sys.argv[sys.argv.index("--words") + 1]
            folder = os.environ["AZUREML_MODEL_DIR"]
            return [[*map(sorted, map(os.listdir, (old, side))), os.path.basename(new), open(new).read(), os.listdir(folder)]]
    """)
    models = ("--set", "models=[azureml:best:1, model:best]", "--set", "side_inputs={words: azureml:words@latest}")
    words = ("--rank-mini-batch-count", "1", "--output", "out", *models, "--", "--words", "${{side_inputs.words}}")
    run("--entry-script", "score.py", *words)
    (row,) = rows(lakes)
    old, side, name, content, in_folder = eval(row)
    assert (old, side, name, content, sorted(in_folder)) == (["a.txt", "b.txt"], ["m.bin"], "m.bin", "m", ["v1"])


def test_a_secret_of_a_datastore_stands_nowhere(lakes: Workbench, run: Run) -> None:
    register("data", "create", "--name", "texts", "--path", "azureml://datastores/lake/paths/v1/")
    output = ("--output", "azureml://datastores/lake/paths/secretless/")
    side = ("--set", "side_inputs={words: 'azureml://datastores/lake/paths/v2/'}")
    done = run("--entry-script", "score.py", "--input", "data:texts", *side, *output)
    run("--entry-script", "score.py", "--input", "data:texts", *side, "--output", "out")
    found: Any = [path for path in lakes.folder.rglob("*") if path.is_file() and b"c4nary" in path.read_bytes()]
    assert (found, "c4nary" in done.output) == ([], False)
    everywhere = ("--input", "azureml://datastores/lake/paths/secretless/**/*", "--set", "inputs=[]")
    lakes.script("def run(mini_batch): return [sum(b'c4nary' in open(path, 'rb').read() for path in mini_batch)]\n")
    run("--entry-script", "score.py", *everywhere[:2], "--output", str(Path("out2")))
    assert {*(lakes.folder / "out2" / "parallel_run_step.txt").read_text().split()} == {"0"}
