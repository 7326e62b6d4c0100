"""Generated videos in the store: rows and bytes stay together, whatever ends the run between two commits."""

from datetime import UTC, datetime, timedelta

import pytest

from reelwright.curation.store import Store, StoreError, generated
from reelwright.curation.store.untrusted import sql_untrusted


def row(name: str, state: str = "ok") -> dict:
    return {"generation_id": name, "evaluation_id": "e", "model": "m", "state": state, "seed": 3,
            "dimensions": ["Diversity"], "at": datetime(2026, 1, 2, tzinfo=UTC)}  # fmt: skip


def video(seed: int, size: int) -> bytes:
    return bytes((seed + i) % 251 for i in range(size))


def test_videos_come_back_whole_and_in_ranges(store: Store) -> None:
    videos = {"a": video(1, 200_000), "b": video(2, 900)}  # one beside its column's file, one in it
    store.add_generations([row("a"), row("b"), row("c", "failed")], videos)
    assert dict(store.read_generated(["b", "a"])) == videos
    opened = store.open_generated("a")
    assert opened.size == 200_000
    assert opened.read_range(70_000, 80_000) == videos["a"][70_000:150_000]
    assert opened.read_range(199_990, 100) == videos["a"][199_990:]
    assert store.open_generated("b").read_range(0, 900) == videos["b"]
    with pytest.raises(StoreError, match="generation c has no video"):
        store.open_generated("c")
    with pytest.raises(StoreError, match="generation c has no video"):
        list(store.read_generated(["c"]))


def test_sql_sees_rows_and_no_bytes(store: Store) -> None:
    store.add_generations([row("a"), row("c", "failed")], {"a": video(1, 100)})
    found = sql_untrusted(store, "select state, count(*) as n from generations group by 1 order by 1").rows
    assert found.to_pylist() == [{"state": "failed", "n": 1}, {"state": "ok", "n": 1}]
    assert "mp4" not in store.sql("select * from generation_media").schema.names
    with pytest.raises(StoreError, match="read_generated"):
        store.read("generation_media", ["mp4"])


def test_a_run_killed_between_two_commits_is_completed(store: Store) -> None:
    store.add_generations([row("a")], {"a": video(1, 100)})
    generated._append_media(store, [("b", video(2, 70_000), '{"generation_id": "b", "seed": 9, "state": "ok", '
                                                           '"at": "2026-01-02T00:00:00+00:00"}')])  # fmt: skip
    assert store.count("generations") == 1
    assert store.complete_generations() == 1
    assert store.complete_generations() == 0
    assert store.read("generations", ["generation_id", "seed", "at"]).to_pylist() == [
        {"generation_id": "a", "seed": 3, "at": datetime(2026, 1, 2, tzinfo=UTC)},
        {"generation_id": "b", "seed": 9, "at": datetime(2026, 1, 2, tzinfo=UTC)},
    ]


def test_upkeep_keeps_them_and_their_measures(store: Store) -> None:
    import pyarrow as pa

    videos = {f"g{i}": video(i, 70_000 + i) for i in range(5)}
    for name, mp4 in videos.items():
        store.add_generations([row(name)], {name: mp4})
    store.merge("generations", pa.table({"generation_id": ["g3"], "flicker": [0.5]}), on="generation_id")
    store.remove_orphans()
    store.cleanup(timedelta(0))
    assert dict(store.read_generated(videos)) == videos
    assert store.read("generations", ["flicker"], "flicker > 0").to_pylist() == [{"flicker": 0.5}]
    with store.committing("evaluation"):
        assert store.merge_small_files() == []


def test_a_video_needs_its_row(store: Store) -> None:
    with pytest.raises(StoreError, match="without its row"):
        store.add_generations([], {"a": b"x"})
    assert store.count("generation_media") == 0
