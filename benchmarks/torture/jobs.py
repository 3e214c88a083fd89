"""Jobs of a few seconds: their inputs, their job file, and the output that they must have, made of their table."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from benchmarks.torture import tables
from benchmarks.torture.tables import Expectation, Table
from daskscore.config import JobConfig

HERE = Path(__file__).resolve().parent
FORMATS = ("text", "csv", "jsonl", "parquet")
MEMORY_LIMIT = "400MB"
HAS_ISOLATION = "on_item_error" in JobConfig.model_fields
GROUP_ROWS = 1 << 20


@dataclass(frozen=True, slots=True)
class Shape:
    """What a job is, apart from what happens to it."""

    content: str = "files"
    """files, csv or parquet: the last two are tables, whose rows are the items."""
    items: int = 40
    mini_batch_size: int = 2
    action: str = "append_row"
    format: str = "text"
    nodes: int = 1
    processes: int = 2
    bundle_size: int | None = None
    remote_inputs: bool = False
    remote_output: bool = False
    isolate: bool = HAS_ISOLATION
    max_try: int = 3
    run_seconds: float = 60
    item_seconds: float = 0.005
    table: Table = field(default_factory=dict)

    @property
    def rows_name(self) -> str:
        return f"parallel_run_step.{self.format if self.format in ('csv', 'parquet') else 'txt'}"

    def told(self) -> str:
        where = "".join(
            word for flag, word in ((self.remote_inputs, " from S3"), (self.remote_output, " to S3")) if flag
        )
        sink = self.format if self.action == "append_row" else self.action
        table = " ".join(f"{item}:{'+'.join(words)}" for item, words in self.table.items())
        return (
            f"{self.items} {'files' if self.content == 'files' else f'rows of {self.content}'} by {self.mini_batch_size} "
            f"as {sink}{where} on {self.nodes} × {self.processes}"
            + ("" if self.isolate else ", not isolated")
            + (f" [{table}]" if table else "")
        )


@dataclass(frozen=True, slots=True)
class Job:
    """A shape in a folder of its own."""

    shape: Shape
    folder: Path
    disk: Path
    """The folder that holds the output, or the working folder of a remote one."""
    remote: tuple[str, Mapping[str, Any]] | None = None
    """The address of its own folder in a storage, and the options to reach it."""
    cluster: Any = "local"

    @property
    def inputs(self) -> Path:
        return self.folder / "in"

    @property
    def calls(self) -> Path:
        return self.folder / "calls"

    @property
    def output(self) -> Path:
        """On this machine; of a remote one, where it is brought for the checks."""
        return self.folder / "published" if self.shape.remote_output else self.disk / "out"

    @property
    def cache(self) -> Path:
        return self.disk / "cache"

    @property
    def items(self) -> list[str]:
        """By the names that the script writes down."""
        if self.shape.content == "files":
            return [f"item_{number:03}" for number in range(self.shape.items)]
        return [str(number) for number in range(self.shape.items)]

    @property
    def mini_batches(self) -> list[list[str]]:
        size = self.shape.mini_batch_size
        return [self.items[start : start + size] for start in range(0, self.shape.items, size)]

    @property
    def entry(self) -> Any:
        """The job's `inputs`."""
        where = str(self.inputs)
        more: dict[str, Any] = {}
        if self.shape.remote_inputs:
            assert self.remote is not None
            where, more = f"{self.remote[0]}in", {"storage_options": dict(self.remote[1])}
        if self.shape.content == "files":
            return {"path": f"{where}/", **more}
        return {"path": f"{where}/table.{self.shape.content}", "type": "tabular", **more}

    @property
    def settings(self) -> dict[str, Any]:
        shape = self.shape
        output: Any = str(self.output)
        if shape.remote_output:
            assert self.remote is not None
            output = {"path": f"{self.remote[0]}out/", "storage_options": dict(self.remote[1])}
        found: dict[str, Any] = {
            "entry_script": "score.py",
            "inputs": self.entry,
            "output": output,
            "mini_batch_size": shape.mini_batch_size if shape.content == "files" else f"{shape.mini_batch_size} rows",
            "output_action": shape.action,
            "node_count": shape.nodes,
            "process_count_per_node": shape.processes,
            "run_max_try": shape.max_try,
            "run_invocation_timeout": shape.run_seconds,
            "memory_limit_per_process": MEMORY_LIMIT,
            "resource_monitor_interval": 0,
            "cluster": self.cluster,
            "environment_variables": {
                "TORTURE": str(self.folder),
                "TORTURE_ROWS": "text" if shape.format == "text" else "columns",
                "TORTURE_SECONDS": str(shape.item_seconds),
            },
        }
        if shape.action == "append_row":
            found["append_row_format"] = shape.format
        if shape.bundle_size is not None:
            found["bundle_size"] = shape.bundle_size
        if HAS_ISOLATION:
            found["on_item_error"] = "isolate" if shape.isolate else "fail_mini_batch"
        return found

    def make(self) -> dict[str, bytes]:
        """Write all that it needs; gives what has to be put into the storage, by name."""
        for folder in (self.inputs, self.calls, self.disk):
            folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / "script.py", self.folder / "score.py")
        (self.folder / "table.json").write_text(json.dumps(self.shape.table))
        (self.folder / "job.yml").write_text(json.dumps(self.settings, indent=1))
        if self.shape.content == "files":
            for item in self.items:
                (self.inputs / item).write_bytes(self.content(item))
        else:
            table = pa.table(
                {"number": [int(item) for item in self.items], "text": [self.content(i).decode() for i in self.items]}
            )
            path = self.inputs / f"table.{self.shape.content}"
            if self.shape.content == "csv":
                pyarrow.csv.write_csv(table, path)
            else:
                pyarrow.parquet.write_table(table, path)
        if not self.shape.remote_inputs:
            return {}
        return {f"in/{path.name}": path.read_bytes() for path in self.inputs.iterdir()}

    def content(self, item: str, edition: int = 0) -> bytes:
        """Of a file, or of the text in a row: some have what CSV must quote."""
        text = f"{item} of edition {edition}"
        return (f'{text}\n"second, line"' if item.endswith(("3", "7")) else text).encode()

    def expected(self, costly: frozenset[str], hits: int) -> Expectation:
        return tables.expect(self.mini_batches, self.shape.table, isolate=self.shape.isolate, costly=costly, hits=hits)

    def row(self, item: str, edition: int = 0) -> Any:
        """What the script returns for an item."""
        content = self.content(item, edition)
        digest = hashlib.sha256(content).hexdigest()
        if self.shape.format == "text":
            return f"{item} {digest} {'x' * (int(digest[:2], 16) * 4)}"
        return {"item": item, "digest": digest, "size": len(content), "share": len(content) / 8}

    def rows(self, lacking: frozenset[str], edition_of: Mapping[str, int]) -> bytes:
        """The output file without the items that have failed."""
        made = [
            [self.row(item, edition_of.get(item, 0)) for item in items if item not in lacking]
            for items in self.mini_batches
        ]
        rows = [row for found in made for row in found]
        match self.shape.format:
            case "text":
                return "".join(f"{row}\n" for row in rows).encode()
            case "jsonl":
                return "".join(json.dumps(row) + "\n" for row in rows).encode()
            case "csv":
                text = io.StringIO(newline="")
                writer = csv.writer(text, lineterminator="\n")
                if rows:
                    writer.writerow(rows[0])
                writer.writerows(row.values() for row in rows)
                return text.getvalue().encode()
            case _:
                return parquet([found for found in made if found])


def parquet(batches: Sequence[Sequence[Mapping[str, Any]]]) -> bytes:
    """One row group of the batches."""
    found = [pa.RecordBatch.from_pylist([dict(row) for row in batch]) for batch in batches]
    target = io.BytesIO()
    with pa.parquet.ParquetWriter(target, found[0].schema) as writer:
        writer.write_table(pa.Table.from_batches(found), row_group_size=GROUP_ROWS)
    return target.getvalue()


def draw_shape(chance: random.Random, *, storage: bool) -> Shape:
    """Any that takes one to four seconds."""
    content = chance.choice(("files", "files", "files", "csv", "parquet"))
    action = chance.choice(("append_row",) * 5 + ("summary_only",))
    return Shape(
        content=content,
        items=chance.randint(40, 90) if content == "files" else chance.randint(80, 160),
        mini_batch_size=chance.randint(1, 4) if content == "files" else chance.randint(2, 9),
        action=action,
        format=chance.choice(("text", *FORMATS)) if action == "append_row" else "text",
        nodes=chance.choice((1, 1, 2)),
        processes=chance.randint(1, 3),
        bundle_size=chance.choice((None, None, 1, 3)),
        remote_inputs=storage and chance.random() < 0.4,
        remote_output=storage and chance.random() < 0.4,
        isolate=HAS_ISOLATION and chance.random() < 0.75,
        item_seconds=chance.choice((0.002, 0.005, 0.01)),
    )


__all__ = ["FORMATS", "HAS_ISOLATION", "Job", "Shape", "draw_shape", "parquet"]
