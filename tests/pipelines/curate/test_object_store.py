"""From an object store and into one, over a real server of its protocol on loopback."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

from reelwright.curation.ingest.resolve import list_inputs
from reelwright.curation.store import Store
from reelwright.pipelines.curate.plan import make_plan
from tests.conftest import REEL, ROOT
from tests.footage import footage
from tests.pipelines.helpers import CHEAP_ARGUMENTS, check_whole, contents, curate, recipe_of
from tests.pipelines.train.test_train import RECIPE

pytestmark = pytest.mark.usefixtures("ray_local")


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("objects")
    made = footage(folder, 2, lengths=(40,))
    return [*made, Path(shutil.copy(made[0], folder / "zz copy.mp4"))]


@pytest.fixture(scope="module")
def bucket(object_store, films) -> str:
    return object_store.bucket("films", *films)


@pytest.mark.exhaustive
@pytest.mark.always
def test_films_of_an_object_store_become_the_clips_they_are(bucket, films, tmp_path):
    """The same rows and bytes as from the same files on a disk, in a store that is remote too."""
    store = f"{bucket}/store"
    recipe, inputs = recipe_of(store=store), list_inputs([f"{bucket}/in"])
    plan = make_plan(recipe, inputs, quiet=True)
    assert "3 inputs: 2 new, 0 done before, 1 duplicates, 0 unreadable" in plan, plan
    assert not Store.exists(store), "a plan made a store"
    summary = curate(Store.open(store, create=True), [f"{bucket}/in"])
    assert (summary.ok, summary.duplicate, summary.failed, summary.clips) == (2, 1, 0, 2)
    remote = Store.open(store)
    check_whole(remote)
    curate(tmp_path / "store", [films[0].parent])
    assert contents(remote) == contents(tmp_path / "store")
    before = {t.name: t.version for t in remote.tables()}
    assert curate(remote, [f"{bucket}/in"]).done_before == 3
    assert {t.name: t.version for t in remote.tables()} == before
    assert "0 new, 3 done before" in make_plan(recipe, inputs, quiet=True)


def test_an_object_that_cannot_be_read_fails_alone(object_store, films, tmp_path):
    bucket = object_store.bucket("half", films[0])
    listing = tmp_path / "list.csv"
    listing.write_text(f"uri\n{bucket}/in/{films[0].name}\n{bucket}/in/gone.mp4\n")
    summary = curate(tmp_path / "store", [listing])
    assert (summary.ok, summary.failed) == (1, 1)
    (failure,) = Store.open(tmp_path / "store").read("failures", ["uri", "error"]).to_pylist()
    assert failure["uri"].endswith("gone.mp4")
    assert failure["error"].startswith("io: ")


def reel(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*REEL, *map(str, arguments)], cwd=cwd, text=True,
                          capture_output=True, timeout=300, env=os.environ | {"PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.exhaustive
@pytest.mark.always
def test_the_whole_way_from_an_object_store_to_a_trained_run_and_back(object_store, films, tmp_path):
    """As a user goes it, with a Ray of its own that finds keys and endpoint in the environment."""
    bucket = object_store.bucket("way", *films)
    store = f"{bucket}/store"
    inputs = ("curate", f"{bucket}/in", "--store", store, *CHEAP_ARGUMENTS)
    assert "3 inputs: 2 new" in reel(*inputs, "--plan", cwd=tmp_path).stdout
    assert "3 inputs = 2 ok + 1 duplicate + 0 failed" in reel(*inputs, cwd=tmp_path).stdout
    assert "nothing to do" in reel(*inputs, cwd=tmp_path).stdout
    counted = reel("sql", "select count(*) as n from clips", "-s", store, "-f", "csv", cwd=tmp_path)
    assert counted.stdout.split() == ["n", "2"]
    reel("annotate", "-s", store, "--only", "texture", cwd=tmp_path)
    assert Store.open(store).count("clips", "texture_fingerprint IS NOT NULL") == 2
    reel("snapshot", "create", "all", "-s", store, "--sql", "select clip_id from clips", cwd=tmp_path)
    assert "all is whole" in reel("snapshot", "verify", "all", "-s", store, cwd=tmp_path).stdout
    reel("export", f"{bucket}/out", "-s", store, "--snapshot", "all", cwd=tmp_path)
    assert not (tmp_path / "s3:").exists()
    files = object_store.files
    with tarfile.open(fileobj=io.BytesIO(files.cat_file("way/out/shard-000000.tar"))) as shard:
        digests = {m.name[:-4]: hashlib.md5(shard.extractfile(m).read()).hexdigest()  # type: ignore[union-attr]
                   for m in shard.getmembers() if m.name.endswith(".mp4")}  # fmt: skip
    opened = Store.open(store)
    ids = opened.read("clips", ["clip_id"]).column(0).to_pylist()
    assert digests == {name: hashlib.md5(mp4).hexdigest() for name, mp4 in opened.read_media(ids)}
    assert json.loads(files.cat_file("way/out/reelwright-export.json"))["path"] == f"{bucket}/out"

    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    train = ("recipe.yaml", "--snapshot", "all", "--store", store)
    assert "0 failed" in reel("precompute", *train, "--workers", "1", cwd=tmp_path).stdout
    assert "finished 4 steps" in reel("train", *train, "--out", "runs", cwd=tmp_path).stdout
    (run,) = (tmp_path / "runs").iterdir()
    (tmp_path / "suite.yaml").write_text("prompts: [{id: boat, prompt: a boat at sunset}]\n")
    suite = ("--prompts", "suite.yaml", "--name", "way", "--measure", "light")
    sampling = ("--size", "32x32", "--frames", "9", "--steps", "1", "--device", "cpu")
    reel("evaluate", f"tuned={run}", *suite, *sampling, "-s", store, cwd=tmp_path)
    reel("evaluate", "--report", "way", "-o", "way.html", "-s", store, cwd=tmp_path)
    (made,) = Store.open(store).read("generations").to_pylist()
    assert made["state"] == "ok"
    back = reel("lineage", run, "--all", cwd=tmp_path).stdout
    assert all(f"{bucket}/in/{film.name}" in back for film in films[:2])
    reel("report", "-s", store, "--out", "report.html", cwd=tmp_path)
    reel("cleanup", "-s", store, cwd=tmp_path)
