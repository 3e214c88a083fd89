from __future__ import annotations

import os
from pathlib import Path

import pytest

from daskscore.inputs.local import LocalFiles
from daskscore.inputs.selection import Glob, Selection

NAMES = [
    "a.csv",
    "b.txt",
    "sub/a.csv",
    "sub/deep/c.csv",
    "sub/deep/d.txt",
    "tmp/e.csv",
    ".hidden/f.csv",
    "sub/.g.csv",
    "[x].csv",
]


@pytest.mark.parametrize(
    ("include", "exclude", "taken"),
    [
        (None, None, ["a.csv", "b.txt", "sub/a.csv", "sub/deep/c.csv", "sub/deep/d.txt", "tmp/e.csv", "[x].csv"]),
        ("*.txt", None, ["b.txt", "sub/deep/d.txt"]),
        (["*.txt", "e.*"], None, ["b.txt", "sub/deep/d.txt", "tmp/e.csv"]),
        ("*.csv", ["tmp", "deep/"], ["a.csv", "sub/a.csv", "[x].csv"]),
        ("sub/*.csv", None, ["sub/a.csv"]),
        ("sub/**/*.csv", None, ["sub/a.csv", "sub/deep/c.csv"]),
        ("/*.csv", None, ["a.csv", "[x].csv"]),
        ("[ab].*", None, ["a.csv", "b.txt", "sub/a.csv"]),
        ("[!a-b].csv", None, ["sub/deep/c.csv", "tmp/e.csv"]),
        ("[[]x].csv", None, ["[x].csv"]),
    ],
)
def test_include_and_exclude(include: list[str] | None, exclude: list[str] | None, taken: list[str]) -> None:
    selection = Selection.of(include, exclude)
    assert [name for name in NAMES if selection.takes(name)] == taken


@pytest.mark.parametrize(
    "pattern",
    [
        "*.csv",
        "sub/*",
        "s*",
        "*/*.csv",
        "**/*.csv",
        "**",
        "sub/**",
        "**/deep/*",
        "*/deep",
        "?.csv",
        "[ab].*",
        "sub/deep/[!c]*",
    ],
)
def test_a_glob_means_in_a_bucket_what_it_means_on_a_disk(tmp_path: Path, pattern: str) -> None:
    for name in NAMES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    local = [os.path.relpath(item, tmp_path) for item in LocalFiles(str(tmp_path / pattern)).items()]
    glob = Glob.of(pattern)
    assert sorted(name for name in NAMES if name.startswith(glob.start) and glob.fits(name)) == sorted(local)
