"""Two processes that curate into one store on S3: the second is told in one sentence, and begins after a kill."""

import os
import subprocess
from pathlib import Path

import pytest

from reelwright.curation.store import Store, StoreError
from tests.conftest import REEL, ROOT
from tests.footage import footage
from tests.pipelines.helpers import CHEAP_ARGUMENTS, check_whole, contents, curate

pytestmark = [pytest.mark.usefixtures("ray_local"), pytest.mark.exhaustive, pytest.mark.always]


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> list[Path]:
    return footage(tmp_path_factory.mktemp("two"), 2, lengths=(40,))


def start(inputs: str, store: str) -> subprocess.Popen[str]:
    import ray

    address = ray.get_runtime_context().gcs_address
    arguments = ["curate", inputs, "--store", store, "--address", address, *CHEAP_ARGUMENTS]
    return subprocess.Popen([*REEL, *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env=os.environ | {"PYTHONPATH": str(ROOT)})  # fmt: skip


def test_the_second_of_two_curators_is_told_and_begins_once_the_first_was_killed(object_store, films, tmp_path):
    bucket = object_store.bucket("two", *films)
    store = Store.open(f"{bucket}/store", create=True)
    with object_store.faults({"kind": "slow", "method": "GET", "path": "/in/", "bytes_s": 1000}):
        first = start(f"{bucket}/in", store.uri)
        assert first.stderr is not None
        line = first.stderr.readline()
        while line and "curate: 0/2" not in line:
            line = first.stderr.readline()
        assert line, "the first has not begun"
        with pytest.raises(StoreError, match=rf"process {first.pid} on .* has been writing to this store") as told:
            curate(store, [f"{bucket}/in"])
        assert "\n" not in str(told.value)
        first.kill()
        first.communicate()
    assert curate(store, [f"{bucket}/in"]).ok == 2
    check_whole(store)
    curate(tmp_path / "alone", [films[0].parent])
    assert contents(store) == contents(tmp_path / "alone")
