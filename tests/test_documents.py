"""What README.md shows is run, and what it lists is what there is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from daskscore.config import JobConfig
from tests.support import DEADLINE_SECONDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As the README supposes it: its script, its job file, and some texts."""
    (tmp_path / "score.py").write_text(blocks("python")[0])
    (tmp_path / "job.yml").write_text(blocks("yaml")[0])
    (tmp_path / "texts").mkdir()
    for number, text in enumerate(["good good", "bad", "neither"]):
        (tmp_path / "texts" / f"{number}.txt").write_text(text)
    return tmp_path


def ran(folder: Path, *command: str) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=DEADLINE_SECONDS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="the README's commands are for a shell")
@pytest.mark.parametrize("block", [block for block in blocks("bash") if block.startswith("daskscore run")])
def test_a_command_of_the_readme_scores_its_texts(folder: Path, block: str) -> None:
    ran(folder, "bash", "-e", "-c", block)
    assert (folder / "out" / "parallel_run_step.txt").read_text() == "0.txt,2\n1.txt,-1\n2.txt,0\n"


def test_the_python_of_the_readme_scores_its_texts(folder: Path) -> None:
    (folder / "plain.py").write_text(blocks("python")[1])
    assert ran(folder, sys.executable, "plain.py") == "Completed 3 of 3\n"


def test_the_dask_collection_of_the_readme_scores_its_texts(folder: Path) -> None:
    at_a_free_port = blocks("python")[2].replace("Client()", "Client(dashboard_address='127.0.0.1:0')")
    (folder / "lazy.py").write_text(at_a_free_port)
    assert ran(folder, sys.executable, "lazy.py").splitlines()[-1] == "1"


def test_the_script_of_the_readme_names_an_item_without_a_result(folder: Path) -> None:
    (folder / "score.py").write_text(blocks("python")[3])
    (folder / "texts" / "1.txt").write_text("")
    ran(folder, "daskscore", "run", "--entry-script", "score.py", "--input", "texts/", "--output", "out/")
    assert (folder / "out" / "parallel_run_step.txt").read_text() == "GOOD GOOD\nNEITHER\n"
    assert "there is nothing in it" in (folder / "out" / "failed_items.jsonl").read_text()


def test_the_readme_lists_every_key_of_a_job_and_no_other() -> None:
    section = README.split("## Keys of a job")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(dict.fromkeys(_as_listed(section)))


def _as_listed(section: str) -> list[str]:
    """The keys of a job, in the order of the README."""
    place = {name: section.find(f"| `{name}` |") for name in JobConfig.model_fields}
    missing = [name for name, where in place.items() if where < 0]
    assert not missing, f"not in the README: {missing}"
    return sorted(place, key=lambda name: place[name])


def test_the_overhead_benchmark_compares_equal_outputs(tmp_path: Path) -> None:
    options = ("--mini-batches", "400", "--peer-mini-batches", "40", "--rounds", "1")
    table = ran(tmp_path, sys.executable, str(ROOT / "benchmarks" / "overhead.py"), *options)
    assert table.startswith("| engine |")
    assert "| daskscore | 400 |" in table
