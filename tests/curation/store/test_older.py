"""A store of an earlier version, whose tables lack columns of today: read as it is, completed by the first write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest

from reelwright.curation.store import Store, StoreError
from reelwright.curation.store.datasets import STORAGE_VERSION
from reelwright.curation.store.schema import schemas, table_of
from tests.curation.store.conftest import add_source, clip_rows, fake_mp4

LACKS = {"sources": ("cutting_fingerprint", "note"), "clips": ("bitrate_bps", "duration_s"), "runs": ("usage",),
         "failures": ("mended_at",), "snapshots": ("balance",)}  # fmt: skip


@pytest.fixture
def older(tmp_path: Path) -> Store:
    """Two sources of three clips, in tables without those columns."""
    path = tmp_path / "store"
    Store.open(path, create=True)
    for table, names in LACKS.items():
        schema = pa.schema([f for f in schemas()[table] if f.name not in names])
        lance.write_dataset(schema.empty_table(), str(path / f"{table}.lance"), mode="overwrite",
                            data_storage_version=STORAGE_VERSION, enable_stable_row_ids=True)  # fmt: skip
    store = Store.open(path)
    for source in ("aa", "bb"):
        rows = clip_rows(source, 3)
        ids = [row["clip_id"] for row in rows]
        store.commit_media([store.write_media(ids, [fake_mp4(i) for i in ids])])
        add(path, "clips", [{k: v for k, v in row.items() if k != "duration_s"} for row in rows])
        add(path, "sources", [{"source_id": source, "md5": source, "uri": source, "state": "ok"}])
    return Store.open(path)


def add(path: Path, table: str, rows: list[dict[str, Any]]) -> None:
    """As the earlier version did: with the columns that its table has."""
    dataset = lance.dataset(str(path / f"{table}.lance"))
    lance.write_dataset(pa.Table.from_pylist(rows, schema=dataset.schema), dataset.uri, mode="append")


def versions(store: Store) -> dict[str, int]:
    return {name: store.dataset(name).version for name in schemas()}


def test_reading_shows_nulls_and_changes_nothing(older: Store) -> None:
    before = versions(older)
    assert older.read("clips", ["clip_id", "duration_s"], "clip_id = 'bb-001'").to_pylist() == [
        {"clip_id": "bb-001", "duration_s": None}]  # fmt: skip
    assert older.read("clips", ["duration_s"]).to_pylist() == [{"duration_s": None}] * 6
    assert set(older.read("sources").schema.names) == set(schemas()["sources"].names)
    with pytest.raises(StoreError, match="not a column of clips"):
        older.read("clips", ["duration"])
    assert {"cutting_fingerprint", "uri"} - {c.name for c in older.describe("sources")} == {"cutting_fingerprint"}
    assert len(older.tables()) == len(schemas())
    assert versions(older) == before


@pytest.mark.parametrize(
    ("query", "expect"),
    [("SELECT count(*), count(duration_s) FROM clips", [(6, 0)]),
     ("SELECT duration_s FROM clips", [(None,)] * 6),
     ("SELECT bitrate_bps, clip_id FROM clips WHERE duration_s IS NULL AND clip_id > 'b' ORDER BY clip_id LIMIT 2",
      [(None, "bb-000"), (None, "bb-001")]),
     ("SELECT * EXCLUDE (caption) FROM (SELECT clip_id, duration_s, 1 caption FROM clips WHERE clip_id = 'aa-002')",
      [("aa-002", None)]),
     ("SELECT clip_id, width, duration_s FROM clips ORDER BY duration_s, clip_id DESC LIMIT 1",
      [("bb-002", 642, None)]),
     ("SELECT count(*) FROM clips WHERE duration_s > 1 OR width = 641", [(2,)]),
     ("SELECT count(*) FROM clips_full WHERE uri = 'aa' AND duration_s IS NULL", [(3,)]),
     ("SELECT note, uri FROM sources WHERE note IS NULL AND uri = 'aa'", [(None, "aa")])],
)  # fmt: skip
def test_sql_knows_todays_columns(older: Store, query: str, expect: list[tuple]) -> None:
    before = versions(older)
    assert [tuple(row.values()) for row in older.sql(query).to_pylist()] == expect
    assert versions(older) == before


def test_star_with_a_limit_has_them_too(older: Store) -> None:
    (row,) = older.sql("SELECT * FROM clips ORDER BY clip_id LIMIT 1").to_pylist()
    assert (row["clip_id"], row["duration_s"], row["width"]) == ("aa-000", None, 640)


@pytest.mark.parametrize("how", ["append", "merge", "delete"])
def test_the_first_write_to_a_table_completes_it(older: Store, how: str) -> None:
    if how == "append":
        older.append("clips", clip_rows("cc", 1))
    elif how == "merge":
        older.merge("clips", pa.table({"clip_id": ["aa-000"], "width": pa.array([1], pa.int32())}), "clip_id")
    else:
        older.delete("clips", "clip_id = 'aa-000'")
    assert set(schemas()["clips"].names) <= set(older.schema("clips").names)
    assert older.read("clips", ["duration_s"], "clip_id = 'bb-000'").to_pylist() == [{"duration_s": None}]
    assert older.count("clips", "duration_s IS NOT NULL") == (how == "append")


def test_opening_to_write_completes_every_table_once(older: Store) -> None:
    opened = Store.open(older.uri, create=True)
    for table, schema in schemas().items():
        assert set(schema.names) == set(opened.schema(table).names), table
        for f in schema if not table_of(table).payload else ():
            assert opened.schema(table).field(f.name).metadata == f.metadata
    after = versions(opened)
    assert opened.add_missing_columns() == []
    assert versions(Store.open(older.uri, create=True)) == after
    add_source(opened, "cc", 2)
    assert opened.count("clips", "duration_s = 2.0") == 2


def test_a_snapshot_of_before_is_read_as_before(older: Store) -> None:
    pinned = versions(older)
    opened = Store.open(older.uri, create=True)
    opened.append("clips", clip_rows("cc", 1))
    rows = opened.read("clips", ["clip_id", "duration_s", "width"], version=pinned["clips"])
    assert [r["clip_id"] for r in rows.to_pylist()] == [f"{s}-{i:03d}" for s in ("aa", "bb") for i in range(3)]
    assert rows.column("duration_s").null_count == 6


def test_a_snapshot_made_of_an_older_store(older: Store) -> None:
    made = older.snapshots.create("all", "SELECT clip_id FROM clips WHERE duration_s IS NULL")
    assert made.num_clips == 6
    Store.open(older.uri, create=True).append("clips", clip_rows("cc", 1))
    assert older.snapshots.show("all").num_clips == 6
    assert older.snapshots.verify("all")
