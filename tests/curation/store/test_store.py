from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reelwright.curation.store import Store, StoreError, datasets
from reelwright.curation.store.schema import field, schemas, table_of
from tests.curation.store.conftest import add_source, clip_rows


def test_importing_the_package_loads_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys, reelwright.curation.store\n"
        "print([m for m in ('lance', 'lancedb', 'duckdb', 'pyarrow') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_opening_the_store_class_loads_neither_lance_nor_duckdb_nor_pandas() -> None:
    opened = "import sys; from reelwright.curation.store import Store"
    code = f"{opened}; print([m for m in ('lance', 'duckdb', 'pandas') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_a_missing_store_is_one_sentence_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no store at .*; make one with `reel curate"):
        Store.open(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_store_is_never_made_among_other_files(tmp_path: Path) -> None:
    (tmp_path / "holiday.mp4").write_bytes(b"x")
    with pytest.raises(StoreError, match="holds other files"):
        Store.open(tmp_path, create=True)
    with pytest.raises(StoreError, match="is a file"):
        Store.open(tmp_path / "holiday.mp4", create=True)


def test_lancedb_opens_it_and_reads_every_table(store: Store) -> None:
    import lancedb

    add_source(store, "aa", 3)
    database = lancedb.connect(store.uri)
    assert set(database.list_tables().tables) == set(schemas())
    for name in schemas():
        table = database.open_table(name)
        assert table.count_rows() == store.count(name)
        names = [n for n in table.schema.names if n not in table_of(name).payload]
        assert table.search().select(names).to_arrow().num_rows == store.count(name)


def test_every_column_says_what_it_means() -> None:
    for table, schema in schemas().items():
        for column in schema:
            assert b"meaning" in (column.metadata or {}), f"{table}.{column.name}"


SAMPLES: dict[Any, Any] = {
    pa.string(): "Ünï\n'\"\x00☃", pa.int32(): -5, pa.int64(): 2**40, pa.float32(): 0.5, pa.float64(): 1e-300,
    pa.bool_(): True, pa.timestamp("us", tz="UTC"): datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    pa.large_binary(): b"\x00\xff", pa.list_(pa.int32()): [1, 2, 3], pa.list_(pa.string()): ["a", ""],
}  # fmt: skip


@pytest.mark.parametrize("table", [t for t in schemas() if not table_of(t).payload])
def test_a_row_comes_back_as_it_went_in(store: Store, table: str) -> None:
    full = {f.name: SAMPLES[f.type] for f in schemas()[table]}
    store.append(table, [full])
    assert store.read(table).to_pylist() == [full]


def test_columns_not_given_are_null_and_unknown_ones_are_named(store: Store) -> None:
    store.append("clips", [{"clip_id": "a"}])
    assert store.read("clips", ["width"]).to_pylist() == [{"width": None}]
    with pytest.raises(StoreError, match=r"'clipid' is not a column of clips; columns that look alike: clip_id"):
        store.append("clips", [{"clipid": "a"}])
    with pytest.raises(StoreError, match="has no clip_id"):
        store.append("clips", [{"width": 3}])
    with pytest.raises(StoreError, match=r"clips.width holds int32"):
        store.append("clips", [{"clip_id": "b", "width": "wide"}])
    with pytest.raises(StoreError, match=r"'clip' is not a table; tables that look alike: clips"):
        store.read("clip")
    with pytest.raises(StoreError, match="does not work"):
        store.read("clips", filter="width >")
    assert store.count("clips") == 1


def data_files(store: Store, table: str) -> dict[str, tuple[int, ...]]:
    """File name -> the ids of the columns it holds."""
    fragments = store.dataset(table).get_fragments()
    return {f.path: tuple(f.fields) for fragment in fragments for f in fragment.data_files()}


def blur(ids: list[str], values: list[float]) -> pa.Table:
    score = field("blur_score", pa.float32(), "sharpness", unit="1", computed_by="blur")
    return pa.table([ids, values], schema=pa.schema([pa.field("clip_id", pa.string()), score]))


def test_merge_touches_its_own_columns_only(store: Store) -> None:
    for source in ("aa", "bb"):
        add_source(store, source, 20)
    before, files = store.read("clips"), set(data_files(store, "clips"))
    ids = before.column("clip_id").to_pylist()
    assert store.merge("clips", blur(ids[5:25], [float(i) for i in range(20)]), "clip_id") == 20
    assert files <= set(data_files(store, "clips")), "a file of other columns was rewritten"
    after = store.read("clips")
    assert after.select(before.column_names).equals(before)
    assert after.column("blur_score").to_pylist() == [None] * 5 + [float(i) for i in range(20)] + [None] * 15
    assert after.schema.field("blur_score").metadata[b"computed_by"] == b"blur"


def test_merge_inserts_only_when_told(store: Store) -> None:
    add_source(store, "aa", 2)
    assert store.merge("clips", blur(["aa-000", "new"], [1, 2]), "clip_id") == 1
    assert store.count("clips") == 2
    store.merge("clips", blur(["aa-000", "new"], [3, 4]), "clip_id", insert=True)
    rows = store.read("clips", ["clip_id", "blur_score"]).sort_by("clip_id").to_pylist()
    assert [r["blur_score"] for r in rows] == [3, None, 4]


def test_merge_refuses_what_it_cannot_match(store: Store) -> None:
    add_source(store, "aa", 2)
    with pytest.raises(StoreError, match="repeat a value of clip_id"):
        store.merge("clips", blur(["aa-000", "aa-000"], [1, 2]), "clip_id")
    with pytest.raises(StoreError, match="lack the column 'clip_id'"):
        store.merge("clips", pa.table({"x": [1]}), "clip_id")
    store.merge("clips", blur(["aa-000"], [1]), "clip_id")
    other = pa.table({"clip_id": ["aa-000"], "blur_score": ["sharp"]})
    with pytest.raises(StoreError, match=r"clips.blur_score holds float, not string"):
        store.merge("clips", other, "clip_id")


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.sampled_from("amdc"), st.sets(st.integers(0, 30), min_size=1)), max_size=8))
def test_append_merge_delete_compact_equal_a_dictionary(tmp_path_factory: pytest.TempPathFactory, steps: Any) -> None:
    store = Store.open(tmp_path_factory.mktemp("law") / "store", create=True)
    oracle: dict[str, float | None] = {}
    store.ensure_columns("clips", [pa.field("blur_score", pa.float32())])
    for number, (step, keys) in enumerate(steps):
        ids = sorted(f"c{k}" for k in keys)
        if step == "a":
            new = [i for i in ids if i not in oracle]
            store.append("clips", [{"clip_id": i} for i in new])
            oracle.update(dict.fromkeys(new))
        elif step == "m":
            store.merge("clips", blur(ids, [float(number)] * len(ids)), "clip_id")
            oracle.update({i: float(number) for i in ids if i in oracle})
        elif step == "d":
            store.delete("clips", f"clip_id IN ({', '.join(repr(i) for i in ids)})")
            oracle = {i: v for i, v in oracle.items() if i not in ids}
        else:
            store.compact()
        rows = store.read("clips", ["clip_id", "blur_score"]).to_pylist()
        assert sorted((r["clip_id"], r["blur_score"]) for r in rows) == sorted(oracle.items())
        for one in ids:
            assert store.count("clips", f"clip_id = '{one}'") == (one in oracle)


def test_columns_of_every_annotator_type_are_added_and_filled(store: Store) -> None:
    add_source(store, "aa", 3)
    types = {"captions": pa.list_(pa.string()), "caption_embedding": pa.list_(pa.float32(), 4), "tags": pa.string()}
    store.ensure_columns("clips", [pa.field(n, t) for n, t in types.items()])
    store.ensure_columns("clips", [pa.field(n, t) for n, t in types.items()])  # again: nothing to do
    rows = pa.table({"clip_id": ["aa-001"], "captions": [["a", "b"]], "tags": ["x"],
                     "caption_embedding": pa.array([[1, 2, 3, 4]], pa.list_(pa.float32(), 4))})  # fmt: skip
    store.merge("clips", rows, "clip_id")
    read = store.read("clips", list(types)).to_pylist()
    assert read[1] == {"captions": ["a", "b"], "caption_embedding": [1, 2, 3, 4], "tags": "x"}
    assert read[0] == dict.fromkeys(types)


def test_describe_names_fingerprints_and_nulls(store: Store) -> None:
    add_source(store, "aa", 4)
    fingerprints = pa.table({"clip_id": ["aa-000", "aa-001"], "blur_fingerprint": ["f1", "f2"]})
    store.merge("clips", blur(["aa-000", "aa-001"], [1, 2]), "clip_id")
    store.merge("clips", fingerprints, "clip_id")
    column = next(c for c in store.describe("clips") if c.name == "blur_score")
    assert (column.type, column.unit, column.computed_by, column.nulls) == ("float", "1", "blur", 2)
    assert column.fingerprints == {"f1": 1, "f2": 1}
    assert next(c for c in store.describe("media") if c.name == "mp4").type == "mp4 bytes"


def test_tables_counts_rows_and_bytes(store: Store) -> None:
    add_source(store, "aa", 4)
    info = {t.name: t for t in store.tables()}
    assert info["clips"].rows == 4
    assert info["media"].bytes > sum(store.read("media", ["size"]).column(0).to_pylist())
    assert set(info) == set(schemas())


def test_another_process_sees_each_commit(store: Store) -> None:
    reader = Store.open(store.uri)
    assert reader.count("clips") == 0
    store.append("clips", clip_rows("aa", 2))
    assert reader.count("clips") == 2


@pytest.mark.parametrize("name", ["Видео с пробелами – №1", "100% #1 ?x=y&z", 'it\'s "quoted"', "a+b;c"])
def test_a_store_may_have_any_name(tmp_path: Path, name: str) -> None:
    store = Store.open(tmp_path / name, create=True)
    ids = add_source(store, "aa", 2)
    again = Store.open(str(tmp_path / name))
    assert [i for i, _ in again.read_media(ids)] == ids
    assert again.sql("SELECT count(*) AS n FROM clips").to_pylist() == [{"n": 2}]
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_an_object_store_works_by_its_uri(tmp_path: Path) -> None:
    """Through Lance's object-store layer, which here ends in local files; there is no lock file on an object store."""
    uri = f"file-object-store://{tmp_path}/store"
    with pytest.raises(StoreError, match="there is no store"):
        Store.open(uri)
    store = Store.open(uri, create=True)
    ids = add_source(store, "aa", 3)
    store.snapshots.create("s", "SELECT clip_id FROM clips")
    store.compact()
    store.delete_old_versions()
    assert [i for i, _ in Store.open(uri).read_media(ids)] == ids
    assert store.snapshots.verify("s").is_sound
    assert not list(tmp_path.rglob("_locks"))


@pytest.mark.parametrize("uri", ["foo://bucket/x", "/nul\0byte", "s3://"])
@pytest.mark.parametrize("create", [False, True])
def test_an_impossible_address_is_explained(uri: str, create: bool) -> None:
    with pytest.raises(StoreError) as error:
        Store.open(uri, create=create)
    assert "\n" not in str(error.value)


def test_threads_share_a_store_while_it_is_written(store: Store) -> None:
    ids = add_source(store, "aa", 50)
    is_done, seen, errors = threading.Event(), [], []

    def read() -> None:
        while not is_done.is_set():
            try:
                seen.append(store.sql("SELECT * FROM clips ORDER BY width LIMIT 20").num_rows)
                seen.append(len(list(store.read_media(ids[:20]))))
            except Exception as error:
                errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(10):
        store.merge("clips", blur(ids, [float(number)] * 50), "clip_id")
    store.compact()
    is_done.set()
    for reader in readers:
        reader.join()
    assert errors == []
    assert set(seen) == {20}


def test_a_store_travels_to_another_process_as_its_address(store: Store) -> None:
    add_source(store, "aa", 2)
    assert pickle.loads(pickle.dumps(store)).count("clips") == 2


@pytest.mark.parametrize("kind", [pa.list_(pa.uint64()), pa.float16(), pa.struct([("seen", pa.duration("s"))])])
def test_a_column_that_would_spoil_every_condition_is_refused(store: Store, kind: pa.DataType) -> None:
    with pytest.raises(StoreError, match="SQL cannot read"):
        store.ensure_columns("clips", [pa.field("odd", kind)])
    assert store.sql("SELECT clip_id FROM clips WHERE clip_id = 'x'").num_rows == 0


def test_the_id_index_is_made_anew_ever_more_rarely_as_a_table_grows(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "INDEX_EVERY_ROWS", 10)
    monkeypatch.setattr(datasets, "INDEX_EVERY_SHARE", 4)
    made = []
    for i in range(60):
        store.append("clips", [{"clip_id": f"{i:02d}-{k}", "source_md5": "s"} for k in range(10)])
        made.append(tuple(index["uuid"] for index in store.dataset("clips").list_indices()))
    assert 5 < len(set(made)) < 25, "not with each append, though each adds enough rows for a small table"
    stats = store.dataset("clips").stats.index_stats("clip_id_idx")
    assert stats["num_unindexed_rows"] <= stats["num_indexed_rows"] // 4 + 10
    assert store.count("clips", "clip_id = '59-9'") == 1
