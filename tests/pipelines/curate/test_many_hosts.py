"""A curation over hosts that share no path: one loses its link for half a minute, and then its power."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reelwright.curation.store import Store
from tests.conftest import REEL
from tests.footage import footage
from tests.pipelines.helpers import CHEAP_ARGUMENTS, check_whole, contents
from tests.pipelines.hosts import ROUTER, Cluster, Network, NoNamespacesError
from tests.pipelines.object_store import ObjectStore, environment

pytestmark = [pytest.mark.exhaustive, pytest.mark.always, pytest.mark.waits]
FILMS = 6
FETCH_S = 5.0  # of a film, so that the run is long enough to be disturbed


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    try:
        with Network() as one:
            yield one
    except NoNamespacesError as error:
        pytest.skip(f"no hosts can be made here, as that needs root and network namespaces: {error}")


@pytest.fixture(scope="module")
def server(network) -> Iterator[ObjectStore]:
    """The store's server on the machine's own address, which every host reaches."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment().items():
            patched.setenv(name, value.replace("127.0.0.1", ROUTER))
        with ObjectStore(ROUTER) as one:
            yield one


@pytest.fixture(scope="module")
def cluster(network, server, tmp_path_factory) -> Cluster:
    folder = tmp_path_factory.mktemp("hosts")
    hosts = [network.host(number, folder / f"host{number}") for number in (2, 3, 4)]
    keys = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    return Cluster(hosts, keys)


def wait_for(what: Callable[[], bool], seconds: float = 240) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.5)


def test_a_link_that_drops_and_a_host_that_dies_change_nothing(server, cluster, tmp_path):
    (tmp_path / "films").mkdir()
    films = footage(tmp_path / "films", FILMS, lengths=(40,))
    bucket = server.bucket("hosts", *films)
    slow = max(film.stat().st_size for film in films) / FETCH_S
    first, second = cluster.workers

    def curate(store: str, log: str):
        arguments = [*REEL, "curate", f"{bucket}/in", "--store", store, "--address", cluster.address, *CHEAP_ARGUMENTS]
        return cluster.head.start(arguments, cluster.environment, log)

    calm = curate(f"{bucket}/calm", "calm.log")
    assert calm.wait(timeout=400) == 0, cluster.head.said("calm.log")

    def fetched() -> int:
        return sum("/in/" in line.target and line.method == "GET" for line in server.log())

    with server.faults({"kind": "slow", "method": "GET", "path": "/in/", "bytes_s": int(slow)}):
        run = curate(f"{bucket}/store", "run.log")
        wait_for(lambda: fetched() >= 2 or run.poll() is not None)
        first.cut_off()
        time.sleep(30)  # what is asked, not a wait for something
        first.join_again()
        wait_for(lambda: fetched() >= 4 or run.poll() is not None)
        first.kill()
    assert run.wait(timeout=500) == 0, cluster.head.said("run.log")
    assert f"{FILMS} inputs = {FILMS} ok" in cluster.head.said("run.log")
    disturbed = Store.open(f"{bucket}/store")
    check_whole(disturbed)
    assert contents(disturbed) == contents(Store.open(f"{bucket}/calm"))
    assert not [p for p in second.folder.rglob("reel-inputs-*/*/*") if p.is_file()], "copies of inputs stayed"
    assert not (Path(cluster.head.folder) / "s3:").exists()
