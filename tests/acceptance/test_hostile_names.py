"""Names that no tool likes give the same rows from a disk and from each storage that allows them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st

import daskscore
from daskscore.inputs.local import LocalFiles
from daskscore.inputs.remote import RemoteFiles
from daskscore.inputs.stores import Stores
from daskscore.worker.side_inputs import stage_side_input
from tests.servers import AzureServer, S3Server
from tests.support import Workbench

pytest_plugins = ["tests.servers"]

SCRIPT = """
    import os
    def run(mini_batch): return [repr((os.path.basename(path), open(path).read())) for path in mini_batch]
"""
NAMES = (
    "a b", " a", "a ", "100%", "%41", "%2F", "a%20b", "#", "a#b", "a?b=c", "?", "a+b", "+", "é", "e\u0301", "-rf", "--x=y",
    "Case", "case", "CASE", "a&b;c", "'", '"', "{x}", "${HOME}", "a,b", "[a]", "*", "~", "a:b", "a@b", "日本.txt", "🎉",
    "x" * 250, "d/" * 40 + "deep", "a/b", "a-b/c", "a.b/c", "a0b/c", "!", "a=b/c", "trailing.",
)  # fmt: skip
NOT_ON_AZURE = {"trailing.", "a "}
"""Its service takes off a dot or a space at the end of a name."""
ONLY_ON_A_DISK = {"a\nb", "a\rb", "a\tb", "a\\b"}


@pytest.fixture
def rows(bench: Workbench, client: Client) -> Callable[[Any], list[str]]:
    bench.script(SCRIPT)

    def score(entry: Any) -> list[str]:
        report = daskscore.run(
            entry_script=bench.folder / "score.py",
            inputs=entry,
            output=bench.output,
            client=client,
            preflight=False,
            overwrite=True,
            mini_batch_size=7,
        )
        assert (report.status, report.items.failed) == ("Completed", 0)
        return (bench.output / "parallel_run_step.txt").read_text().splitlines()

    return score


def tree(top: Path, names: set[str]) -> dict[str, bytes]:
    found = {name: f"{number}".encode() for number, name in enumerate(sorted(names))}
    for name, data in found.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(data)
    return found


@pytest.mark.parametrize("place", ["s3", "azure"])
def test_each_name_gives_the_row_that_it_gives_on_a_disk(
    request: pytest.FixtureRequest, rows: Callable[[Any], list[str]], tmp_path: Path, place: str
) -> None:
    server: S3Server | AzureServer = request.getfixturevalue(place)
    names = set(NAMES) - (NOT_ON_AZURE if place == "azure" else set())
    objects = tree(tmp_path / "names", names)
    server.put("names", {f"top/{name}": data for name, data in objects.items()})
    scheme = "s3" if place == "s3" else "az"
    local = rows(str(tmp_path / "names"))
    assert len(local) == len(names)
    assert rows({"path": f"{scheme}://names/top/", "storage_options": server.options}) == local


def test_what_no_address_can_name_comes_from_a_disk(rows: Callable[[Any], list[str]], tmp_path: Path) -> None:
    objects = tree(tmp_path / "names", ONLY_ON_A_DISK)
    assert rows(str(tmp_path / "names")) == [repr((name, objects[name].decode())) for name in sorted(ONLY_ON_A_DISK)]


LETTERS = st.sampled_from([*" %#?+&=;:@!'()*[]{}$,~-._aAéß", "e\u0301", "日", "%2", "0"])
PARTS = (
    st.lists(LETTERS, min_size=1, max_size=8)
    .map("".join)
    .filter(lambda part: part[0] not in "._" and part[-1] not in ". ")
)
PATHS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)


@given(names=st.sets(PATHS, min_size=1, max_size=12))
@settings(max_examples=8)
def test_any_tree_is_listed_in_the_same_order_and_brought_as_it_is(
    s3: S3Server, tmp_path_factory: pytest.TempPathFactory, names: set[str]
) -> None:
    alone = {name for name in names if not any(other.startswith(f"{name}/") for other in names)}
    folder = tmp_path_factory.mktemp("tree")
    top = folder / "names"
    objects = tree(top, alone)
    prefix = f"s3://trees/{folder.name}/names/"
    s3.put("trees", {f"{folder.name}/names/{name}": data for name, data in objects.items()})
    stores = Stores({prefix: s3.options})
    listed = [uri.removeprefix(prefix) for uri in RemoteFiles(prefix, stores=stores).items()]
    assert listed == [path.removeprefix(f"{top}/") for path in LocalFiles(str(top)).items()]
    brought = stage_side_input(prefix, folder / "side", stores)
    assert {name: (brought / name).read_bytes() for name in alone} == objects
