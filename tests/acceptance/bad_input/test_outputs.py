from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.bad_input.job import JOB, SCRIPT, Run, everything_below
from tests.support import DEADLINE_SECONDS, Workbench, wait_until

LONG = "x" * 300


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("file", "output {}/file is a file. Name a folder; the rows go to parallel_run_step.txt in it"),
        (
            "file/below",
            "output {}/file/below cannot be written: Not a directory ({}/file/below/.daskscore). "
            "Name another folder with --output",
        ),
        (
            LONG,
            f"output {{}}/{LONG} cannot be written: File name too long ({{}}/{LONG}/.daskscore). "
            "Name another folder with --output",
        ),
        (
            "theirs",
            "output already there: {}/theirs/parallel_run_step.txt. Name another folder with --output, "
            "or replace the file with --overwrite",
        ),
    ],
)
def test_an_output_that_cannot_be_used(bench: Workbench, run: Run, name: str, message: str) -> None:
    bench.script(SCRIPT)
    bench.inputs("a")
    (bench.folder / "file").touch()
    (bench.folder / "theirs").mkdir()
    (bench.folder / "theirs" / "parallel_run_step.txt").write_text("theirs")
    before = everything_below(bench.folder)
    done = run(*JOB, "--output", name, ends=2)
    assert done.stderr == f"daskscore: {message.format(bench.folder, bench.folder)}\n"
    assert everything_below(bench.folder) == before


def test_a_folder_that_cannot_be_written(bench: Workbench, like_other_users: Callable[..., Any]) -> None:
    bench.script(SCRIPT)
    bench.inputs("a")
    bench.output.mkdir(0o500)
    done = like_other_users()
    assert (done.returncode, done.stderr) == (
        2,
        f"daskscore: output {bench.output} cannot be written: Permission denied ({bench.output}/.daskscore). "
        "Name another folder with --output\n",
    )


@pytest.mark.parametrize("flag", ["--overwrite", "--resume"])
def test_a_folder_of_logs_that_is_not_ours_is_never_touched(bench: Workbench, run: Run, flag: str) -> None:
    bench.script(SCRIPT)
    bench.inputs("a")
    (bench.output / "logs").mkdir(parents=True)
    (bench.output / "logs" / "theirs").write_text("theirs")
    before = everything_below(bench.output)
    assert run(*JOB, flag, ends=2).stderr == (
        f"daskscore: {bench.output}/logs is there, but no run of daskscore wrote it. Name another folder with --output\n"
    )
    assert everything_below(bench.output) == before


def test_folders_made_for_the_output_are_gone_when_the_job_is_refused(bench: Workbench, run: Run) -> None:
    bench.script("x = 1 / 0")
    bench.inputs("a")
    run(*JOB, "--output", "a/b/c", ends=2)
    assert not (bench.folder / "a").exists()


def test_an_output_below_the_input_is_no_input(bench: Workbench, run: Run) -> None:
    bench.script(SCRIPT)
    bench.inputs("a", "z")
    for words in (["--output", "in/out"], ["--output", "in/out", "--overwrite"], ["--output", "in/out", "--resume"]):
        run(*JOB, *words)
        assert (bench.folder / "in" / "out" / "parallel_run_step.txt").read_text() == "a\nz\n"


@pytest.mark.usefixtures("nothing_left_behind")
def test_a_second_driver_on_the_same_output_is_sent_away(bench: Workbench, run: Run) -> None:
    """The first one's script waits at a pipe until the second has been refused."""
    bench.script("def run(mini_batch):\n    open('began', 'w')\n    open('gate').read()\n    return mini_batch\n")
    bench.inputs("a")
    os.mkfifo(bench.folder / "gate")
    words = bench.command("--process-count-per-node", "1")
    with subprocess.Popen(words, cwd=bench.folder, stdout=subprocess.PIPE, text=True) as first:
        wait_until((bench.folder / "began").exists, "the first driver's script")
        for flags in ((), ("--resume",), ("--overwrite",)):
            assert run(*JOB, *flags, ends=2).stderr == (
                f"daskscore: output {bench.output} is in use by process {first.pid} on {os.uname().nodename}. "
                "Wait for it, or name another folder with --output\n"
            )
        (bench.folder / "gate").write_text("")
        stdout, _ = first.communicate(timeout=DEADLINE_SECONDS)
    assert stdout.startswith("Completed: 1 of 1 mini-batches")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A small disk of its own; called again, it becomes larger."""
    place = tmp_path / "disk"
    place.mkdir()

    def sized(size: str) -> Path:
        options = f"{'remount,' if os.path.ismount(place) else ''}size={size}"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no disk of its own can be mounted here: {done.stderr.strip()}")
        return place

    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    yield sized
    subprocess.run(["umount", "--lazy", place], check=False, capture_output=True)  # a log may be open still


BIG_ROWS = "def run(mini_batch):\n    return [open(path).read() * 20_000 for path in mini_batch]\n"


def test_a_disk_that_fills_up_ends_the_run_and_room_on_it_completes_it(
    bench: Workbench, run: Run, disk: Callable[[str], Path]
) -> None:
    bench.script(BIG_ROWS)
    bench.inputs(*(f"{number:02}" for number in range(20)))
    output = disk("256k") / "out"
    words = (*JOB, "--output", str(output), "--mini-batch-size", "1")
    stderr = run(*words, ends=1).stderr.splitlines()
    # Rows, journal or logs: whichever is written when the last byte is gone.
    assert "No space left on device" in stderr[-1]
    assert str(output) in stderr[-1]
    assert not (output / "parallel_run_step.txt").exists()
    disk("4m")
    run(*words, "--resume")
    expected = "".join(f"{number:02}" * 20_000 + "\n" for number in range(20))
    assert (output / "parallel_run_step.txt").read_text() == expected


def test_a_disk_without_room_for_the_assembled_rows_keeps_the_scored_ones(
    bench: Workbench, run: Run, disk: Callable[[str], Path]
) -> None:
    bench.script(BIG_ROWS)
    bench.inputs(*(f"{number:02}" for number in range(20)))
    output = disk("1200k") / "out"
    words = (*JOB, "--output", str(output), "--mini-batch-size", "1")
    assert run(*words, ends=1).stderr.splitlines()[-1] == (
        f"No space left on device: {output}/parallel_run_step.txt could not be assembled. All rows are kept: free some "
        "space and run the same command with --resume"
    )
    attempts = json.loads((output / "report.json").read_text())["attempts"]
    disk("4m")
    run(*words, "--resume")
    assert (output / "parallel_run_step.txt").stat().st_size == 20 * 40_001
    assert json.loads((output / "report.json").read_text())["attempts"] == attempts


@pytest.mark.parametrize("room", [0, 8192])
def test_a_disk_that_is_full_before_the_run_is_refused(
    bench: Workbench, run: Run, disk: Callable[[str], Path], room: int
) -> None:
    bench.script(SCRIPT)
    bench.inputs(*(f"{number:0200}" for number in range(100)))
    place = disk("256k")
    with (place / "full").open("wb", buffering=0) as file:
        while file.write(bytes(4096)) == 4096 and file.tell() < 262_144 - 4096 - room:
            pass
    done = run(*JOB, "--output", f"{place}/out", ends=2)
    assert done.stderr == (
        f"daskscore: output {place}/out cannot be written: No space left on device. "
        "Make room there, or name another folder with --output\n"
    )
    assert [path.name for path in place.iterdir()] == ["full"]


def test_a_script_that_prints_is_not_to_blame_for_a_full_disk(
    bench: Workbench, run: Run, disk: Callable[[str], Path]
) -> None:
    bench.script(
        "def run(mini_batch):\n    print('x' * 20_000)\n    return [open(path).read() * 2_000 for path in mini_batch]\n"
    )
    bench.inputs(*(f"{number:02}" for number in range(40)))
    output = disk("512k") / "out"
    words = (*JOB, "--output", str(output), "--mini-batch-size", "1")
    assert "No space left on device" in run(*words, ends=1).stderr
    assert not (output / "failed_items.jsonl").exists()
    disk("4m")
    run(*words, "--resume")
    expected = "".join(f"{number:02}" * 2_000 + "\n" for number in range(40))
    assert (output / "parallel_run_step.txt").read_text() == expected


def test_a_disk_that_cannot_be_written_needs_no_room(bench: Workbench, run: Run, disk: Callable[[str], Path]) -> None:
    bench.script(SCRIPT)
    bench.inputs("a")
    place = disk("256k")
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    done = run(*JOB, "--output", f"{place}/out", ends=2)
    assert done.stderr.endswith("Read-only file system. Name another folder with --output\n")
