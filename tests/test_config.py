from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest

from daskscore.config import NOTHING_GIVEN, RESERVED_ARGUMENTS, JobConfig, load, parse_bytes
from daskscore.errors import ConfigError
from daskscore.job_file import parse_assignment

WHOLE = [0, -1, 1.5, "abc", True, math.nan, [1], {}, None]
THRESHOLD = [-2, 0.5, "many", False, None]
OPTIONAL_THRESHOLD = THRESHOLD[:-1]
SECONDS = [0, -1, "60s", True, math.inf, math.nan, 259_201, [1]]
YES_NO = ["perhaps", 2, None, [True]]
PATH = [3, "", " ", "a\0b", None, ["a"], True, "s3://bucket/a"]
UNUSABLE: dict[str, list[Any]] = {
    "entry_script": [*PATH, "job.yml"],
    "source_directory": [3, "", "a\0b", ["a"], "s3://bucket/a"],
    "inputs": [[], "", [""], [3], {"kind": "local", "path": 3}, 3, None, [None], {"a", "b"}],
    "output": [*PATH[:-1], {"storage_options": {}}, {"path": "s3://b/a", "key": "k"}],
    "arguments": [3, {"a": 1}, [None], [["a"]], [{"a": 1}], "an 'open quote", None],
    "mini_batch_size": [*WHOLE[:-1], "10KBKB", "0 rows", "rows", "1.5 MB", "-1KB"],
    "partition_keys": ["", [""], [3], {"a": 1}, ["a", "a"], None],
    "rank_mini_batch_count": WHOLE[:-1],
    "side_inputs": [3, ["a"], {"model": 3}, {"model": ""}, {"model": {"uri": "a"}}, None],
    "models": [[""], [3], 3, None, [None], {"a", "b"}],
    "alike_failures_limit": [-2, "many", 1.5, True],
    "error_threshold": THRESHOLD,
    "mini_batch_error_threshold": THRESHOLD,
    "allowed_failed_count": OPTIONAL_THRESHOLD,
    "allowed_failed_percent": [-1, 100.1, "ten", True, math.nan],
    "output_action": ["append", "", 3, None, ["append_row"]],
    "append_row_file_name": ["", ".", "..", "a/b", "a?b", "a\0b", "report.json", ".daskscore", "x" * 256, 3, None],
    "append_row_format": ["xlsx", 3, None],
    "append_row_separator": ["", ", ", "\n", '"', 3, None],
    "append_row_header": YES_NO,
    "append_row_index": YES_NO,
    "append_row_quoting": ["some", 3, None],
    "append_row_quote_char": ["", "''", "\n", 3, None],
    "append_row_escape_char": ["", "!!", "\0", 3],
    "append_row_double_quote": YES_NO,
    "append_row_line_terminator": ["", "\r", ";", "\n\n", 3, None],
    "append_row_na_rep": ["\n", "a\0b", 3, None],
    "append_row_float_format": ["", "3f", "%s %s", "%d%%%", 3],
    "append_row_date_format": ["", "Y-m-d", "%Y\0", 3],
    "append_row_decimal": ["", ",,", "\r", 3, None],
    "append_row_mixed_types": YES_NO,
    "join": ["left", "", 3, None],
    "columns": [["a"], {"all": ["a"]}, {"in": 3}, {"in": [3]}, None],
    "logging_level": ["LOUD", 10, None],
    "run_invocation_timeout": [*SECONDS, None],
    "init_timeout": SECONDS,
    "run_max_try": WHOLE,
    "on_item_error": ["skip", 1, True, []],
    "isolation_attempts": [-2, "many", 1.5, True],
    "backup_attempts": ["perhaps", 7, []],
    "task_overhead_timeout": [*SECONDS, None],
    "first_task_creation_timeout": [*SECONDS, None],
    "progress_update_timeout": SECONDS,
    "memory_limit_per_process": [0, -1, "10KBKB", "much", True, [1]],
    "staging_limit": [0, -1, "10KBKB", "much", True, [1], None],
    "log_file_limit": [0, -1, "10KBKB", "much", True, [1], None],
    "resource_monitor_interval": [-1, 259_201, "soon", True, math.nan, math.inf, None],
    "process_count_per_node": WHOLE[:-1],
    "node_count": WHOLE,
    "gpus_per_process": [-1, "some", 1.5, True, None],
    "gpus_per_node": [-1, "some", 1.5, True],
    "environment_variables": [["a"], {"": "a"}, {"A=B": "c"}, {"A\0": "c"}, {"A": None}, {"A": [1]}, {"A": "\0"}, None],
    "environment": [
        3,
        "",
        ["a"],
        "https://a/b.yml",
        "azureml:env:1",
        {},
        {"image": "i"},
        {"conda_file": "a", "dependencies": []},
    ],
    "cluster": [3, None, ["local"]],
    "bundle_size": [0, -1, "some", True, None],
    "preflight": YES_NO,
}
ASSIGNMENTS: dict[str, tuple[str, Any]] = {
    "entry_script": ("other.py", "other.py"),
    "source_directory": ("/src", Path("/src")),
    "inputs": ("[/a, '/b/*.png']", ["/a", "/b/*.png"]),
    "output": ("/other", Path("/other")),
    "arguments": ("[--model, 1.10, --flag, yes, 0x10]", ["--model", "1.10", "--flag", "yes", "0x10"]),
    "mini_batch_size": ("7", 7),
    "partition_keys": ("[]", []),
    "rank_mini_batch_count": ("null", None),
    "side_inputs": ("{model: /models/a.bin}", {"model": "/models/a.bin"}),
    "models": ("[/models/a.bin, 'model:b']", ["/models/a.bin", "model:b"]),
    "alike_failures_limit": ("-1", -1),
    "error_threshold": ("5", 5),
    "mini_batch_error_threshold": ("6", 6),
    "allowed_failed_count": ("7", 7),
    "allowed_failed_percent": ("2.5", 2.5),
    "output_action": ("Summary_Only", "summary_only"),
    "append_row_file_name": ("2024", "2024"),
    "append_row_format": ("JSONL", "jsonl"),
    "append_row_separator": (",", ","),
    "append_row_header": ("true", True),
    "append_row_index": ("yes", True),
    "append_row_quoting": ("NonNumeric", "nonnumeric"),
    "append_row_quote_char": ("|", "|"),
    "append_row_escape_char": ("!", "!"),
    "append_row_double_quote": ("no", False),
    "append_row_line_terminator": (r"\r\n", "\r\n"),
    "append_row_na_rep": ("NA", "NA"),
    "append_row_float_format": ("%.3f", "%.3f"),
    "append_row_date_format": ("%Y", "%Y"),
    "append_row_decimal": (",", ","),
    "append_row_mixed_types": ("false", False),
    "join": ("Key", "key"),
    "columns": ("{}", {}),
    "logging_level": ("debug", "DEBUG"),
    "run_invocation_timeout": ("0.5", 0.5),
    "init_timeout": ("90", 90),
    "run_max_try": ("1", 1),
    "on_item_error": ("Fail_Mini_Batch", "fail_mini_batch"),
    "isolation_attempts": ("500", 500),
    "backup_attempts": ("no", False),
    "task_overhead_timeout": ("30", 30),
    "first_task_creation_timeout": ("31", 31),
    "progress_update_timeout": ("32", 32),
    "memory_limit_per_process": ("1.5GB", 3 << 29),
    "staging_limit": ("512MB", 512 << 20),
    "log_file_limit": ("1MB", 1 << 20),
    "resource_monitor_interval": ("0", 0),
    "process_count_per_node": ("2", 2),
    "node_count": (" 2 - 10 ", "2-10"),
    "gpus_per_process": ("2", 2),
    "gpus_per_node": ("8", 8),
    "environment_variables": ("{VERSION: 1.10, ON: true}", {"VERSION": "1.10", "ON": "true"}),
    "environment": ("/env/conda.yml", "/env/conda.yml"),
    "cluster": ("{kind: existing, address: 'tcp://a:1'}", {"kind": "existing", "address": "tcp://a:1"}),
    "bundle_size": ("AUTO", "auto"),
    "preflight": ("off", False),
}


def job(**settings: Any) -> dict[str, Any]:
    return {"entry_script": "score.py", "inputs": "in", "output": "out"} | settings


def refused(settings: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(settings, {})
    return str(caught.value)


@pytest.mark.parametrize("table", [UNUSABLE, ASSIGNMENTS])
def test_the_tables_here_have_every_key(table: dict[str, Any]) -> None:
    assert list(table) == list(JobConfig.model_fields)


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in UNUSABLE.items() for value in values])
def test_an_unusable_value_is_told_once_with_its_key_and_what_would_do(key: str, value: Any) -> None:
    settings = job(**{key: value})
    if key == "rank_mini_batch_count":
        settings["inputs"] = []
    message = refused(settings)
    assert message.startswith(key)
    assert "\n" not in message
    assert ". " in message, f"{message} does not say what to do"
    assert "pydantic" not in message
    assert "nput should" not in message


@pytest.mark.parametrize(("key", "text", "value"), [(key, *pair) for key, pair in ASSIGNMENTS.items()])
def test_set_reaches_every_key(key: str, text: str, value: Any) -> None:
    assert getattr(load(job(), dict([parse_assignment(f"{key}={text}")])), key) == value


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"mini_batch_size": 0},
            "mini_batch_size: 0 is not usable. Write a number of files like 10, or of records a size like 1MB or '5000 rows'",
        ),
        (
            {"run_invocation_timeout": "60s"},
            "run_invocation_timeout: '60s' is not usable. "
            "Write a number of seconds, more than 0 and at most 259200 (three days)",
        ),
        ({"output_action": "append"}, "output_action: 'append' is not usable. Write 'append_row' or 'summary_only'"),
        (
            {"inputs": 2024},
            "inputs: 2024 is not usable. Write a file, a folder, a glob, or a list of these",
        ),
        (
            {"inputs": ["in", 2024]},
            "inputs: 2024 names no path. Write a file, a folder or a glob, in quotes if it is a number",
        ),
        (
            {"memory_limit_per_process": "10KBKB"},
            "memory_limit_per_process: '10KBKB' is not usable. "
            "Write a number of bytes, or one with KB, MB or GB, like 512MB",
        ),
        (
            {"cluster": None},
            "cluster: is empty. Write local, the address of a Dask scheduler, its scheduler file, or a mapping with a "
            "kind, or remove the key",
        ),
        (
            {"entry_script": "job.yml"},
            "entry_script: job.yml is no Python file. A job file is named without a flag: daskscore run job.yml",
        ),
        (
            {"side_inputs": {"m": 3}},
            "side_inputs: m names no path. Write a file, a folder, an address or registered data",
        ),
        (
            {"rank_mini_batch_count": 3},
            "rank_mini_batch_count: is for jobs without inputs. Remove one of the two",
        ),
    ],
)
def test_messages(settings: dict[str, Any], message: str) -> None:
    assert refused(job(**settings)) == message


def test_all_that_is_wrong_is_told_at_once() -> None:
    message = refused(
        {"entry_script": "score.py", "inputs": "in", "run_max_try": 0, "node_count": "x", "outptu": "out"}
    )
    assert [line.split(":")[0] for line in message.splitlines()] == ["output", "run_max_try", "node_count", "outptu"]


def test_what_is_missing_is_told_with_the_line_to_write() -> None:
    assert refused({"inputs": "in"}).splitlines() == [
        "entry_script: is missing. Name the scoring script, like entry_script: score.py (--entry-script score.py)",
        "output: is missing. Name a folder for the results, like output: out/ (--output out/)",
    ]
    assert refused({"entry_script": "score.py", "output": "out"}) == (
        "inputs: is missing. Name files, folders or globs, like inputs: images/ (--input images/), "
        "or give rank_mini_batch_count"
    )


def test_nothing_at_all_is_answered_with_the_two_ways_to_begin() -> None:
    assert refused(None) == NOTHING_GIVEN


@pytest.mark.parametrize("given", [3, [("entry_script", "score.py")], b"job.yml"])
def test_a_job_that_is_no_job_is_refused(given: Any) -> None:
    assert refused(given).startswith("the job is ")


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("intputs", "Did you mean inputs?"),
        ("Mini-Batch-Size", "Did you mean mini_batch_size?"),
        ("entry-script", "Did you mean entry_script?"),
        ("timeout", "Here it is run_invocation_timeout"),
        ("max_retries", "Here it is run_max_try, which counts the first try too: max_retries + 1"),
        ("resume", "Here it is --resume on the command line, resume=True in Python"),
        ("zzz", "The README lists all keys"),
        ("", "The README lists all keys"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest_known_one(key: str, hint: str) -> None:
    assert refused(job(**{key: 1})) == f"{key}: there is no such key. {hint}"


def test_a_job_below_a_heading_is_told_to_move_to_the_left() -> None:
    assert refused({"parallel_run_config": job()}).splitlines()[-1] == (
        "parallel_run_config: there is no such key. Move what stands below it to the left, and remove parallel_run_config"
    )


@pytest.mark.parametrize("name", RESERVED_ARGUMENTS)
@pytest.mark.parametrize("form", ["--{}", "--{}=x"])
def test_reserved_arguments_are_refused(name: str, form: str) -> None:
    word = form.format(name)
    assert refused(job(arguments=["--model", "a", word])) == (
        f"arguments: '{word}' is a reserved argument in ParallelRunStep, please use another argument name instead. "
        f"The script gets --{name} from the job's own key {name}"
    )


@pytest.mark.parametrize("word", ["-output", "--outputs", "--output_dir=x", "output", "--"])
def test_arguments_that_only_look_reserved_are_the_scripts(word: str) -> None:
    assert load(job(arguments=[word]), {}).arguments == [word]


def test_arguments_as_one_text_are_split_as_a_shell_would() -> None:
    assert load(job(arguments="--a 'b c' --d=1"), {}).arguments == ["--a", "b c", "--d=1"]


@pytest.mark.parametrize(("text", "number"), [("10", 10), ("1k", 1024), ("2MB", 2 << 20), ("1.5 GiB", 3 << 29), (7, 7)])
def test_units_of_bytes_are_binary(text: object, number: int) -> None:
    assert parse_bytes(text) == number


def test_booleans_become_lower_case_in_environment_variables() -> None:
    assert load(job(environment_variables={"A": True, "B": 1, "C": ""}), {}).environment_variables == {
        "A": "true",
        "B": "1",
        "C": "",
    }


def test_a_written_tab_separates() -> None:
    assert load(job(append_row_separator="\\t"), {}).append_row_separator == "\t"


# Paths.


def test_paths_in_a_file_start_at_the_file_and_those_of_flags_start_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "job.yml").write_text(
        "entry_script: score.py\ninputs: [in, ../more/*.png, {path: deep/in}]\noutput: out/\n"
        "side_inputs: {model: m.bin}\ncluster: scheduler.json\n"
    )
    monkeypatch.chdir(tmp_path)
    found = load("jobs/job.yml", {"output": "here"})
    assert found.inputs == [f"{tmp_path}/jobs/in", f"{tmp_path}/more/*.png", {"path": f"{tmp_path}/jobs/deep/in"}]
    assert found.side_inputs == {"model": str(tmp_path / "jobs" / "m.bin")}
    assert (found.source_directory, found.entry_script) == (tmp_path / "jobs", "score.py")
    assert (found.output, found.cluster) == (tmp_path / "here", f"{tmp_path}/jobs/scheduler.json")


def test_the_home_folder_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    found = load(job(inputs="~/in", output="~/out", entry_script="~/src/score.py"), {})
    assert (found.inputs, str(found.output)) == (["/home/somebody/in"], "/home/somebody/out")
    assert str(found.source_directory) == "/home/somebody/src"


@pytest.mark.parametrize("address", ["s3://bucket/a", "file:///a/b", "abfss://c@a.dfs.core.windows.net/x"])
def test_addresses_are_no_paths(address: str) -> None:
    assert load(job(inputs=address), {}).inputs == [address]


def test_a_colon_in_a_name_makes_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(job(inputs="run:2024"), {}).inputs == [f"{tmp_path}/run:2024"]


def test_a_current_folder_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert refused(job()) == "the current folder does not exist any more. Change to one that does"


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"entry_script": "src/score.py"}, ("src", "score.py")),
        ({"entry_script": "src/missing.py"}, ("src", "missing.py")),
        ({"entry_script": "src/score.py", "source_directory": "."}, (".", "src/score.py")),
        ({"entry_script": "score.py", "source_directory": "src"}, ("src", "score.py")),
        ({"entry_script": "src/score.py", "source_directory": "src"}, ("src", "score.py")),
        ({"entry_script": "package.main"}, (".", "package.main")),
        ({"entry_script": "package.main", "source_directory": "src"}, ("src", "package.main")),
        ({"entry_script": "extensionless"}, (".", "extensionless")),
    ],
)
def test_the_script_is_found_below_its_source_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], place: tuple[str, str]
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "score.py").touch()
    (tmp_path / "extensionless").touch()
    monkeypatch.chdir(tmp_path)
    found = load(job(**settings), {})
    assert (os.path.relpath(found.source_directory), found.entry_script) == place


def test_a_script_given_by_a_flag_is_looked_for_in_the_files_source_directory_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "fast.py").touch()
    (tmp_path / "other.py").touch()
    monkeypatch.chdir(tmp_path)
    settings = job(source_directory="src")
    assert load(settings, {"entry_script": "fast.py"}).entry_script == "fast.py"
    assert load(settings, {"entry_script": "src/fast.py"}).entry_script == "fast.py"
    assert load(settings, {"entry_script": "other.py"}).entry_script == f"{tmp_path}/other.py"


def test_a_script_that_is_missing_is_not_taken_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "score.py").touch()
    (tmp_path / "jobs" / "job.yml").write_text("entry_script: score.py\ninputs: in\noutput: out\n")
    monkeypatch.chdir(tmp_path)
    found = load("jobs/job.yml", {})
    assert (found.source_directory, found.entry_script) == (tmp_path / "jobs", "score.py")


def test_a_dotted_module_is_known_by_its_file(tmp_path: Path) -> None:
    found = load(job(entry_script="package.main", source_directory=tmp_path), {})
    assert tmp_path / "package" / "main.py" in found.script_files
    assert tmp_path / "package" / "main" / "__init__.py" in found.script_files


# Ways to give a job.


def test_keywords_override_a_mapping_a_file_and_a_job_config(tmp_path: Path) -> None:
    path = tmp_path / "job.yml"
    path.write_text("entry_script: score.py\ninputs: in\noutput: out\nrun_max_try: 5\nnode_count: 2\n")
    for given in (path, str(path), {**job(), "run_max_try": 5, "node_count": 2}, load(path, {})):
        found = load(given, {"run_max_try": 7})
        assert (found.run_max_try, found.node_count) == (7, 2)


def test_a_job_config_made_by_hand_has_the_same_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = JobConfig(**job(inputs=Path("in")))
    assert made == load(job(), {})
    assert load(made, {}) is made
    assert load(made, {"output": "other"}).output == tmp_path / "other"


def test_inputs_may_be_paths_tuples_and_iterators() -> None:
    for given in (Path("/a"), "/a", ["/a"], (Path("/a"),), iter(["/a"])):
        assert load(job(inputs=given), {}).inputs == ["/a"]


def test_where_no_limit_is_given_it_follows_from_the_others() -> None:
    found = load(job(run_invocation_timeout=10), {})
    assert found.init_seconds == 60
    assert found.progress_seconds > found.init_seconds + found.run_invocation_timeout + found.task_overhead_timeout
    assert load(job(init_timeout=5, progress_update_timeout=7), {}).init_seconds == 5
    assert found.processes >= 1


def test_a_side_input_that_is_not_named_is_known_before_the_run() -> None:
    with pytest.raises(ConfigError, match=r"no side input called tabel .* Known are: table"):
        load(job(side_inputs={"table": "x"}, arguments=["--t", "${{side_inputs.tabel}}"]), {})
