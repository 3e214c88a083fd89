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


def test_variables_of_a_v1_environment_reach_the_script_below_those_of_the_config(files: Files) -> None:
    text = PRS + "  environment: {name: e, environmentVariables: {A: x, B: x}}\n"
    assert files.one(text, inputs=["d"]).settings["environment_variables"] == {"A": "x", "B": "x"}
    text += "  environment_variables: {B: y}\n"
    assert files.one(text, inputs=["d"]).settings["environment_variables"] == {"A": "x", "B": "y"}


def test_a_deployment(files: Files) -> None:
    job = files.one(DEPLOYMENT + "compute: azureml:c\nenvironment: {name: e, image: i}\n", inputs=["data"])
    config = JobConfig.model_validate(job.settings)
    assert (job.form, job.name) == (Form.DEPLOYMENT, "dep")
    assert config.source_directory == files.folder / "code"
    assert config.entry_script == "driver.py"
    assert {ignored.key for ignored in job.ignored} == {"compute", "endpoint_name"}


ENVIRONMENT = DEPLOYMENT + "environment: {image: i, conda_file: conda.yml}\nsettings: {mini_batch_size: 1}\n"


def test_of_an_environment_the_conda_file_is_used_and_what_is_left_out_is_said(files: Files) -> None:
    path, settings = files.write(ENVIRONMENT), {"inputs": "in", "output": "out"}
    (step,) = steps(path, settings)
    assert step.config.environment is None  # there is no such file
    conda_file = f"{files.folder}/conda.yml"
    Path(conda_file).write_text("dependencies: [python]")
    (step,) = steps(path, settings)
    (note,) = [note for note in step.notes if note.startswith("environment: ")]
    assert note == f"environment: of image i, conda file {conda_file} the packages are used, and not its image"
    assert step.config.environment == conda_file
    (step,) = steps(path, {**settings, "environment": "/own.yml"})
    assert step.config.environment == "/own.yml"
    assert f"environment: image i, conda file {conda_file} is replaced by /own.yml" in step.notes


def test_the_packages_of_v1_are_used(files: Files) -> None:
    packages = "{name: x, channels: [c], dependencies: [python=3.12, {pip: [a]}]}"
    text = PRS + f"  environment: {{name: e, python: {{condaDependencies: {packages}}}}}\n"
    (step,) = steps(files.write(text), {"inputs": "in", "output": "out"})
    assert step.config.environment == {"channels": ["c"], "dependencies": ["python=3.12", {"pip": ["a"]}]}


REGISTERED = ENVIRONMENT.replace("{image: i, conda_file: conda.yml}", "azureml:env:1")


def test_a_registered_environment_is_not_made_and_the_python_that_runs_the_script_is_named(files: Files) -> None:
    (step,) = steps(files.write(REGISTERED), {"inputs": "in", "output": "out"})
    (note,) = [note for note in step.notes if note.startswith("environment: ")]
    assert note == (
        f"environment: azureml:env:1 is not made here; the script runs in the Python at hand, {sys.executable}. Install what "
        "it needs there, and say --environment current"
    )
    assert step.config.environment is None


def test_the_current_environment_is_no_reason_for_an_error(files: Files) -> None:
    text = REGISTERED.replace("endpoint_name: ep\n", "")
    path, settings = files.write(text), {"inputs": "in", "output": "out"}
    (step,) = steps(path, settings, strict=True, environment="current")
    assert [note.endswith(f"at hand, {sys.executable}") for note in step.notes] == [True]
    assert step.config.environment is None
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$schema: https://x/batchEndpoint.schema.json\nname: hearts", "is a batch endpoint, which has no script"),
        ("name: hearts\nauth_mode: aad_token", "Run the file of its deployment: daskscore run deployment.yml --input"),
        ("experiment_name: x\ninputs: {hearts: {type: uri_folder, path: ../data}}", "names data for an endpoint"),
        ("inputs: {hearts: {path: a}}\noutputs: {score: {type: uri_file}}", "Run the file of the deployment with them"),
        ("code: src\ncommand: python main.py", "type: is command, and only parallel jobs"),
        ("$schema: https://x/commandJob.schema.json\ncode: src", "type: is command, and only parallel jobs"),
    ],
)
def test_a_file_of_azure_that_is_no_job_to_run_here_says_what_it_is(files: Files, text: str, message: str) -> None:
    assert message in files.refusal(text)


def test_outputs_instead_of_output_in_a_file_of_our_own_are_no_invocation(files: Files) -> None:
    path = files.write("entry_script: score.py\ninputs: a\noutputs: out")
    with pytest.raises(ConfigError, match=r"outputs: there is no such key\. Did you mean output\?"):
        steps(path, {})
