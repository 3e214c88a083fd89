from __future__ import annotations

from pathlib import Path

import pytest

from daskscore.errors import ConfigError, InputError
from daskscore.workspace import assets, datastores
from daskscore.workspace.credentials import filled
from daskscore.workspace.locations import Located, folder_of, model_folder, resolve
from daskscore.workspace.store import Workspace


@pytest.fixture
def lake(in_file: Workspace) -> Workspace:
    datastores.create(in_file, "lake", "s3://bucket/prefix", storage_options={"secret": "${env:LAKE}", "anon": False})
    return in_file


def test_a_name_leads_to_its_place_and_latest_to_a_version(in_file: Workspace) -> None:
    for version in "12":
        assets.create(in_file, "data", "iris", f"s3://bucket/{version}.csv", storage_options={"anon": True})
    second = Located("s3://bucket/2.csv", "uri_file", {"anon": True}, "iris", "2")
    assert resolve(in_file, "azureml:iris@latest") == resolve(in_file, "data:iris") == second
    assert resolve(in_file, "azureml://locations/l/workspaces/w/data/iris/labels/latest") == second
    assert resolve(in_file, "azureml:iris:1").uri == "s3://bucket/1.csv"


def test_a_path_on_a_datastore_takes_its_place_and_options(lake: Workspace) -> None:
    found = resolve(lake, "azureml://subscriptions/s/resourcegroups/g/workspaces/w/datastores/lake/paths/a/*.csv")
    assert found == Located("s3://bucket/prefix/a/*.csv", None, {"secret": "${env:LAKE}", "anon": False}, None, None)


def test_data_on_a_datastore_adds_its_own_options(lake: Workspace) -> None:
    assets.create(
        lake, "data", "iris", "azureml://datastores/lake/paths/iris/", type="tabular", storage_options={"anon": True}
    )
    found = resolve(lake, "data:iris")
    assert found == Located("s3://bucket/prefix/iris/", "tabular", {"secret": "${env:LAKE}", "anon": True}, "iris", "1")


def test_a_place_may_be_printed_because_secrets_are_filled_in_last(lake: Workspace) -> None:
    found = resolve(lake, "azureml://datastores/lake/paths/a")
    assert filled(found.storage_options, {"LAKE": "c4n4ry"})["secret"] == "c4n4ry"
    assert "c4n4ry" not in repr(found)


def test_an_unknown_datastore_is_answered_with_the_known_ones(lake: Workspace) -> None:
    with pytest.raises(InputError, match=r"^there is no datastore called lakes in .*\. Known are lake$"):
        resolve(lake, "azureml://datastores/lakes/paths/a")


def test_a_model_is_found_with_the_folder_that_contains_it(in_file: Workspace, tmp_path: Path) -> None:
    for version in "12":
        (tmp_path / version / "model").mkdir(parents=True)
        assets.create(in_file, "model", "digits", str(tmp_path / version / "model"))
    found = model_folder(in_file, "digits")
    assert (found.folder, found.base_name) == (f"{tmp_path}/2", "model")
    assert (found.model.uri, found.model.version) == (f"{tmp_path}/2/model", "2")
    assert model_folder(in_file, "digits", "1").folder == f"{tmp_path}/1"
    assert folder_of(resolve(in_file, "azureml:digits:2", "model")) == found


def test_a_model_on_a_datastore_keeps_what_opens_it(lake: Workspace) -> None:
    assets.create(lake, "model", "digits", "azureml://datastores/lake/paths/models/m.pkl", type="custom_model")
    found = model_folder(lake, "digits")
    assert (found.folder, found.base_name) == ("s3://bucket/prefix/models", "m.pkl")
    assert found.model.storage_options["secret"] == "${env:LAKE}"


def test_an_unknown_model_version_is_answered_with_the_known_ones(in_file: Workspace, tmp_path: Path) -> None:
    assets.create(in_file, "model", "digits", str(tmp_path))
    with pytest.raises(ConfigError, match=r"model digits has no version 4 in .* Known are 1;"):
        model_folder(in_file, "digits", "4")
