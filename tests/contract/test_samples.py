"""Scripts of the shapes that the public samples have, unchanged in jobs of v1 and v2 and in deployments."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from distributed import Client

from daskscore.azureml import ParallelRunConfig, ParallelRunStep
from daskscore.cli.root import root
from tests.support import Workbench

SCRIPTS = Path(__file__).with_name("scripts")

SALES = "WeekStarting,Store,Brand,Quantity,Revenue\n" + "".join(
    f"2020-01-0{week},{store},{brand},{week * store},9\n"
    for store in (2, 5)
    for brand in ("dominicks", "tropicana")
    for week in (1, 2, 3)
)
FILES = {
    "iris/iris.csv": "petal.length\n1.4\n5.1\n1.3\n",
    "models/centres.json": '{"setosa": 1.5, "virginica": 5.5}',
    "heart/a.csv": "age,sex\n63,1\n37,0\n",
    "heart/b.csv": "age,sex\n51,1\n",
    "model/limit.json": '{"age": 50}',
    "sales/oj.csv": SALES,
    "texts/one.txt": "three trees",
    "texts/two.txt": "no",
    "texts/three.txt": "e",
    "waves/u1/winter/1.wav": "abc",
    "waves/u1/winter/2.wav": "de",
    "waves/u2/winter/1.wav": "f",
    "digits/0.txt": "1 0\n0 0\n",
    "digits/1.txt": "0 1\n0 0\n",
}

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def data(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data of all samples, below the current folder."""
    monkeypatch.chdir(bench.folder)
    monkeypatch.setenv("DASKSCORE_WORKSPACE", str(bench.folder / "workspace.db"))
    for name, text in FILES.items():
        path = bench.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return bench.folder


def rows(folder: Path, name: str = "parallel_run_step.txt") -> list[str]:
    return (folder / "out" / name).read_text().splitlines()


def step(script: str, inputs: list[Any], arguments: list[Any], **settings: Any) -> ParallelRunStep:
    config = ParallelRunConfig(
        **{
            "environment": "env",
            "entry_script": script,
            "source_directory": SCRIPTS,
            "error_threshold": 1,
            "output_action": "append_row",
            "compute_target": "cpu",
            "node_count": 1,
            **settings,
        }
    )
    return ParallelRunStep(name="sample", parallel_run_config=config, inputs=inputs, output="out", arguments=arguments)


def written(folder: Path, text: str) -> str:
    """A job file; SCRIPTS stands for their folder."""
    (folder / "job.yml").write_text(textwrap.dedent(text).replace("SCRIPTS", str(SCRIPTS)))
    return "job.yml"


def table(path: str) -> SimpleNamespace:
    """Named by its kind, as a TabularDataset is."""
    return SimpleNamespace(path=path, type="tabular", name="table")


def test_iris_of_v1_finds_its_registered_model(data: Path, client: Client) -> None:
    registered = CliRunner().invoke(root, ["model", "create", "--name", "iris", "--path", "models/centres.json"])
    assert registered.exit_code == 0, registered.output
    made = step("iris.py", [table("iris")], ["--model_name", "iris"], mini_batch_size="1KB")
    assert made.run(client).status == "Completed"
    assert rows(data) == ["1.4 setosa", "5.1 virginica", "1.3 setosa"]


def test_iris_of_v2_reads_an_mltable(data: Path, run: Run) -> None:
    (data / "iris" / "MLTable").write_text("paths: [file: ./iris.csv]\ntransformations: [read_delimited]\n")
    job = written(
        data,
        """
        type: parallel
        inputs: {table: {type: mltable, path: ./iris, mode: direct}}
        outputs: {rows: {type: uri_file, path: azureml://datastores/d/paths/aggregated_returns.csv}}
        input_data: ${{inputs.table}}
        mini_batch_size: "10kb"
        error_threshold: 5
        mini_batch_error_threshold: 5
        retry_settings: {max_retries: 2, timeout: 60}
        task:
          type: run_function
          code: SCRIPTS
          entry_script: iris.py
          environment: azureml:env:1
          model: ./models/centres.json
          program_arguments: --model_name centres.json --allowed_failed_percent 30 --task_overhead_timeout 1200
          append_row_to: ${{outputs.rows}}
        """,
    )
    run(job, "--output", "out", "--environment", "current", "--strict")
    assert rows(data, "aggregated_returns.csv") == ["1.4 setosa", "5.1 virginica", "1.3 setosa"]


def deployment(data: Path, script: str, model: str, more: str = "") -> str:
    return written(
        data,
        f"""
        $schema: https://azuremlschemas.azureedge.net/latest/modelBatchDeployment.schema.json
        name: classic
        type: model
        model: {model}
        code_configuration: {{code: SCRIPTS, scoring_script: {script}}}
        environment: {{image: mcr.microsoft.com/azureml/openmpi, conda_file: ./conda.yml}}
        resources: {{instance_count: 1}}
        settings: {{mini_batch_size: 1, max_concurrency_per_instance: 2{more}}}
        """,
    )


def test_digits_of_a_deployment(data: Path, run: Run) -> None:
    import numpy

    (data / "mnist").mkdir()
    numpy.save(data / "mnist" / "templates.npy", numpy.eye(4))
    run(deployment(data, "digit_identification.py", "{path: ./mnist}"), "--input", "digits", "--output", "out")
    assert rows(data, "predictions.csv") == ["0.txt: 0", "1.txt: 1"]


def test_digits_of_v1(data: Path, client: Client) -> None:
    """With the model's folder in the environment, and the sizes as parameters."""
    import numpy

    from daskscore.azureml import PipelineParameter

    (data / "mnist").mkdir()
    numpy.save(data / "mnist" / "templates.npy", numpy.eye(4))
    size, processes = PipelineParameter("batch_size_param", "5"), PipelineParameter("process_count_param", 2)
    made = step(
        "digit_identification.py",
        ["digits"],
        [],
        mini_batch_size=size,
        process_count_per_node=processes,
        environment_variables={"AZUREML_MODEL_DIR": str(data)},
    )
    report = made.run(client, pipeline_parameters={"batch_size_param": "1", "process_count_param": 1})
    assert (report.mini_batches.total, rows(data)) == (2, ["0.txt: 0", "1.txt: 1"])


@pytest.mark.parametrize("model", ["{path: ./model}", "azureml:model@latest"])
def test_hearts_of_a_deployment(data: Path, run: Run, model: str) -> None:
    """AZUREML_MODEL_DIR holds the model, as a local folder or registered; spaces, though the file is a .csv."""
    registered = CliRunner().invoke(root, ["model", "create", "--name", "model", "--path", "model"])
    assert registered.exit_code == 0, registered.output
    run(deployment(data, "heart.py", model), "--input", "heart", "--output", "out")
    assert rows(data, "predictions.csv") == ["63 1 1 a.csv", "37 0 0 a.csv", "51 1 1 b.csv"]


def test_hearts_of_a_deployment_that_writes_its_own_files(data: Path, run: Run) -> None:
    job = deployment(data, "heart_files.py", "./model", ", output_action: summary_only")
    run(job, "--input", "heart", "--output", "out")
    assert (data / "out" / "a.scored.csv").read_text() == "age,sex,prediction\n63,1,1\n37,0,0\n"
    assert not (data / "out" / "predictions.csv").exists()


MANY = ["2 dominicks", "2 tropicana", "5 dominicks", "5 tropicana"]
TRAINED = [f"{keys} arima_{keys.replace(' ', '_')} 3 trained" for keys in MANY]


def test_a_model_for_each_partition_in_v1(data: Path, client: Client) -> None:
    words = ["--target_column", "Quantity", "--timestamp_column", "WeekStarting", "--models_dir", str(data / "trained")]
    made = step("train_many.py", [table("sales")], words, partition_keys=["Store", "Brand"], error_threshold=-1)
    report = made.run(client)
    assert sorted(rows(data)) == TRAINED
    assert report.metrics["arima_5_tropicana"]["last"] == 10.0
    assert len(list((data / "trained").iterdir())) == 4


SALES_JOB = """
    type: parallel
    inputs: {{sales: {{type: mltable, path: ./sales, mode: direct}}}}
    outputs: {outputs}
    input_data: ${{{{inputs.sales}}}}
    partition_keys: [Store, Brand]
    error_threshold: -1
    mini_batch_error_threshold: 5
    max_concurrency_per_instance: 2
    task:
      type: run_function
      code: SCRIPTS
      entry_script: {script}
      environment: azureml:env@latest
      program_arguments: {words}
"""


@pytest.fixture
def sales(data: Path) -> Path:
    (data / "sales" / "MLTable").write_text("paths: [file: ./oj.csv]\ntransformations: [read_delimited]\n")
    return data


def test_a_model_for_each_partition_in_v2(sales: Path, run: Run) -> None:
    outputs = "{models: {type: uri_folder}, rows: {type: uri_file}}"
    words = "--target_column Quantity --timestamp_column WeekStarting --models_dir ${{outputs.models}}"
    text = SALES_JOB.format(script="train_many.py", words=words, outputs=outputs)
    run(written(sales, text + "      append_row_to: ${{outputs.rows}}\n"), "--output", "out")
    assert sorted(rows(sales, "rows")) == TRAINED
    assert len(list((sales / "out" / "named-outputs" / "models").iterdir())) == 4


def test_sales_of_partitions_that_return_nothing(sales: Path, run: Run) -> None:
    """1.5: an empty return is no failed mini-batch where items are not checked; without append_row_to it is no error."""
    words = '--drop_cols "Revenue,WeekStarting" --forecasts ${{outputs.forecasts}}'
    text = SALES_JOB.format(script="oj_sales.py", words=f"'{words}'", outputs="{forecasts: {type: uri_folder}}")
    run(written(sales, text), "--output", "out")
    means = {str(path.parent)[-11:]: path.read_text() for path in (sales / "out").rglob("mean.txt")}
    assert means == {"2/dominicks": "4", "2/tropicana": "4", "5/dominicks": "10", "5/tropicana": "10"}
    printed = "".join(path.read_text() for path in (sales / "out" / "logs" / "user" / "stdout").rglob("*.txt"))
    assert 'the keys are ["Store", "Brand"]' in printed


def test_embeddings_of_a_nested_script(data: Path, run: Run) -> None:
    """1.2 task_id; 1.11 a nested path whose siblings are those of the source directory."""
    job = written(
        data,
        """
        type: parallel
        inputs: {chunks: {type: uri_folder, path: ./texts}}
        outputs: {embeddings: {type: uri_folder}}
        input_data: ${{inputs.chunks}}
        mini_batch_size: "2"
        task:
          type: run_function
          code: SCRIPTS
          entry_script: tasks/embed.py
          environment: azureml:env:1
          program_arguments: --embeddings ${{outputs.embeddings}} --error_threshold -1
        """,
    )
    run(job, "--output", "out")
    found = {path.name: path.read_text() for path in (data / "out" / "named-outputs" / "embeddings").iterdir()}
    assert found == {
        "data0.txt": "one [11, 4]\nthree [1, 1]",
        "data1.txt": "two [2, 0]",
        "metadata.txt": "dimensions: 2",
    }


def test_sizes_of_files_by_folders(data: Path, client: Client) -> None:
    made = step("file_sizes.py", ["waves"], [], partition_keys=["user", "season"])
    settings = made.translated().settings["inputs"]
    entry = {"path": settings[0], "partition_format": "{user}/{season}/{file}.wav"}
    assert made.run(client, inputs=[entry]).status == "Completed"
    assert sorted(rows(data)) == ["u1,winter,1.wav,5", "u1,winter,2.wav,5", "u2,winter,1.wav,1"]
