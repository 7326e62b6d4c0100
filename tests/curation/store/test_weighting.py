"""Laws of the weights that even out a set, and of the snapshots that keep them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelwright.curation.store import Store, StoreError
from reelwright.curation.store.schema import field
from reelwright.curation.store.weighting import FLOOR, Balance, bounded, describe, effective_size, weigh
from reelwright.model.config import DiTConfig
from reelwright.training.data.schedule import Schedule
from reelwright.training.recipe import DataConfig, TaskConfig
from tests.curation.store.conftest import add_source

ALL = "SELECT clip_id FROM clips"
SIZES = (60, 25, 10, 5)
FIELDS = [
    field("density", pa.float32(), "near captions", computed_by="density"),
    field("density_fingerprint", pa.string(), "what made density"),
    field("cluster_id", pa.int32(), "cluster of captions", computed_by="clusters"),
    field("clusters_fingerprint", pa.string(), "what made clusters"),
]

positive = st.floats(1e-6, 1e6)


def weights_of(values: Any, by: str = "density", made: list[str | None] | None = None, **options: float) -> np.ndarray:
    marks = pa.chunked_array([pa.array(made or [None] * len(values), pa.string())])
    return weigh(pa.chunked_array([pa.array(values)]), marks, Balance(by, **options)).weights


# --- the weights -----------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(rarity=st.lists(positive, min_size=1, max_size=60), cap=st.floats(1, 50))
def test_bounded_weights_have_mean_1_no_more_than_the_cap_and_keep_proportions_below_it(rarity, cap):
    raw = np.array(rarity)
    weights = bounded(raw, cap)
    assert weights.mean() == pytest.approx(1, rel=1e-9)
    assert (weights <= cap * (1 + 1e-9)).all()
    assert (weights > 0).all()
    below = weights < cap * (1 - 1e-9)
    ratio = weights[below] / raw[below]
    np.testing.assert_allclose(ratio, ratio[:1].repeat(len(ratio)), rtol=1e-9)
    assert raw[~below].min(initial=np.inf) >= raw[below].max(initial=0), "the cap takes the rarest"


@settings(deadline=None)
@given(density=st.lists(st.floats(1e-2, 1e2), min_size=2, max_size=60), alpha=st.floats(0.1, 2))
def test_weights_are_inverse_to_density_up_to_the_cap(density, alpha):
    d = np.array(density)
    weights = weights_of(d, cap=10, alpha=alpha)
    product = (weights * d**alpha)[weights < 10 * (1 - 1e-9)]
    np.testing.assert_allclose(product, product[:1].repeat(len(product)), rtol=1e-6)


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_without_a_cap_every_cluster_has_the_same_mass(sizes):
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    mass = np.bincount(cluster, weights_of(cluster, "cluster", cap=1e9))
    np.testing.assert_allclose(mass, sum(sizes) / len(sizes))


def test_a_cap_of_1_takes_all_balance_away_and_alpha_tempers_it():
    cluster = np.repeat([0, 1], [90, 10])
    assert (weights_of(cluster, "cluster", cap=1) == 1).all()
    half = weights_of(cluster, "cluster", alpha=0.5)
    assert half[-1] / half[0] == pytest.approx(3)


def test_clips_without_a_value_weigh_1_and_the_others_as_if_they_were_not_there():
    values = [1.0, None, 2.0, float("nan"), 4.0, 0.0, -1.0]
    weights = weights_of(values)
    assert weights[[1, 3, 5, 6]].tolist() == [1, 1, 1, 1]
    np.testing.assert_allclose(weights[[0, 2, 4]], weights_of([1.0, 2.0, 4.0]))
    assert weights_of([0, 0, 0, 1, -1, None], "cluster")[[4, 5]].tolist() == [1, 1], "-1 is no cluster"


def test_a_value_that_another_version_made_is_no_value():
    made = ["new", "new", "old", "new"]
    weighed = weigh(pa.chunked_array([[1.0, 2.0, 3.0, 4.0]]), pa.chunked_array([made]), Balance("density"))
    assert weighed.weights[2] == 1
    assert (weighed.with_value, weighed.without_value, weighed.other_version) == (3, 1, 1)
    assert weighed.fingerprint == "new"


def test_copies_of_a_caption_count_as_the_densest_and_can_still_be_drawn():
    weights = weights_of([1.0, 2.0, float("inf"), float("inf")])
    assert weights[1] == weights[2] == weights[3]
    steep = weights_of([1e-6, 1e6], cap=1e12, alpha=16)
    assert steep.min() == pytest.approx(2 * FLOOR)


def test_the_effective_size_of_equal_weights_is_their_number():
    assert effective_size(np.full(7, 3.0)) == pytest.approx(7)
    assert effective_size(np.array([1.0, 1e-12])) == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"by": "size"}, "balanced by density or cluster, not by 'size'"),
        ({"by": "density", "cap": 0.5}, "cap of weights is 1"),
        ({"by": "density", "cap": float("nan")}, "cap of weights is 1"),
        ({"by": "density", "alpha": 0.0}, "exponent of balance is above 0"),
        ({"by": "density", "alpha": 17.0}, "at most 16"),
        ({"by": "density", "within": "clips"}, "within the snapshot or the store, not within 'clips'"),
        ({"by": "cluster", "within": "store"}, "counted in the snapshot"),
    ],
)
def test_balance_that_makes_no_sense_is_refused(options, sentence):
    with pytest.raises(StoreError, match=sentence):
        Balance(**options)


# --- snapshots -------------------------------------------------------------------------------------------------------


@pytest.fixture
def filled(store: Store) -> Store:
    """100 clips in clusters of SIZES, denser the larger; the last clip has no value."""
    ids = add_source(store, "aa", sum(SIZES)) + add_source(store, "bb", 1)
    cluster = np.repeat(np.arange(len(SIZES)), SIZES).tolist()
    density = [float(SIZES[c]) for c in cluster]
    rows = {
        "clip_id": ids,
        "density": pa.array([*density, None], pa.float32()), "density_fingerprint": ["d1"] * 100 + [None],
        "cluster_id": pa.array([*cluster, None], pa.int32()), "clusters_fingerprint": ["c1"] * 100 + [None],
    }  # fmt: skip
    store.ensure_columns("clips", FIELDS)
    store.merge("clips", pa.table(rows), "clip_id")
    return store


def test_a_snapshot_keeps_the_weights_and_says_how_they_were_made(filled: Store) -> None:
    made = filled.snapshots.create("even", ALL + " ORDER BY clip_id DESC", weights=Balance("cluster", cap=20))
    again = Store.open(filled.uri).snapshots.show("even")
    assert again == made
    about = made.balance
    assert about is not None
    assert {k: about[k] for k in ("by", "column", "cap", "alpha", "with_value", "without_value", "fingerprint")} == {
        "by": "cluster", "column": "cluster_id", "cap": 20, "alpha": 1.0, "with_value": 100, "without_value": 1,
        "fingerprint": "c1",
    }  # fmt: skip
    rows = filled.snapshots.rows("even")
    weight = dict(zip(rows.column("clip_id").to_pylist(), rows.column("weight").to_pylist(), strict=True))
    assert rows.column("clip_id")[0].as_py() == "bb-000"
    assert weight["bb-000"] == 1
    assert weight["aa-000"] == pytest.approx(25 / 60)
    assert weight["aa-099"] == pytest.approx(5)
    said = describe(about)
    assert "1 / size of its cluster, mean 1, at most 20 (0 clips at that)" in said
    assert "1 clips without a cluster_id weigh 1" in said
    assert said.endswith("of 101 clips; cluster_id of c1")


def test_the_same_balance_gives_the_same_hash_and_later_annotation_changes_nothing(filled: Store) -> None:
    snapshots = filled.snapshots
    first = snapshots.create("a", ALL, weights=Balance("density", within="store"))
    before = snapshots.rows("a")
    other_order = snapshots.create("b", ALL + " ORDER BY density", weights=Balance("density", within="store"))
    assert other_order.content_hash == first.content_hash
    capped = snapshots.create("c", ALL, weights=Balance("density", within="store", cap=2))
    assert capped.content_hash != first.content_hash
    filled.merge("clips", pa.table({"clip_id": ["aa-000"], "density": pa.array([0.001], pa.float32())}), "clip_id")
    assert snapshots.verify("a").is_sound
    assert snapshots.rows("a").equals(before)
    assert snapshots.create("d", ALL, weights=Balance("density", within="store")).content_hash != first.content_hash


def test_sizes_are_of_the_clusters_in_the_snapshot_after_its_limit(filled: Store) -> None:
    made = filled.snapshots.create("some", ALL + " WHERE cluster_id < 2", limit=20, seed=1, weights=Balance("cluster"))
    clips = pa.concat_tables(filled.snapshots.clips("some", ["cluster_id"]))
    mass = clips.group_by("cluster_id").aggregate([("weight", "sum")]).column("weight_sum").to_pylist()
    assert made.num_clips == 20
    assert mass == pytest.approx([10, 10])


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000))
def test_what_training_draws_follows_the_weights(seed):
    cluster = np.repeat(np.arange(len(SIZES)), SIZES)
    rows = pa.table({
        "clip_id": [f"{i:06x}" for i in range(len(cluster))], "weight": weights_of(cluster, "cluster"),
        "width": [160] * len(cluster), "height": [96] * len(cluster), "fps": [15.0] * len(cluster),
        "num_frames": [40] * len(cluster), "source_md5": [f"s{i}" for i in range(len(cluster))],
    })  # fmt: skip
    data = DataConfig(sizes=("64p",), frames=(1, 17), tokens_per_batch=900, batches_per_step=4, holdout=0.0)
    plan = Schedule(rows, data, TaskConfig(t2v=1), DiTConfig(), seed, block=len(cluster))
    drawn = Counter()
    for epoch in range(4):
        for k in plan.block_batches(epoch):
            drawn.update(int(cluster[int(d.clip_id, 16)]) for d in plan.batch(k).samples)
    total = sum(drawn.values())
    assert total == 4 * len(cluster)
    for one in range(len(SIZES)):
        assert drawn[one] / total == pytest.approx(1 / len(SIZES), abs=0.05)


def test_what_is_missing_is_named_with_how_to_make_it(store: Store) -> None:
    add_source(store, "aa", 3)
    with pytest.raises(StoreError, match="needs the column density, which .* reel annotate --only density"):
        store.snapshots.create("x", ALL, weights=Balance("density", within="store"))
    with pytest.raises(StoreError, match="needs the column caption_embedding, .* --only caption_embedding"):
        store.snapshots.create("x", ALL, weights=Balance("density"))
    with pytest.raises(StoreError, match="left out by near_duplicate_group, .* --only near_duplicates"):
        store.snapshots.create("x", ALL, distinct=True)
    store.ensure_columns("clips", FIELDS)
    with pytest.raises(StoreError, match="none of these clips has a cluster_id .* reel annotate --only clusters"):
        store.snapshots.create("x", ALL, weights=Balance("cluster"))
    assert store.snapshots.list() == []


def test_a_store_older_than_balance_opens_and_takes_its_snapshots(filled: Store) -> None:
    filled.snapshots.create("before", ALL)
    filled.dataset("snapshots").drop_columns(["balance"])
    assert [s.balance for s in filled.snapshots.list()] == [None]
    filled.snapshots.create("after", ALL, weights=Balance("density", within="store"))
    found = {s.name: s.balance for s in filled.snapshots.list()}
    assert found["before"] is None
    assert found["after"]["by"] == "density"
