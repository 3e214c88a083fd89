from __future__ import annotations

from pathlib import Path

import pytest

from daskscore.errors import ConfigError, InputError
from daskscore.workspace.paths import joined, lasting, split


def test_a_local_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert lasting("a.csv", "x") == lasting("~/a.csv", "x") == (f"{tmp_path}/a.csv", "uri_file")


def test_the_type_is_seen(tmp_path: Path) -> None:
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "MLTable").touch()
    assert lasting(str(tmp_path), "x")[1] == "uri_folder"
    assert lasting(str(tmp_path / "table"), "x")[1] == "mltable"
    assert lasting(f"{tmp_path}/*.png", "x")[1] == "uri_folder"


@pytest.mark.parametrize(
    ("uri", "type"),
    [
        ("s3://bucket/a.csv", "uri_file"),
        ("s3://bucket/a/", "uri_folder"),
        ("s3://bucket/a", "uri_folder"),
        ("abfss://fs@account.dfs.core.windows.net/a/*.csv", "uri_folder"),
        ("https://host/a.parquet?${env:SAS}", "uri_file"),
        ("azureml://datastores/lake/paths/a.csv", "uri_file"),
        ("file:///only/on/the/nodes", "uri_folder"),
    ],
)
def test_a_uri_is_kept_and_its_type_guessed(uri: str, type: str) -> None:
    assert lasting(uri, "x") == (uri, type)


def test_a_local_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none"
    with pytest.raises(ConfigError) as refused:
        lasting(str(path), "data iris")
    assert str(refused.value) == (
        f"the path of data iris does not exist: {path}. Check it, or write file://{path} if other machines have it"
    )


@pytest.mark.parametrize("path", ["azureml:iris:1", "data:iris", "model:digits", "azureml:iris@latest"])
def test_what_is_registered_leads_to_a_place_not_to_another_name(path: str) -> None:
    with pytest.raises((ConfigError, InputError), match=r"Name the place|is wanted"):
        lasting(path, "data iris")


def test_a_path_on_a_datastore_must_be_well_formed() -> None:
    with pytest.raises(InputError, match="Write one of"):
        lasting("azureml://datastores/lake", "data iris")


def test_a_file_whose_name_looks_like_a_reference_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data:x").touch()
    monkeypatch.chdir(tmp_path)
    assert lasting("data:x", "x") == (f"{tmp_path}/data:x", "uri_file")


def test_an_empty_path_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^the path of data iris is empty"):
        lasting("", "data iris")


@pytest.mark.parametrize(
    ("base", "path", "uri"),
    [
        ("s3://bucket/prefix", "a/b.csv", "s3://bucket/prefix/a/b.csv"),
        ("s3://bucket/prefix/", "/a", "s3://bucket/prefix/a"),
        ("s3://bucket", "", "s3://bucket"),
        ("file:///", "a", "file:///a"),
        ("/", "a", "/a"),
        ("/data", "a/", "/data/a/"),
        ("https://host/c?${env:SAS}", "a b?.csv", "https://host/c/a b?.csv?${env:SAS}"),
        ("s3://bucket/what?", "a", "s3://bucket/what?/a"),
    ],
)
def test_a_path_is_added_to_a_base(base: str, path: str, uri: str) -> None:
    assert joined(base, path) == uri


@pytest.mark.parametrize(
    ("uri", "folder", "name"),
    [
        ("/models/digits", "/models", "digits"),
        ("/models/digits/", "/models", "digits"),
        ("/model.pkl", "/", "model.pkl"),
        ("s3://bucket/models/model.pkl", "s3://bucket/models", "model.pkl"),
        ("s3://bucket/model.pkl", "s3://bucket", "model.pkl"),
        ("s3://bucket", "s3://", "bucket"),
        ("https://host/c/model.pkl?${env:SAS}", "https://host/c", "model.pkl"),
    ],
)
def test_a_uri_is_split_into_folder_and_name(uri: str, folder: str, name: str) -> None:
    assert split(uri) == (folder, name)
