from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.acceptance.bad_input.job import JOB, SCRIPT, Run, failed_items, rows
from tests.support import Workbench


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "input {}/in does not exist: there is no in in {}. Did you mean inn?"),
        (["--input", "empty"], "input {}/empty holds no files (hidden ones do not count). Check the path"),
        (["--input", "hidden"], "input {}/hidden holds no files (hidden ones do not count). Check the path"),
        (["--input", "inn/*.png"], "input {}/inn/*.png matches no file (hidden ones do not count). Check the path"),
        (["--input", "pipe"], "input {}/pipe is neither a file nor a folder. Name a file, a folder or a glob"),
        (
            ["--input", "dangling"],
            "input {}/dangling cannot be read: No such file or directory (it is a link to nowhere). Check the path",
        ),
        (["--input", ""], "inputs: '' names no path. Write a file, a folder or a glob, in quotes if it is a number"),
        (["--input", "x://a/b"], "input x://a/b is no URI. Write one like s3://bucket/folder/, or a local path"),
        (["--set", "inputs={kind: locl, path: inn}"], "input: there is none called locl. Did you mean local?"),
        (
            ["--set", "inputs={kind: 3, path: inn}"],
            "inputs: 3 is no kind of input. Write its name, like kind: package.module:Class",
        ),
        (["--set", "inputs={path: inn, sort: no}"], "inputs: an entry has no key sort. Did you mean format?"),
        (
            ["--set", "inputs={kind: 'no_module:Input', path: inn}"],
            "input: no_module:Input cannot be loaded: ModuleNotFoundError: No module named 'no_module'. "
            "It is read as package.module:attribute, and must be importable where daskscore runs",
        ),
        (
            ["--set", "inputs={kind: 'os:sep', path: inn}"],
            "input: os:sep is no function or class, but '/'. Name one that can be called",
        ),
        (
            ["--input", "inn", "--set", "side_inputs={model: none.bin}"],
            "side_inputs.model: {}/none.bin does not exist. Check the path",
        ),
        (
            ["--input", "inn", "--output", "inn"],
            "input {}/inn is the output folder as well. Name another folder with --output",
        ),
    ],
)
def test_an_input_that_cannot_be_used(bench: Workbench, run: Run, words: list[str], message: str) -> None:
    bench.script(SCRIPT)
    for name in ("inn", "empty", "hidden"):
        (bench.folder / name).mkdir()
    (bench.folder / "inn" / "a").touch()
    (bench.folder / "hidden" / ".a").touch()
    (bench.folder / "dangling").symlink_to("nowhere")
    os.mkfifo(bench.folder / "pipe")
    before = {*bench.folder.rglob("*")}
    words = words or ["--input", "in"]
    done = run("--entry-script", "score.py", "--output", "out", *words, "--set", "preflight=no", ends=2)
    assert done.stderr == f"daskscore: {message.format(bench.folder, bench.folder)}\n"
    assert {*bench.folder.rglob("*")} == before


def test_an_unreadable_file_fails_alone_unless_it_is_all_that_was_named(
    bench: Workbench, like_other_users: Callable[..., Any]
) -> None:
    bench.script(SCRIPT)
    secret = bench.inputs("a", "secret", "z") / "secret"
    secret.chmod(0)
    assert like_other_users().returncode == 0
    assert rows(bench) == ["a", "z"]
    (failed,) = failed_items(bench)
    assert (failed["item"], failed["kind"]) == (str(secret), "input")
    assert failed["message"] == f"{secret} cannot be read: Permission denied. Give this user the right to read it"
    done = like_other_users("--input", str(secret), "--overwrite")
    assert (done.returncode, done.stderr) == (
        2,
        f"daskscore: input {secret} cannot be read: Permission denied. Check its rights\n",
    )


@pytest.mark.parametrize("name", ["in", "in/sub"])
def test_an_unreadable_folder_is_no_empty_folder(
    bench: Workbench, like_other_users: Callable[..., Any], name: str
) -> None:
    bench.script(SCRIPT)
    folder = bench.inputs("a").parent / name
    folder.mkdir(exist_ok=True)
    folder.chmod(0)
    done = like_other_users()
    folder.chmod(0o700)
    assert (done.returncode, done.stderr) == (
        2,
        f"daskscore: input folder {folder} cannot be read: Permission denied. Check its rights\n",
    )
    assert not bench.output.exists()


def test_links_and_pipes_in_a_folder_harm_no_other_item(bench: Workbench, run: Run) -> None:
    bench.script(SCRIPT)
    folder = bench.inputs("a", "b")
    os.mkfifo(folder / "pipe")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "itself").symlink_to("itself")
    (folder / "up").symlink_to("..")
    (bench.folder / "outside").mkdir()
    run(*JOB)
    assert rows(bench) == ["a", "b", "score.py"]
    assert {os.path.basename(item["item"]): item["message"].partition(": ")[2] for item in failed_items(bench)} == {
        "dangling": "No such file or directory. It was there when the run was planned",
        "itself": "Too many levels of symbolic links. It was there when the run was planned",
    }


def test_a_file_that_is_gone_when_its_turn_comes_fails_alone(bench: Workbench, run: Run) -> None:
    bench.script(f"import contextlib\n{SCRIPT}def init():\n    with contextlib.suppress(OSError): os.remove('in/b')\n")
    bench.inputs(*"abc")
    run(*JOB)
    assert rows(bench) == ["a", "c"]
    (failed,) = failed_items(bench)
    assert (os.path.basename(failed["item"]), failed["kind"]) == ("b", "input")


HOSTILE = (
    b"a\nb", b"\r", b"\t", b"it's", b'"quoted"', b"-rf", b"--output=x", b"x" * 255, "🎉".encode(), b"caf\xe9", b"\xff\xfe",
    b"${HOME}", b"*", b"[a]", b"a,b", b" ", b"\\", b"%s", b"{0}", b"\x1b[31m", "\u2028".encode(), "é".encode(), "e\u0301".encode(),
)  # fmt: skip


def test_any_file_name_comes_out_as_it_is_on_disk(bench: Workbench, run: Run) -> None:
    bench.script(SCRIPT)
    bench.inputs(*map(os.fsdecode, HOSTILE))
    run(*JOB, "--mini-batch-size", "3")
    in_order = sorted(map(os.fsdecode, HOSTILE))
    assert (bench.output / "parallel_run_step.txt").read_bytes() == b"".join(os.fsencode(n) + b"\n" for n in in_order)


def test_any_file_name_is_named_among_the_failed_items(bench: Workbench, run: Run) -> None:
    bench.script("def run(mini_batch):\n    raise ValueError(mini_batch[0])\n")
    folder = bench.inputs(*map(os.fsdecode, HOSTILE))
    run(*JOB, "--mini-batch-size", "3", "--run-max-try", "1", ends=1)
    assert {os.fsencode(item["item"]) for item in failed_items(bench)} == {
        os.fsencode(folder) + b"/" + n for n in HOSTILE
    }
