"""What is wrong with an input of a storage, a table or a registered name is said in one sentence, before any work."""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
from click.testing import CliRunner

from daskscore.cli.root import root
from tests.acceptance.bad_input.job import SCRIPT, Run, failed_items
from tests.servers import FORBIDDEN, AzureServer, Proxy, S3Server, free_port
from tests.support import Workbench

pytest_plugins = ["tests.servers"]

CANARY = "c4nary-of-a-secret"
TRANSFORMATIONS = (
    "read_delimited, read_parquet, read_json_lines, convert_column_types, drop_columns, keep_columns, "
    "extract_columns_from_partition_format"
)
FORMS = (
    "azureml:name:version, azureml:name@latest, data:name, data:name:version, "
    "azureml://datastores/<datastore>/paths/<path>, azureml://subscriptions/…/datastores/<datastore>/paths/<path>, "
    "azureml://locations/<location>/workspaces/<workspace>/data/<name>/versions/<version>, "
    "azureml://locations/<location>/workspaces/<workspace>/data/<name>/labels/latest"
)


def parquet(**columns: list[Any]) -> bytes:
    file = io.BytesIO()
    pandas.DataFrame(columns).to_parquet(file)
    return file.getvalue()


OBJECTS = {
    "f/a.txt": b"a",
    "f/b.txt": b"b",
    "marks/_SUCCESS": b"",
    "marks/x/_done": b"",
    "tab/a.csv": b"x,y\n1,2\n",
    "tab/b.csv": b"x,y\n3,4\n",
    "data/a.dat": b"x\n1\n",
    "formats/a.csv": b"x\n1\n",
    "formats/b.jsonl": b'{"x": 1}\n',
    "fewer/a.csv": b"x,y\n1,2\n",
    "fewer/b.csv": b"x\n1\n",
    "more/a.csv": b"x\n1\n",
    "more/b.csv": b"x,y\n1,2\n",
    "pfewer/a.parquet": parquet(x=[1], y=[2]),
    "pfewer/b.parquet": parquet(x=[1]),
    "ptypes/a.parquet": parquet(x=[1]),
    "ptypes/b.parquet": parquet(x=["z"]),
    "latin/a.csv": b"caf\xe9\n1\n",
    "cut/a.csv.gz": gzip.compress(b"x\n1\n" * 99)[:-9],
    "nogz/a.csv.gz": b"x\n1\n",
    "nopq/a.parquet": parquet(x=[1])[:-20],
    "footer/a.parquet": b"PAR1" + b"\xff" * 30 + b"\x1e\0\0\0PAR1",
    "nojson/a.jsonl": b"[1, 2]\nnothing\n",
    "void/a.csv": b"",
    "header/a.csv": b"x,y\n",
    "mlt/MLTable": b"paths: [file: ./a.csv]\ntransformations: [read_delimited, fill_nulls: 3]\n",
    "mlt/a.csv": b"x\n1\n",
    "gone/MLTable": b"paths: [file: ./none.csv]\n",
    "torn/MLTable": b"paths: [\n",
}


@pytest.fixture(scope="module", autouse=True)
def no_credentials_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Of the machine on which the tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AZURE_STORAGE_CONNECTION_STRING"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def storage(s3: S3Server) -> S3Server:
    s3.put("bad-inputs", OBJECTS)
    return s3


def register(*words: str) -> None:
    done = CliRunner().invoke(root, words)
    assert done.exit_code == 0, done.output


Refuse = Callable[..., str]


@pytest.fixture
def refuse(bench: Workbench, run: Run, monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """What is said about one entry of `inputs:`; nothing is written, and no secret is said."""
    bench.script(SCRIPT)
    monkeypatch.setenv("DASKSCORE_WORKSPACE", str(bench.folder / "workspace.db"))

    def message(entry: Any, *words: str) -> str:
        before = {*bench.folder.rglob("*")}
        given = entry if isinstance(entry, list) else [entry]
        words = ("--set", f"inputs={json.dumps(given)}", "--output", "out", "--set", "preflight=no", *words)
        done = run("--entry-script", "score.py", *words, ends=2)
        assert {*bench.folder.rglob("*")} == before
        assert not done.stdout
        assert CANARY not in done.output
        return done.stderr.removeprefix("daskscore: ").rstrip("\n")

    return message


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("azureml:text:1", "there is no data called text in workspace {ws}. Known are texts, tables"),
        ("data:nothing", "there is no data called nothing in workspace {ws}. Known are texts, tables"),
        ("azureml:texts:7", "data texts has no version 7 in workspace {ws}. Known are 1; @latest is the newest"),
        ("azureml:texts", "azureml:texts names no version. Write azureml:texts:<version> or azureml:texts@latest"),
        ("azureml:texts@best", "data texts@best: the only label is @latest. Write @latest or a version"),
        ("azureml:te xts:1", f"azureml:te xts:1 is no reference to registered data. Write one of {FORMS}"),
        ("data:", f"data: is no reference to registered data. Write one of {FORMS}"),
        ("azureml://jobs/x", f"azureml://jobs/x is no reference to registered data. Write one of {FORMS}"),
        ("model:texts", "model:texts names a registered model where registered data is wanted. Name another"),
        ("azureml://datastores/lak/paths/f", "there is no datastore called lak in workspace {ws}. Known are lake"),
        (
            "azureml://datastores/lake/paths/../x",
            "azureml://datastores/lake/paths/../x: a path on a datastore cannot lead out of it. Write it without '..'",
        ),
    ],
)
def test_a_registered_name_that_leads_nowhere(bench: Workbench, refuse: Refuse, path: str, message: str) -> None:
    (bench.folder / "texts").mkdir()
    for name in ("texts", "tables"):
        register("data", "create", "--name", name, "--path", str(bench.folder / "texts"))
    register("datastore", "create", "--name", "lake", "--uri", "s3://bad-inputs")
    assert refuse(path) == message.format(ws=bench.folder / "workspace.db")


NO_DATABASE = (
    "is a database, and its rows cannot be cut into the same mini-batches twice. "
    "Export them to Parquet or CSV files and name those"
)
TO_OPTIONS = "has credentials in it. Move them to storage_options, as ${env:NAME}"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("s3:bucket/x", "input s3:bucket/x is no URI: after s3: it needs two slashes. Write s3://bucket/folder/"),
        ("s3:/bucket/x", "input s3:/bucket/x is no URI: after s3: it needs two slashes. Write s3://bucket/folder/"),
        ("s3:///x", "input s3:///x names no bucket. Write s3://bucket/folder/"),
        ("https://", "input https:// names no host. Write https://host/path/to/file"),
        ("abfs://", "input abfs:// names no container. Write abfs://container@account.dfs.core.windows.net/folder/"),
        (
            "abfss://c@acc.example.com/x",
            "input abfss://c@acc.example.com/x: acc.example.com is no storage account. "
            "Write abfss://container@account.dfs.core.windows.net/folder/",
        ),
        (
            "az://c/f/",
            "input az://c/f/ names no storage account. Write az://c@ACCOUNT.dfs.core.windows.net/f/, "
            "or give account_name in storage_options (or in AZURE_STORAGE_ACCOUNT_NAME)",
        ),
        (
            "foo://x",
            "input foo://x: there is no storage for foo://. Known are s3://, abfs://, abfss://, az://, wasbs://, gs://, "
            "https://, http://, memory:// and file://, and what else fsspec knows",
        ),
        (f"postgresql://u:{CANARY}@h/db", f"input postgresql://… {NO_DATABASE}"),
        ("snowflake://x", f"input snowflake://… {NO_DATABASE}"),
        ("mssql+pyodbc://x", f"input mssql+pyodbc://… {NO_DATABASE}"),
        (f"jdbc:postgresql://h/db?password={CANARY}", f"input jdbc://… {NO_DATABASE}"),
        (f"s3://key:{CANARY}@bucket/x", f"input s3://…@bucket {TO_OPTIONS}"),
        (f"sftp://user:{CANARY}@host/x", f"input sftp://…@host {TO_OPTIONS}"),
        (
            f"https://acc.blob.core.windows.net/?sig={CANARY}",
            "input https://acc.blob.core.windows.net/?… names no container. "
            "Write https://acc.blob.core.windows.net/container/file",
        ),
        ("memory://none/", "input memory://none/ holds no objects (hidden and empty marker objects do not count). Check the path"),
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_used(refuse: Refuse, path: str, message: str) -> None:
    assert refuse(path) == message


def test_a_storage_whose_package_is_missing_names_the_extra(refuse: Refuse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    assert refuse("gs://bucket/x") == (
        "input gs://bucket/x: Google Cloud Storage needs the package gcsfs: pip install 'daskscore[gs]'"
    )


def test_a_file_system_that_cannot_be_opened_is_no_traceback(refuse: Refuse) -> None:
    port = free_port()
    assert refuse(f"ftp://127.0.0.1:{port}/x") == (
        f"input ftp://127.0.0.1:{port}/x: ftp:// cannot be opened: the connection was refused. Check the address, "
        "storage_options, and what this storage needs to be installed"
    )


NOTHING_THERE = "(hidden and empty marker objects do not count). Check the path"
TEXT = "is not usable. Give one ASCII character, like"
NO_PATTERN = "is no pattern. Write one like '*.png', or a list of these"
KNOWN_KEYS = (
    "path, type, mode, storage_options, include, exclude, partition_format, columns, comment, decimal, delimiter, "
    "double_quote, drop_columns, dtypes, empty_as_string, encoding, escape, format, header, infer_column_types, names, "
    "on_bad_record, path_column, quote, quoting, sample_bytes, skip_initial_space"
)
FILES_ARE_COUNTED = (
    "is a size, and files are counted. Write a number of files, like 10, or say what the records are in, "
    "like inputs: {path: …, format: csv}"
)


@pytest.mark.parametrize(
    ("path", "more", "message"),
    [
        ("none", {}, "input {}none does not exist, neither as an object nor as a folder. Check the path: capitals count"),
        ("none/", {}, f"input {{}}none/ holds no objects {NOTHING_THERE}"),
        ("marks/", {}, f"input {{}}marks/ holds no objects {NOTHING_THERE}"),
        ("f/*.png", {}, "input {}f/*.png matches no object (hidden ones do not count). Check the pattern"),
        ("f/[z-a]*", {}, "the pattern f/[z-a]* cannot be used: bad character range z-a. Check what stands in [ ]"),
        ("f/", {"include": "*.png"}, f"input {{}}f/ holds no objects that include and exclude let through {NOTHING_THERE}"),
        ("f/", {"exclude": ["*"]}, f"input {{}}f/ holds no objects that include and exclude let through {NOTHING_THERE}"),
        ("f/", {"include": 3}, f"include and exclude: 3 {NO_PATTERN}"),
        ("f/", {"exclude": [3]}, f"include and exclude: [3] {NO_PATTERN}"),
        ("f/", {"type": "uri_file"}, "input {}f/ is no file but a folder, and its type is uri_file. Write type: uri_folder"),
        ("f/*", {"type": "uri_file"}, "input {}f/* is a pattern, and its type is uri_file. Write type: uri_folder, or name one file"),
        ("f/a.txt", {"type": "uri_folder"}, "input {}f/a.txt is a file, and its type is uri_folder. Write type: uri_file"),
        ("f/", {"type": "folder"}, "inputs: type 'folder' is not known. Known are uri_file, uri_folder, mltable, tabular"),
        ("f/", {"mode": "upload"}, "inputs: mode 'upload' is not known. Known are direct, ro_mount, download, eval_mount, eval_download"),
        ("f/", {"inclde": "*"}, "inputs: an entry has no key inclde. Did you mean include?"),
        ("f/", {"zzz": "*"}, f"inputs: an entry has no key zzz. Known are {KNOWN_KEYS}"),
        ("f/", {"type": "mltable"}, "input {}f/ holds no file called MLTable. Name the folder that has it"),
        ("torn/", {"type": "mltable"}, "{}torn/MLTable is no YAML in line 2: expected the node content, but found '<stream end>'. Mend it"),
        ("gone/", {"type": "mltable"}, "input {}gone/none.csv does not exist, neither as an object nor as a folder. Check the path: capitals count"),
        ("mlt/", {"type": "mltable", "delimiter": ";"}, "inputs: delimiter beside type: mltable: the MLTable file itself says how to read. Remove it"),
        ("mlt/", {"type": "mltable"}, "{}mlt/MLTable: the transformation fill_nulls is not supported; supported are "
         f"{TRANSFORMATIONS}. Leave it out and do the same in run(), or write the result to files first"),
        ("data/", {"type": "tabular"}, "{}data/a.dat is in no format that is known by its name (known are .csv, .tsv, .tab, .jsonl, .ndjson, "
         ".parquet, .pq, .pqt, .arrow, .feather, .ipc, and .gz, .bz2, .xz, .zst, .lz4 after those of text). "
         "Say what it is, like format: csv, or leave it out with exclude"),
        ("tab/", {"format": "xls"}, "format: 'xls' is not known. Known are csv, jsonl, parquet, arrow"),
        ("formats/", {"type": "tabular"}, "{0}formats/b.jsonl is no csv file, but {0}formats/a.csv is. Make them two inputs, or leave some out with exclude"),
        ("fewer/", {"type": "tabular"}, "{}fewer/b.csv has no column y, which the first file has. Mend the file, or say header: all_files_different_headers to have it missing there"),
        ("more/", {"type": "tabular"}, "{}more/b.csv has a column y, which is not in all records. Name the columns to read with columns:, or make the file an input of its own"),
        ("more/", {"header": "all_files_same_headers"}, "{}more/b.csv has 2 columns, the first file has 1. All files of one input need the same ones; "
         "make other files an input of their own, or say header: all_files_different_headers"),
        ("pfewer/", {"type": "tabular"}, "{}pfewer/b.parquet has no column y, which other files of the input have. "
         "Name the columns that all have with columns:, or make the file an input of its own"),
        ("ptypes/", {"type": "tabular"}, "column x is string in {}ptypes/b.parquet, but int64 in the first file. Declare what holds both, like dtypes: {{x: str}}"),
        ("tab/", {"columns": ["x", "z"]}, "input {}tab/: columns: the files have no column z. They have x, y"),
        ("tab/", {"drop_columns": "z"}, "input {}tab/: drop_columns: the files have no column z. They have x, y"),
        ("tab/", {"dtypes": {"z": "int"}}, "input {}tab/: dtypes: the files have no column z. They have x, y"),
        ("tab/", {"dtypes": ["x"]}, "dtypes: ['x'] is no mapping. Write it like dtypes: {{age: int, name: str}}"),
        ("tab/", {"delimiter": ";;"}, f"delimiter: ';;' {TEXT} ';'"),
        ("tab/", {"delimiter": 3}, f"delimiter: 3 {TEXT} ';'"),
        ("tab/", {"decimal": ""}, f"decimal: '' {TEXT} ','"),
        ("tab/", {"double_quote": "maybe"}, "double_quote: 'maybe' is not usable. Write true or false"),
        ("tab/", {"sample_bytes": "many"}, "sample_bytes: 'many' is no number of bytes. Write one like 4MB"),
        ("tab/", {"path_column": 3}, "path_column: 3 is no text. Put it in quotes"),
        ("tab/", {"encoding": "utf-9"}, "encoding: 'utf-9' is not known. Give one that Python knows, like utf-8 or latin-1"),
        ("tab/", {"encoding": "base64"}, "encoding: 'base64' is not known. Give one that Python knows, like utf-8 or latin-1"),
        ("tab/", {"encoding": 8}, "encoding: 8 is not known. Give one that Python knows, like utf-8 or latin-1"),
        ("tab/", {"type": "uri_folder", "delimiter": ","}, "inputs: delimiter is for records, and {}tab/ is of type uri_folder. Say type: tabular, or remove the key"),
        ("latin/", {"type": "tabular"}, "{}latin/a.csv is no utf-8 text: 'utf-8' codec can't decode byte 0xe9 in position 3: unexpected end of data. Set encoding to what it is"),
        ("cut/", {"type": "tabular"}, "{}cut/a.csv.gz cannot be decompressed as gzip: Compressed file ended before the end-of-stream marker was reached. "
         "It is damaged or was not wholly written"),
        ("nogz/", {"type": "tabular"}, "{}nogz/a.csv.gz cannot be decompressed as gzip: Not a gzipped file (b'x\\n'). It is damaged or was not wholly written"),
        ("nopq/", {"type": "tabular"}, "{}nopq/a.parquet cannot be read as a Parquet file: Parquet magic bytes not found in footer. "
         "Either the file is corrupted or this is not a parquet file. Leave it out with exclude"),
        ("nojson/", {"type": "tabular"}, "{}nojson/a.jsonl has no line that is a JSON object. Mend it, or say what it is with format"),
        ("void/", {"type": "tabular"}, "input {}void/: the input has no records: its files are empty. Name files that have some"),
        ("header/", {"type": "tabular"}, "input {}header/ has no records. Name files with some, or remove it"),
    ],
)  # fmt: skip
def test_what_is_in_the_storage_is_not_what_was_said(
    storage: S3Server, refuse: Refuse, path: str, more: dict[str, Any], message: str
) -> None:
    place = "s3://bad-inputs/"
    entry = {"path": place + path, "storage_options": storage.options, **more}
    assert refuse(entry) == message.format(place)


def test_a_parquet_file_whose_end_is_nonsense_is_named(storage: S3Server, refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "footer").mkdir()
    (tmp_path / "footer" / "a.parquet").write_bytes(OBJECTS["footer/a.parquet"])
    remote = {"path": "s3://bad-inputs/footer/", "type": "tabular", "storage_options": storage.options}
    for entry in (remote, {"path": str(tmp_path / "footer"), "type": "tabular"}):
        assert "a.parquet cannot be read as a Parquet file: " in refuse(entry)


@pytest.mark.parametrize(
    ("more", "size", "message"),
    [
        ({}, "10 rows", f"mini_batch_size: '10 rows' {FILES_ARE_COUNTED}"),
        ({}, "1MB", f"mini_batch_size: '1MB' {FILES_ARE_COUNTED}"),
        (
            {"type": "tabular"},
            "ten",
            "mini_batch_size: 'ten' is not usable. "
            "Write a number of files like 10, or of records a size like 1MB or '5000 rows'",
        ),
    ],
)
def test_a_size_of_mini_batches_that_does_not_fit(
    storage: S3Server, refuse: Refuse, more: dict[str, Any], size: str, message: str
) -> None:
    entry = {"path": "s3://bad-inputs/tab/", "storage_options": storage.options, **more}
    assert refuse(entry, "--mini-batch-size", size) == message


def test_files_and_records_are_two_jobs(storage: S3Server, refuse: Refuse) -> None:
    entries = [
        {"path": f"s3://bad-inputs/{path}", "storage_options": storage.options, **more}
        for path, more in (("f/", {}), ("tab/", {"type": "tabular"}))
    ]
    assert refuse(entries) == (
        "inputs: some are files and some are records. The inputs of a job must be of one sort: make two jobs"
    )


def test_a_storage_that_does_not_let_us_in(
    storage: S3Server, azure: AzureServer, refuse: Refuse, proxied: Callable[..., Proxy]
) -> None:
    azure.put("bad-inputs", {"a": b""})
    proxy = proxied(storage.port)
    proxy.will("/bad-inputs", FORBIDDEN)
    where, options = "s3://bad-inputs/f/", {**storage.behind(proxy), "secret": CANARY}
    assert refuse({"path": where, "storage_options": options}) == (
        f"input {where} may not be read: {proxy.url} says 403 AccessDenied. Check the credentials, and that they allow "
        "s3:ListBucket and s3:GetObject"
    )
    host = f"127.0.0.1:{azure.port}/devstoreaccount1"
    assert refuse({"path": "az://bad-inputs/f/", "storage_options": azure.behind(azure.port, "d3Jvbmc=")}) == (
        f"input az://bad-inputs/f/ may not be read: {host} says 403 AuthorizationFailure. Check the credentials, and that "
        "they allow to list and read blobs (Storage Blob Data Reader)"
    )
    assert refuse({"path": "az://bad-inputs/f/", "storage_options": {"connection_string": CANARY}}) == (
        "storage_options of az://bad-inputs/ are not usable: unable to connect to account for Connection string is either "
        "blank or malformed. Check their names and values"
    )
    assert refuse({"path": where, "storage_options": {"endpoint_url": storage.url}}) == (
        f"input {where}: no credentials were found. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give "
        "storage_options {key: ${env:NAME}, secret: ${env:NAME}}, or {anon: true} for public data"
    )
    mltable = {"path": "s3://bad-inputs/mlt/", "type": "mltable", "storage_options": {"endpoint_url": storage.url}}
    assert refuse(mltable) == (
        "input s3://bad-inputs/mlt/ cannot be read: no credentials were found. Check it, and the credentials"
    )


def test_a_storage_that_is_not_there(storage: S3Server, azure: AzureServer, refuse: Refuse) -> None:
    assert refuse({"path": "s3://no-bucket/x/", "storage_options": storage.options}) == (
        f"input s3://no-bucket/x/: there is no bucket no-bucket at {storage.url} (404 NoSuchBucket). "
        "Check its name and the account"
    )
    assert refuse({"path": "az://no-container/x/", "storage_options": azure.options}) == (
        f"input az://no-container/x/: there is no container no-container at 127.0.0.1:{azure.port}/devstoreaccount1 "
        "(404 ContainerNotFound). Check its name and the account"
    )
    url = f"http://127.0.0.1:{free_port()}"
    assert refuse({"path": "s3://bucket/f/", "storage_options": {**storage.options, "endpoint_url": url}}) == (
        f"input s3://bucket/f/: {url} does not take connections (tried 4 times): the connection was refused. "
        "Check that it runs, and endpoint_url"
    )


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"path": "score.py", "storage_options": {"key": CANARY}},
            "inputs: storage_options are for addresses, and {}/score.py is a local path. Remove them",
        ),
        (
            {"path": "s3://b/f/", "storage_options": CANARY},
            "inputs: storage_options is no mapping. Write it like {{anon: true}}",
        ),
        (
            {"path": "data:texts", "storage_options": CANARY},
            "inputs: storage_options is no mapping. Write it like {{anon: true}}",
        ),
        (
            {"path": "s3://b/f/", "storage_options": {"key": "${env:NO_SUCH_NAME}"}},
            "storage_options of s3://b/f/: the environment variable NO_SUCH_NAME is not set on "
            + os.uname().nodename
            + ". Set it where the driver and the workers start",
        ),
        (
            {"path": "s3://b/f/", "type": "tabular", "storage_options": {"key": "k", "sekret": CANARY}},
            "storage_options of s3://b/ are not usable: "
            "AioSession.__init__() got an unexpected keyword argument 'sekret'. Check their names and values",
        ),
        (
            {"path": 3, "storage_options": {"key": CANARY}},
            "inputs: {{'path': 3, 'storage_options': …}} names no path. "
            "Write a file, a folder or a glob, in quotes if it is a number",
        ),
        (
            {"pth": "x", "storage_options": {"key": CANARY}},
            "inputs: an entry names no path (it has pth, storage_options). Write a file, a folder or a glob",
        ),
    ],
)
def test_storage_options_that_cannot_be_used(bench: Workbench, refuse: Refuse, entry: Any, message: str) -> None:
    assert refuse(entry) == message.format(bench.folder)


SLOW = """
    import pathlib, threading
    class Slow:
        files = True
        def __init__(self, first, journal): self.first, self.journal = first, pathlib.Path(journal)
        def items(self):
            yield self.first
            while not self.journal.exists() or b'"commit"' not in self.journal.read_bytes():
                threading.Event().wait(0.05)
            {end}
"""


@pytest.fixture
def slow(bench: Workbench, run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A run that has begun when its listing goes wrong."""

    def score(end: str) -> Any:
        bench.script(SCRIPT)
        bench.script(SLOW.replace("{end}", end), "slow_input.py")
        monkeypatch.syspath_prepend(str(bench.folder))
        monkeypatch.delitem(sys.modules, "slow_input", raising=False)
        journal = bench.output / ".daskscore" / "journal"
        entry = {"kind": "slow_input:Slow", "first": str(bench.folder / "score.py"), "journal": str(journal)}
        words = ("--set", f"inputs={json.dumps([entry])}", "--output", "out", "--mini-batch-size", "1")
        return run("--entry-script", "score.py", *words, "--set", "preflight=no", ends=1)

    return score


def test_a_listing_that_breaks_off_while_the_run_goes_on_fails_it(bench: Workbench, slow: Callable[..., Any]) -> None:
    done = slow("from daskscore.errors import InputError; raise InputError('input x has lost its server. Start it')")
    assert "input x has lost its server. Start it" in done.stderr
    report = json.loads((bench.output / "report.json").read_text())
    assert (report["status"], report["mini_batches"]["succeeded"]) == ("Failed", 1)


def test_a_late_file_with_other_columns_fails_a_run_that_has_begun(
    storage: S3Server, bench: Workbench, run: Run, proxied: Callable[..., Proxy]
) -> None:
    late = {f"late/{number:02}.csv": b"x,y\n1,2\n" for number in range(30)} | {"late/99.csv": b"x\n1\n"}
    storage.put("bad-inputs", late)
    bench.script("def run(frame):\n    return frame\n")
    slow = storage.behind(proxied(storage.port, 0.04))
    entry = {"path": "s3://bad-inputs/late/", "type": "tabular", "storage_options": slow}
    words = ("--set", f"inputs={json.dumps([entry])}", "--output", "out", "--set", "preflight=no")
    done = run("--entry-script", "score.py", *words, ends=1)
    assert (
        "s3://bad-inputs/late/99.csv has no column y, which the first file has. Mend the file, or say "
        "header: all_files_different_headers to have it missing there"
    ) in done.stderr
    assert json.loads((bench.output / "report.json").read_text())["status"] == "Failed"


def test_an_object_that_may_not_be_read_fails_alone(
    storage: S3Server, bench: Workbench, run: Run, proxied: Callable[..., Proxy]
) -> None:
    bench.script(SCRIPT)
    proxy = proxied(storage.port)
    proxy.will("f/b.txt", *[FORBIDDEN] * 9)
    entry = {"path": "s3://bad-inputs/f/", "storage_options": storage.behind(proxy)}
    run("--entry-script", "score.py", "--set", f"inputs={json.dumps([entry])}", "--output", "out")
    (failed,) = failed_items(bench)
    assert (failed["item"], failed["kind"], failed["message"]) == (
        "s3://bad-inputs/f/b.txt",
        "input",
        "s3://bad-inputs/f/b.txt may not be read: 403 AccessDenied. Check the credentials on the workers",
    )


def test_records_that_are_no_text_of_their_encoding_fail_with_their_line(
    storage: S3Server, bench: Workbench, run: Run
) -> None:
    storage.put("bad-inputs", {"bytes/a.csv": b"x\n1\n", "bytes/b.csv": b"x\ncaf\xe9\n"})
    bench.script("def run(frame):\n    return frame\n")
    entry = {"path": "s3://bad-inputs/bytes/", "type": "tabular", "storage_options": storage.options}
    run("--entry-script", "score.py", "--set", f"inputs={json.dumps([entry])}", "--output", "out")
    (failed,) = failed_items(bench)
    assert (failed["kind"], failed["message"]) == (
        "input",
        "s3://bad-inputs/bytes/b.csv line 2: it is no utf-8 text (unexpected end of data); encoding: says what it is. "
        "Mend it, or say on_bad_record: skip or keep",
    )
