"""Columns merged into rows that lie together: as Lance's merge leaves them, without reading the rest of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reelwright.curation.store import Store, datasets, merge_near
from reelwright.curation.store.schema import field

FRAGMENTS, ROWS = 12, 20
COLUMNS = [
    field("score", pa.float32(), "a number", computed_by="b"), field("word", pa.string(), "a text", computed_by="b"),
    field("vector", pa.list_(pa.float32(), 3), "a vector", computed_by="v"),
]  # fmt: skip


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.open(tmp_path_factory.mktemp("near") / "store", create=True)
    numbers = np.random.default_rng(0).permutation(FRAGMENTS * ROWS)
    for part in np.split(numbers, FRAGMENTS):
        store.append("clips", [{"clip_id": f"c{i:04d}", "source_md5": "s", "width": int(i)} for i in part])
    store.dataset("clips").optimize.optimize_indices()
    store.ensure_columns("clips", COLUMNS)
    store.delete("clips", "clip_id IN ('c0003', 'c0100', 'c0200')")
    return store


def values(rng: np.random.Generator, ids: list[str]) -> pa.Table:
    """New values for clips, some of them null."""
    gone = rng.random(len(ids)) < 0.2
    return pa.table({
        "clip_id": ids,
        "score": pa.array(np.asarray(rng.normal(size=len(ids)), np.float32), mask=gone),
        "word": pa.array([None if g else f"w{i}" for i, g in enumerate(gone)], pa.string()),
        "vector": pa.array([None if g else v for g, v in zip(gone, rng.normal(size=(len(ids), 3)), strict=True)],
                           COLUMNS[2].type),
    })  # fmt: skip


def spied(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `update_near` returns from here on."""
    found: list[Any] = []
    real = merge_near.update_near
    monkeypatch.setattr(merge_near, "update_near", lambda *given: found.append(real(*given)) or found[-1])
    return found


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 220), st.integers(1, 18), st.integers(0, 9), st.integers(0, 99))
def test_rows_that_lie_together_get_their_values_and_no_others_change(
    filled: Store, first: int, count: int, thrown: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    before = filled.read("clips")
    ids = before["clip_id"].to_pylist()[first : first + count]
    kept = np.sort(rng.permutation(len(ids))[: max(1, len(ids) - thrown)])
    rows = values(rng, [ids[i] for i in kept])
    with pytest.MonkeyPatch.context() as patch:
        near = spied(patch)
        assert filled.merge("clips", rows, on="clip_id") == len(rows)
    assert near == [len(rows)], "by the fragments alone"
    after = filled.read("clips")
    new = {row["clip_id"]: row for row in rows.to_pylist()}
    expect = [row | new.get(row["clip_id"], {}) for row in before.to_pylist()]
    for one, other in zip(after.to_pylist(), expect, strict=True):
        assert one == other
    assert filled.count("clips", f"clip_id = '{ids[0]}'") == 1


def test_rows_from_everywhere_unknown_ones_and_small_tables_go_the_other_way(
    filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = spied(monkeypatch)
    ids = filled.read("clips", ["clip_id"])["clip_id"].to_pylist()
    spread = values(np.random.default_rng(0), ids[::20])
    assert filled.merge("clips", spread, on="clip_id") == len(spread)
    unknown = values(np.random.default_rng(1), [*ids[30:40], "nobody"])
    assert filled.merge("clips", unknown, on="clip_id") == 10
    whole = values(np.random.default_rng(2), ids)
    assert filled.merge("clips", whole, on="clip_id") == len(ids)
    assert near == [None, None, None]
    assert filled.read("clips", ["word"])["word"].to_pylist() == whole["word"].to_pylist()


def test_a_file_that_was_cut_short_is_not_committed(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = filled.read("clips", ["clip_id"])["clip_id"].to_pylist()
    before = filled.dataset("clips").version
    monkeypatch.setattr("reelwright.curation.store.fragments._size", lambda path: 0)
    with pytest.raises(Exception, match="No space|room|full"):
        filled.merge("clips", values(np.random.default_rng(0), ids[:9]), on="clip_id")
    assert filled.dataset("clips").version == before
    assert datasets.FRAGMENT_ROWS > ROWS
