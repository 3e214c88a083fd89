from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from daskscore.core.backoff import Backoff
from daskscore.errors import InputError
from daskscore.inputs.patience import Patience
from daskscore.inputs.stores import Stores
from daskscore.worker.side_inputs import stage_side_input
from tests.servers import BUSY, GONE, RESET, TRUNCATED, AzureServer, Proxy, S3Server

pytest_plugins = ["tests.servers"]

MODEL = {
    "models/best/model.bin": b"m" * 100_000,
    "models/best/code/__init__.py": b"",
    "models/best/.config/a b.json": b"{}",
    "models/best-2/model.bin": b"other",
}
QUICK = Patience(20.0, Backoff(attempts=4, seconds=20, first_pause=0.01))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("scheme", ["s3", "abfs"])
def test_a_folder_comes_with_all_that_is_in_it(s3: S3Server, azure: AzureServer, tmp_path: Path, scheme: str) -> None:
    server = s3 if scheme == "s3" else azure
    server.put("side", MODEL)
    stores = Stores({f"{scheme}://side": server.options})
    for uri in (f"{scheme}://side/models/best", f"{scheme}://side/models/best/"):
        place = stage_side_input(uri, tmp_path, stores)
        assert place.name == "best"
        assert tree(place) == {
            name.removeprefix("models/best/"): data for name, data in MODEL.items() if name.startswith("models/best/")
        }


def test_a_file_comes_with_its_own_name(s3: S3Server, tmp_path: Path) -> None:
    s3.put("side", MODEL)
    place = stage_side_input("s3://side/models/best/model.bin", tmp_path, Stores({"s3://side": s3.options}))
    assert (place.name, place.read_bytes()) == ("model.bin", MODEL["models/best/model.bin"])


def test_what_is_on_this_machine_stays_there(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    assert stage_side_input(str(path), tmp_path / "side", Stores()) == path
    assert stage_side_input(f"file://{path}", tmp_path / "side", Stores()) == path
    assert not (tmp_path / "side").exists()


def test_all_who_want_it_at_once_share_one_copy(s3: S3Server, tmp_path: Path, proxied: Callable[..., Proxy]) -> None:
    s3.put("side", MODEL)
    proxy = proxied(s3.port, 0.02)
    stores = Stores({"s3://side": s3.behind(proxy)})
    with ThreadPoolExecutor(6) as pool:
        places = set(pool.map(lambda _: stage_side_input("s3://side/models/best", tmp_path, stores), range(6)))
    assert len(places) == 1
    assert proxy.gets("best/model.bin") == 1


def test_what_passes_is_tried_again(s3: S3Server, tmp_path: Path, proxied: Callable[..., Proxy]) -> None:
    s3.put("side", MODEL)
    proxy = proxied(s3.port)
    proxy.will("best/model.bin", BUSY, RESET, TRUNCATED)
    stores = Stores({"s3://side": s3.behind(proxy)})
    place = stage_side_input("s3://side/models/best", tmp_path, stores, patience=QUICK)
    assert (place / "model.bin").read_bytes() == MODEL["models/best/model.bin"]


def test_it_is_there_whole_or_not_at_all(s3: S3Server, tmp_path: Path, proxied: Callable[..., Proxy]) -> None:
    s3.put("side", MODEL)
    proxy = proxied(s3.port)
    proxy.will("best/model.bin", GONE)
    stores = Stores({"s3://side": s3.behind(proxy)})
    with pytest.raises(
        InputError, match=r"side input s3://side/models/best: s3://side/models/best/model.bin cannot be .*404"
    ):
        stage_side_input("s3://side/models/best", tmp_path, stores)
    assert tree(tmp_path).keys() == {path.name for path in tmp_path.glob("*.lock")}
    assert stage_side_input("s3://side/models/best", tmp_path, stores).is_dir()


def test_what_a_killed_worker_left_is_no_hindrance(s3: S3Server, tmp_path: Path) -> None:
    s3.put("side", MODEL)
    stores = Stores({"s3://side": s3.options})
    place = stage_side_input("s3://side/models/best", tmp_path, stores)
    place.parent.rename(place.parent.with_suffix(".incoming"))
    (place.parent.with_suffix(".incoming") / "torn").touch()
    assert tree(stage_side_input("s3://side/models/best", tmp_path, stores).parent).keys() == {
        "best/model.bin", "best/code/__init__.py", "best/.config/a b.json",
    }  # fmt: skip


def test_waiting_for_another_worker_has_an_end(s3: S3Server, tmp_path: Path) -> None:
    s3.put("side", MODEL)
    stores = Stores({"s3://side": s3.options})
    digest = stage_side_input("s3://side/models/best", tmp_path, stores).parent
    digest.rename(tmp_path / "elsewhere")
    lock = os.open(digest.with_suffix(".lock"), os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with pytest.raises(InputError, match=r"was not there after 0.1 s: another worker of this node"):
            stage_side_input("s3://side/models/best", tmp_path, stores, lock_seconds=0.1)
    finally:
        os.close(lock)


@pytest.mark.parametrize("uri", ["s3://side/models/none", "s3://no-bucket/x"])
def test_what_is_not_there_is_said(s3: S3Server, tmp_path: Path, uri: str) -> None:
    s3.put("side", MODEL)
    with pytest.raises(InputError, match=uri):
        stage_side_input(uri, tmp_path, Stores({"s3://": s3.options}))
