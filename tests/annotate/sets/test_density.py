"""Density: the formula by brute force, laws that it keeps, and the cells that a large set is looked for in."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelwright.annotate import load
from reelwright.annotate.sets.density import Density
from reelwright.curation.vectors import crowding
from reelwright.curation.vectors.neighbours import SAME
from tests.annotate.sets.embedded_clips import blobs, clips_of


def density_of(clips: pa.Table, **parameters: int) -> np.ndarray:
    found, state = Density(**parameters)(clips, None)
    assert state is None
    return np.array(found["density"].to_pylist(), float)


def by_the_formula(vectors: np.ndarray, k: int) -> np.ndarray:
    found = []
    for i, one in enumerate(vectors.astype(float)):
        distances = np.sort(1 - np.delete(vectors.astype(float), i, axis=0) @ one)
        same = np.sum(distances < SAME)
        found.append(max(1, same / k) / max(SAME, distances[:k].mean()))
    return np.array(found) / np.mean(found)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 60), st.integers(1, 12), st.integers(0, 9))
def test_it_is_the_formula(count: int, k: int, seed: int) -> None:
    vectors, _ = blobs([count], seed=seed, width=1.0)
    k = min(k, count - 1)
    np.testing.assert_allclose(density_of(clips_of(vectors), k=k), by_the_formula(vectors, k), rtol=1e-3)


def test_a_crowded_blob_is_denser_than_a_thin_one() -> None:
    tight, _ = blobs([100], width=0.3)
    thin, _ = blobs([100], width=1.5, offset=1)
    density = density_of(clips_of(np.vstack([tight, thin])))
    assert density[:100].min() > density[100:].max()
    assert density.mean() == pytest.approx(1, abs=1e-5)


def test_copies_of_one_caption_weigh_together_about_as_much_however_many() -> None:
    others, _ = blobs([50] * 8, width=1.5)

    def weight_of_copies(count: int) -> float:
        density = density_of(clips_of(np.vstack([np.repeat(others[:1], count, axis=0), others[1:]])))
        weight = 1 / density / np.median(1 / density[count:])
        return float(weight[:count].sum())

    few, many = weight_of_copies(50), weight_of_copies(500)
    assert np.isfinite([few, many]).all()
    assert many == pytest.approx(few, rel=0.1)
    assert many < 1


@pytest.mark.parametrize(("count", "expect"), [(0, []), (1, [1]), (2, [1, 1])])
def test_few_clips(count: int, expect: list[float]) -> None:
    assert density_of(clips_of(blobs([count])[0])).tolist() == expect


def test_identical_clips_are_equally_dense() -> None:
    density = density_of(clips_of(np.repeat(blobs([1])[0], 40, axis=0)))
    assert density.tolist() == [1.0] * 40


@pytest.mark.parametrize("parameters", [{}, {"exact_up_to": 100, "probes": 3}])
def test_densities_are_the_same_to_the_bit_in_whatever_order_rows_come(parameters, monkeypatch) -> None:
    monkeypatch.setattr(crowding, "CELL", 40)
    vectors, _ = blobs([1_500, 800], width=1.0)
    vectors[:300] = vectors[0]
    clips = clips_of(vectors)
    shuffled = np.random.default_rng(0).permutation(len(vectors))
    plain = density_of(clips, **parameters)
    assert density_of(clips.take(pa.array(shuffled)), **parameters).tolist() == plain[shuffled].tolist()


def test_cells_find_nearly_the_density_among_all(monkeypatch) -> None:
    monkeypatch.setattr(crowding, "CELL", 40)
    vectors, _ = blobs([1_200, 400, 100], width=1.0)
    clips = clips_of(vectors)
    exact, found = density_of(clips), density_of(clips, exact_up_to=1_000)
    ranks = [np.argsort(np.argsort(one)) for one in (exact, found)]
    assert np.corrcoef(*ranks)[0, 1] > 0.99
    assert found.mean() == pytest.approx(1, abs=1e-6)
    few = density_of(clips, exact_up_to=1_000, probes=1)
    assert np.abs(np.log(few / exact)).mean() > 2 * np.abs(np.log(found / exact)).mean(), "probes decide how near"


def test_clips_without_a_vector_or_of_another_model_have_none() -> None:
    vectors = [*blobs([6])[0], None]
    density = density_of(clips_of(vectors, model=["m"] * 4 + ["old"] * 2 + ["m"]))
    assert np.isnan(density).tolist() == [False] * 4 + [True] * 3


def test_a_vector_that_is_not_finite_has_none_and_spoils_no_other() -> None:
    vectors, _ = blobs([60])
    spoiled = vectors.copy()
    spoiled[7, 3], spoiled[9, 0] = np.nan, np.inf
    density = density_of(clips_of(spoiled))
    assert np.flatnonzero(np.isnan(density)).tolist() == [7, 9]
    np.testing.assert_allclose(
        np.delete(density, [7, 9]), density_of(clips_of(np.delete(vectors, [7, 9], axis=0))), rtol=1e-3
    )


def test_mistakes_are_sentences() -> None:
    with pytest.raises(ValueError, match="annotator 'density' has no parameter 'reference'; .*probes"):
        load("density", {"reference": 20_000})
    with pytest.raises(ValueError, match="density: k = 0; it must be at least 1"):
        Density(k=0)
