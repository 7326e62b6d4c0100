"""The thread on Google Cloud Storage and on Azure, over emulators on loopback where they are installed."""

import hashlib
import io
import json
import os
import subprocess
import tarfile

import pytest

from reelwright.curation.store import Store
from tests.conftest import REEL, ROOT
from tests.footage import footage
from tests.pipelines.emulators import KEY, emulator
from tests.pipelines.helpers import CHEAP_ARGUMENTS, check_whole, contents

pytestmark = [pytest.mark.exhaustive, pytest.mark.waits]


@pytest.fixture(scope="module", params=["gs", "az"])
def cloud(request):
    with emulator(request.param) as one:
        yield one


def test_from_a_bucket_to_an_export_in_another(cloud, tmp_path):
    """As a user goes it, with a Ray of its own that finds keys and endpoint in the environment."""

    def reel(*arguments: str) -> str:
        done = subprocess.run([*REEL, *arguments], cwd=tmp_path, text=True, capture_output=True, timeout=300,
                              env=os.environ | {"PYTHONPATH": str(ROOT)})  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert KEY not in done.stdout + done.stderr
        return done.stdout

    (tmp_path / "films").mkdir()
    films = footage(tmp_path / "films", 2, lengths=(40,))
    bucket, out = cloud.bucket("films", *films), cloud.bucket("given")
    store = f"{bucket}/store"
    inputs = ("curate", f"{bucket}/in", "--store", store, *CHEAP_ARGUMENTS)
    assert "2 inputs: 2 new" in reel(*inputs, "--plan")
    assert "2 inputs = 2 ok + 0 duplicate + 0 failed" in reel(*inputs)
    assert "nothing to do" in reel(*inputs)
    counted = reel("sql", "select count(*) as n from clips where duration_s > 0", "-s", store, "-f", "csv")
    assert counted.split() == ["n", "2"]
    reel("snapshot", "create", "all", "-s", store, "--sql", "select clip_id from clips")
    assert "all is whole" in reel("snapshot", "verify", "all", "-s", store)
    reel("export", f"{out}/shards", "-s", store, "--snapshot", "all")
    reel("cleanup", "-s", store)

    remote = Store.open(store)
    check_whole(remote)
    reel("curate", str(tmp_path / "films"), "--store", str(tmp_path / "store"), *CHEAP_ARGUMENTS)
    assert contents(remote) == contents(tmp_path / "store")
    assert json.loads(cloud.files.cat_file(f"{out}/shards/reelwright-export.json"))["path"] == f"{out}/shards"
    with tarfile.open(fileobj=io.BytesIO(cloud.files.cat_file(f"{out}/shards/shard-000000.tar"))) as shard:
        digests = {m.name[:-4]: hashlib.md5(shard.extractfile(m).read()).hexdigest()  # type: ignore[union-attr]
                   for m in shard.getmembers() if m.name.endswith(".mp4")}  # fmt: skip
    ids = remote.read("clips", ["clip_id"]).column(0).to_pylist()
    assert digests == {name: hashlib.md5(mp4).hexdigest() for name, mp4 in remote.read_media(ids)}
    assert json.loads(cloud.files.cat_file(f"{store}/_locks/curation.json"))["free"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(("gs:", "az:"))]
    assert not [name for table in ("runs", "sources") for row in remote.read(table).to_pylist() for name in row.values()
                if KEY in str(name)]  # fmt: skip
