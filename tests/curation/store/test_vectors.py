"""Nearest rows: exactly the nearest in a small table, nearly all of them through an index, and never a stale one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from reelwright.curation.store import Store, StoreError
from reelwright.curation.store.vectors import INDEX_FROM_ROWS, STALE_ROWS

DIM = 16


def unit_vectors(count: int, seed: int = 0, groups: int = 0) -> np.ndarray:
    """float32 [N, DIM]; in groups, as captions are, or everywhere."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(count, DIM))
    if groups:
        found = rng.normal(size=(groups, DIM))[rng.integers(0, groups, count)] + 0.3 * found
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def vector_column(vectors: np.ndarray | list) -> pa.Array:
    return pa.array(list(vectors), pa.list_(pa.float32(), DIM))


def fill(store: Store, vectors: np.ndarray, first: int = 0) -> list[str]:
    """Clips with these vectors."""
    ids = [f"{i:08d}" for i in range(first, first + len(vectors))]
    store.append("clips", pa.table({"clip_id": ids, "duration_s": np.arange(len(ids), dtype=float)}))
    store.merge("clips", pa.table({"clip_id": ids, "vector": vector_column(vectors)}), on="clip_id")
    return ids


def true_nearest(vectors: np.ndarray, query: np.ndarray, k: int) -> list[int]:
    return np.argsort(1 - vectors @ (query / np.linalg.norm(query)), kind="stable")[:k].tolist()


def test_a_small_table_gives_exactly_the_nearest_with_their_cosine_distance(store: Store) -> None:
    vectors = unit_vectors(300)
    ids = fill(store, vectors)
    query = 3.7 * unit_vectors(1, seed=1)[0]  # its length does not matter
    found = store.nearest("clips", "vector", query, 10)
    expect = true_nearest(vectors, query, 10)
    assert found["clip_id"].to_pylist() == [ids[i] for i in expect]
    np.testing.assert_allclose(found["_distance"], 1 - vectors[expect] @ query / 3.7, atol=1e-5)
    assert not store.index_vectors("clips", "vector"), "a small table needs no index"


def test_a_condition_applies_before_the_search_and_columns_come_along(store: Store) -> None:
    vectors = unit_vectors(300)
    fill(store, vectors)
    wanted = ["duration_s", "clip_id"]
    found = store.nearest("clips", "vector", vectors[5], 4, where="duration_s >= 200", columns=wanted)
    assert found.column_names == [*wanted, "_distance"]
    expect = 200 + np.array(true_nearest(vectors[200:], vectors[5], 4))
    assert found["duration_s"].to_pylist() == expect.tolist()


def test_rows_without_a_vector_and_deleted_rows_are_never_found(store: Store) -> None:
    vectors = unit_vectors(30)
    ids = fill(store, vectors)
    store.append("clips", [{"clip_id": "bare"}])
    store.merge("clips", pa.table({"clip_id": [ids[3]], "vector": vector_column([None])}), on="clip_id")
    store.delete("clips", f"clip_id = '{ids[4]}'")
    found = store.nearest("clips", "vector", vectors[3], 100)["clip_id"].to_pylist()
    assert sorted(found) == sorted(set(ids) - {ids[3], ids[4]})


def test_equal_vectors_come_in_order_of_their_key(store: Store) -> None:
    ids = fill(store, np.repeat(unit_vectors(1), 20, axis=0))
    assert store.nearest("clips", "vector", unit_vectors(1)[0], 20)["clip_id"].to_pylist() == ids


@pytest.mark.parametrize(
    ("column", "vector", "k", "where", "complaint"),
    [
        ("vectr", np.ones(DIM), 3, None, "'vectr' is not a column of clips; columns that look alike: vector"),
        ("duration_s", np.ones(DIM), 3, None, "clips.duration_s holds double, not vectors"),
        ("vector", np.ones(DIM + 1), 3, None, "holds vectors of 16 numbers, and this one has 17"),
        ("vector", np.zeros(DIM), 3, None, "length 0.0 is near to nothing"),
        ("vector", np.full(DIM, np.nan), 3, None, "length nan is near to nothing"),
        ("vector", np.ones(DIM), 0, None, "is 1 to 10,000, not 0"),
        ("vector", np.ones(DIM), 3, "nothing > 3", "condition 'nothing > 3' on clips does not work"),
        ("vector", np.ones(DIM), 3, "1; DROP TABLE clips", "condition '1; DROP TABLE clips' on clips does not work"),
    ],
)
def test_mistakes_are_sentences(store: Store, column: str, vector: np.ndarray, k: int, where: str, complaint: str):
    fill(store, unit_vectors(3))
    with pytest.raises(StoreError) as caught:
        store.nearest("clips", column, vector, k, where=where)
    assert complaint in str(caught.value)


def test_an_index_finds_them_and_what_was_merged_since_as_well(store: Store) -> None:
    vectors = unit_vectors(INDEX_FROM_ROWS, groups=300)
    ids = fill(store, vectors)
    assert store.index_vectors("clips", "vector")
    assert not store.index_vectors("clips", "vector"), "it is fresh"
    queries = range(0, len(ids), 5_000)
    kept = [
        len(set(store.nearest("clips", "vector", vectors[q], 10)["clip_id"].to_pylist())
            & {ids[i] for i in true_nearest(vectors, vectors[q], 10)})
        for q in queries
    ]  # fmt: skip
    assert np.mean(kept) >= 9.5

    far = store.nearest("clips", "vector", vectors[7], 3, where="duration_s < 3")  # few rows pass: all are looked at
    assert sorted(far["clip_id"].to_pylist()) == ids[:3]

    changed = unit_vectors(5, seed=9)
    store.merge("clips", pa.table({"clip_id": ids[:5], "vector": vector_column(changed)}), on="clip_id")
    added = fill(store, unit_vectors(5, seed=10), first=len(ids))
    for one, vector in zip(ids[:5] + added, [*changed, *unit_vectors(5, seed=10)], strict=True):
        hit = store.nearest("clips", "vector", vector, 1)
        assert hit["clip_id"].to_pylist() == [one]
        assert abs(hit["_distance"][0].as_py()) < 1e-5
    for old in vectors[:5]:
        hit = store.nearest("clips", "vector", old, 1, where="duration_s < 5")["_distance"][0].as_py()
        assert hit > 0.05, "the vector that a clip had is gone"

    assert STALE_ROWS <= 65_536  # rows of the first fragment, which the merge took out of the index whole
    assert store.index_vectors("clips", "vector")
    assert not store.index_vectors("clips", "vector")
    for one, vector in zip(ids[:5], changed, strict=True):
        assert store.nearest("clips", "vector", vector, 1)["clip_id"].to_pylist() == [one]
    store.compact()
    for one, vector in zip(ids[:5], changed, strict=True):
        assert store.nearest("clips", "vector", vector, 1)["clip_id"].to_pylist() == [one]


def test_a_hundred_thousand_wide_vectors_merge_in_one_call(store: Store) -> None:
    count, width = 100_000, 384
    ids = [f"{i:08d}" for i in range(count)]
    store.append("clips", pa.table({"clip_id": ids}))
    flat = np.repeat(np.arange(count, dtype=np.float32), width)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(flat), width).cast(pa.list_(pa.float32(), width))
    assert store.merge("clips", pa.table({"clip_id": ids, "wide": vectors}), on="clip_id") == count
    last = store.read("clips", ["wide"], filter=f"clip_id = '{ids[-1]}'")["wide"][0].as_py()
    assert last == [count - 1.0] * width
