"""A whole curation over an object store that fails in many ways: its rows, its requests, and its keys."""

import json
import os
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from reelwright.curation.records import status
from reelwright.curation.store import Store
from reelwright.pipelines.annotate.load import load_annotators
from reelwright.pipelines.annotate.run import annotate_and_record
from reelwright.pipelines.curate.account import measured
from reelwright.pipelines.recipes.prices import Prices
from reelwright.pipelines.runtime.progress import Progress
from tests.conftest import REEL, ROOT
from tests.footage import footage, shots, write
from tests.pipelines.helpers import CHEAP_ARGUMENTS, check_whole, contents, curate, recipe_of
from tests.pipelines.object_store import SECRET, met

pytestmark = pytest.mark.usefixtures("ray_local")
EVERYTHING = [
    {"kind": "lost_upload", "method": "PUT", "path": "media.*uploadId", "times": 1},
    {"kind": "lost_upload", "method": "POST", "path": "media.*uploadId", "times": 1},
    {"kind": "refuse", "every": 7},
    {"kind": "reset", "every": 11},
    {"kind": "cut", "method": "GET", "path": "/in/.*mp4", "every": 2, "times": 4},
    {"kind": "slow", "method": "GET", "path": "/in/.*mp4", "times": 3},
    {"kind": "unheard", "method": "PUT", "every": 5},
    {"kind": "unsure", "method": "PUT", "path": "_versions", "every": 4},
    {"kind": "stale", "path": "list-type", "every": 5},
]


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> list[Path]:
    return footage(tmp_path_factory.mktemp("faults"), 2, lengths=(40,))


@pytest.mark.exhaustive
@pytest.mark.always
def test_a_store_that_fails_in_every_way_loses_nothing_and_doubles_nothing(object_store, films, tmp_path):
    (tmp_path / "in").mkdir()
    sharp = write(tmp_path / "in" / "sharp.mp4", shots((50,), 1280, 720, seed=7), crf="4")
    bucket, recipe = object_store.bucket("faulty", *films, sharp), recipe_of(encode__crf=1)  # uploads of several parts
    with object_store.faults(*EVERYTHING):
        store = Store.open(f"{bucket}/store", create=True)
        summary = curate(store, [f"{bucket}/in"], recipe)
        again = curate(store, [f"{bucket}/in"], recipe)
        happened = met(object_store.log())
    assert set(happened) == {rule["kind"] for rule in EVERYTHING}, happened
    assert happened["lost_upload"] == 2, "a part, and the end of an upload"
    assert (summary.ok, summary.failed, summary.clips) == (3, 0, 3)
    assert (again.done_before, again.clips) == (3, 0)
    check_whole(store)
    curate(tmp_path / "store", [films[0].parent, sharp], recipe)
    assert contents(store) == contents(tmp_path / "store")


def copies() -> set[Path]:
    """Copies of inputs on this machine, of whatever run."""
    return set(Path(tempfile.gettempdir()).glob("reel-inputs-*/*/*"))


def test_a_remote_film_is_fetched_once_and_its_requests_are_counted(object_store, films, tmp_path, monkeypatch):
    bucket = object_store.bucket("once", *films)
    store, before = Store.open(tmp_path / "store", create=True), copies()
    object_store.clear_log()
    summary = curate(store, [f"{bucket}/in"])
    asked = [line for line in object_store.log() if "/in/" in line.target and line.method == "GET"]
    assert Counter(line.target for line in asked) == {f"/once/in/{film.name}": 1 for film in films}
    size = sum(film.stat().st_size for film in films)
    assert summary.remote_bytes == size == sum(line.received for line in asked)
    told = status.read(store.uri)[-1]  # the first: of curation, and of annotating after it
    assert told["state"] == "finished"
    (row,) = store.read("runs", ["stages", "stage_bytes"], "command = 'curate'").to_pylist()
    stages = json.loads(row["stages"])
    assert stages["probe"]["bytes_in"] == size
    assert json.loads(row["stage_bytes"])["inputs"] == 0, "they are of no disk"
    assert stages["scan"]["bytes_in"] == stages["cut"]["bytes_in"] == 0
    assert (stages["probe"]["tasks"], stages["scan"]["tasks"], stages["write"]["tasks"]) == (2, 2, 1)
    for name in ("probe", "scan", "cut"):
        assert stages[name]["cpu_s"] > 0
        assert 1 << 20 < stages[name]["peak_bytes"] < 2 << 30
    assert stages["store"]["bytes_written"] > 0
    assert copies() <= before

    object_store.clear_log()
    summary = curate(tmp_path / "other", [f"{bucket}/in"], recipe_of(limits__input_cache_mib=0))
    fetched = sum(line.received for line in object_store.log() if "/in/" in line.target)
    assert summary.remote_bytes == fetched >= 3 * size, "without a cache each stage reads it"


def test_annotating_stored_clips_tells_what_it_read(object_store, films):
    """As the server saw it: the clips' bytes, which the workers read, and the tables, which the driver did."""
    bucket = object_store.bucket("again", *films)
    store = Store.open(f"{bucket}/store", create=True)
    curate(store, [f"{bucket}/in"], recipe_of(annotators=["light"]))
    clips = sum(len(mp4) for _, mp4 in store.read_media(store.read("clips", ["clip_id"])["clip_id"].to_pylist()))
    recipe = recipe_of(annotators=["blur"])
    annotators = load_annotators(recipe)
    before = measured(store, annotators, Prices())
    object_store.clear_log()
    with Progress("annotate", quiet=True) as progress:
        annotate_and_record(store, recipe, annotators, progress)
    got = [line for line in object_store.log() if line.method == "GET" and "/data/" in line.target]
    (row,) = store.read("runs", ["stages"], "command = 'annotate'").to_pylist()
    stages = json.loads(row["stages"])
    task = stages["annotate"]
    assert clips <= task["bytes_in"] <= sum(line.received for line in got)
    assert 0 < task["requests"] <= len(object_store.log())
    assert task["tasks"] == 1
    assert task["cpu_s"] > 0
    assert task["peak_bytes"] > 1 << 20
    assert stages["store"]["bytes_written"] > 0
    assert status.read(store.uri)[0]["stages"]["annotate"]["tasks"] == 1
    after = measured(store, annotators, Prices())
    assert before is not None
    assert after is not None
    read = after.stages["annotate"].bytes_read - before.stages["annotate"].bytes_read
    assert read == task["bytes_in"] + stages["store"]["bytes_read"], "its price has them"


@pytest.mark.exhaustive
@pytest.mark.always
def test_keys_are_written_nowhere(object_store, films, tmp_path):
    """The recipe names the variable that holds the key. Afterwards all that the run wrote and said is searched."""
    bucket = object_store.bucket("secret", films[0])
    environment = {name: value for name, value in os.environ.items() if name != "AWS_SECRET_ACCESS_KEY"}
    with tempfile.TemporaryDirectory(prefix="rk") as short:  # Ray's sockets lie below it
        environment |= {"MY_KEY": SECRET, "PYTHONPATH": str(ROOT), "TMPDIR": short, "RAY_TMPDIR": short}
        arguments = ["curate", f"{bucket}/in", "--store", f"{bucket}/store", *CHEAP_ARGUMENTS]
        without = [*REEL, *arguments, "--set", "credentials={AWS_SECRET_ACCESS_KEY: NOT_SET}"]
        refused = subprocess.run(without, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert refused.returncode == 1
        assert "the environment variable NOT_SET is not set" in refused.stderr
        named = [*REEL, *arguments, "--set", "credentials={AWS_SECRET_ACCESS_KEY: MY_KEY}"]
        done = subprocess.run(named, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert "1 ok" in done.stdout, done.stderr
        found = subprocess.run(["grep", "-rlF", SECRET, short, tmp_path], capture_output=True, text=True)
        assert list(Path(short).rglob("*.log")), "Ray's logs are elsewhere"
    assert found.stdout == ""
    assert SECRET not in done.stdout + done.stderr
    files = object_store.files
    names = files.find("secret/store")
    assert len(names) > 20
    assert not [name for name in names if SECRET.encode() in files.cat_file(name)]
    for table in ("runs", "sources"):
        assert SECRET not in str(Store.open(f"{bucket}/store").read(table).to_pylist())
