"""An object store that is busy, breaks connections, is slow, loses uploads and shows old listings; and its keys."""

import hashlib
import json
import os
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from reelwright.curation import usage
from reelwright.curation.media import remote
from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.input_cache import InputCache
from reelwright.curation.media.probe import md5_of
from reelwright.curation.store import Store
from reelwright.pipelines.recipes.curation import RecipeError, load_recipe
from reelwright.pipelines.workers import tasks
from reelwright.pipelines.workers.results import MediaWritten
from tests.conftest import REEL, ROOT
from tests.footage import footage
from tests.pipelines.helpers import CHEAP_ARGUMENTS, check_whole, contents, curate, recipe_of
from tests.pipelines.object_store import SECRET, met

pytestmark = pytest.mark.usefixtures("ray_local")
EVERYTHING = [
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


@pytest.fixture(autouse=True)
def hasty(monkeypatch) -> None:
    monkeypatch.setattr(remote, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(tasks, "WRITE_PAUSES_S", (0.05, 0.05))


def test_a_store_that_fails_in_every_way_loses_nothing_and_doubles_nothing(object_store, films, tmp_path):
    bucket = object_store.bucket("faulty", *films)
    with object_store.faults(*EVERYTHING):
        store = Store.open(f"{bucket}/store", create=True)
        summary = curate(store, [f"{bucket}/in"])
        again = curate(store, [f"{bucket}/in"])
        happened = met(object_store.log())
    assert set(happened) == {rule["kind"] for rule in EVERYTHING}, happened
    assert (summary.ok, summary.failed, summary.clips) == (2, 0, 2)
    assert (again.done_before, again.clips) == (2, 0)
    check_whole(store)
    curate(tmp_path / "store", [films[0].parent])
    assert contents(store) == contents(tmp_path / "store")


def test_a_remote_film_is_fetched_once_and_its_requests_are_counted(object_store, films, tmp_path, monkeypatch):
    bucket = object_store.bucket("once", *films)
    store = Store.open(tmp_path / "store", create=True)
    object_store.clear_log()
    summary = curate(store, [f"{bucket}/in"])
    asked = [line for line in object_store.log() if "/in/" in line.target and line.method == "GET"]
    assert Counter(line.target for line in asked) == {f"/once/in/{film.name}": 1 for film in films}
    size = sum(film.stat().st_size for film in films)
    assert summary.remote_bytes == size == sum(line.received for line in asked)
    (row,) = store.read("runs", ["stages"], "command = 'curate'").to_pylist()
    stages = json.loads(row["stages"])
    assert stages["probe"]["bytes_in"] == size
    assert stages["scan"]["bytes_in"] == stages["cut"]["bytes_in"] == 0
    assert (stages["probe"]["tasks"], stages["scan"]["tasks"], stages["write"]["tasks"]) == (2, 2, 1)
    for name in ("probe", "scan", "cut"):
        assert stages[name]["cpu_s"] > 0
        assert 1 << 20 < stages[name]["peak_bytes"] < 2 << 30
    assert stages["store"]["bytes_written"] > 0
    assert not list(Path(os.environ.get("TMPDIR", "/tmp")).glob("reel-inputs-*/*/*"))

    object_store.clear_log()
    summary = curate(tmp_path / "other", [f"{bucket}/in"], recipe_of(limits__input_cache_mib=0))
    fetched = sum(line.received for line in object_store.log() if "/in/" in line.target)
    assert summary.remote_bytes == fetched >= 3 * size, "without a cache each stage reads it"


def test_one_clip_is_read_by_its_range(object_store):
    bucket = object_store.bucket("ranges")
    store = Store.open(f"{bucket}/store", create=True)
    mp4s = {"a" * 24: os.urandom(300_000), "b" * 24: os.urandom(200_000)}
    store.commit_media([store.write_media(list(mp4s), list(mp4s.values()))])
    store = Store.open(f"{bucket}/store")
    object_store.clear_log()
    assert dict(store.read_media(["b" * 24])) == {"b" * 24: mp4s["b" * 24]}
    log = object_store.log()
    assert 200_000 <= sum(line.received for line in log) < 230_000
    assert len(log) <= 8


@pytest.mark.parametrize(
    "rule",
    [{"kind": "refuse", "times": 8}, {"kind": "reset", "times": 8}, {"kind": "cut", "method": "GET", "times": 6}],
    ids=lambda rule: rule["kind"],
)
def test_an_outage_longer_than_the_file_system_s_own_tries_is_waited_for(object_store, rule, monkeypatch, request):
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 2)
    data = os.urandom(300_000)
    name = f"outage-{rule['kind']}"
    object_store.files.mkdir(name)
    object_store.files.pipe_file(f"{name}/film.mp4", data)
    usage.begin()
    with object_store.faults(rule | {"path": "film"}):
        assert md5_of(f"s3://{name}/film.mp4") == {"md5": hashlib.md5(data).hexdigest(), "bytes": len(data)}
        assert met(object_store.log()) == {rule["kind"]: rule["times"]}
    assert usage.end().bytes_in == len(data)


def test_what_lasts_is_not_waited_for(object_store, monkeypatch):
    monkeypatch.setattr(remote, "FIRST_PAUSE_S", 1e9)
    object_store.files.mkdir("lasting")
    with pytest.raises(MediaError, match=r"cannot be read \(lasting/gone.mp4\)"):
        md5_of("s3://lasting/gone.mp4")


def test_a_copy_that_an_outage_broke_off_is_not_taken_for_the_film(object_store, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(remote, "PATIENCE_S", 0.0)
    monkeypatch.setattr(remote, "BLOCK_BYTES", 50_000)
    object_store.files.mkdir("broken")
    object_store.files.pipe_file("broken/film.mp4", os.urandom(400_000))
    cache = InputCache("run", 1 << 30)
    remote.use_cache(cache)
    try:
        with object_store.faults({"kind": "refuse", "method": "GET", "path": "film", "every": 2}):
            object_store.files.retries = 1
            import s3fs

            monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
            with pytest.raises(MediaError, match="cannot be read"):
                md5_of("s3://broken/film.mp4")
        assert cache.open("s3://broken/film.mp4") is None
        assert md5_of("s3://broken/film.mp4")["bytes"] == 400_000
        copy = cache.open("s3://broken/film.mp4")
        assert copy
        assert len(copy.read()) == 400_000
    finally:
        remote.use_cache(None)


def test_clips_whose_upload_is_lost_are_written_again(object_store):
    bucket = object_store.bucket("uploads")
    store = Store.open(f"{bucket}/store", create=True)
    ids, mp4s = ["a" * 24, "b" * 24], [os.urandom(6 << 20), os.urandom(100)]
    with object_store.faults(
        {"kind": "lost_upload", "method": "PUT", "path": "uploadId", "times": 1},
        {"kind": "lost_upload", "method": "POST", "path": "uploadId", "times": 1},
    ):
        written = tasks.write_media(store.uri, ids, mp4s)
        assert met(object_store.log()) == {"lost_upload": 2}
    assert isinstance(written, MediaWritten)
    store.commit_media([written.fragments])
    assert dict(store.read_media(ids)) == dict(zip(ids, mp4s, strict=True))
    assert store.count("media") == 2


def test_a_recipe_names_where_keys_are_and_never_holds_one(tmp_path):
    with pytest.raises(RecipeError, match="must name the environment variable") as error:
        load_recipe(None, {"credentials": {"AWS_SECRET_ACCESS_KEY": "wJalrXUt/nFEMI+K7MDENG"}})
    assert "wJalrXUt" not in str(error.value)
    with pytest.raises(RecipeError, match="no variable of an object store"):
        load_recipe(None, {"credentials": {"PATH": "HOME"}})


@pytest.mark.exhaustive
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
