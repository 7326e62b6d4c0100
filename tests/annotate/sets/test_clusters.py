"""Clusters: the same for the same clips, and the same ids as clips are added."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelwright.annotate.sets.clustering import kmeans
from reelwright.annotate.sets.clustering.kmeans import Fit, fit, rule_of_thumb
from reelwright.annotate.sets.clusters import Clusters
from tests.annotate.sets.embedded_clips import blobs, clips_of


def run(clips: pa.Table, state: Any = None, **parameters: Any) -> tuple[dict[str, list], Any]:
    """Columns as lists, and the state as it comes back from the store's JSON."""
    found, state = Clusters(**parameters)(clips, state)
    assert set(found) == {"cluster_id"}
    return {name: pa.array(column).to_pylist() for name, column in found.items()}, json.loads(json.dumps(state))


def test_blobs_are_found() -> None:
    vectors, which = blobs([60, 50, 40, 30, 20])
    found, _ = run(clips_of(vectors), k=5)
    pairs = set(zip(found["cluster_id"], which.tolist(), strict=True))
    assert pairs == {(i, i) for i in range(5)}, "one to one, the largest first"


def test_the_order_of_rows_does_not_matter() -> None:
    vectors, _ = blobs([30, 30, 30], width=1.0)
    clips = clips_of(vectors)
    shuffled = np.random.default_rng(3).permutation(len(clips))
    found, state = run(clips)
    other, same = run(clips.take(pa.array(shuffled)))
    assert state == same
    for name in found:
        assert [found[name][i] for i in shuffled] == other[name]


def test_a_few_more_clips_change_no_cluster() -> None:
    vectors, which = blobs([60, 50, 40], width=1.0)
    more, _ = blobs([8, 8, 8], seed=1, width=1.0)
    before, state = run(clips_of(vectors))
    both = clips_of(np.vstack([vectors, more]))
    after, kept = run(both, state)
    assert after["cluster_id"][: len(which)] == before["cluster_id"]
    assert kept == state


def test_many_more_clips_make_new_clusters_and_old_ones_keep_their_ids() -> None:
    vectors, which = blobs([60, 50, 40])
    more, other = blobs([70, 60], seed=1, offset=3)
    before, state = run(clips_of(vectors), k=3)
    both = clips_of(np.vstack([vectors, more]))
    state["fit"]["ids"] = [{0: 7, 1: 3, 2: 9}[i] for i in state["fit"]["ids"]]  # ids of a long history
    state["fit"]["next_id"] = 12
    after, new = run(both, state, k=5)
    assert after["cluster_id"][: len(which)] == [{0: 7, 1: 3, 2: 9}[i] for i in before["cluster_id"]]
    assert after["cluster_id"][len(which) :] == [12 + i - 3 for i in other]
    assert new["fit"]["next_id"] == 14
    assert new["fit"]["vectors"] == 280


@pytest.mark.parametrize("fit_on", [kmeans.FIT_ON, 60])
def test_other_vectors_in_the_same_number_are_fitted_anew(fit_on: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans, "FIT_ON", fit_on)
    vectors, _ = blobs([60, 50, 40])
    moved, _ = blobs([60, 50, 40], offset=5)
    _, state = run(clips_of(vectors), k=3)
    after, new = run(clips_of(moved), state, k=3)
    assert new["fit"]["centroids"] != state["fit"]["centroids"]
    assert len(set(after["cluster_id"])) == 3


def test_vectors_of_another_model_are_another_space() -> None:
    vectors, _ = blobs([30, 20])
    _, state = run(clips_of(vectors), k=2)
    mixed = clips_of(vectors, model=["new"] * 30 + ["old"] * 20)
    found, new = run(mixed, state, k=2)
    assert new["model"] == "new"
    assert None not in found["cluster_id"][:30]
    assert set(found["cluster_id"][30:]) == {None}, "they wait until they are embedded anew"


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_clips(count: int) -> None:
    vectors, _ = blobs([count])
    found, state = run(clips_of(vectors))
    assert found["cluster_id"] == [0] * count
    again, _ = run(clips_of(vectors), state)
    assert again == found


def test_identical_vectors_are_one_cluster_and_stay_it() -> None:
    vectors = np.repeat(blobs([1])[0], 50, axis=0)
    found, state = run(clips_of(vectors), k=8)
    assert set(found["cluster_id"]) == {0}
    assert run(clips_of(vectors), state, k=8)[1] == state


def test_clips_without_a_vector_have_no_cluster() -> None:
    vectors = [*blobs([5])[0][:4], None]
    found, _ = run(clips_of(vectors))
    assert found["cluster_id"] == [0, 0, 0, 0, None]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 5))
def test_every_cluster_has_clips_and_every_clip_its_nearest(count: int, k: int, seed: int) -> None:
    vectors, _ = blobs([count], seed=seed, width=2.0)
    found = fit(vectors, k, seed)
    labels = found.labels(vectors)
    assert sorted(set(labels)) == list(range(len(found.ids)))
    assert len(found.ids) == min(k, count)
    distances = ((vectors[:, None] - found.centroids[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(distances[np.arange(count), labels], distances.min(axis=1), atol=1e-5)
    back = Fit.from_json(json.loads(json.dumps(found.to_json())))
    assert back.labels(vectors).tolist() == labels.tolist()


def test_mini_batches_find_the_blobs_of_a_large_set() -> None:
    vectors, which = blobs([9_000, 8_000, 7_000])
    labels = fit(vectors, 3, 0).labels(vectors)
    agree = max(np.mean(np.array(order)[labels] == which) for order in ([0, 1, 2], [0, 2, 1], [1, 0, 2],
                                                                         [1, 2, 0], [2, 0, 1], [2, 1, 0]))  # fmt: skip
    assert agree > 0.99
    assert [rule_of_thumb(n, 256) for n in (1, 2, 100, 10_000, 10**7)] == [1, 1, 7, 71, 256]


def test_a_number_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="max_k = 0"):
        Clusters(max_k=0)


@pytest.mark.parametrize(("sizes", "k"), [([60, 50, 40, 30, 20], 5), ([200], 12), ([90, 60, 30], 9)])
def test_a_fit_is_as_tight_as_scikit_learns(sizes: list[int], k: int) -> None:
    from sklearn.cluster import KMeans

    vectors, _ = blobs(sizes, width=2.0)
    ours, theirs = [], []
    for seed in range(4):
        ours.append(fit(vectors, k, seed).spread)
        theirs.append(KMeans(k, n_init=4, random_state=seed).fit(vectors).inertia_ / len(vectors))
    assert np.mean(ours) < 1.02 * np.mean(theirs)
    assert min(ours) > 0.98 * min(theirs), "nothing fits better than it should"
