"""What a job may say of a cluster of jobs, and what reaches dask-jobqueue of it. Nothing is started here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import dask
import pytest
import yaml

from daskscore import plugins
from daskscore.clusters import jobqueue, orders
from daskscore.clusters.interface import Wanted
from daskscore.clusters.queues import QUEUES
from daskscore.errors import ConfigError
from tests.support import Workbench

dask_jobqueue = pytest.importorskip("dask_jobqueue", reason="daskscore[jobqueue] is not installed")


def order(kind: str = "slurm", *, processes: int = 2, **keys: Any) -> orders.Order:
    found = orders.KINDS[kind]
    return orders.order(found, getattr(dask_jobqueue, found.cluster), Wanted(1, processes, keys))


def script(kind: str = "slurm", *, processes: int = 2, **keys: Any) -> str:
    """The job script, as dask-jobqueue writes it."""
    found = order(kind, processes=processes, **keys)
    for name in ("scheduler_options", "log_directory"):
        del found.options[name]
    text: str = found.make.job_cls("tcp://10.0.0.1:8786", name="one", **found.options).job_script()
    return text


@pytest.mark.parametrize("kind", QUEUES)
def test_every_kind_is_found_by_name_and_writes_a_script(kind: str) -> None:
    assert plugins.find("cluster", kind) is getattr(jobqueue, kind)
    words = script(kind).replace("''", "'")
    for wanted in ("--nthreads 2", "--memory-limit 0", "--death-timeout 60", "PROFILE__ENABLED=False"):
        assert wanted in words


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        ("slurm", ["#SBATCH -p long", "#SBATCH -A us", "#SBATCH -t 01:30:00", "#SBATCH --no-requeue"]),
        ("pbs", ["#PBS -q long", "#PBS -A us", "#PBS -l walltime=01:30:00", "#PBS -r n"]),
        ("sge", ["#$ -q long", "#$ -P us", "#$ -l h_rt=01:30:00", "#$ -r n"]),
        ("lsf", ["#BSUB -q long", '#BSUB -P "us"', "#BSUB -W 01:30", "#BSUB -rn"]),
        ("oar", ["#OAR -q long", "#OAR --project us", "#OAR -l /nodes=1/core=2,walltime=01:30:00"]),
    ],
)
@pytest.mark.parametrize("account", ["project", "account"])
def test_the_keys_become_the_directives_of_each_kind(kind: str, lines: list[str], account: str) -> None:
    written = script(kind, queue="long", walltime="01:30:00", **{account: "us"}).splitlines()
    assert [line for line in lines if line not in written] == []


def test_a_worker_leaves_before_its_walltime() -> None:
    assert "--lifetime 4980s --lifetime-stagger 120s" in script(walltime="01:30:00")
    assert "--lifetime 37s --lifetime-stagger 3s" in script(walltime="00:01:00")
    assert "--lifetime 172380s" in script(walltime="2-00:00:00")


def test_options_reach_the_class_and_go_before_what_is_ours() -> None:
    text = script(
        options={
            "job_script_prologue": ["module load conda"],
            "worker_extra_args": ["--memory-limit", "2GB"],
            "job_extra_directives": ["--requeue", "--gres=gpu:1"],
            "python": "/opt/python",
        }
    )
    assert "\nmodule load conda\n/opt/python -m distributed.cli.dask_worker" in text
    assert text.index("--memory-limit 0") < text.index("--memory-limit 2GB")
    assert text.index("#SBATCH --no-requeue") < text.index("#SBATCH --requeue") < text.index("#SBATCH --gres=gpu:1")


def test_what_the_site_has_configured_stays() -> None:
    with dask.config.set({"jobqueue.slurm.memory": "3GB", "jobqueue.slurm.job-script-prologue": ["module load ours"]}):
        text = script()
    assert "#SBATCH --mem=3G" in text
    assert "module load ours" in text


def test_the_scheduler_listens_where_it_is_told_and_has_no_dashboard() -> None:
    assert order().options["scheduler_options"] == {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
    told = order(host="login1", options={"scheduler_options": {"port": 8786}}).options["scheduler_options"]
    assert (told["host"], told["port"]) == ("login1", 8786)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"wall_time": "01:00:00"}, "slurm has no key wall_time. Did you mean walltime?"),
        ({"zzz": 1}, "slurm has no key zzz. Known are queue, walltime"),
        ({"walltime": "1h"}, "walltime is '1h'. Write hours, minutes and seconds in quotes, like \"01:30:00\""),
        ({"walltime": 5400}, "walltime is 5400"),
        ({"walltime": "00:00:10"}, "too short for a worker"),
        ({"memory": "much"}, "memory is 'much'. Write a size for one node, like 4GB"),
        ({"memory": 0}, "memory is 0"),
        ({"queue": 1}, "queue is 1. Write one name"),
        ({"project": "a", "account": "b"}, "under project or account"),
        ({"interface": "ib7"}, "no network interface ib7. It has lo"),
        ({"security": True}, "security: can be temporary, and nothing else"),
        ({"options": ["a"]}, "options is no mapping"),
        ({"options": {"job_cpus": 1}}, "SLURMCluster takes no job_cpus. Did you mean job_cpu?"),
        ({"options": {"job_script_prologue": "module load"}}, "Write a list of texts"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        order(**keys)
    assert says in str(error.value)


def test_htcondor_has_no_queue_and_no_walltime() -> None:
    with pytest.raises(ConfigError, match="htcondor has no key walltime"):
        order("htcondor", walltime="01:00:00")


def test_the_command_ends_with_code_2_and_leaves_nothing(bench: Workbench) -> None:
    bench.script("def run(mini_batch):\n    return mini_batch\n")
    bench.inputs("a")
    done = bench.run("--set", "cluster={kind: slurm, walltime: soon}")
    assert done.code == 2
    assert "walltime is 'soon'" in done.stderr
    assert sorted(path.name for path in bench.folder.iterdir()) == ["in", "score.py"]


def test_without_the_command_of_the_queue_it_is_told_where_to_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="no command oarsub on this machine"):
        jobqueue.oar(Wanted(1, 1, {}))


def test_without_dask_jobqueue_the_line_to_install_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(ConfigError, match=r"pip install 'daskscore\[jobqueue\]'"):
        jobqueue.slurm(Wanted(1, 1, {}))


def test_the_document_shows_a_job_that_is_taken_and_lists_every_key() -> None:
    text = (Path(__file__).parents[2] / "docs" / "clusters.md").read_text()
    section = text.split("## Jobs in a queue")[1].split("\n## ")[0]
    cluster = yaml.safe_load(section.split("```yaml")[1].split("```")[0])["cluster"]
    order(**{**{key: value for key, value in cluster.items() if key != "kind"}, "interface": "lo"})
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert [word for row in rows for word in row.replace("`", "").split() if word != "or"] == [
        *orders.KINDS["slurm"].keys
    ]
