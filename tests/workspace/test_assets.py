from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from daskscore.errors import ConfigError, InputError
from daskscore.workspace import assets
from daskscore.workspace.store import Workspace

PATH = "s3://bucket/iris/"


def create(workspace: Workspace, *versions: str | None, name: str = "iris") -> list[str]:
    return [assets.create(workspace, "data", name, PATH, version=version).version for version in versions]


def versions(workspace: Workspace, *, archived: bool = False) -> list[str]:
    return [asset.version for asset in assets.listed(workspace, "data", "iris", archived=archived)]


def test_versions_count_up_by_name(workspace: Workspace) -> None:
    assert create(workspace, None, None, None) == ["1", "2", "3"]
    assert create(workspace, None, name="other") == ["1"]


def test_data_and_models_count_apart(workspace: Workspace) -> None:
    create(workspace, None)
    assert assets.create(workspace, "model", "iris", PATH).version == "1"
    assert [asset.name for asset in assets.listed(workspace, "model")] == ["iris"]


def test_what_was_registered_is_found_as_it_was(workspace: Workspace) -> None:
    made = assets.create(
        workspace,
        "data",
        "iris",
        PATH,
        type="tabular",
        storage_options={"anon": True, "client_kwargs": {"endpoint_url": "http://127.0.0.1:1"}, "key": "${env:KEY}"},
        description="Blüten",
        tags={"team": "vision"},
    )
    assert assets.show(workspace, "data", "iris", "1") == made
    assert made.storage_options["client_kwargs"] == {"endpoint_url": "http://127.0.0.1:1"}
    assert (made.type, made.path, made.description, made.tags) == ("tabular", PATH, "Blüten", {"team": "vision"})
    assert abs(datetime.now(UTC) - made.created_at) < timedelta(minutes=5)


def test_counting_goes_on_after_a_version_of_ones_own(workspace: Workspace) -> None:
    assert create(workspace, "20240131123000", None, "v2.1-beta", None) == [
        "20240131123000",
        "20240131123001",
        "v2.1-beta",
        "20240131123002",
    ]


def test_latest_is_the_version_registered_last_not_the_highest(workspace: Workspace) -> None:
    create(workspace, "7", "5")
    assert assets.show(workspace, "data", "iris").version == "5"


def test_a_version_that_is_there_is_not_replaced(workspace: Workspace) -> None:
    create(workspace, "7")
    assets.archive(workspace, "data", "iris")
    with pytest.raises(ConfigError, match=r"^data iris has a version 7 already\. Name another, or none"):
        create(workspace, "7")


@pytest.mark.parametrize("version", ["latest", "007", "1:2", "", "@1", "9" * 19, "v 1", "1\n", "é"])
def test_a_version_that_no_reference_could_name_is_refused(in_file: Workspace, version: str) -> None:
    with pytest.raises(ConfigError, match=r"^version "):
        create(in_file, version)


@pytest.mark.parametrize("name", ["", "a:b", "a@b", "a/b", ".hidden", "a" * 256, "a b", "naïve"])
def test_a_name_that_no_reference_could_name_is_refused(in_file: Workspace, name: str) -> None:
    with pytest.raises(ConfigError, match="is no usable name"):
        create(in_file, None, name=name)


def test_archived_versions_are_found_only_when_they_are_named(workspace: Workspace) -> None:
    create(workspace, None, None, None)
    assert assets.archive(workspace, "data", "iris", "3") == ["3"]
    assert assets.show(workspace, "data", "iris").version == "2"
    assert versions(workspace) == ["1", "2"]
    assert versions(workspace, archived=True) == ["1", "2", "3"]
    assert assets.show(workspace, "data", "iris", "3").archived


def test_a_name_that_is_archived_is_found_by_version_and_after_restore(workspace: Workspace) -> None:
    create(workspace, None, None)
    assert assets.archive(workspace, "data", "iris") == ["1", "2"]
    with pytest.raises(InputError, match=r"^data iris is archived .* daskscore data restore --name iris$"):
        assets.show(workspace, "data", "iris")
    assert versions(workspace) == []
    assert assets.restore(workspace, "data", "iris") == ["1", "2"]
    assert assets.show(workspace, "data", "iris").version == "2"


def test_a_version_registered_after_archiving_is_found(workspace: Workspace) -> None:
    create(workspace, None)
    assets.archive(workspace, "data", "iris")
    assert create(workspace, None) == ["2"]
    assert assets.show(workspace, "data", "iris").version == "2"


def test_an_unknown_name_is_answered_with_the_known_ones_nearest_first(workspace: Workspace) -> None:
    for name in ("flowers", "irises", "zebra"):
        create(workspace, None, name=name)
    with pytest.raises(InputError, match=r"there is no data called iris in .* Known are irises, "):
        assets.show(workspace, "data", "iris")


def test_an_unknown_version_is_answered_with_the_known_ones_nearest_first(workspace: Workspace) -> None:
    create(workspace, "2023-01", "2024-01", "2024-02")
    with pytest.raises(InputError, match=r"data iris has no version 2024-1 in .* Known are 2024-01, 2024-02, 2023-01;"):
        assets.show(workspace, "data", "iris", "2024-1")


def test_of_many_known_ones_ten_are_named(in_file: Workspace) -> None:
    create(in_file, *[None] * 13)
    with pytest.raises(InputError, match=r"Known are (\d+, ){9}\d+ and 3 more; @latest is the newest$"):
        assets.show(in_file, "data", "iris", "nope")


def test_in_an_empty_workspace_the_answer_is_how_to_register(workspace: Workspace) -> None:
    with pytest.raises(InputError, match=r"It has no data at all; see daskscore data create --help$"):
        assets.show(workspace, "data", "iris")
    for change in (assets.archive, assets.restore):
        with pytest.raises(InputError, match="there is no data called iris"):
            change(workspace, "data", "iris")


def test_an_unknown_model_is_no_error_of_the_input(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="there is no model called digits"):
        assets.show(workspace, "model", "digits")


def test_the_one_label_is_latest(in_file: Workspace) -> None:
    create(in_file, None)
    with pytest.raises(InputError, match=r"^data iris@production: the only label is @latest\. Write @latest or a"):
        assets.show(in_file, "data", "iris", "@production")


def test_listing_a_name_that_is_not_there_says_so(workspace: Workspace) -> None:
    assert assets.listed(workspace, "data") == []
    with pytest.raises(InputError, match="there is no data called iris"):
        assets.listed(workspace, "data", "iris")


def test_an_unknown_type_is_answered_with_the_known_ones(in_file: Workspace) -> None:
    with pytest.raises(
        ConfigError, match=r"^data iris: there is no type file\. Write one of uri_file, uri_folder, mlt"
    ):
        assets.create(in_file, "data", "iris", PATH, type="file")


def test_a_text_that_is_no_unicode_is_refused(in_file: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the path of data iris: .* is no UTF-8 text and cannot be stored"):
        assets.create(in_file, "data", "iris", f"{tmp_path}/\udcff.csv")
    with pytest.raises(ConfigError, match=r"the description of data iris: .* is no UTF-8 text"):
        assets.create(in_file, "data", "iris", PATH, description="a\0b")
    with pytest.raises(ConfigError, match=r"a tag of data iris: .* is no UTF-8 text"):
        assets.create(in_file, "data", "iris", PATH, tags={"a": "\udcff"})


def test_nothing_is_stored_of_a_registration_that_fails(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    create(workspace, None)

    def breaks(*_: object) -> None:
        raise RuntimeError("the machine is lost")

    with monkeypatch.context() as broken:
        broken.setattr(assets, "_found", breaks)
        with pytest.raises(RuntimeError):
            create(workspace, None)
    assert versions(workspace) == ["1"]
    assert create(workspace, None) == ["2"]
