"""`deploy/slurm.sh` on a real Slurm of two nodes: its time is over, a node is lost, its recipe is wrong.

Needs Debian's `slurm-wlm` and `munge`, root and network namespaces.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from reelwright.curation.store import Store
from tests.conftest import ROOT
from tests.footage import footage
from tests.pipelines.helpers import CHEAP_ARGUMENTS, check_whole
from tests.pipelines.hosts import ROUTER, Network, NoNamespacesError
from tests.pipelines.object_store import ObjectStore, environment
from tests.pipelines.slurm import NoSlurmError, Slurm, wait_for

pytestmark = [pytest.mark.exhaustive, pytest.mark.waits]
SCRIPT = ROOT / "deploy" / "slurm.sh"
FILMS, NODES = 6, 2
FETCH_S = 4.0  # of a film, so that the run is long enough to be disturbed


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    """The store's server on an address that every node reaches."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment().items():
            patched.setenv(name, value.replace("127.0.0.1", ROUTER))
        with ObjectStore(ROUTER) as one:
            yield one


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    try:
        with Network() as one:
            yield one
    except NoNamespacesError as error:
        pytest.skip(f"no hosts can be made here, as that needs root and network namespaces: {error}")


@pytest.fixture
def cluster(network, server, tmp_path) -> Iterator[Slurm]:
    first = len(network.hosts) + 2
    hosts = [network.host(first + n, tmp_path / f"host{n}") for n in range(NODES)]
    try:
        with Slurm(hosts, {name: value for name, value in os.environ.items() if name.startswith("AWS_")}) as one:
            yield one
    except NoSlurmError as error:
        pytest.skip(str(error))
    finally:
        for host in hosts:
            host.kill()


@pytest.fixture
def films(tmp_path) -> list[Path]:
    (tmp_path / "films").mkdir()
    return footage(tmp_path / "films", FILMS, lengths=(40,))


def submit(cluster: Slurm, *arguments: str) -> str:
    """As the page says, with nodes as small as the test's."""
    return cluster.submit(f"--nodes={NODES}", "--cpus-per-task=1", "--mem-per-cpu=1G", SCRIPT, *arguments)


def fetches(server: ObjectStore) -> int:
    return sum("/in/" in line.target and line.method == "GET" for line in server.log())


def slow(films: list[Path]) -> dict[str, object]:
    largest = max(film.stat().st_size for film in films)
    return {"kind": "slow", "method": "GET", "path": "/in/", "bytes_s": int(largest / FETCH_S)}


def check_all(cluster: Slurm, job: str, store: str) -> None:
    assert cluster.ended(job) == "COMPLETED 0:0", cluster.said(job)
    check_whole(Store.open(store))
    assert Store.open(store).count("sources", "state = 'ok'") == FILMS


def test_a_job_whose_time_is_over_goes_on_when_it_is_started_again_and_leaves_nothing(cluster, server, films):
    bucket = server.bucket("slurm", *films)
    with server.faults(slow(films)):
        job = submit(cluster, f"{bucket}/in", f"{bucket}/store", *CHEAP_ARGUMENTS)
        wait_for(lambda: fetches(server) >= 3 or cluster.over(job), 240)
        assert not cluster.over(job), cluster.said(job)
        cluster.ask("scancel", "--batch", "--signal=USR1", job)  # as Slurm does, five minutes before the end
        wait_for(lambda: cluster.job(job)["JobState"] == "PENDING" or cluster.over(job), 240)
    assert cluster.job(job)["Restarts"] == "1", cluster.said(job)
    assert "the same command goes on" in cluster.said(job)
    cluster.ask("scontrol", "update", f"jobid={job}", "starttime=now")  # Slurm would wait two minutes
    check_all(cluster, job, f"{bucket}/store")
    assert cluster.left() == []


def test_a_run_goes_on_without_a_node_that_is_lost(cluster, server, films):
    bucket = server.bucket("lost", *films)
    with server.faults(slow(films)):
        job = submit(cluster, f"{bucket}/in", f"{bucket}/store", *CHEAP_ARGUMENTS)
        wait_for(lambda: fetches(server) >= 3 or cluster.over(job), 240)
        assert not cluster.over(job), cluster.said(job)
        cluster.hosts[-1].kill()
    check_all(cluster, job, f"{bucket}/store")
    assert cluster.job(job)["Restarts"] == "0"


def test_a_recipe_with_a_mistake_fails_the_job(cluster, server, films):
    bucket = server.bucket("wrong", films[0])
    job = submit(cluster, f"{bucket}/in", f"{bucket}/store", "--set", "encod.crf=28")
    assert cluster.ended(job) == "FAILED 1:0"
    assert "'encod' is not a setting" in cluster.said(job)
    assert cluster.left() == []
