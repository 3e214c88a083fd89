from __future__ import annotations

import os
import socket
from itertools import islice
from pathlib import Path

import pytest

from daskscore.errors import InputError
from daskscore.inputs.local import LocalFiles

HOSTILE = [
    "a\nb",
    'it\'s "quoted"',
    "-rf",
    "--output=x",
    "x" * 255,
    "🎉",
    "${HOME}",
    "*",
    "[ab]",
    os.fsdecode(b"\xff\xfe"),
]


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def names(path: Path | str, *, top: Path, skip: str = "") -> list[str]:
    return [os.path.relpath(item, top) for item in LocalFiles(str(path), skip).items()]


def refused(path: Path | str, skip: str = "") -> str:
    with pytest.raises(InputError) as caught:
        list(LocalFiles(str(path), skip).items())
    return str(caught.value)


def test_a_folder_is_listed_in_the_order_of_whole_paths(tmp_path: Path) -> None:
    touch(tmp_path, "b", "a/2", "a/10", "a/b/1", "B", "c/1", "a.txt")
    assert names(tmp_path, top=tmp_path) == ["B", "a.txt", "a/10", "a/2", "a/b/1", "b", "c/1"]


def test_hidden_files_and_folders_are_no_items(tmp_path: Path) -> None:
    touch(tmp_path, ".a", "b", ".git/c", "d/.e")
    assert names(tmp_path, top=tmp_path) == ["b"]


def test_any_name_comes_out_as_it_is_on_disk(tmp_path: Path) -> None:
    touch(tmp_path, *HOSTILE)
    assert names(tmp_path, top=tmp_path) == sorted(HOSTILE)
    for name in HOSTILE:
        assert names(tmp_path / name, top=tmp_path) == [name]


def test_a_relative_path_gives_absolute_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(touch(tmp_path, "in/a"))
    assert list(LocalFiles("in/../in").items()) == [f"{tmp_path}/in/a"]


def test_listing_is_lazy(tmp_path: Path) -> None:
    touch(tmp_path, "a/1", "b/2")
    items = LocalFiles(str(tmp_path)).items()
    assert list(islice(items, 1)) == [f"{tmp_path}/a/1"]
    touch(tmp_path, "b/3")
    assert list(items) == [f"{tmp_path}/b/2", f"{tmp_path}/b/3"]


# The output folder.


def test_the_output_below_the_input_is_passed_over_whichever_way_leads_there(tmp_path: Path) -> None:
    touch(tmp_path, "in/a", "in/out/rows", "in/z")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "other").symlink_to("out")
    for way in ("in", "link"):
        for skip in ("in/out", "link/out"):
            assert names(tmp_path / way, top=tmp_path / way, skip=f"{tmp_path}/{skip}") == ["a", "z"]
            assert names(tmp_path / way / "*", top=tmp_path / way, skip=f"{tmp_path}/{skip}") == ["a", "z"]
            assert names(tmp_path / way / "**", top=tmp_path / way, skip=f"{tmp_path}/{skip}") == ["a", "z"]


def test_the_output_folder_itself_is_no_input(tmp_path: Path) -> None:
    touch(tmp_path, "in/a")
    assert refused(tmp_path / "in", skip=f"{tmp_path}/in") == (
        f"input {tmp_path}/in is the output folder as well. Name another folder with --output"
    )


# Links, pipes and what cannot be read.


def test_a_link_to_a_folder_above_is_not_followed_again(tmp_path: Path) -> None:
    touch(tmp_path, "in/a", "in/sub/b", "far/c")
    (tmp_path / "in" / "here").symlink_to(".")
    (tmp_path / "in" / "sub" / "up").symlink_to("..")
    (tmp_path / "in" / "far").symlink_to("../far")
    (tmp_path / "far" / "back").symlink_to("../in")
    assert names(tmp_path / "in", top=tmp_path / "in") == ["a", "far/c", "sub/b"]
    assert names(tmp_path / "in" / "**" / "*", top=tmp_path / "in") == ["a", "far/c", "sub/b"]


def test_a_link_that_leads_nowhere_is_an_item_that_cannot_be_read(tmp_path: Path) -> None:
    touch(tmp_path, "in/a")
    (tmp_path / "in" / "dangling").symlink_to("nowhere")
    (tmp_path / "in" / "itself").symlink_to("itself")
    for way in ("in", "in/*", "in/**"):
        assert names(tmp_path / way, top=tmp_path / "in") == ["a", "dangling", "itself"]


def test_pipes_sockets_and_links_to_them_are_no_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(touch(tmp_path, "a"))
    os.mkfifo("pipe")
    os.symlink("pipe", "link")
    os.symlink("/dev/zero", "zero")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        for way in (".", "*", "**"):
            assert names(way, top=tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "input {}/none does not exist: there is no none in {}. Check the path"),
        ("images/1", "input {}/images/1 does not exist: there is no images in {}. Did you mean image?"),
        ("pipe", "input {}/pipe is neither a file nor a folder. Name a file, a folder or a glob"),
        (
            "dangling",
            "input {}/dangling cannot be read: No such file or directory (it is a link to nowhere). Check the path",
        ),
        ("empty", "input {}/empty holds no files (hidden ones do not count). Check the path"),
        ("hidden", "input {}/hidden holds no files (hidden ones do not count). Check the path"),
        ("image/*.png", "input {}/image/*.png matches no file (hidden ones do not count). Check the path"),
        ("none/**/*.png", "input {}/none/**/*.png matches no file (hidden ones do not count). Check the path"),
    ],
)
def test_an_input_that_gives_nothing_says_why(tmp_path: Path, name: str, message: str) -> None:
    touch(tmp_path, "image/a.jpg", "hidden/.a")
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert refused(tmp_path / name) == message.format(tmp_path, tmp_path)


# Globs.


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.png", ["b.png"]),
        ("?/*.png", ["a/1.png", "a/2.png", "c/3.png"]),
        ("[ab]/*.png", ["a/1.png", "a/2.png"]),
        ("*", ["a/1.png", "a/2.png", "a/deep/4.png", "a/x.txt", "b.png", "c/3.png"]),
        ("**", ["a/1.png", "a/2.png", "a/deep/4.png", "a/x.txt", "b.png", "c/3.png"]),
        ("**/*", ["a/1.png", "a/2.png", "a/deep/4.png", "a/x.txt", "b.png", "c/3.png"]),
        ("**/*.png", ["a/1.png", "a/2.png", "a/deep/4.png", "b.png", "c/3.png"]),
        ("a/**/*.png", ["a/1.png", "a/2.png", "a/deep/4.png"]),
        ("**/deep/**", ["a/deep/4.png"]),
        ("**/[12].png", ["a/1.png", "a/2.png"]),
    ],
)
def test_a_glob_names_each_file_once(tmp_path: Path, pattern: str, found: list[str]) -> None:
    touch(tmp_path, "a/1.png", "a/2.png", "a/x.txt", "a/deep/4.png", "b.png", "c/3.png", ".hidden/5.png")
    assert names(tmp_path / pattern, top=tmp_path) == found


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    touch(tmp_path, "[a]", "a")
    assert names(tmp_path / "[a]", top=tmp_path) == ["[a]"]


@pytest.mark.parametrize("glob", ["", "*"])
def test_items_stand_in_the_order_of_their_paths_as_in_object_storage(tmp_path: Path, glob: str) -> None:
    for name in ("sub/c", "sub-1/d", "sub.txt", "sub0"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [os.path.relpath(item, tmp_path) for item in LocalFiles(os.path.join(tmp_path, glob)).items()]
    assert found == sorted(found) == ["sub-1/d", "sub.txt", "sub/c", "sub0"]


def test_what_an_earlier_run_left_below_a_folder_is_no_item(tmp_path: Path) -> None:
    touch(tmp_path, "a", "out/.daskscore/journal", "out/report.json", "out/logs/x.txt", "b")
    assert names(tmp_path, top=tmp_path) == ["a", "b"]
    assert names(tmp_path / "out", top=tmp_path) == ["out/logs/x.txt", "out/report.json"]
