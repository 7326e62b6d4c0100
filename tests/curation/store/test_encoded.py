"""Latents and text states in the store: every byte comes back, from any thread, wherever the row has moved."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from reelwright.curation.store import Store, StoreError
from reelwright.curation.store.encoded import INLINE_BYTES, is_inline
from reelwright.curation.store.traffic import since, traffic_of

SMALL, LARGE = 1000, INLINE_BYTES + 1


def payload(clip: str, size: int) -> bytes:
    return np.random.default_rng(int(clip[1:])).bytes(size)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store.open(tmp_path / "store", create=True)


def fill(store: Store, clips: range, size: int) -> None:
    rows = [
        {"clip_id": f"c{i}", "bucket": "b", "encoder_fingerprint": "f", "latents": payload(f"c{i}", size)}
        for i in clips
    ]
    store.commit_encoded("latents", [store.write_encoded("latents", rows)])


def check(store: Store, size: int, expected: set[str]) -> None:
    reader = store.reader("latents")
    found = list(reader.keys(["clip_id", "bytes"], "encoder_fingerprint = 'f'"))
    ids = [one for keys, _ in found for one in keys.column("clip_id").to_pylist()]
    places = np.concatenate([part for _, part in found])
    assert set(ids) == expected
    order = np.random.default_rng(0).permutation(len(ids))

    def read(part: np.ndarray) -> None:
        for i, data in zip(part, reader.tensors(places[part], inline=is_inline(size)), strict=True):
            assert bytes(data) == payload(ids[i], size)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(read, np.array_split(order, 6)))


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_what_was_written_comes_back_after_deleting_and_merging(store, size):
    for start in range(0, 20, 5):
        fill(store, range(start, start + 5), size)
    check(store, size, {f"c{i}" for i in range(20)})
    store.delete("latents", "clip_id IN ('c3', 'c7', 'c8')")
    left = {f"c{i}" for i in range(20)} - {"c3", "c7", "c8"}
    check(store, size, left)
    store.merge_encoded()
    check(store, size, left)
    store.compact()
    check(store, size, left)
    assert len(store.dataset("latents").get_fragments()) == 1


def test_places_are_those_of_take_however_rows_were_deleted(store):
    for start in range(0, 60, 20):
        fill(store, range(start, start + 20), SMALL)
    for gone in ("'c0', 'c19', 'c41'", "'c1', 'c40'", "'c59'"):
        store.delete("latents", f"clip_id IN ({gone})")
        reader = store.reader("latents")
        [*found] = reader.keys(["clip_id"], "clip_id LIKE '%1%' OR clip_id > 'c50'")
        ids = [one for keys, _ in found for one in keys.column("clip_id").to_pylist()]
        places = np.concatenate([part for _, part in found])
        assert store.dataset("latents").take(places.tolist(), columns=["clip_id"])["clip_id"].to_pylist() == ids
        assert (np.diff(places) > 0).all()


def test_a_reader_stays_at_its_version(store):
    fill(store, range(4), SMALL)
    reader = store.reader("latents")
    [(_, places)] = reader.keys(["clip_id"], "bucket = 'b'")
    store.delete("latents", "clip_id = 'c0'")
    store.compact()
    assert [bytes(d) for d in reader.tensors(places, inline=True)] == [payload(f"c{i}", SMALL) for i in range(4)]


def test_rows_with_tensors_are_not_appended(store):
    with pytest.raises(StoreError, match=r"Store\.write_encoded"):
        store.append("texts", [{"caption_hash": "h"}])


def test_sql_and_reading_do_not_see_the_bytes(store):
    fill(store, range(2), LARGE)
    assert not {"latents", "latents_inline"} & set(store.sql("SELECT * FROM latents").column_names)
    assert not {"latents", "latents_inline"} & set(store.read("latents").column_names)
    info = next(t for t in store.tables() if t.name == "latents")
    assert info.rows == 2
    assert info.bytes > 2 * LARGE


def test_a_table_of_an_earlier_version_is_refused_in_a_sentence(store):
    store.dataset("latents").drop_columns(["bytes"])
    with pytest.raises(StoreError, match=r"delete the folder latents\.lance"):
        store.reader("latents")


@pytest.mark.parametrize("size", [20 * SMALL, 4 * LARGE])
def test_a_batch_reads_the_ranges_of_its_tensors_and_no_rows_beside_them(store, size):
    for start in range(0, 200, 50):
        fill(store, range(start, start + 50), size)
    reader = store.reader("latents")
    reader.tensors([0], inline=is_inline(size))  # what is read once, such as the ends of files
    before = traffic_of([reader._dataset()])
    places = np.random.default_rng(0).choice(200, 16, replace=False)
    reader.tensors(places, inline=is_inline(size))
    read = since(before, traffic_of([reader._dataset()]))
    assert read["bytes_read"] < 1.3 * 16 * size, "of 200 times its size"
    assert read["requests"] <= 3 * 16
