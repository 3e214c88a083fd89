"""A list of failed items as an input: the files that it names, and nothing else that has its name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from daskscore.core.planning import names_in
from daskscore.errors import ConfigError, InputError
from daskscore.inputs.entries import Cutting, Source, open_entry


def listed(folder: Path, *items: object) -> str:
    path = folder / "failed_items.jsonl"
    lines = [{"item": str(item), "mini_batch": 0, "attempts": 3, "kind": "raise"} for item in items]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def found(source: Source) -> list[list[str]]:
    return [[named.name for named in names_in(line)] for line, _ in source.lines]


def test_its_files_are_the_items(tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in ("a", "b\n\udcff", "gone", "x row 5")]
    (tmp_path / "x row 5").touch()
    assert found(open_entry(listed(tmp_path, *files), Cutting(3), number=0)) == [files[:3], files[3:]]


@pytest.mark.parametrize("item", ["{folder}/t.csv row 7", "s3://bucket/t.csv rows 7-9", "store=2 rows 0-3", "rank 4"])
def test_records_are_for_a_retry_of_their_own_run(tmp_path: Path, item: str) -> None:
    path = listed(tmp_path, tmp_path / "a", item.format(folder=tmp_path))
    with pytest.raises(InputError, match=f"no file by itself: .*daskscore retry {tmp_path}$"):
        open_entry(path, Cutting(), number=0)


def test_a_file_of_that_name_that_is_something_else_is_an_item(tmp_path: Path) -> None:
    path = tmp_path / "failed_items.jsonl"
    path.write_text('{"text": "something else"}\n')
    assert found(open_entry(str(path), Cutting(), number=0)) == [[str(path)]]


def test_who_says_that_it_is_a_file_has_it_as_an_item(tmp_path: Path) -> None:
    path = listed(tmp_path, tmp_path / "a")
    entry = {"path": path, "type": "uri_file"}
    assert found(open_entry(entry, Cutting(), number=0)) == [[path]]


def test_items_of_a_storage_are_opened_with_the_options_of_the_entry(tmp_path: Path) -> None:
    items = ["s3://one/a", "s3://one/b", "s3://two/c"]
    entry = {"path": listed(tmp_path, *items), "storage_options": {"key": "k", "secret": "s"}}
    source = open_entry(entry, Cutting(), number=0)
    assert found(source) == [items]
    assert source.stores is not None
    assert {source.stores.filesystem(item)[0].key for item in items} == {"k"}


def test_it_is_not_a_folder_to_choose_from(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="include is for folders"):
        open_entry({"path": listed(tmp_path, tmp_path / "a"), "include": "*.txt"}, Cutting(), number=0)


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = Path(listed(tmp_path, tmp_path / "a"))
    path.write_text(path.read_text() + '{"item": \n')
    with pytest.raises(InputError, match="line 2 is no failed item"):
        open_entry(str(path), Cutting(), number=0)
