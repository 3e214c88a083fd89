"""How soon scoring starts, and what planning costs: 100,000 local files, 1,000 Parquet files, and a bucket of 1,000,000.

    python benchmarks/listing.py [--objects 1000000]

The bucket is a server on loopback that only knows how to list (1,000 keys to a page, as S3 has them) and to answer each
GET with one byte. Its run is interrupted when the listing has ended, as it is the listing that is measured.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import daskscore
from daskscore.driver.interruption import Interruption

PLAN = """
import json, resource, sys, tempfile, time
from pathlib import Path
from daskscore.config import load
from daskscore.core.layout import Layout
from daskscore.driver.job_inputs import open_inputs
job = load(None, {"entry_script": __file__, "inputs": json.loads(sys.argv[1]), "output": "out"})
began = time.perf_counter()
with tempfile.TemporaryDirectory() as folder:
    inputs = open_inputs(job, Layout(Path(folder)))
    inputs.wait(lambda: False, whole=True)
    seconds = time.perf_counter() - began
print(f"{inputs.planner.planned.mini_batches} mini-batches in {seconds:.2f} s,",
      f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")
"""
SCRIPT = "def run(mini_batch): return [1] * len(mini_batch)\n"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--objects", type=int, default=1_000_000)
    arguments.add_argument("--serve", action="store_true", help="only the bucket")
    options = arguments.parse_args()
    objects = options.objects
    if options.serve:
        serve(objects)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        print("100,000 local files:", planned(folder, files(folder / "files")))
        print("1,000 Parquet files:", planned(folder, {"path": str(parquet(folder / "parquet")), "type": "tabular"}))
        print(f"{objects:,} objects in a bucket:", bucket(folder, objects))


def serve(objects: int) -> None:
    handler = type("Handler", (_Bucket,), {"objects": objects})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


def files(folder: Path) -> str:
    for outer in range(100):
        (folder / f"{outer:02}").mkdir(parents=True)
        for inner in range(1000):
            (folder / f"{outer:02}" / f"{inner:03}").touch()
    return str(folder)


def parquet(folder: Path) -> Path:
    folder.mkdir()
    table = pa.table({f"c{number}": np.arange(1000.0) for number in range(8)})
    for number in range(1000):
        pq.write_table(table, folder / f"{number:03}.parquet")
    return folder


def planned(folder: Path, entry: Any) -> str:
    import json

    (folder / "plan.py").write_text(PLAN)
    command = [sys.executable, str(folder / "plan.py"), json.dumps(entry)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def bucket(folder: Path, objects: int) -> str:
    (folder / "score.py").write_text(SCRIPT)
    command = [sys.executable, __file__, "--serve", "--objects", str(objects)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        out, interruption = folder / "out", Interruption()
        watcher = _Watcher(out, interruption)
        watcher.start()
        daskscore.run(
            entry_script=folder / "score.py",
            inputs={
                "path": "s3://bucket/",
                "storage_options": {
                    "key": "k",
                    "secret": "s",
                    "endpoint_url": f"http://127.0.0.1:{port}",
                },
            },
            mini_batch_size=100,
            output=out,
            interruption=interruption,
        )
        server.kill()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return (
        f"first mini-batch committed after {watcher.first:.1f} s, listing ended after {watcher.listed:.1f} s, "
        f"driver {peak} MiB"
    )


class _Watcher(threading.Thread):
    """Looks when the first mini-batch is committed and when the plan is complete; then it interrupts the run."""

    def __init__(self, out: Path, interruption: Interruption) -> None:
        super().__init__(daemon=True)
        self.out, self.interruption = out, interruption
        self.first = self.listed = 0.0

    def run(self) -> None:
        began = time.monotonic()
        journal, plan = self.out / ".daskscore" / "journal", self.out / ".daskscore" / "plan" / "plan.json"
        while not self.first or not self.listed:
            now = time.monotonic() - began
            if not self.first and journal.exists() and os.path.getsize(journal):
                self.first = now
            if not self.listed and plan.exists():
                self.listed = now
            time.sleep(0.02)
        self.interruption.ask()


class _Bucket(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    objects = 0

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        self._answer(self._page(query) if "list-type" in query else b"x")

    def do_HEAD(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _page(self, query: dict[str, list[str]]) -> bytes:
        start = int(query.get("continuation-token", ["0"])[0])
        stop = min(start + 1000, self.objects)
        found = "".join(
            f"<Contents><Key>k{number:07}</Key><Size>1</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            '<ETag>"x"</ETag></Contents>'
            for number in range(start, stop)
        )
        more = stop < self.objects
        token = f"<NextContinuationToken>{stop}</NextContinuationToken>" if more else ""
        return (
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name>'
            f"<IsTruncated>{str(more).lower()}</IsTruncated><KeyCount>{stop - start}</KeyCount>{token}{found}"
            "</ListBucketResult>"
        ).encode()

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


if __name__ == "__main__":
    main()
