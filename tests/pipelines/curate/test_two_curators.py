"""Two curations of one store at once: the second is told so in one sentence, and after a kill it may begin."""

import os
import subprocess
from pathlib import Path

import pytest

from reelwright.curation.store import Store
from tests.conftest import REEL, ROOT
from tests.footage import footage
from tests.pipelines.helpers import CHEAP_ARGUMENTS, check_whole, contents, curate
from tests.pipelines.object_store import SECRET

pytestmark = [pytest.mark.usefixtures("ray_local"), pytest.mark.exhaustive]


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> list[Path]:
    return footage(tmp_path_factory.mktemp("two"), 2, lengths=(40,))


def start(inputs: str, store: str) -> subprocess.Popen[str]:
    import ray

    address = ray.get_runtime_context().gcs_address
    arguments = ["curate", inputs, "--store", store, "--address", address, *CHEAP_ARGUMENTS]
    return subprocess.Popen([*REEL, *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env=os.environ | {"PYTHONPATH": str(ROOT)})  # fmt: skip


@pytest.mark.parametrize("place", ["bucket", "folder"])
def test_the_second_of_two_curators_is_told_and_begins_once_the_first_was_killed(object_store, films, tmp_path, place):
    bucket = object_store.bucket(f"two-{place}", *films)
    store = f"{bucket}/store" if place == "bucket" else str(tmp_path / "shared")
    opened = Store.open(store, create=True)
    hold = {"kind": "slow", "method": "GET", "path": "/in/", "bytes_s": 1000}  # until the first is killed
    with object_store.faults(hold):
        first = start(f"{bucket}/in", store)
        assert first.stderr is not None
        line = first.stderr.readline()
        while line and "curate: 0/2" not in line:
            line = first.stderr.readline()
        assert line, "the first has not begun"
        second = start(f"{bucket}/in", store)
        out, error = second.communicate(timeout=300)
        assert second.returncode == 1, out + error
        assert f"process {first.pid} on " in error
        assert "has been writing to this store since" in error
        assert error.count("\n") == 1, error
        first.kill()
        first.communicate()
    third = start(f"{bucket}/in", store)
    out, error = third.communicate(timeout=300)
    assert third.returncode == 0, error
    assert "2 inputs = 2 ok" in out
    check_whole(opened)
    curate(tmp_path / "alone", [films[0].parent])
    assert contents(opened) == contents(tmp_path / "alone")
    assert SECRET not in out + error
