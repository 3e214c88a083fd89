from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from daskscore import config
from daskscore.config import JobConfig
from daskscore.driver.sources import found_in, pack, seen
from daskscore.errors import InputError, RunError
from daskscore.worker.sources import HASHED_BYTES, Code, is_here, unpacked


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A script's folder with a bit of everything."""
    folder = tmp_path / "src"
    for name in (
        "score.py",
        "package/__init__.py",
        "package/deep/data.bin",
        "__pycache__/score.pyc",
        ".git/HEAD",
        "a b",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "tool.sh").write_text("#!/bin/sh\n")
    (folder / "tool.sh").chmod(0o755)
    (folder / "link").symlink_to("package/deep/data.bin")
    (folder / "package" / "up").symlink_to(folder / "score.py")
    (folder / "empty").mkdir()
    (folder / os.fsdecode(b"caf\xe9")).write_text("bytes")
    return folder


def job(source: Path, **settings: Any) -> JobConfig:
    output = settings.pop("output", source.parent / "out")
    return config.load(None, {"entry_script": str(source / "score.py"), "inputs": ".", "output": output, **settings})


def looked_at(source: Path) -> Code:
    code = seen(job(source))
    assert code is not None
    return code


def copied(source: Path) -> None:
    """As on another machine: the same at the same place, and another folder."""
    shutil.copytree(source, source.parent / "copy", symlinks=True)
    source.rename(source.parent / "of the driver")
    (source.parent / "copy").rename(source)


def names(source: Path, output: Path | None = None) -> set[str]:
    return {found.name for found in found_in(source, output)}


def sent(source: Path, place: Path) -> Path:
    """The folder as a worker unpacks it."""
    package = pack(job(source), source.parent)
    with package.file as file:
        unpacked(file, place, package.digest, str(source))
    return place


def facts(source: Path) -> tuple[str, bytes]:
    package = pack(job(source), source.parent)
    with package.file as file:
        file.seek(0)
        return package.digest, file.read()


def test_all_travels_but_what_tools_keep_for_themselves(source: Path, tmp_path: Path) -> None:
    place = sent(source, tmp_path / "place")
    there = {str(path.relative_to(place)) for path in place.rglob("*")}
    here = {str(path.relative_to(source)) for path in source.rglob("*")}
    assert there == {name for name in here if not name.startswith((".git", "__pycache__"))}
    assert (place / "package/deep/data.bin").read_text() == "package/deep/data.bin"
    assert os.access(place / "tool.sh", os.X_OK)
    assert not os.access(place / "score.py", os.X_OK)


def test_a_link_leads_to_the_same_file_of_the_new_folder(source: Path, tmp_path: Path) -> None:
    place = sent(source, tmp_path / "place")
    assert os.readlink(place / "package" / "up") == "../score.py"
    assert (place / "link").resolve() == place / "package/deep/data.bin"


@pytest.mark.parametrize("target", ["../outside", "/etc/hostname", "package/../../outside"])
def test_a_link_that_leads_out_is_refused_by_name(source: Path, target: str) -> None:
    (source / "bad").symlink_to(target)
    with pytest.raises(RunError, match=rf"holds the link bad to {target}, which is outside"):
        pack(job(source), source.parent)


def test_a_pipe_is_refused_by_name(source: Path) -> None:
    os.mkfifo(source / "pipe")
    with pytest.raises(RunError, match="holds pipe, which is no file"):
        pack(job(source), source.parent)


def test_a_package_depends_on_the_content_alone(source: Path) -> None:
    first = facts(source)
    os.utime(source / "score.py", (1, 1))
    (source / "score.py").chmod(0o640)
    (source / "__pycache__" / "other").write_text("")
    assert facts(source) == first
    (source / "score.py").write_text("changed")
    assert facts(source)[0] != first[0]


def test_gitignore_counts_only_where_there_is_no_amlignore(source: Path) -> None:
    (source / ".gitignore").write_text("*.sh\n")
    assert "tool.sh" not in names(source)
    (source / ".amlignore").write_text("# a remark\npackage/\n!package/deep\n/a b\n*.bin\n!keep.bin\n")
    (source / "keep.bin").write_text("")
    found = names(source)
    assert "tool.sh" in found
    assert {"package", "package/deep", "package/deep/data.bin", "a b"} & found == set()
    assert "keep.bin" in found


def test_the_output_of_the_run_does_not_travel(source: Path) -> None:
    (source / "out").mkdir()
    (source / "out" / "rows").write_text("")
    assert "out" not in names(source, source / "out")
    assert "out" in names(source, source / "other")


def test_a_folder_that_is_too_large_is_refused_with_its_largest_files(source: Path) -> None:
    for name, size in (("model.bin", 200 << 20), ("package/big", 150 << 20)):
        with (source / name).open("wb") as file:
            file.truncate(size)
    with pytest.raises(RunError) as refusal:
        pack(job(source), source.parent)
    text = str(refusal.value)
    assert "holds 350.0 MiB, and at most 300.0 MiB are sent" in text
    assert "The largest files are model.bin (200.0 MiB), package/big (150.0 MiB), " in text
    assert ".amlignore" in text


def test_a_script_outside_of_its_folder_cannot_travel(source: Path) -> None:
    (source.parent / "other.py").write_text("")
    outside = job(source, entry_script=str(source.parent / "other.py"), source_directory=str(source))
    with pytest.raises(RunError, match="stands outside of source_directory"):
        pack(outside, source.parent)


def test_the_same_folder_is_known_and_files_that_came_since_do_not_matter(source: Path) -> None:
    code = looked_at(source)
    (source / "cache.txt").write_text("written by the script")
    assert is_here(code)


def test_another_content_of_the_same_size_and_time_is_another_folder(source: Path) -> None:
    os.utime(source / "score.py", ns=(1, 1))
    code = looked_at(source)
    copied(source)
    assert is_here(code)
    (source / "score.py").write_text("SCORE.PY")
    os.utime(source / "score.py", ns=(1, 1))
    assert not is_here(code)


def test_a_file_that_the_script_has_changed_since_is_still_the_drivers(source: Path) -> None:
    code = looked_at(source)
    with (source / "a b").open("a") as file:
        file.write("more")
    os.utime(source / "a b", ns=(code.taken_ns + 1, code.taken_ns + 1))
    assert is_here(code)


def test_what_passes_in_the_drivers_own_folder_does_not_matter(source: Path) -> None:
    """A log that is turned over, a temporary folder: the driver looks at them, and they are gone or others."""
    (source / "passing" / "deep").mkdir(parents=True)
    (source / "passing" / "deep" / "file").write_text("")
    code = seen(job(source))
    assert code is not None
    shutil.rmtree(source / "passing")
    (source / "new").write_text("a new log")
    (source / "new").replace(source / "a b")
    os.utime(source, ns=(code.taken_ns + 1, code.taken_ns + 1))
    assert is_here(code)
    copied(source)
    assert not is_here(code)


def test_what_cannot_be_read_is_no_reason_not_to_begin(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str | Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("daskscore.driver.sources.digest_of", refuse)
    code = seen(job(source))
    assert code is not None
    assert code.witnesses == ()


def test_a_folder_that_only_the_workers_have_stays_where_it_is(source: Path) -> None:
    elsewhere = job(source, source_directory="/not/here", entry_script="score.py")
    assert seen(elsewhere) is None


def test_a_large_file_is_compared_by_size_and_time(source: Path) -> None:
    large = source / "large"
    large.write_bytes(b"x" * (HASHED_BYTES + 1))
    os.utime(large, ns=(5, 5))
    code = looked_at(source)
    assert is_here(code)
    os.utime(large, ns=(6, 6))
    assert not is_here(code)


def test_a_folder_that_is_missing_or_lacks_a_file_is_not_here(source: Path) -> None:
    code = looked_at(source)
    copied(source)
    (source / "package/deep/data.bin").unlink()
    assert not is_here(code)
    shutil.rmtree(source)
    assert not is_here(code)


def packed(*entries: tarfile.TarInfo) -> tuple[io.BytesIO, str]:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for entry in entries:
            tar.addfile(entry, io.BytesIO(b"x" * entry.size))
    return io.BytesIO(zlib.compress(plain.getvalue())), hashlib.sha256(plain.getvalue()).hexdigest()


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.size = kind, target, 3 if kind == tarfile.REGTYPE else 0
    return found


@pytest.mark.parametrize(
    "hostile",
    [
        [entry("../out")],
        [entry("/tmp/out")],
        [entry("a/../../out")],
        [entry("link", tarfile.SYMTYPE, "../..")],
        [entry("link", tarfile.SYMTYPE, "/etc")],
        [entry("link", tarfile.SYMTYPE, "."), entry("link/../../out")],
        [entry("hard", tarfile.LNKTYPE, "/etc/passwd")],
        [entry("device", tarfile.CHRTYPE)],
    ],
)
def test_a_hostile_package_writes_nothing(tmp_path: Path, hostile: list[tarfile.TarInfo]) -> None:
    package, digest = packed(*hostile)
    (tmp_path / "cache").mkdir()
    with pytest.raises(InputError, match="its package holds"):
        unpacked(package, tmp_path / "cache" / "place", digest, "src")
    assert list((tmp_path / "cache").iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_link_is_made_after_all_files_so_that_nothing_is_written_through_it(tmp_path: Path) -> None:
    package, digest = packed(entry("d", tarfile.DIRTYPE), entry("link", tarfile.SYMTYPE, "d"), entry("link/x"))
    with pytest.raises((InputError, OSError)):
        unpacked(package, tmp_path / "place", digest, "src")
    assert not (tmp_path / "place").exists()


def test_a_package_that_was_damaged_on_its_way_is_not_used(tmp_path: Path) -> None:
    package, _ = packed(entry("a"))
    with pytest.raises(InputError, match="did not arrive as it was sent"):
        unpacked(package, tmp_path / "place", "0" * 64, "src")
    assert list(tmp_path.iterdir()) == []
