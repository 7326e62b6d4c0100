"""Crowding in cells against brute force, where cells are uneven, equal, empty or smaller than the neighbours sought."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelwright.curation.vectors import crowding, neighbours, scratch
from reelwright.curation.vectors.cells import Cells, Reordered
from reelwright.curation.vectors.crowding import Neighbourhood, unit

DIM = 12


def normal(count: int, seed: int = 0) -> np.ndarray:
    return np.asarray(unit(np.random.default_rng(seed).normal(size=(count, DIM))), np.float32)


def density(vectors: np.ndarray, piece: int = 1_000, **rule: int) -> np.ndarray:
    ids = [f"{i:07d}" for i in range(len(vectors))]
    parts = ((ids[s : s + piece], vectors[s : s + piece]) for s in range(0, len(vectors), piece))
    return Neighbourhood(**rule).density(parts, len(vectors))


@pytest.fixture
def small_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowding, "CELL", 20)


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pairs of vectors whose cosine is computed, by call."""
    pairs: list[int] = []
    add = neighbours._Nearest.add

    def counted(self: neighbours._Nearest, rows: np.ndarray, alike: np.ndarray, each: float) -> None:
        pairs.append(alike.size)
        add(self, rows, alike, each)

    monkeypatch.setattr(neighbours._Nearest, "add", counted)
    return pairs


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 700), st.integers(1, 40), st.integers(0, 9))
def test_all_cells_probed_are_all_clips(count: int, k: int, seed: int) -> None:
    """The two ways differ by the rounding of halves alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crowding, "CELL", 20)
        patch.setattr(scratch, "IN_MEMORY_BYTES", 0)
        patch.setattr(crowding, "LARGEST", 1_000)
        patch.setattr(neighbours, "STRETCH", 64)
        patch.setattr(neighbours, "QUERIES", 7)
        vectors = normal(count, seed)
        vectors[: count // 10] = vectors[0]
        every = density(vectors, 130, k=k)
        np.testing.assert_allclose(density(vectors, 130, k=k, exact_up_to=1, probes=1_000), every, rtol=0.02)


@pytest.mark.parametrize("noise", [0, 1e-7, 0.01])
def test_copies_are_not_all_compared_with_one_another(noise: float, small_cells: None, looked_at: list[int]) -> None:
    """Yet their count is right, also where rounding makes each differ a little from the others."""
    work = []
    for copies in (10_000, 40_000):
        looked_at.clear()
        alike = unit(np.repeat(normal(1), copies, axis=0) + noise * normal(copies, seed=2)).astype(np.float32)
        vectors = np.concatenate([alike, normal(1_000, seed=1)])
        found = density(vectors, exact_up_to=1, k=10)
        work.append(sum(looked_at) / len(vectors))
        ratio = np.median(found[:copies]) / np.median(found[copies:])
        expect = (copies / 10 / neighbours.SAME) * _mean_distance(vectors[copies:], 10)
        assert ratio == pytest.approx(expect, rel=0.1)
        assert found[:copies].std() / found[:copies].mean() < 1e-3
    assert work[1] < 2.2 * work[0], "per vector: with the root of their number, as for any vectors"


def _mean_distance(vectors: np.ndarray, k: int) -> float:
    near = np.sort(1 - vectors @ vectors.T, axis=1)[:, 1 : k + 1]
    return float(np.median(near.mean(axis=1)))


def test_of_a_large_set_some_stand_for_all(
    small_cells: None, looked_at: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies are counted as if all were looked at, the order of clips hardly differs, and the work does not grow."""
    monkeypatch.setattr(crowding, "AMONG", 2_000)
    spread = np.random.default_rng(5).exponential(0.3, size=(16_000, 1)).astype(np.float32)
    vectors = np.asarray(unit(normal(1)[0] + spread * normal(16_000, seed=3)), np.float32)
    vectors[:400] = vectors[0]
    work = []
    for count in (4_000, 16_000):
        looked_at.clear()
        found = density(vectors[:count], exact_up_to=1)
        work.append(sum(looked_at) / count)
        exact = density(vectors[:count])
        assert found.mean() == pytest.approx(1, abs=1e-5)
        assert np.corrcoef(*(np.argsort(np.argsort(one[400:])) for one in (found, exact)))[0, 1] > 0.95
        assert found[0] / np.median(found) == pytest.approx(exact[0] / np.median(exact), rel=0.35)
    assert work[1] < 1.6 * work[0]


def test_more_neighbours_than_a_cell_has_are_found(small_cells: None) -> None:
    vectors = normal(600)
    np.testing.assert_allclose(density(vectors, k=200, exact_up_to=1, probes=1), density(vectors, k=200), rtol=0.2)
    assert np.isfinite(density(vectors, k=10_000, exact_up_to=1, probes=2)).all()


def test_vectors_that_lie_alone_have_neighbours(small_cells: None) -> None:
    """An outlier that is a cell of its own joins one that has clips."""
    crowd = unit(np.array([1.0] + [0] * (DIM - 1)) + 0.01 * normal(2_000)).astype(np.float32)
    vectors = np.concatenate([crowd, np.eye(DIM, dtype=np.float32)[1:], np.zeros((3, DIM), np.float32)])
    found = density(vectors, exact_up_to=1, probes=2)
    assert np.isfinite(found).all()
    assert found[2_000:].max() < found[:2_000].min()
    np.testing.assert_allclose(found, density(vectors), rtol=0.15)


def test_a_set_just_beyond_the_exact_one_hardly_differs() -> None:
    vectors = normal(1_001)
    np.testing.assert_allclose(density(vectors, exact_up_to=1_000), density(vectors), rtol=0.05)


def test_no_clips_and_none_that_is_finite() -> None:
    assert density(normal(0)).tolist() == []
    assert np.isnan(density(np.full((3, DIM), np.nan, np.float32))).all()
    assert density(normal(1), exact_up_to=1).tolist() == [1.0]


def test_small_cells_go_and_every_vector_is_in_the_nearest_that_stays() -> None:
    vectors = np.concatenate([normal(500), np.repeat(normal(1, seed=3), 300, axis=0)])
    cells = Cells(vectors, 60, 9)
    sizes = np.diff(cells.starts)
    assert sizes.min() >= 9
    assert sizes.sum() == len(vectors)
    squared = ((vectors[:, None] - cells.pivots[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(squared[np.arange(len(vectors)), cells.own], squared.min(axis=1), atol=1e-5)
    assert [cells.own[one].tolist() for one in map(cells.members, range(len(sizes)))] == [
        [cell] * size for cell, size in enumerate(sizes.tolist())
    ]


def test_rows_in_another_order_are_read_some_at_a_time() -> None:
    vectors, order = normal(50).astype(np.float16), np.random.default_rng(0).permutation(50)
    rows = Reordered(vectors, order)
    assert len(rows) == 50
    assert rows[3:20:4].dtype == np.float32
    np.testing.assert_array_equal(rows[3:20:4], vectors[order][3:20:4])
