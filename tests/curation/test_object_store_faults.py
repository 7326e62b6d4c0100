"""Reads and writes of an object store that is busy, breaks connections and loses uploads; no Ray is needed."""

import hashlib
import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from reelwright.curation import usage
from reelwright.curation.media import remote
from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.input_cache import InputCache
from reelwright.curation.media.probe import md5_of
from reelwright.curation.store import Store, StoreError
from reelwright.curation.store.export import export
from reelwright.curation.store.export import remote as remote_export
from reelwright.pipelines.curate.workers import tasks
from reelwright.pipelines.curate.workers.results import MediaWritten
from reelwright.pipelines.recipes.curation import RecipeError, load_recipe
from tests.pipelines.object_store import met


@pytest.fixture(autouse=True)
def hasty(monkeypatch) -> None:
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 2)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")  # of botocore
    monkeypatch.setattr(remote, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(tasks, "WRITE_PAUSES_S", (0.05, 0.05))


def test_one_clip_is_read_by_its_range(s3, s3_store):
    store = s3_store
    mp4s = {"a" * 24: os.urandom(300_000), "b" * 24: os.urandom(200_000)}
    store.commit_media([store.write_media(list(mp4s), list(mp4s.values()))])
    store = Store.open(store.uri)
    s3.clear_log()
    assert dict(store.read_media(["b" * 24])) == {"b" * 24: mp4s["b" * 24]}
    log = s3.log()
    assert 200_000 <= sum(line.received for line in log) < 230_000
    assert len(log) <= 8


@pytest.mark.parametrize(
    "rule",
    [{"kind": "refuse", "times": 8}, {"kind": "reset", "times": 8}, {"kind": "cut", "method": "GET", "times": 6}],
    ids=lambda rule: rule["kind"],
)
def test_an_outage_longer_than_the_file_system_s_own_tries_is_waited_for(s3, rule):
    data = os.urandom(300_000)
    name = f"outage-{rule['kind']}"
    s3.files.mkdir(name)
    s3.files.pipe_file(f"{name}/film.mp4", data)
    usage.begin()
    with s3.faults(rule | {"path": "film"}):
        assert md5_of(f"s3://{name}/film.mp4") == {"md5": hashlib.md5(data).hexdigest(), "bytes": len(data)}
        assert met(s3.log()) == {rule["kind"]: rule["times"]}
    assert usage.end().bytes_in == len(data)


def test_what_lasts_is_not_waited_for(s3, monkeypatch):
    monkeypatch.setattr(remote, "FIRST_PAUSE_S", 1e9)
    s3.files.mkdir("lasting")
    with pytest.raises(MediaError, match=r"cannot be read \(lasting/gone.mp4\)"):
        md5_of("s3://lasting/gone.mp4")


def test_a_copy_that_an_outage_broke_off_is_not_taken_for_the_film(s3, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(remote, "PATIENCE_S", 0.0)
    monkeypatch.setattr(remote, "BLOCK_BYTES", 50_000)
    s3.files.mkdir("broken")
    s3.files.pipe_file("broken/film.mp4", os.urandom(400_000))
    cache = InputCache("run", 1 << 30)
    remote.use_cache(cache)
    try:
        with s3.faults({"kind": "refuse", "method": "GET", "path": "film", "after": 2}):
            with pytest.raises(MediaError, match="cannot be read"):
                md5_of("s3://broken/film.mp4")
            assert met(s3.log())["refuse"] >= 1
        assert cache.open("s3://broken/film.mp4") is None
        assert md5_of("s3://broken/film.mp4")["bytes"] == 400_000
        copy = cache.open("s3://broken/film.mp4")
        assert copy
        with copy:
            assert len(copy.read()) == 400_000
    finally:
        remote.use_cache(None)


def test_clips_whose_upload_is_lost_are_written_again(s3, s3_store):
    store = s3_store
    ids, mp4s = ["c" * 24, "d" * 24], [os.urandom(6 << 20), os.urandom(100)]
    with s3.faults(
        {"kind": "lost_upload", "method": "PUT", "path": "uploadId", "times": 1},
        {"kind": "lost_upload", "method": "POST", "path": "uploadId", "times": 1},
    ):
        written = tasks.write_media(store.uri, ids, mp4s)
        assert met(s3.log()) == {"lost_upload": 2}
    assert isinstance(written, MediaWritten)
    store.commit_media([written.fragments])
    assert dict(store.read_media(ids)) == dict(zip(ids, mp4s, strict=True))
    assert store.count("media", "clip_id like 'c%' or clip_id like 'd%'") == 2


FAILURE = {"uri": "s3://b/a.mp4", "stage": "scan", "error": "io: gone", "at": datetime.now(UTC)}


def listed_as_now(s3, store: Store) -> None:
    """Have every list answered once, as the fault `stale` will show it."""
    for table in store.tables():
        store.dataset(table.name).versions()
        store.dataset(table.name).tags.list()
    s3.freeze_listings()


@pytest.mark.parametrize("hours", [0, 24])
def test_clean_up_by_an_old_list_deletes_nothing_that_a_newer_version_has(s3, hours):
    """Lance takes files for nobody's that belong to a version which the list hides."""
    s3.bucket(f"listed-{hours}")
    store = Store.open(f"s3://listed-{hours}/store", create=True)
    listed_as_now(s3, store)
    store.append("failures", [FAILURE])
    with s3.faults({"kind": "stale", "path": "list-type.*failures.lance%2F_versions"}):
        with pytest.raises(StoreError, match="was listed as it was some time ago; nothing of it was deleted"):
            store.cleanup(timedelta(hours=hours))
        assert met(s3.log())["stale"] > 0
    later = {"kind": "stale", "path": "list-type.*failures.lance%2F_versions", "after": 2}  # Lance looks again
    with s3.faults(later), suppress(StoreError):
        store.delete_old_versions(timedelta(hours=hours))
    assert Store.open(store.uri).read("failures", ["error"]).to_pylist() == [{"error": "io: gone"}]


def test_clean_up_by_an_old_list_of_tags_keeps_what_a_snapshot_pins(s3):
    s3.bucket("tagged")
    store = Store.open("s3://tagged/store", create=True)
    store.append("clips", [{"clip_id": "e" * 24}])
    store.commit_media([store.write_media(["e" * 24], [b"mp4"])])
    listed_as_now(s3, store)
    store.snapshots.create("kept", "select clip_id from clips")
    store.ensure_columns("clips", [pa.field("later", pa.float32())])
    with s3.faults({"kind": "stale", "path": "list-type.*_refs"}):
        store.cleanup(timedelta(0))
        assert met(s3.log())["stale"] > 0
        check = store.snapshots.verify("kept", media_samples=0)
    assert not [one for one in check.problems if "gone" in one or "pins" in one], check.problems
    assert store.snapshots.rows("kept").num_rows == 1
    store.snapshots.delete("kept")
    assert store.dataset("clips").tags.list() == {}


def test_an_export_whose_upload_is_lost_is_tried_again_and_one_that_broke_off_is_replaced(s3, s3_store, monkeypatch):
    monkeypatch.setattr(remote_export, "PAUSES_S", (0.05, 0.05))
    store, clip_id = s3_store, "f" * 24
    store.append("clips", [{"clip_id": clip_id}])
    store.commit_media([store.write_media([clip_id], [b"mp4"])])
    lost = {"kind": "lost_upload", "method": "PUT", "path": "/out/.*tar"}
    arguments = {"sql": f"select clip_id from clips where clip_id = '{clip_id}'", "format": "webdataset"}
    with s3.faults(lost), pytest.raises(StoreError, match="NoSuchUpload"):
        export(store, "s3://shared/out", **arguments)
    with s3.faults(lost | {"times": 2}):
        assert export(store, "s3://shared/out", **arguments).clips == 1
        assert met(s3.log()) == {"lost_upload": 2}
    there = {name.removeprefix("shared/out/") for name in s3.files.find("shared/out")}
    assert there == {"reelwright-clips.tsv", "reelwright-export.json", "shard-000000.tar"}
    with pytest.raises(StoreError, match="already holds an export"):
        export(store, "s3://shared/out", **arguments)


def test_a_recipe_names_where_keys_are_and_never_holds_one(tmp_path):
    with pytest.raises(RecipeError, match="must name the environment variable") as error:
        load_recipe(None, {"credentials": {"AWS_SECRET_ACCESS_KEY": "wJalrXUt/nFEMI+K7MDENG"}})
    assert "wJalrXUt" not in str(error.value)
    with pytest.raises(RecipeError, match="no variable of an object store"):
        load_recipe(None, {"credentials": {"PATH": "HOME"}})
