from __future__ import annotations

from typing import Any

import pytest
from distributed import Client

import daskscore
from tests.acceptance.bad_input.job import JOB, SCRIPT, Refused, Run, everything_below
from tests.support import Workbench


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--input", "none"], "input {}/none does not exist"),
        (["--entry-script", "none.py"], "entry_script none.py does not exist"),
        (["--cluster", "loccal"], "cluster: there is none called loccal. Did you mean local?"),
        (
            ["--cluster", "none.json"],
            "cluster: the scheduler file {}/none.json cannot be read: No such file or directory",
        ),
        (["--cluster", "empty.json"], "cluster: {}/empty.json is no scheduler file: it names no address"),
        (["--cluster", "foo://a:1"], "cluster: foo://a:1 begins with no protocol of Dask's"),
        (["--cluster", "tcp://a"], "cluster: tcp://a names no host and port. Write it like tcp://host:8786"),
        (["--cluster", "tls://a:1"], "cluster: tls://a:1 needs certificates"),
        (["--cluster", "no_module:start"], "cluster: no_module:start cannot be loaded: ModuleNotFoundError"),
    ],
)
def test_a_job_that_is_refused_overwrites_nothing(
    finished: Workbench, refused: Refused, words: list[str], message: str
) -> None:
    (finished.folder / "empty.json").write_text("{}")
    assert refused("--overwrite", *words).startswith(message.format(finished.folder))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"cluster": {"size": 3}},
            "cluster: the mapping names no kind. Write kind: local, or the address of a scheduler",
        ),
        ({"cluster": {"kind": "local", "size": 3}}, "cluster: local takes no option size. Known is security"),
        (
            {"cluster": {"kind": "existing", "address": "tcp://a:1", "size": 3}},
            "cluster: existing takes no option size.",
        ),
        ({"cluster": {"kind": "existing"}}, "cluster: existing needs an address. Write address: tcp://host:port"),
        (
            {"client": "tcp://a:1"},
            "client: 'tcp://a:1' is no dask.distributed.Client. An address is given with cluster=",
        ),
        ({"intputs": "in"}, "intputs: there is no such key. Did you mean inputs?"),
    ],
)
def test_a_call_that_is_refused_overwrites_nothing(finished: Workbench, settings: dict[str, Any], message: str) -> None:
    before = everything_below(finished.output)
    job = {"entry_script": "score.py", "inputs": "in", "output": "out"}
    with pytest.raises(daskscore.UsageError) as caught:
        daskscore.run(job, overwrite=True, **settings)
    assert str(caught.value).startswith(message)
    assert everything_below(finished.output) == before


def test_a_client_that_is_closed_is_refused(bench: Workbench, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bench.folder)
    bench.script(SCRIPT)
    bench.inputs("a")
    assert client.scheduler is not None
    with Client(client.scheduler.address, set_as_default=False) as closed:
        pass
    with pytest.raises(daskscore.ConfigError, match=r"^client: it is closed\. Give one that is connected"):
        daskscore.run(entry_script="score.py", inputs="in", output="out", client=closed)


def test_a_scheduler_that_does_not_answer(bench: Workbench, run: Run) -> None:
    bench.script(SCRIPT)
    bench.inputs("a")
    done = run(*JOB, "--cluster", "127.0.0.1:9", "--set", "first_task_creation_timeout=0.5", ends=1)
    assert done.stderr == (
        "the Dask scheduler at tcp://127.0.0.1:9 did not answer within 0.5 s. "
        "Is it running, can this machine reach it, and is this not the port of its dashboard? If it listens with TLS only, its "
        "address begins with tls://\n"
    )
