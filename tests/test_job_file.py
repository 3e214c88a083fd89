from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from daskscore.errors import ConfigError
from daskscore.job_file import parse_assignment, read_job_file


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("job.yml")


def refused(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError) as caught:
        read_job_file(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty, not a mapping. It must hold lines like 'entry_script: score.py'"),
        ("# only a comment\n", "is empty, not a mapping. It must hold lines like 'entry_script: score.py'"),
        ("- a\n- b\n", "is a list, not a mapping. It must hold lines like 'entry_script: score.py'"),
        ("hello", "is a text, not a mapping. It must hold lines like 'entry_script: score.py'"),
        ("42", "is a int, not a mapping. It must hold lines like 'entry_script: score.py'"),
        (b"\x89PNG\r\n\xff", "cannot be read: it is no UTF-8 text. Check the path"),
        ("a: \0", "is no YAML: unacceptable character #x0000: special characters are not allowed. Is it a text file?"),
        (
            "a: 1\n---\nb: 2\n",
            "is no YAML in line 2: expected a single document in the stream that begins in line 1, but",
        ),
        ("a: [1\nb: 2\n", "is no YAML in line 2: expected ',' or ']', but got ':', while parsing a flow sequence that"),
        ("a:\n\tb: 1\n", "is no YAML in line 2: found character '\\t' that cannot start any token. Indent with spaces"),
        (
            "a: 1\nb: 2\na: 3\n",
            "is no YAML in line 3: a stands here again, after line 1. Keep one of the two\n    a: 3",
        ),
        ("a: {b: 1, b: 2}", "is no YAML in line 1: b stands here again, after line 1. Keep one of the two"),
        ("a: [{b: 1, b: 2}]", "is no YAML in line 1: b stands here again"),
        ("a: !!python/name:os.system", "is no YAML in line 1: could not determine a constructor for the tag"),
        ("a: *b", "is no YAML in line 1: found undefined alias 'b'"),
        ("a: 2024-13-45", "has a value that cannot be read: month must be in 1..12. Put it in quotes"),
        ("[" * 1000, "is no YAML that a job can have: it is nested too deeply"),
    ],
)
def test_a_file_that_is_no_job_says_why_and_in_which_line(path: Path, content: str | bytes, message: str) -> None:
    assert refused(path, content).startswith(f"job file job.yml {message}")


def test_the_line_itself_is_shown(path: Path) -> None:
    assert refused(path, "entry_script: score.py\ninputs: [a\noutput: out\n").splitlines()[1:] == [
        "    output: out",
        "          ^",
    ]


def test_a_file_that_is_not_there_a_folder_and_a_script_are_each_told_apart(path: Path) -> None:
    for name, message in [
        ("none.yml", "job file none.yml cannot be read: No such file or directory. Check the path"),
        (".", "job file . is a folder. Name the file in it; data is named with --input"),
        ("score.py", "job file score.py is a Python file. Name a script with --entry-script score.py"),
    ]:
        with pytest.raises(ConfigError) as caught:
            read_job_file(Path(name))
        assert str(caught.value) == message


def test_a_byte_order_mark_is_no_part_of_the_first_key(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbfentry_script: score.py\n")
    assert read_job_file(path) == {"entry_script": "score.py"}


def test_json_is_a_job_file_too(path: Path) -> None:
    path.write_text('{"entry_script": "score.py", "run_max_try": 5}')
    assert read_job_file(path) == {"entry_script": "score.py", "run_max_try": 5}


def test_what_the_script_is_given_stays_as_it_is_written(path: Path) -> None:
    path.write_text(
        "arguments: [--version, 1.10, --mask, 0x1F, --day, 2024-01-02, --on, Yes]\n"
        "environment_variables: {VERSION: 1.10, LEVEL: 010, ON: on, EMPTY: ''}\n"
        "mini_batch_size: 10\n"
    )
    assert read_job_file(path) == {
        "arguments": ["--version", "1.10", "--mask", "0x1F", "--day", "2024-01-02", "--on", "Yes"],
        "environment_variables": {"VERSION": "1.10", "LEVEL": "010", "ON": "on", "EMPTY": ""},
        "mini_batch_size": 10,
    }


def test_merge_keys_and_anchors_repeat_nothing(path: Path) -> None:
    path.write_text("cluster: &c {kind: local, a: 1}\nother: {<<: *c, a: 2}\nthird: {<<: *c}\n")
    assert read_job_file(path)["other"] == {"kind": "local", "a": 2}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("run_max_try=5", ("run_max_try", "5")),
        ("run-max-try=5", ("run_max_try", "5")),
        ("append_row_separator=,", ("append_row_separator", ",")),
        ("append_row_separator==", ("append_row_separator", "=")),
        ("inputs=*.png", ("inputs", "*.png")),
        ("inputs=[a, b]", ("inputs", ["a", "b"])),
        ("inputs='[a]'", ("inputs", "[a]")),
        ("init_timeout=null", ("init_timeout", None)),
        ("arguments=--a 1.10", ("arguments", "--a 1.10")),
        ("arguments=[--a, 1.10]", ("arguments", ["--a", "1.10"])),
        ("output=", ("output", "")),
    ],
)
def test_an_assignment_is_a_text_unless_it_looks_like_a_list_or_a_mapping(text: str, value: tuple[str, Any]) -> None:
    assert parse_assignment(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run_max_try", "--set run_max_try: there is no = in it. Write it like --set run_max_try=5"),
        ("=5", "--set =5: there is no key in it. Write it like --set run_max_try=5"),
        ("", "--set : there is no = in it. Write it like --set run_max_try=5"),
        ("inputs=[a", "--set inputs is no YAML in line 1: expected ',' or ']', but got '<stream end>'"),
        ("cluster={a: 1, a: 2}", "--set cluster is no YAML in line 1: a stands here again"),
    ],
)
def test_an_assignment_that_cannot_be_read_is_told_with_its_form(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_assignment(text)
    assert str(caught.value).startswith(message)
