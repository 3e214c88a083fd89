"""What a script finds around it: its arguments, its folder, its siblings, its environment."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

import daskscore
from tests.support import Workbench

Score = Callable[..., list[str]]


@pytest.fixture
def score(bench: Workbench, client: Client, monkeypatch: pytest.MonkeyPatch) -> Score:
    """The rows of one rank mini-batch, or of the inputs that are given."""
    monkeypatch.chdir(bench.folder)

    def score(**settings: Any) -> list[str]:
        work = {} if "inputs" in settings else {"rank_mini_batch_count": 1}
        settings = {"entry_script": "score.py", "output": "out", **work, **settings}
        report = daskscore.run(client=client, overwrite=True, **settings)
        assert report.status == "Completed", report.message
        return (bench.output / report.output).read_text().splitlines()

    return score


def test_the_arguments_are_there_before_the_script_is_imported(bench: Workbench, score: Score) -> None:
    bench.script(
        "import sys\nAT_IMPORT = list(sys.argv)\ndef run(mini_batch):\n    return [repr(AT_IMPORT), repr(sys.argv)]\n"
    )
    at_import, in_run = map(
        ast.literal_eval,
        score(
            arguments=["--model", "a b", "positional"],
            allowed_failed_count=3,
            allowed_failed_percent=2.5,
            process_count_per_node=1,
            mini_batch_size=7,
            run_invocation_timeout=0.5,
        ),
    )
    assert at_import == in_run
    assert at_import[:3] == ["score.py", "--client_sdk_version", daskscore.__version__]
    assert at_import[3:-3] == [
        *("--scoring_module_name", "score.py"),
        *("--mini_batch_size", "7"),
        *("--error_threshold", "-1"),
        *("--output_action", "append_row"),
        *("--logging_level", "INFO"),
        *("--run_invocation_timeout", "0.5"),
        *("--run_max_try", "3"),
        *("--create_snapshot_at_runtime", "True"),
        *("--allowed_failed_count", "3"),
        *("--allowed_failed_percent", "2.5"),
        *("--append_row_file_name", "parallel_run_step.txt"),
        *("--output", str(bench.output)),
        *("--process_count_per_node", "1"),
    ]
    assert at_import[-3:] == ["--model", "a b", "positional"]


def test_arguments_may_be_required_and_parsed_at_import(bench: Workbench, score: Score) -> None:
    bench.script(
        """
        import argparse
        parser = argparse.ArgumentParser(allow_abbrev=False)
        parser.add_argument("--model", required=True)
        parser.add_argument("--logging_level")
        args, unknown = parser.parse_known_args()
        def run(mini_batch):
            return [args.model, args.logging_level.upper()]
        """
    )
    assert score(arguments="--model m1", logging_level="debug") == ["m1", "DEBUG"]


def test_side_inputs_become_paths_in_arguments(bench: Workbench, score: Score) -> None:
    bench.script("import sys\ndef run(mini_batch):\n    return [sys.argv[-2], open(sys.argv[-1]).read()]\n")
    (bench.folder / "models").mkdir()
    (bench.folder / "models" / "best.txt").write_text("weights")
    assert score(
        side_inputs={"models": "models", "other": "score.py"},
        arguments=["--both=${{side_inputs.models}}:${{side_inputs.other}}", "${{side_inputs.models}}/best.txt"],
    ) == [f"--both={bench.folder}/models:{bench.folder}/score.py", "weights"]


def test_the_environment_is_the_jobs(bench: Workbench, score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.script(
        "import os\nAT_IMPORT = os.environ['VERSION']\n"
        "def run(mini_batch):\n    return [AT_IMPORT, os.environ['FLAG'], os.environ['PYTHONHASHSEED']]\n"
    )
    monkeypatch.setenv("FLAG", "the driver's")
    assert score(environment_variables={"VERSION": "1.10", "FLAG": True}) == ["1.10", "true", "0"]
    assert score(environment_variables={"VERSION": "2", "PYTHONHASHSEED": 7}) == ["2", "the driver's", "7"]


def test_files_may_be_written_below_the_output_path(bench: Workbench, client: Client) -> None:
    bench.script(
        """
        import os
        HERE = os.environ["AZUREML_BI_OUTPUT_PATH"]
        def run(mini_batch):
            for path in mini_batch:
                with open(os.path.join(HERE, os.path.basename(path) + ".upper"), "w") as file:
                    file.write(open(path).read().upper())
            return mini_batch
        """
    )
    inputs = bench.inputs("a", "b")
    script = bench.folder / "score.py"
    report = daskscore.run(
        entry_script=script, inputs=inputs, output=bench.output, output_action="summary_only", client=client
    )
    assert (report.status, report.output) == ("Completed", str(bench.output))
    assert [(bench.output / f"{name}.upper").read_text() for name in "ab"] == ["A", "B"]
    assert not (bench.output / "parallel_run_step.txt").exists()


def test_a_script_knows_where_it_stands(bench: Workbench, score: Score) -> None:
    script = bench.script("import os\ndef run(mini_batch):\n    return [__file__, __name__, os.getcwd()]\n")
    assert score() == [str(script), "score", str(bench.folder)]


def test_siblings_are_importable_and_import_the_script_itself(bench: Workbench, score: Score) -> None:
    bench.script(
        "import helper\nSTATE = []\ndef init():\n    STATE.append('init')\ndef run(mini_batch):\n    return helper.state()\n"
    )
    bench.script("def state():\n    import score\n    return score.STATE\n", "helper.py")
    assert score() == ["init"]


def test_a_nested_script_finds_its_source_directory_and_its_own_folder(bench: Workbench, score: Score) -> None:
    for folder in ("code/tasks", "code/shared"):
        (bench.folder / folder).mkdir(parents=True)
    bench.script("NAME = 'shared'\n", "code/shared/names.py")
    bench.script("NAME = 'neighbour'\n", "code/tasks/neighbour.py")
    bench.script(
        """
        import os
        import neighbour
        from shared.names import NAME
        def run(mini_batch):
            return [NAME, neighbour.NAME, os.getcwd(), os.path.realpath(os.path.join(__file__, ".."))]
        """,
        "code/tasks/embed.py",
    )
    here = str(bench.folder / "code")
    assert score(source_directory="code", entry_script="tasks/embed.py") == [
        "shared",
        "neighbour",
        here,
        f"{here}/tasks",
    ]


def test_a_dotted_module_may_import_from_its_package(bench: Workbench, score: Score) -> None:
    (bench.folder / "code" / "batch").mkdir(parents=True)
    bench.script("", "code/batch/__init__.py")
    bench.script("NAME = 'sibling'\n", "code/batch/parts.py")
    bench.script("from .parts import NAME\ndef run(mini_batch):\n    return [NAME, __name__]\n", "code/batch/main.py")
    assert score(source_directory="code", entry_script="batch.main") == ["sibling", "batch.main"]


@pytest.mark.parametrize("name", ["json.py", "my-score.py", "daskscore.py", "2024.py", "caf\u00e9.py"])
def test_a_script_may_have_any_name(bench: Workbench, score: Score, name: str) -> None:
    bench.script("import json\ndef run(mini_batch):\n    return [json.loads('[]') or __file__]\n", name)
    assert score(entry_script=name) == [str(bench.folder / name)]


def test_a_script_that_was_mended_within_the_same_second_is_the_mended_one(bench: Workbench, score: Score) -> None:
    for text in ("old", "new"):
        script = bench.script(f"def run(mini_batch):\n    return ['{text}']\n")
        os.utime(script, (1_700_000_000, 1_700_000_000))
        assert score() == [text]


def test_importing_a_script_leaves_nothing_beside_it(bench: Workbench, score: Score) -> None:
    bench.script("def run(mini_batch):\n    return ['row']\n")
    score()
    assert sorted(path.name for path in Path(bench.folder).iterdir()) == ["out", "score.py"]
