from __future__ import annotations

import datetime
import subprocess
import sys
from typing import Any

import pytest

from daskscore.errors import ConfigError
from daskscore.workspace.credentials import check_options, check_uri, filled

CANARY = "c4n4ry"


def test_references_are_filled_wherever_they_stand() -> None:
    options = {
        "key": "${env:KEY}",
        "client_kwargs": {"headers": ["Bearer ${env:TOKEN}", 7]},
        "connection_string": "AccountName=a;AccountKey=${env:KEY};Suffix=${env:TOKEN}",
        "anon": False,
    }
    assert filled(options, {"KEY": "k", "TOKEN": "${env:KEY}"}) == {
        "key": "k",
        "client_kwargs": {"headers": ["Bearer ${env:KEY}", 7]},
        "connection_string": "AccountName=a;AccountKey=k;Suffix=${env:KEY}",
        "anon": False,
    }
    assert filled("https://host/a?${env:SAS}", {"SAS": "sig=1"}) == "https://host/a?sig=1"


def test_filling_leaves_the_original_as_it_was() -> None:
    options = {"client_kwargs": {"secret": "${env:KEY}"}}
    filled(options, {"KEY": CANARY})
    assert options == {"client_kwargs": {"secret": "${env:KEY}"}}


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(ConfigError) as refused:
        filled({"key": "${env:LAKE_KEY}"}, {"OTHER": CANARY})
    assert str(refused.value) == ("${env:LAKE_KEY}: the environment variable LAKE_KEY is not set. Set it and try again")


@pytest.mark.parametrize(
    "options",
    [
        {"key": CANARY},
        {"secret": CANARY},
        {"token": CANARY},
        {"account_key": CANARY},
        {"accountKey": CANARY},
        {"sas_token": CANARY},
        {"client_secret": CANARY},
        {"password": CANARY},
        {"PASSWORD": CANARY},
        {"password": 1234},
        {"connection_string": f"AccountName=a;AccountKey={CANARY}"},
        {"connection_string": f"AccountName=${{env:NAME}};AccountKey={CANARY}"},
        {"anything": f"DefaultEndpointsProtocol=https;accountkey={CANARY}"},
        {"client_kwargs": {"aws_secret_access_key": CANARY}},
        {"client_kwargs": {"proxies": [f"http://user:{CANARY}@proxy:8080"]}},
        {"headers": {"Authorization": f"Bearer {CANARY}"}},
        {"token": {"type": "service_account", "private_key": CANARY}},
        {"keys": [], "credential": [CANARY]},
        {"key": f"${CANARY}"},
        {"key": f"${{{CANARY}}}"},
        {"key": f"{CANARY}\udcff"},
    ],
)
def test_a_secret_that_is_written_out_is_refused_and_not_repeated(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"looks like a secret.* write \w+=\$\{env:NAME\}$") as refused:
        check_options("datastore lake", options)
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"anon": True, "token": "anon", "key": None, "secret": ""},
        {"key": "${env:KEY}", "headers": {"Authorization": "Bearer ${env:TOKEN}"}},
        {"account_name": "lake", "tenant_id": "t", "client_id": "c", "client_secret": "${env:S}"},
        {"connection_string": "AccountName=a;AccountKey=${env:KEY}"},
        {"endpoint_url": "http://127.0.0.1:9000/a@b", "token_url": "https://login", "key_file": "/etc/key"},
        {"proxies": ["http://user:${env:PASSWORD}@proxy"]},
        {"default_block_size": 5_000_000, "monkey": "banana"},
    ],
)
def test_what_is_no_secret_is_accepted(options: dict[str, Any]) -> None:
    check_options("datastore lake", options)


@pytest.mark.parametrize("value", [datetime.date(2024, 1, 1), float("nan"), {1, 2}, b"bytes"])
def test_an_option_that_cannot_be_stored_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="hold something other than texts, numbers"):
        check_options("datastore lake", {"value": value})


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B"])
def test_a_reference_needs_the_name_of_a_variable(name: str) -> None:
    with pytest.raises(ConfigError, match="needs the name of an environment variable"):
        check_options("datastore lake", {"key": f"${{env:{name}}}"})


@pytest.mark.parametrize(
    "uri",
    [
        f"https://account.blob.core.windows.net/c/a.csv?sv=2022&sig={CANARY}",
        f"https://bucket.s3.amazonaws.com/a?X-Amz-Credential=a&X-Amz-Signature={CANARY}",
        f"https://host/a?token={CANARY}",
        f"https://user:{CANARY}@host/a",
        f"s3://key:{CANARY}@bucket/a",
    ],
)
def test_an_address_with_a_secret_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"in its address.*write .*\$\{env:NAME\}") as refused:
        check_uri("the path of data iris", uri)
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize(
    "uri",
    [
        "https://host/a.csv?${env:SAS}",
        "https://host/a.csv?sv=1&sig=${env:SIG}&versionId=3",
        "https://host:8080/a@b",
        "https://user:${env:PASSWORD}@host/a",
        "abfss://fs@account.dfs.core.windows.net/a",
        "s3://bucket/token=abc/part.parquet",
        "s3://bucket/a?.csv",
    ],
)
def test_an_address_without_a_secret_is_accepted(uri: str) -> None:
    check_uri("the path of data iris", uri)


def test_an_error_shown_with_its_chain_holds_no_environment() -> None:
    code = "from daskscore.workspace.credentials import filled; filled({'key': '${env:NONE_OF_THEM}'})"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"OTHER": CANARY}, capture_output=True, text=True, timeout=60
    )
    assert "NONE_OF_THEM is not set" in done.stderr
    assert CANARY not in done.stderr
