from __future__ import annotations

import pytest

from daskscore.errors import ConfigError, InputError
from daskscore.workspace import datastores
from daskscore.workspace.store import Workspace


def test_a_datastore_is_found_as_it_was_registered(workspace: Workspace) -> None:
    made = datastores.create(
        workspace,
        "lake",
        "abfs://fs/prefix",
        storage_options={"account_name": "a", "account_key": "${env:KEY}"},
        description="ours",
        tags={"team": "vision"},
    )
    assert datastores.show(workspace, "lake") == made
    assert datastores.listed(workspace) == [made]
    assert made.storage_options == {"account_name": "a", "account_key": "${env:KEY}"}


def test_a_datastore_is_not_replaced_by_accident(workspace: Workspace) -> None:
    datastores.create(workspace, "lake", "s3://bucket")
    with pytest.raises(ConfigError, match=r"^datastore lake is registered already\. Delete it first"):
        datastores.create(workspace, "lake", "s3://other")
    datastores.remove(workspace, "lake")
    assert datastores.create(workspace, "lake", "s3://other").uri == "s3://other"


def test_an_unknown_datastore_is_answered_with_the_known_ones(workspace: Workspace) -> None:
    with pytest.raises(InputError, match="It has none at all; see daskscore datastore create --help"):
        datastores.remove(workspace, "lake")
    for name in ("zoo", "lakes"):
        datastores.create(workspace, name, "s3://bucket")
    with pytest.raises(InputError, match=r"^there is no datastore called lake in workspace .*\. Known are lakes, zoo$"):
        datastores.show(workspace, "lake")


def test_a_datastore_leads_through_no_other(in_file: Workspace) -> None:
    with pytest.raises(ConfigError, match="leads through another datastore"):
        datastores.create(in_file, "lake", "azureml://datastores/other/paths/x")


@pytest.mark.parametrize("uri", ["s3://key:c4n4ry@bucket", "https://host/c?sig=c4n4ry"])
def test_an_address_with_a_secret_is_refused_and_nothing_is_stored(in_file: Workspace, uri: str) -> None:
    with pytest.raises(ConfigError) as refused:
        datastores.create(in_file, "lake", uri)
    assert "c4n4ry" not in str(refused.value)
    assert datastores.listed(in_file) == []
