"""Clips of a snapshot that come some at a time are those that come as one table."""

import pyarrow as pa
import pytest

from reelwright.curation.store import Store, snapshot_stream
from reelwright.curation.store.snapshot_stream import clip_batches

COLUMNS = ["width", "source_md5"]


@pytest.fixture
def store(tmp_path) -> Store:
    found = Store.open(tmp_path / "store", create=True)
    ids = [f"c{7919 * i % 1000:03}" for i in range(1000)]
    for start in range(0, 1000, 250):
        rows = [{"clip_id": c, "width": int(c[1:]), "source_md5": c[:3]} for c in ids[start : start + 250]]
        found.append("clips", rows)
    found.commit_media([found.write_media(ids, [b"x"] * 1000)])
    found.delete("clips", "width % 10 = 3")
    weighed = "select clip_id, 1 + width / 7.0 as weight from clips where width % 4 < 2 order by width desc"
    found.snapshots.create("half", weighed, weights="weight")
    found.snapshots.create("few", "select clip_id from clips where width < 20")
    found.delete("clips", "width < 500")
    return found


def by_id(tables) -> pa.Table:
    return pa.concat_tables(tables).sort_by("clip_id").combine_chunks()


@pytest.mark.parametrize("name", ["half", "few"])
def test_clips_come_with_their_weights_as_they_were_pinned(store, name, monkeypatch):
    monkeypatch.setattr(snapshot_stream, "BATCH_ROWS", 64)
    whole = store.snapshots.clips_table(name, COLUMNS).select(["clip_id", *COLUMNS, "weight"])
    parts = list(store.snapshots.clip_batches(name, COLUMNS))
    assert by_id(parts).equals(by_id([whole]))
    if name == "half":
        assert len(parts) > 10
        assert max(map(len, parts)) <= 64


def test_a_clip_that_is_gone_has_a_row_of_nulls(store, monkeypatch):
    monkeypatch.setattr(snapshot_stream, "BATCH_ROWS", 64)
    now = store.dataset("clips").version
    found = by_id(clip_batches(store, "half", now, COLUMNS))
    whole = by_id([store.snapshots.clips_table("half", COLUMNS)])
    assert found.column("clip_id").equals(whole.column("clip_id"))
    assert found.column("weight").equals(whole.column("weight"))
    expected = [width if width >= 500 else None for width in whole.column("width").to_pylist()]
    assert None in expected
    assert found.column("width").to_pylist() == expected
