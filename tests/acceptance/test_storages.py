"""The same job on the same data gives the same bytes, wherever the data is; and what a storage does to it costs no try."""

from __future__ import annotations

import gzip
import io
import os
import random
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pandas
import pytest
from distributed import Client

import daskscore
from daskscore.core.report import Report
from tests.servers import BUSY, RESET, STALL, TRUNCATED, AzureServer, Proxy, S3Server
from tests.support import Workbench

pytest_plugins = ["tests.servers"]
pytestmark = pytest.mark.slow

FILES = """
    import os
    def run(mini_batch, context):
        assert all(os.path.isfile(path) for path in mini_batch)
        return [f"{os.path.basename(path)} {open(path).read()} {context.retry_count}" for path in mini_batch]
"""
TABLES = """
    def run(frame, context):
        return frame.assign(rows=len(frame), total=frame["number"].sum(), tries=context.retry_count)
"""
Place = Callable[[str], dict[str, Any]]
"""The entry of `inputs:` for a folder or file of the data, in one storage."""


def table(rows: int = 1000) -> pandas.DataFrame:
    chance = random.Random(7)
    return pandas.DataFrame(
        {
            "number": range(rows),
            "share": [round(chance.random(), 6) for _ in range(rows)],
            "text": [f'line\n"{number}", é' if number % 7 == 0 else f"plain {number}" for number in range(rows)],
        }
    )


@pytest.fixture(scope="module")
def data() -> dict[str, bytes]:
    """Objects by name: files below `files/`, and one table in each format."""
    found = {
        f"files/{folder}/item {number:02d}.txt": f"{folder}{number}".encode() for folder in "ab" for number in range(9)
    }
    frame = table()
    parquet, arrow = io.BytesIO(), io.BytesIO()
    frame.to_parquet(parquet, row_group_size=300)
    frame.to_feather(arrow)
    csv = frame.to_csv(index=False).encode()
    lines = frame.to_json(orient="records", lines=True).encode()
    return {
        **found,
        "tables/t.csv": csv,
        "tables/t.csv.gz": gzip.compress(csv, mtime=0),
        "tables/t.jsonl": lines,
        "tables/t.parquet": parquet.getvalue(),
        "tables/t.feather": arrow.getvalue(),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, data: Mapping[str, bytes]) -> Path:
    top = tmp_path_factory.mktemp("data")
    for name, content in data.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(content)
    return top


@pytest.fixture(scope="module")
def s3_place(s3: S3Server, data: dict[str, bytes]) -> Place:
    s3.put("same", data)
    return lambda path: {"path": f"s3://same/{path}", "storage_options": s3.options}


@pytest.fixture(scope="module")
def azure_data(azure: AzureServer, data: dict[str, bytes]) -> AzureServer:
    azure.put("same", data)
    return azure


@pytest.fixture(scope="module")
def memory_place(data: dict[str, bytes]) -> Iterator[Place]:
    filesystem = fsspec.filesystem("memory")
    for name, content in data.items():
        filesystem.pipe_file(f"/same/{name}", content)
    yield lambda path: {"path": f"memory://same/{path}"}
    filesystem.rm("/same", recursive=True)


@pytest.fixture(scope="module")
def https(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A web server, and the environment of those who trust its certificate."""
    certificate = _certificate(tmp_path_factory.mktemp("tls"))
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"https://localhost:{server.server_address[1]}", {"SSL_CERT_FILE": str(certificate)}
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


def _certificate(folder: Path) -> Path:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


Score = Callable[..., tuple[Report, bytes]]


@pytest.fixture
def score(bench: Workbench, client: Client) -> Score:
    def run(inputs: Any, script: str, *, client: Client | None = client, **settings: Any) -> tuple[Report, bytes]:
        bench.script(script)
        report = daskscore.run(
            entry_script=bench.folder / "score.py",
            inputs=inputs,
            output=bench.output,
            overwrite=True,
            client=client,
            preflight=False,
            **settings,
        )
        assert report.status == "Completed", report.message
        return report, (bench.output / "parallel_run_step.txt").read_bytes()

    return run


def places(request: pytest.FixtureRequest, name: str) -> Place:
    if name in ("s3", "memory"):
        found: Place = request.getfixturevalue(f"{name}_place")
        return found
    azure: AzureServer = request.getfixturevalue("azure_data")
    scheme, host = {
        "az": ("az", ""),
        "abfss": ("abfss", "@devstoreaccount1.dfs.core.windows.net"),
        "wasbs": ("wasbs", "@devstoreaccount1.blob.core.windows.net"),
        "blob address": ("https", ""),
    }[name]
    if scheme == "https":
        top = "https://devstoreaccount1.blob.core.windows.net/same"
        return lambda path: {"path": f"{top}/{path}", "storage_options": azure.options}
    return lambda path: {"path": f"{scheme}://same{host}/{path}", "storage_options": azure.options}


STORAGES = ["s3", "az", "abfss", "wasbs", "blob address", "memory"]


@pytest.mark.parametrize("name", STORAGES)
def test_files_give_the_same_bytes(request: pytest.FixtureRequest, score: Score, folder: Path, name: str) -> None:
    place = places(request, name)
    report, local = score(str(folder / "files"), FILES, mini_batch_size=4)
    assert report.items.succeeded == 18
    assert score(place("files/"), FILES, mini_batch_size=4)[1] == local
    assert score(place("files/*/item 0*"), FILES, mini_batch_size=4)[1] == local


@pytest.mark.parametrize("file", ["t.csv", "t.csv.gz", "t.jsonl", "t.parquet", "t.feather"])
@pytest.mark.parametrize("name", ["s3", "abfss", "memory"])
def test_tables_give_the_same_bytes(
    request: pytest.FixtureRequest, score: Score, folder: Path, name: str, file: str
) -> None:
    place = places(request, name)
    size = {"mini_batch_size": "130 rows", "append_row_separator": ","}
    report, local = score({"path": str(folder / "tables" / file), "type": "tabular"}, TABLES, **size)
    assert (report.items.succeeded, report.mini_batches.total) == (1000, 8)
    assert score({**place(f"tables/{file}"), "type": "tabular"}, TABLES, **size)[1] == local


def test_files_on_a_web_server_give_the_same_bytes(
    score: Score, bench: Workbench, folder: Path, https: tuple[str, dict[str, str]], data: dict[str, bytes]
) -> None:
    names = [name for name in data if name.startswith("files/")]
    local = score([str(folder / name) for name in names], FILES)[1]
    top, environment = https
    words = [word for name in names for word in ("--input", f"{top}/{name.replace(' ', '%20')}")]
    done = bench.run(*words, "--overwrite", environment=environment)
    assert (done.code, (bench.output / "parallel_run_step.txt").read_bytes()) == (0, local), done.stderr


@pytest.mark.parametrize("file", ["t.csv", "t.csv.gz", "t.parquet"])
def test_tables_on_a_web_server_give_the_same_bytes(
    score: Score, bench: Workbench, folder: Path, https: tuple[str, dict[str, str]], file: str
) -> None:
    size = {"mini_batch_size": "20KB", "append_row_separator": ","}
    local = score({"path": str(folder / "tables" / file), "type": "tabular"}, TABLES, **size)[1]
    top, environment = https
    words = [word for key, value in size.items() for word in ("--set", f"{key}={value}")]
    entry = f"{{path: '{top}/tables/{file}', type: tabular}}"
    done = bench.run("--input", entry, *words, "--overwrite", environment=environment)
    assert (done.code, (bench.output / "parallel_run_step.txt").read_bytes()) == (0, local), done.stderr


def test_what_is_in_the_memory_of_the_driver_reaches_workers_in_other_processes(
    score: Score, folder: Path, memory_place: Place
) -> None:
    local = score(str(folder / "files"), FILES, client=None)[1]
    assert score(memory_place("files/"), FILES, client=None)[1] == local


def test_several_inputs_keep_their_order_and_are_not_mixed(score: Score, folder: Path, s3_place: Place) -> None:
    script = """
        import os
        def run(mini_batch): return [" ".join(os.path.basename(path)[:7] for path in mini_batch)] * len(mini_batch)
    """
    inputs = [s3_place("files/b/"), str(folder / "files" / "a")]
    rows = score(inputs, script, mini_batch_size=5)[1].decode().splitlines()
    assert [len(row.split("item")) - 1 for row in rows] == [5] * 5 + [4] * 4 + [5] * 5 + [4] * 4


@pytest.mark.parametrize("fault", [BUSY, RESET, TRUNCATED], ids=["503", "reset", "truncated"])
def test_faults_that_pass_cost_the_script_no_try(
    score: Score, folder: Path, s3: S3Server, data: dict[str, bytes], proxied: Callable[..., Proxy], fault: Any
) -> None:
    s3.put("faults", data)
    proxy = proxied(s3.port)
    for number in range(9):
        proxy.will(f"/a/item%20{number:02d}.txt", fault, fault)
    proxy.will("/t.parquet", fault)
    inputs = {"path": "s3://faults/files/", "storage_options": s3.behind(proxy)}
    report, rows = score(inputs, FILES, mini_batch_size=4)
    assert rows == score(str(folder / "files"), FILES, mini_batch_size=4)[1]
    assert report.attempts == report.mini_batches.total
    assert sum(proxy.gets(f"/a/item%20{number:02d}.txt") for number in range(9)) == 27


def test_a_storage_that_stalls_is_asked_again(
    score: Score,
    folder: Path,
    s3: S3Server,
    data: dict[str, bytes],
    proxied: Callable[..., Proxy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    s3.put("stalls", data)
    proxy = proxied(s3.port)
    proxy.will("/a/item%2003.txt", STALL)
    report, rows = score({"path": "s3://stalls/files/", "storage_options": s3.behind(proxy)}, FILES)
    assert rows == score(str(folder / "files"), FILES)[1]
    assert report.attempts == report.mini_batches.total


def test_an_object_deleted_after_planning_fails_alone(
    score: Score, bench: Workbench, s3: S3Server, data: dict[str, bytes], tmp_path: Path
) -> None:
    s3.put("deleted", {name: content for name, content in data.items() if name.startswith("files/")})
    gate = tmp_path / "gate"
    script = f"""
        import os, time
        def run(mini_batch):
            while not os.path.exists({str(gate)!r}): time.sleep(0.01)
            return [os.path.basename(path) for path in mini_batch]
    """

    def delete() -> None:
        s3.remove("deleted", "files/b/item 08.txt")
        gate.touch()

    plan = bench.output / ".daskscore" / "plan" / "plan.json"
    watcher = threading.Thread(target=_when, args=(plan.exists, delete))
    watcher.start()
    inputs = {"path": "s3://deleted/files/", "storage_options": s3.options}
    # Small enough that nothing is brought far ahead.
    report, rows = score(inputs, script, mini_batch_size=3, process_count_per_node=1, staging_limit=8)
    watcher.join()
    assert (report.items.failed, report.failures) == (1, {"input": 1})
    assert len(rows.splitlines()) == 17
    failed = (bench.output / "failed_items.jsonl").read_text()
    assert "s3://deleted/files/b/item 08.txt is not there any more" in failed


def _when(condition: Callable[[], bool], action: Callable[[], None]) -> None:
    waited = threading.Event()
    while not condition():
        waited.wait(0.01)
    action()


def test_no_secret_stands_anywhere(
    score: Score, bench: Workbench, s3: S3Server, data: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put("canary", data)
    monkeypatch.setenv("CANARY", "c4nary-from-the-environment")
    options = {**s3.options, "key": "c4nary-key", "secret": "${env:CANARY}"}
    inputs = [
        {"path": "s3://canary/files/a/", "storage_options": options},
        {"path": "s3://canary/files/b/", "storage_options": options},
    ]
    score(inputs, FILES + "\n    def init(): print(__import__('sys').argv, dict(__import__('os').environ).keys())")
    for top, _, names in os.walk(bench.output):
        for name in names:
            assert b"c4nary" not in Path(top, name).read_bytes(), name
