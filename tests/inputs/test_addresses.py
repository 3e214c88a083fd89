from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskscore.errors import InputError
from daskscore.inputs.addresses import is_remote, parse


@pytest.mark.parametrize(
    ("uri", "protocol", "container", "path"),
    [
        ("s3://bucket/a/b.csv", "s3", "bucket", "a/b.csv"),
        ("S3://bucket", "s3", "bucket", ""),
        ("s3a://bucket/a?b#c*d", "s3", "bucket", "a?b#c*d"),
        ("s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/name/key", "s3", "arn:aws:s3:eu-west-1:123456789012:accesspoint/name", "key"),
        ("gs://bucket/a", "gs", "bucket", "a"),
        ("abfs://box/a/b", "abfs", "box", "a/b"),
        ("abfss://box@account.dfs.core.windows.net/a/b", "abfs", "box", "a/b"),
        ("abfss://account.dfs.core.windows.net/box/a/b", "abfs", "box", "a/b"),
        ("wasbs://box@account.blob.core.windows.net/a", "abfs", "box", "a"),
        ("https://account.blob.core.windows.net/box/a%20b.csv", "abfs", "box", "a b.csv"),
        ("https://host:8443/a/b.csv?version=3", "http", "", "a/b.csv?version=3"),
        ("memory://a/b", "memory", "", "a/b"),
        ("memory:///a/b", "memory", "", "a/b"),
        ("file:///a/b", "file", "", "/a/b"),
        ("sftp://host/a/b", "sftp", "", "a/b"),
    ],
)  # fmt: skip
def test_a_uri_is_taken_apart(uri: str, protocol: str, container: str, path: str) -> None:
    address = parse(uri)
    assert (address.protocol, address.container, address.path) == (protocol, container, path)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/a b/c?d#e",
        "abfss://box@account.dfs.core.windows.net/a",
        "wasbs://box@account.blob.core.windows.net/a/*.csv",
        "https://account.blob.core.windows.net/box/a%20b.csv",
        "https://host/a.csv?version=3",
        "memory://a/b",
        "file:///a/b",
    ],
)
def test_the_name_of_an_object_is_what_the_user_wrote(uri: str) -> None:
    assert parse(uri).uri == uri


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n"), min_size=1))
def test_any_blob_name_survives_its_web_address(name: str) -> None:
    container = parse("https://account.blob.core.windows.net/box/")
    assert parse(container.uri_of(name)).path == name


def test_an_account_comes_from_the_host() -> None:
    assert parse("wasbs://box@acme.blob.core.windows.net/a").options == {"account_name": "acme"}
    china = parse("abfss://box@acme.dfs.core.chinacloudapi.cn/a").options
    assert china == {"account_name": "acme", "account_host": "acme.blob.core.chinacloudapi.cn"}


@pytest.mark.parametrize(
    ("uri", "shown", "secrets"),
    [
        ("https://acme.blob.core.windows.net/box/a.csv?sv=1&sig=TOPSECRET", "https://acme.blob.core.windows.net/box/a.csv", {"sas_token": "sv=1&sig=TOPSECRET"}),
        ("wasbs://box@acme.blob.core.windows.net/a?${env:SAS}", "wasbs://box@acme.blob.core.windows.net/a", {"sas_token": "${env:SAS}"}),
        ("https://host/a?id=3&token=TOPSECRET", "https://host/a?id=3", {"url_query": "token=TOPSECRET"}),
        ("https://host/a?X-Amz-Date=1&X-Amz-Signature=TOPSECRET", "https://host/a", {"url_query": "X-Amz-Date=1&X-Amz-Signature=TOPSECRET"}),
        ("https://host/a?expires=7", "https://host/a?expires=7", {}),
        ("https://me:TOPSECRET@host/a", "https://host/a", {"url_userinfo": "me:TOPSECRET"}),
    ],
)  # fmt: skip
def test_what_is_secret_is_kept_apart(uri: str, shown: str, secrets: dict[str, str]) -> None:
    address = parse(uri)
    assert (address.uri, dict(address.secrets)) == (shown, secrets)
    assert "TOPSECRET" not in repr(address)


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("s3://", "names no bucket. Write s3://bucket/folder/"),
        ("s3:///a", "names no bucket"),
        ("s3:/bucket/a", "after s3: it needs two slashes"),
        ("s3://id:TOPSECRET@bucket/a", "has credentials in it. Move them to storage_options"),
        ("abfs://", "names no container"),
        ("wasbs://box@host/a", "host is no storage account"),
        ("https://", "names no host"),
        ("https://account.blob.core.windows.net/", "names no container"),
        ("postgresql+psycopg2://me:TOPSECRET@host/db", "is a database"),
        ("jdbc:sqlserver://host;password=TOPSECRET", "is a database"),
        ("s3://bucket/a\nb", "has a character in it"),
    ],
)
def test_what_is_wrong_with_a_uri_is_said_without_its_secrets(uri: str, sentence: str) -> None:
    with pytest.raises(InputError, match=r"^input ") as caught:
        parse(uri)
    assert sentence in str(caught.value)
    assert "TOPSECRET" not in str(caught.value)


@pytest.mark.parametrize("text", ["s3://b/a", "S3:/b", "https:host", "ftp://h/a", "file:///a"])
def test_remote(text: str) -> None:
    assert is_remote(text)


@pytest.mark.parametrize("text", ["/a/b", "a/b", "C:\\a", "data:iris", "azureml:iris:1", "a:b"])
def test_not_remote(text: str) -> None:
    assert not is_remote(text)
