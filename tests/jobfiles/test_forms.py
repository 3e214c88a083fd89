"""Which form a file has, and the forms that are no pipeline."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from daskscore.config import JobConfig
from daskscore.errors import ConfigError
from daskscore.jobfiles import Form, steps, translate
from daskscore.jobfiles.deployment import check_scoring_script
from tests.jobfiles.conftest import DEPLOYMENT, PRS, Files


def test_daskscores_own_keys_stay_as_they_are(files: Files) -> None:
    job = files.one("entry_script: score.py\ninputs: images/\noutput: mine\nmini_batch_size: 3")
    config = JobConfig.model_validate(job.settings)
    assert job.form is Form.DASKSCORE
    assert (config.source_directory, config.entry_script) == (files.folder, "score.py")
    assert config.inputs == [str(files.folder / "images")]
    assert config.output == files.output


def test_the_output_of_daskscores_own_file_is_taken_where_none_is_given(files: Files) -> None:
    (job,) = translate(files.write("entry_script: score.py\ninputs: a\noutput: mine"))
    assert job.settings["output"] == str(files.folder / "mine")


def test_a_key_of_the_job_wins_over_the_file_beside_the_script(files: Files) -> None:
    files.write(
        '{"append_row": {"pandas.DataFrame.to_csv": {"sep": ",", "index": true}}}', "parallel_run_step.settings.json"
    )
    job = files.one("entry_script: score.py\ninputs: a\nappend_row_separator: ';'")
    assert (job.settings["append_row_separator"], job.settings["append_row_index"]) == (";", True)


def test_a_foreign_file_needs_an_output(files: Files) -> None:
    with pytest.raises(ConfigError, match=r"output: is missing\. Name a folder"):
        translate(files.write(PRS))


def test_a_saved_parallel_run_config(files: Files) -> None:
    text = (
        PRS
        + "  source_directory: code\n  compute_target_name: cpu\n  environment: {name: env, version: 2}\n  mini_batch_size: 1KB\n"
    )
    job = files.one(text, inputs=["data"])
    assert job.form is Form.PARALLEL_RUN_CONFIG
    assert job.settings["source_directory"] == files.folder / "code"
    assert job.settings["inputs"] == [str(Path.cwd() / "data")]
    assert job.settings["mini_batch_size"] == "1KB"
    assert [ignored.key for ignored in job.ignored] == ["parallel_run_config.compute_target_name"]
    assert str(job.environment) == "env:2"


def test_a_script_without_a_source_directory_stands_beside_the_file(files: Files) -> None:
    job = files.one(PRS.replace("score.py", "code/score.py"), inputs=["data"])
    assert (job.settings["source_directory"], job.settings["entry_script"]) == (files.folder / "code", "score.py")


def test_packages_of_v1_are_found_in_the_environment(files: Files) -> None:
    text = (
        PRS + "  environment: {name: e, docker: {baseImage: i}, python: {condaDependencies: {dependencies: [pip]}}}\n"
    )
    environment = files.one(text, inputs=["d"]).environment
    assert environment is not None
    assert (environment.image, environment.conda) == ("i", {"dependencies": ["pip"]})


def test_a_deployment(files: Files) -> None:
    job = files.one(DEPLOYMENT + "compute: azureml:c\nenvironment: {name: e, image: i}\n", inputs=["data"])
    config = JobConfig.model_validate(job.settings)
    assert (job.form, job.name) == (Form.DEPLOYMENT, "dep")
    assert config.source_directory == files.folder / "code"
    assert config.entry_script == "driver.py"
    assert {ignored.key for ignored in job.ignored} == {"compute", "endpoint_name"}


ENVIRONMENT = DEPLOYMENT + "environment: {image: i, conda_file: conda.yml}\nsettings: {mini_batch_size: 1}\n"


def test_an_environment_is_not_made_and_that_is_said_with_the_python_that_runs_the_script(files: Files) -> None:
    path, settings = files.write(ENVIRONMENT), {"inputs": "in", "output": "out"}
    (step,) = steps(path, settings)
    (note,) = [note for note in step.notes if note.startswith("environment: ")]
    assert note == (
        f"environment: image i, conda file {files.folder}/conda.yml is not made here; the script runs in the Python at "
        f"hand, {sys.executable}. Install what it needs there, and say --environment current"
    )


def test_the_current_environment_is_no_reason_for_an_error(files: Files) -> None:
    text = ENVIRONMENT.replace("endpoint_name: ep\n", "")
    path, settings = files.write(text), {"inputs": "in", "output": "out"}
    (step,) = steps(path, settings, strict=True, environment="current")
    assert [note.endswith(f"at hand, {sys.executable}") for note in step.notes] == [True]
    with pytest.raises(ConfigError, match=r"say --environment current; run without --strict, or remove it"):
        steps(path, settings, strict=True)


def test_a_deployment_without_a_type_is_known_by_its_schema(files: Files) -> None:
    text = "$schema: https://example.org/batchDeployment.schema.json\nmodel: m"
    assert "code_configuration.scoring_script: is missing" in files.refusal(text)


def test_the_settings_file_itself_gives_the_keys_of_the_rows(files: Files) -> None:
    text = '{"append_row": {"pandas.DataFrame.to_csv": {"sep": ","}}}'
    (job,) = translate(files.write(text, "parallel_run_step.settings.json"))
    assert job.form is Form.ROW_SETTINGS
    assert job.settings == {"source_directory": files.folder, "append_row_separator": ","}


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ('"qoutechar": "x"', "Did you mean quotechar?"),
        ('"mode": "a"', "written once"),
        ('"header": ["a"]', "true and false"),
        ('"decimal": ","', "daskscore has no key append_row_decimal"),
    ],
)
def test_an_argument_of_to_csv_that_is_not_carried_over_is_named(files: Files, option: str, why: str) -> None:
    text = f'{{"append_row": {{"pandas.DataFrame.to_csv": {{{option}}}}}}}'
    (job,) = translate(files.write(text, "parallel_run_step.settings.json"))
    if why.rpartition(" ")[2] not in JobConfig.model_fields:
        assert [why in ignored.why for ignored in job.ignored] == [True]


def test_the_scoring_script_is_checked_in_the_words_of_the_reference(files: Files) -> None:
    """CONTRACT 2.4."""
    missing = files.folder / "none.py"
    with pytest.raises(ConfigError) as caught:
        check_scoring_script(missing, "dep")
    assert str(caught.value) == f"Failed to open scoring script {missing}."
    broken = files.write("x = 1\ndef run(:\n", "driver.py")
    with pytest.raises(ConfigError) as caught:
        check_scoring_script(broken, "dep")
    assert str(caught.value) == (
        f"Failed to submit deployment dep due to syntax errors in scoring script {broken}.\n"
        "Error on line 2: def run(:\n"
        "If you wish to bypass this validation use --skip-script-validation paramater."
    )


def test_a_script_that_is_right_passes(files: Files) -> None:
    check_scoring_script(files.write("def run(batch): return batch\n", "driver.py"), "dep")
