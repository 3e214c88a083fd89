"""A parallel job in a file of its own, and a component."""

from __future__ import annotations

from pathlib import Path

import pytest

from daskscore.config import JobConfig
from daskscore.jobfiles import Form, in_one_warning
from tests.jobfiles.conftest import Files, changed_step, with_arguments


def test_the_settings_are_those_of_jobconfig(files: Files) -> None:
    job = files.step()
    config = JobConfig.model_validate(job.settings)
    assert job.form is Form.PARALLEL_JOB
    assert config.source_directory == files.folder / "src"
    assert config.inputs == [str(files.folder / "images")]
    assert config.output == files.output
    assert config.arguments == ["--model", "${{side_inputs.model}}"]
    assert config.side_inputs == {"model": str(files.folder / "model")}


def test_paths_are_relative_to_the_file(files: Files) -> None:
    settings = files.step(name="deeper/job.yml").settings
    assert settings["source_directory"] == files.folder / "deeper" / "src"
    assert settings["inputs"] == [str(files.folder / "deeper" / "images")]


def test_rows_go_to_the_file_that_append_row_to_names(files: Files) -> None:
    job = files.step()
    assert job.settings["append_row_file_name"] == "scores.csv"
    assert any(f"{files.output}/scores.csv" in note for note in job.notes)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("{type: uri_file}", "rows"),
        ("{type: uri_file, path: 'azureml://datastores/d/paths/${{output_name}}.jsonl'}", "rows.jsonl"),
        ("{type: uri_file, path: 'azureml://datastores/d/paths/'}", "rows"),
        ("{type: uri_folder}", "parallel_run_step.txt"),
        ("", "parallel_run_step.txt"),
    ],
)
def test_the_name_of_the_rows(files: Files, spec: str, name: str) -> None:
    assert files.step(f"outputs:\n  rows: {spec}", without=["outputs"]).settings["append_row_file_name"] == name


def test_append_row_to_beside_the_task_counts_too(files: Files) -> None:
    text = changed_step("append_row_to: ${{outputs.rows}}").replace("  append_row_to: ${{outputs.rows}}\n", "", 1)
    assert files.one(text).settings["append_row_file_name"] == "scores.csv"


def test_an_output_in_an_argument_is_a_folder_that_is_to_be_there(files: Files) -> None:
    job = files.one(with_arguments("--extra ${{outputs.extra}} --rows ${{outputs.rows}}"))
    extra = files.output / "named-outputs" / "extra"
    assert job.settings["arguments"] == ["--extra", str(extra), "--rows", str(files.output / "scores.csv")]
    assert job.folders == (extra,)


def test_an_output_that_is_a_file_stands_in_a_folder_of_its_own(files: Files) -> None:
    job = files.one(
        with_arguments("--log ${{outputs.log}}").replace(
            "  extra:\n    type: uri_folder\n", "  log: {type: uri_file, path: a/b.log}\n"
        )
    )
    folder = files.output / "named-outputs" / "log"
    assert job.settings["arguments"] == ["--log", str(folder / "b.log")]
    assert job.folders == (folder,)


def test_a_registered_input_is_left_for_the_workspace(files: Files) -> None:
    job = files.one(changed_step().replace("path: ./images", "path: azureml:images:3"))
    assert job.settings["inputs"] == ["azureml:images:3"]


def test_a_file_url_is_a_local_path(files: Files) -> None:
    job = files.one(changed_step().replace("path: ./images", "path: file:./images"))
    assert job.settings["inputs"] == [str(files.folder / "images")]


def test_a_table_keeps_its_type_and_gets_a_size(files: Files) -> None:
    text = changed_step().replace(
        "    type: uri_folder\n    path: ./images", "    type: mltable\n    path: ./t\n    mode: direct"
    )
    settings = files.one(text).settings
    assert settings["inputs"] == [{"path": str(files.folder / "t"), "type": "mltable", "mode": "direct"}]
    assert settings["mini_batch_size"] == "1MB"


def test_a_uri_in_direct_mode_is_given_to_the_script_as_it_is(files: Files) -> None:
    text = changed_step().replace("    path: ./model", "    path: https://host/model\n    mode: direct")
    job = files.one(text)
    assert job.settings["arguments"] == ["--model", "https://host/model"]
    assert "side_inputs" not in job.settings


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--flag $[[--limit ${{inputs.limit}}]] --end", ["--flag", "--end"]),
        ("$[[--model ${{inputs.model}}]]", ["--model", "${{side_inputs.model}}"]),
        ("$[[--a ${{inputs.model}} --b ${{inputs.limit}}]] x", ["x"]),
        ("--text '${{inputs.text}}' --more", ["--text", "two words", "--more"]),
        ("--text ${{inputs.text}}", ["--text", "two words"]),
        ("--text=${{ inputs.text }}!", ["--text=two words!"]),
        ("--yes ${{inputs.yes}} --number ${{inputs.number}}", ["--yes", "True", "--number", "2.5"]),
        ("--a 1 \\ --b 2 \\", ["--a", "1", "--b", "2"]),
        ("--json '[[1, 2]]'", ["--json", "[[1, 2]]"]),
    ],
)
def test_program_arguments(files: Files, arguments: str, words: list[str]) -> None:
    more = """
      limit: {type: integer, optional: true}
      text: {type: string, default: two words}
      yes: true
      number: 2.5
    """
    text = with_arguments("@").replace(
        "outputs:\n", "".join(f"  {line.strip()}\n" for line in more.strip().splitlines()) + "outputs:\n"
    )
    assert files.one(text.replace("@", arguments)).settings["arguments"] == words


def test_a_switch_that_lacks_its_last_letters_is_read_and_noted(files: Files) -> None:
    job = files.one(with_arguments("--allowed_failed_perce 30 --task 5"))
    assert job.settings["allowed_failed_percent"] == 30
    assert job.settings["arguments"] == ["--task", "5"]
    assert "--allowed_failed_perce is read as --allowed_failed_percent" in job.notes


def test_an_argument_that_says_otherwise_than_a_key_is_noted(files: Files) -> None:
    job = files.one(with_arguments("--process_count_per_node 3") + "max_concurrency_per_instance: 2\n")
    assert job.settings["process_count_per_node"] == 3
    assert "process_count_per_node is 3, as program_arguments have it, and not 2" in job.notes


def test_what_the_arguments_say_about_rows_wins_over_the_file_beside_the_script(files: Files) -> None:
    files.write(
        '{"append_row": {"pandas.DataFrame.to_csv": {"header": false, "sep": ","}}}',
        "src/parallel_run_step.settings.json",
    )
    settings = files.one(with_arguments("--append_row_dataframe_header")).settings
    assert (settings["append_row_header"], settings["append_row_separator"]) == (True, ",")


def test_keys_without_a_meaning_stand_in_one_warning(files: Files) -> None:
    job = files.step("compute: azureml:cpu\nidentity: {type: user_identity}\nresources: {instance_type: Standard_D2}")
    warning = in_one_warning("job.yml", [job])
    assert warning.startswith("job.yml: 3 keys mean nothing here:\n")
    for key in ("compute", "identity", "resources.instance_type"):
        assert f"  {key}: " in warning


def test_a_file_without_such_keys_has_no_warning(files: Files) -> None:
    assert in_one_warning("job.yml", [files.step()]) == ""


@pytest.mark.parametrize("where", ["output_action", "task.output_action"])
def test_an_output_action_in_v2_is_named_with_what_decides(files: Files, where: str) -> None:
    bindings = {where: "append_row"} if "." in where else None
    more = "" if bindings else "output_action: append_row"
    ignored = {found.key: found.why for found in files.step(more, bindings=bindings).ignored}
    assert ignored[where].startswith("append_row_to says")


def test_words_for_people_are_kept(files: Files) -> None:
    job = files.step("name: score\ndescription: All images\ntags: {owner: me}")
    assert job.name == "score"
    assert job.about == {"name": "score", "description": "All images", "tags": {"owner": "me"}}


def test_the_environment_is_kept_as_written(files: Files) -> None:
    assert str(files.step().environment) == "azureml:env:1"
    text = changed_step().replace("environment: azureml:env:1", "environment: {image: i, conda_file: ./conda.yml}")
    environment = files.one(text).environment
    assert environment is not None
    assert environment.conda_file == files.folder / "conda.yml"
    assert str(environment) == f"image i, conda file {files.folder / 'conda.yml'}"


def test_a_component_needs_its_inputs(files: Files) -> None:
    component = changed_step("version: 1").replace("    path: ./images\n", "").replace("    path: ./model\n", "")
    error = files.refusal(component)
    assert "inputs.images, inputs.model" in error
    assert "--set inputs.images=VALUE --set inputs.model=VALUE" in error


def test_given_values_are_relative_to_the_current_folder(files: Files) -> None:
    component = changed_step("version: 1").replace("    path: ./images\n", "").replace("    path: ./model\n", "")
    job = files.one(component, bindings={"images": "here", "${{inputs.model}}": {"path": "m.bin", "type": "uri_file"}})
    assert job.form is Form.COMPONENT
    assert job.settings["inputs"] == [str(Path.cwd() / "here")]
    assert job.settings["side_inputs"] == {"model": str(Path.cwd() / "m.bin")}


def test_data_named_by_the_caller_take_the_place_of_the_files_own(files: Files) -> None:
    assert files.step(inputs=["a", "b"]).settings["inputs"] == [str(Path.cwd() / "a"), str(Path.cwd() / "b")]


def test_an_input_that_takes_no_part_needs_no_value(files: Files) -> None:
    assert files.one(with_arguments("--x 1").replace("    path: ./model\n", "")).settings["arguments"] == ["--x", "1"]


def test_a_setting_can_be_bound_to_an_input(files: Files) -> None:
    text = changed_step(
        "resources: {instance_count: '${{inputs.nodes}}'}\nretry_settings: {timeout: '${{inputs.seconds}}'}"
    )
    text = text.replace("outputs:\n", "  nodes: 3\n  seconds: {type: integer, default: 90}\noutputs:\n", 1)
    settings = files.one(text, bindings={"inputs.nodes": "4"}).settings
    assert (settings["node_count"], settings["run_invocation_timeout"]) == (4, 90)


def test_a_given_value_can_replace_any_key(files: Files) -> None:
    job = files.step(bindings={"resources.instance_count": 3, "outputs.rows.path": "x/other.txt"})
    assert (job.settings["node_count"], job.settings["append_row_file_name"]) == (3, "other.txt")


def test_minus_one_machine_leaves_it_to_the_cluster(files: Files) -> None:
    job = files.step("resources: {instance_count: -1}")
    assert "node_count" not in job.settings
    assert [ignored.key for ignored in job.ignored] == ["resources.instance_count"]
