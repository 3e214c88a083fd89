from __future__ import annotations

import pytest

from tests.support import Finished, Workbench


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One run of a script that uses Azure's helpers in every way it may."""
    bench = Workbench(tmp_path_factory.mktemp("standins"))
    (bench.folder / "local-model").mkdir()
    bench.script(
        """
        import azureml.core, mltable
        from azureml.core import Dataset, Datastore, Environment, Experiment, Run, Workspace
        from azureml.core.experiment import Experiment as SameExperiment
        from azureml.core.model import Model
        from azureml.core.run import Run as SameRun, _OfflineRun
        from azureml.core.workspace import Workspace as SameWorkspace
        from azureml_user.parallel_run import EntryScript

        def message(call):
            try:
                return repr(call())
            except Exception as error:
                return f"{type(error).__name__}: {error}"

        def missing():
            from azureml.core import ComputeTarget

        def init():
            EntryScript().logger.info("an info line")
            EntryScript().logger.debug("a debug line")

        def run(mini_batch):
            entry, run = EntryScript(), Run.get_context()
            run.log("items", len(mini_batch))
            run.parent.log_list("list", [1, 2])
            run.log_row("row", a=1)
            run.log_table("table", {"x": [1]})
            return [
                entry is EntryScript(), run is SameRun.get_context(), entry.agent_name, entry.log_dir, entry.output_dir,
                message(lambda: Model.get_model_path("local-model")), message(lambda: Model.get_model_path("gone")),
                message(lambda: Dataset.get_by_name), message(lambda: run.upload_file), message(missing),
                message(lambda: mltable.load("x")), message(lambda: run.experiment.workspace),
                message(lambda: Workspace("subscription", "group", "name")), message(lambda: Experiment(None, "name")),
                message(lambda: Datastore.get(None, "name")), message(lambda: Environment("name")),
                isinstance(run, _OfflineRun), Experiment is SameExperiment and Workspace is SameWorkspace,
            ]
        """
    )
    bench.inputs("a")
    done = bench.run("--process-count-per-node", "1")
    assert done.code == 0, done.stderr
    return done


def test_the_entry_script_helper_is_one_object(used: Finished) -> None:
    """CONTRACT 1.12."""
    assert used.rows[:2] == ["True", "True"]


def test_the_entry_script_helper_knows_its_process_and_folders(used: Finished) -> None:
    assert used.rows[2] == "process000"
    assert used.rows[3] == str(used.output / "logs/user/entry_script_log/0")
    assert used.rows[4] == str(used.output)


def test_the_helpers_logger_writes_its_own_file_at_the_level_of_the_job(used: Finished) -> None:
    (line,) = (used.output / "logs/user/entry_script_log/0/process000.log.txt").read_text().splitlines()
    assert line.endswith("|an info line")


def test_a_model_beside_the_script_is_found(used: Finished) -> None:
    assert used.rows[5].endswith("/local-model'")


def test_an_unknown_model_names_where_it_was_looked_for_and_how_to_register_it(used: Finished) -> None:
    assert "/gone" in used.rows[6]
    assert "daskscore model create --name gone" in used.rows[6]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (7, ("Dataset.get_by_name", "side_inputs")),
        (8, ("Run.upload_file", "AZUREML_BI_OUTPUT_PATH")),
        (9, ("azureml.core.ComputeTarget", "Install the real package")),
        (10, ("mltable.load", "inputs")),
        (11, ("workspace", "Model.get_model_path")),
        (12, ("Workspace(...)", "Model.get_model_path")),
        (13, ("Experiment(...)", "Run.get_context().log")),
        (14, ("Datastore.get", "side_inputs")),
        (15, ("Environment(...)", "the Python that runs daskscore")),
    ],
)
def test_what_is_not_supported_says_so_by_name_with_what_to_use(used: Finished, row: int, words: tuple[str]) -> None:
    assert all(word in used.rows[row] for word in words), used.rows[row]


def test_no_run_is_an_offline_one_and_a_class_is_the_same_from_each_of_its_modules(used: Finished) -> None:
    assert used.rows[16:] == ["False", "True"]


def test_metrics_are_kept_with_their_mini_batch(used: Finished) -> None:
    lines = (used.output / "logs/user/metrics/0/process000.jsonl").read_text().splitlines()
    assert len(lines) == 4
    assert (used.output / "metrics.jsonl").read_text().splitlines() == lines
    assert used.report["metrics"]["items"] == {"count": 1, "last": 1, "min": 1, "max": 1, "sum": 1}
    assert used.report["metrics"]["row"] == {"count": 1, "last": {"a": 1}}
    assert lines[0] == '{"name": "items", "value": 1, "kind": "value", "mini_batch": 0, "process": "process000"}'


def test_a_real_module_is_never_shadowed(bench: Workbench) -> None:
    package = bench.folder / "azureml_user"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "parallel_run.py").write_text("EntryScript = 'the real one'\n")
    bench.script("from azureml_user.parallel_run import EntryScript\ndef run(mini_batch):\n    return [EntryScript]\n")
    bench.inputs("a")
    assert bench.run().rows == ["the real one"]


def test_a_registered_model_is_found_by_name_and_version(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASKSCORE_WORKSPACE", str(bench.folder / "workspace.db"))
    for number in (1, 2):
        (bench.folder / f"model-{number}").write_text(str(number))
        done = bench.daskscore("model", "create", "--name", "m", "--path", bench.folder / f"model-{number}")
        assert done.code == 0, done.stderr
    bench.script(
        """
        from azureml.core.model import Model
        def run(mini_batch):
            return [open(Model.get_model_path("m", version=version)).read() for version in (1, "2", None)]
        """
    )
    bench.inputs("a")
    assert bench.run().rows == ["1", "2", "2"]
