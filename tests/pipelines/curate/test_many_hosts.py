"""Curations over hosts that share no file: one loses its link for half a minute, and then its power; one is slow, and
clocks are an hour off.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reelwright.curation.records import status
from reelwright.curation.store import Store
from tests.conftest import REEL, ROOT
from tests.footage import footage
from tests.pipelines.helpers import CHEAP_ARGUMENTS, check_whole, contents
from tests.pipelines.hosts import ROUTER, Cluster, Network, NoClockError, NoNamespacesError
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


@pytest.fixture
def cluster_of(network, server, tmp_path) -> Iterator[Callable[..., Cluster]]:
    """Makes a cluster of three hosts, of which some have a clock that is ahead by so many seconds."""
    hosts = []

    def make(**clocks: int) -> Cluster:
        for name in ("head", "first", "second"):
            hosts.append(network.host(len(network.hosts) + 2, tmp_path / name))
            if name in clocks:
                hosts[-1].put_clock(clocks[name])
        return Cluster(hosts, {name: value for name, value in os.environ.items() if name.startswith("AWS_")})

    yield make
    for host in hosts:
        host.kill()


def wait_for(what: Callable[[], bool], seconds: float = 240) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.5)


def test_no_host_can_leave_another_a_file(network, tmp_path):
    hosts = [network.host(len(network.hosts) + 2, tmp_path / name) for name in ("one", "other")]
    name = f"reel-{tmp_path.name}"
    for folder in ("/tmp", "/var/tmp", "/dev/shm"):
        assert hosts[0].start(["touch", f"{folder}/{name}"], dict(os.environ), "touch.log").wait() == 0
        assert hosts[1].start(["test", "-e", f"{folder}/{name}"], dict(os.environ), "test.log").wait() == 1
        assert not Path(folder, name).exists()
    for folder in ("/", "/home", "/opt", "/run", "/root", "/srv"):
        if Path(folder).is_dir() and not os.path.ismount(folder) or folder == "/":
            assert hosts[0].start(["touch", f"{folder}/{name}"], dict(os.environ), "touch.log").wait() == 1, folder
    assert "Read-only file system" in hosts[0].said("touch.log")
    for host in hosts:
        host.kill()


def test_a_link_that_drops_and_a_host_that_dies_change_nothing(server, cluster_of, tmp_path):
    cluster = cluster_of()
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


def test_a_slow_host_and_clocks_an_hour_off_change_nothing_and_cost_no_lock(server, cluster_of, tmp_path):
    try:
        cluster = cluster_of(head=-3600, second=3600)
    except NoClockError as error:
        pytest.skip(str(error))
    (tmp_path / "films").mkdir()
    films = footage(tmp_path / "films", FILMS, lengths=(40,))
    bucket = server.bucket("clocks", *films)
    store, first, second = f"{bucket}/store", *cluster.workers
    arguments = [*REEL, "curate", f"{bucket}/in", "--store", store, "--address", cluster.address, *CHEAP_ARGUMENTS]
    calm = [*REEL, "curate", f"{bucket}/in", "--store", f"{bucket}/calm", *CHEAP_ARGUMENTS]
    subprocess.run(calm, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, capture_output=True, timeout=400)

    slow = max(film.stat().st_size for film in films) / (3 * FETCH_S)
    with first.slowed(), server.faults({"kind": "slow", "method": "GET", "path": "/in/", "bytes_s": int(slow)}):
        run = cluster.head.start(arguments, cluster.environment, "run.log")
        wait_for(lambda: server.files.exists(f"{store}/_locks/curation.json") or run.poll() is not None)
        written = server.files.info(f"{store}/_locks/curation.json")["LastModified"].timestamp()
        held = json.loads(server.files.cat_file(f"{store}/_locks/curation.json"))
        assert -3700 < held["time"] - written < -3500, "the head's clock is right"
        # two others want the store: one by the right clock, one an hour ahead of it, and so two of the owner's
        others = [second.start(arguments, cluster.environment, "other.log"),
                  subprocess.Popen([*calm[:6], store, *CHEAP_ARGUMENTS], env=os.environ | {"PYTHONPATH": str(ROOT)},
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)]  # fmt: skip
        said = others[1].communicate(timeout=400)[0]
        assert others[0].wait(timeout=400) == others[1].returncode == 1
        assert run.poll() is None, "the others came too late"
        for words in (said, second.said("other.log")):
            assert "has been writing to this store" in words
        told = [facts for facts in status.read(store) if facts["state"] == status.RUNNING]
        assert len(told) == 1, "a run is not known to go on"
        assert told[0]["silent_s"] < 300
        assert run.wait(timeout=500) == 0, cluster.head.said("run.log")
    assert f"{FILMS} inputs = {FILMS} ok" in cluster.head.said("run.log")
    check_whole(Store.open(store))
    assert contents(Store.open(store)) == contents(Store.open(f"{bucket}/calm"))
