from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from reelwright.curation.store import Store, StoreError
from reelwright.curation.store.snapshot_check import content_hash
from reelwright.curation.store.snapshot_query import LimitPer
from tests.curation.store.conftest import add_source, fake_mp4

ALL = "SELECT clip_id FROM clips"


@pytest.fixture
def filled(store: Store) -> Store:
    for source in ("aa", "bb"):
        ids = add_source(store, source, 30)
        store.merge("clips", pa.table({"clip_id": ids, "caption": [f"of {i}" for i in ids]}), "clip_id")
        store.merge("clips", pa.table({"clip_id": ids, "caption_fingerprint": [f"f-{source}"] * 30}), "clip_id")
    return store


def test_a_snapshot_records_what_made_it(filled: Store) -> None:
    query = "SELECT clip_id, width / 10 AS w FROM clips WHERE source_md5 = 'aa' ORDER BY width DESC"
    made = filled.snapshots.create("first.v1", query, weights="w")
    assert filled.snapshots.show("first.v1") == made
    assert filled.snapshots.list() == [made]
    assert (made.sql, made.seed, made.weight_column, made.num_clips) == (query, 0, "w", 30)
    assert made.fingerprints == {"caption": {"f-aa": 30}}
    rows = filled.snapshots.rows("first.v1")
    assert rows.column("position").to_pylist() == list(range(30))
    assert rows.column("clip_id").to_pylist()[0] == "aa-029"
    assert rows.column("weight").to_pylist()[0] == pytest.approx(66.9)


@pytest.mark.parametrize("scan_from", [10**6, 0.1], ids=["a pass over the table", "by ids"])
def test_clips_in_one_table_are_those_in_parts(
    filled: Store, scan_from: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = filled.snapshots
    snapshots.create("some", ALL + " WHERE source_md5 = 'aa' ORDER BY clip_id DESC")
    filled.delete("clips", "source_md5 = 'aa'")
    monkeypatch.setattr("reelwright.curation.store.snapshots.SCAN_FROM", scan_from)
    table = snapshots.clips_table("some", ["width", "source_md5"])
    assert table.equals(pa.concat_tables(snapshots.clips("some", ["width", "source_md5"])))
    assert table.column("clip_id").to_pylist()[0] == "aa-029"
    assert len(table) == 30


def test_nothing_done_later_changes_a_snapshot(filled: Store) -> None:
    snapshots = filled.snapshots
    snapshots.create("kept", ALL + " WHERE source_md5 = 'aa' ORDER BY clip_id")
    before = pa.concat_tables(snapshots.clips("kept"))
    filled.merge("clips", pa.table({"clip_id": ["aa-000", "aa-001"], "caption": ["new", "new"]}), "clip_id")
    add_source(filled, "cc", 5)
    filled.delete("clips", "source_md5 = 'aa' AND width > 645")
    filled.delete("media", "clip_id LIKE 'aa-%'")
    filled.delete("sources", "true")
    filled.remove_orphans()
    for _ in range(2):
        filled.compact()
        filled.delete_old_versions(timedelta(0))
    assert filled.count("clips") == 0
    again = Store.open(filled.uri).snapshots
    check = again.verify("kept", media_samples=None)
    assert (check.problems, check.clips, check.media_read) == ([], 30, 30)
    assert pa.concat_tables(again.clips("kept")).equals(before)
    assert before.column("caption").to_pylist()[0] == "of aa-000"
    ids = before.column("clip_id").to_pylist()
    assert list(again.read_media("kept")) == [(i, fake_mp4(i)) for i in ids]


def test_the_same_query_over_the_same_versions_gives_the_same_hash(filled: Store) -> None:
    queries = [
        (ALL, None),
        (ALL, 10),
        (ALL + " ORDER BY num_frames LIMIT 7", None),
        (ALL + " ORDER BY random() LIMIT 7", 5),
    ]
    for number, (query, limit) in enumerate(queries):
        made = [filled.snapshots.create(f"s{number}-{n}", query, limit=limit, seed=4) for n in range(3)]
        assert len({s.content_hash for s in made}) == 1


def test_a_sample_depends_on_seed_and_ids_and_not_on_order(filled: Store) -> None:
    up, down, other = (
        filled.snapshots.create(name, f"{ALL} ORDER BY clip_id {order}", limit=20, seed=seed)
        for name, order, seed in (("up", "", 1), ("down", "DESC", 1), ("other", "", 2))
    )
    assert up.content_hash == down.content_hash != other.content_hash
    ids = filled.snapshots.rows("down").column("clip_id").to_pylist()
    assert ids == sorted(ids, reverse=True), "the sample keeps the query's order"
    assert filled.snapshots.create("all", ALL, limit=1000).num_clips == 60


def test_the_hash_covers_clips_and_weights_only() -> None:
    rows = pa.table({"clip_id": ["a", "b"], "weight": [1.0, 2.0]})
    assert content_hash(rows) == content_hash(rows.take([1, 0]))
    assert content_hash(rows) != content_hash(pa.table({"clip_id": ["a", "b"], "weight": [2.0, 1.0]}))
    assert content_hash(rows) != content_hash(rows.slice(0, 1))


def test_diff_names_what_came_what_went_and_what_weighs_otherwise(filled: Store) -> None:
    filled.snapshots.create(
        "a", "SELECT clip_id, width * 1.0 AS w FROM clips WHERE width < 643 AND source_md5 = 'aa'", weights="w"
    )
    filled.snapshots.create(
        "b", "SELECT clip_id, CASE width WHEN 642 THEN 1 ELSE width END AS w FROM clips WHERE source_md5 = 'aa' "
        "AND width BETWEEN 641 AND 643", weights="w",
    )  # fmt: skip
    diff = filled.snapshots.diff("a", "b")
    assert (diff.added, diff.removed, diff.kept) == (["aa-003"], ["aa-000"], 2)
    assert diff.reweighted == [("aa-002", 642.0, 1.0)]


@pytest.mark.parametrize(
    ("query", "options", "sentence"),
    [
        ("SELECT width FROM clips", {}, "has to return the column clip_id once; this one returns width"),
        (f"{ALL} UNION ALL {ALL}", {}, "times; return each clip once"),
        ("SELECT 'nobody' AS clip_id", {}, "nobody is not in clips"),
        ("SELECT NULL::VARCHAR AS clip_id", {}, "return each clip once"),
        (f"{ALL} WHERE false", {}, "returns no clip"),
        ("SELECT captions FROM clips", {}, "'captions' is not a column of clips; columns that look alike: caption"),
        (ALL, {"weights": "w"}, "'w' is not a column of the query"),
        ("SELECT clip_id, 0 AS w FROM clips", {"weights": "w"}, "weights are above 0"),
        ("SELECT clip_id, 'a' AS w FROM clips", {"weights": "w"}, "weights are numbers"),
        ("SELECT clip_id, 'nan'::DOUBLE AS w FROM clips", {"weights": "w"}, "weights are above 0"),
        (ALL, {"limit": 0}, "limit is 1 or more"),
        ("COPY clips TO '/tmp/x'", {}, "only SELECT"),
    ],
)
def test_what_cannot_be_frozen_is_explained(filled: Store, query: str, options: dict, sentence: str) -> None:
    with pytest.raises(StoreError) as error:
        filled.snapshots.create("x", query, **options)
    assert sentence in str(error.value)
    assert filled.snapshots.list() == []


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", ".x", "-x", "a..b", "x.", "x.lock", "ü", "a'b", "a" * 101])
def test_names_are_plain(filled: Store, name: str) -> None:
    with pytest.raises(StoreError, match="cannot name a snapshot"):
        filled.snapshots.create(name, ALL)


def test_a_name_is_used_once_and_a_missing_one_is_guessed(filled: Store) -> None:
    filled.snapshots.create("pan_left-v1", ALL)
    with pytest.raises(StoreError, match="snapshot pan_left-v1 exists, and snapshots never change"):
        filled.snapshots.create("pan_left-v1", ALL)
    with pytest.raises(StoreError, match=r"names that look alike: pan_left-v1"):
        filled.snapshots.show("pan_left")


def test_what_a_killed_creation_left_is_replaced(filled: Store) -> None:
    filled.dataset("clips").tags.create("snapshot-x", 1)
    filled.append("snapshot_rows", [{"snapshot": "x", "clip_id": "old", "weight": 1.0, "position": 0}])
    filled.snapshots.create("x", ALL)
    assert filled.snapshots.rows("x").num_rows == 60
    assert filled.snapshots.verify("x").is_sound


def test_verify_names_what_is_wrong(filled: Store) -> None:
    snapshots = filled.snapshots
    for name in ("rows", "tag"):
        snapshots.create(name, ALL)
    filled.delete("snapshot_rows", "snapshot = 'rows' AND clip_id = 'aa-003'")
    assert snapshots.verify("rows").problems == ["its rows no longer have its content hash"]
    filled.dataset("media").tags.delete("snapshot-tag")
    assert "no longer pins version" in snapshots.verify("tag").problems[0]
    filled.dataset("media").tags.delete("snapshot-rows")
    filled.delete("media", "clip_id = 'aa-001'")
    filled.delete_old_versions(timedelta(0))
    assert any("of media is gone" in p for p in snapshots.verify("tag").problems)


def test_at_most_so_many_clips_of_each_value_are_drawn(filled: Store) -> None:
    snapshots = filled.snapshots
    made = snapshots.create("few", f"{ALL} ORDER BY clip_id", limit_per=LimitPer("source_md5", 4), seed=3)
    ids = snapshots.rows("few").column("clip_id").to_pylist()
    assert ids == sorted(ids)
    assert Counter(one[:2] for one in ids) == {"aa": 4, "bb": 4}
    assert snapshots.show("few") == made
    assert made.limit_per == {"column": "source_md5", "count": 4}
    again = snapshots.create("again", f"{ALL} ORDER BY clip_id DESC", limit_per=LimitPer("source_md5", 4), seed=3)
    assert again.content_hash == made.content_hash
    other = snapshots.create("other", ALL, limit_per=LimitPer("source_md5", 4), seed=4)
    assert other.content_hash != made.content_hash


def test_the_value_may_be_the_query_s_own_and_clips_without_one_count_as_one_value(filled: Store) -> None:
    query = "SELECT clip_id, CASE WHEN width < 650 THEN 'narrow' END AS kind, 2 AS w FROM clips"
    snapshots = filled.snapshots
    snapshots.create("kinds", query, limit_per=LimitPer("kind", 3), weights="w")
    rows = snapshots.clips("kinds", ["width"])
    widths = [row["width"] for part in rows for row in part.to_pylist()]
    assert Counter(width < 650 for width in widths) == {True: 3, False: 3}
    assert set(snapshots.rows("kinds").column("weight").to_pylist()) == {2.0}
    named = query.replace("'narrow' END", "'narrow'::ENUM ('narrow', 'wide') END")
    assert snapshots.create("enum", named, limit_per=LimitPer("kind", 3)).num_clips == 6
    snapshots.create("both", query, limit_per=LimitPer("kind", 3), limit=4)
    assert snapshots.show("both").num_clips == 4
    with pytest.raises(StoreError, match="'widht' is not a column of the query or of clips; columns .* width"):
        snapshots.create("typo", ALL, limit_per=LimitPer("widht", 3))
    with pytest.raises(StoreError, match="1 or more, not 0"):
        LimitPer("width", 0)


def test_a_deleted_snapshot_lets_go_of_what_it_pinned_and_its_name_is_free(filled: Store) -> None:
    snapshots = filled.snapshots
    snapshots.create("gone", ALL)
    kept = snapshots.create("kept", f"{ALL} WHERE source_md5 = 'aa'")
    snapshots.delete("gone")
    assert snapshots.list() == [kept]
    assert snapshots.verify("kept").is_sound
    assert filled.count("snapshot_rows") == 30
    for table in ("clips", "media", "sources"):
        assert list(filled.dataset(table).tags.list()) == ["snapshot-kept"]
    with pytest.raises(StoreError, match="no snapshot 'gone'"):
        snapshots.delete("gone")
    assert snapshots.create("gone", f"{ALL} WHERE width > 650").num_clips == 38
    assert snapshots.verify("gone").is_sound


def test_what_a_killed_deletion_left_goes_with_the_next(filled: Store) -> None:
    filled.snapshots.create("half", ALL)
    filled.delete("snapshots", "name = 'half'")
    filled.snapshots.delete("half")
    assert filled.count("snapshot_rows") == 0
    assert not filled.dataset("clips").tags.list()


def test_the_runs_that_used_a_snapshot_are_known(filled: Store) -> None:
    def run(command: str, snapshot: str, started: datetime) -> dict[str, object]:
        counts = json.dumps({"snapshot": snapshot, "folder": "/runs/a"})
        return {"run_id": f"{command}{started}", "command": command, "counts": counts, "started_at": started}

    early, late = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
    filled.snapshots.create("used", ALL)
    filled.snapshots.create("free", ALL)
    filled.append("runs", [run("train", "used", late), run("train", "free", early), run("precompute", "other", late)])
    assert [(u.command, u.place) for u in filled.snapshots.uses("used")] == [("train", "/runs/a")]
    assert filled.snapshots.uses("free") == []
