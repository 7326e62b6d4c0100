"""Laws of density within a snapshot, of near duplicates that are left out, and of the review of weights."""

from __future__ import annotations

import tempfile
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from reelwright.annotate.sets.density import Density
from reelwright.curation.store import Store, StoreError
from reelwright.curation.store.schema import field
from reelwright.curation.store.weighting import Balance, bounded, describe
from reelwright.curation.vectors import scratch
from reelwright.model.config import DiTConfig
from reelwright.training.data.rows import snapshot_rows
from reelwright.training.data.schedule import Schedule
from reelwright.training.recipe import DataConfig, TaskConfig
from tests.curation.store.conftest import add_source

DIM = 16
ALL = "SELECT clip_id FROM clips"
SIZES = {"dogs": 240, "cars": 90, "waves": 30, "owls": 12}
"""Clips of each subject; their captions lie the closer together the more there are, as in a real store."""
BROKEN = "�� [Music]"


def captioned(store: Store, subjects: dict[str, int], *, seed: int = 0, model: str = "m1") -> list[str]:
    """Add a source whose clips have captions of these subjects: directions with a little noise around them."""
    ids = add_source(store, f"s{seed}", sum(subjects.values()))
    rng = np.random.default_rng(seed)
    names = [name for name, count in subjects.items() for _ in range(count)]
    kinds = sorted(set(SIZES) | set(subjects))
    centres = np.eye(DIM)[[kinds.index(name) for name in names]]
    vectors = centres + rng.normal(0, 0.12, (len(names), DIM))
    store.ensure_columns("clips", [
        field("caption", pa.string(), "caption", computed_by="caption"),
        field("subject", pa.string(), "for these tests"),
        field("caption_embedding", pa.list_(pa.float32(), DIM), "vector", computed_by="caption_embedding"),
        field("caption_embedding_of", pa.string(), "column"),
        field("caption_embedding_model", pa.string(), "model"),
        field("near_duplicate_group", pa.string(), "group", computed_by="near_duplicates"),
    ])  # fmt: skip
    flat = pa.array(vectors.ravel(), pa.float32())
    store.merge("clips", pa.table({
        "clip_id": ids, "caption": [f"{name} {i}" for i, name in enumerate(names)], "subject": names,
        "caption_embedding": pa.FixedSizeListArray.from_arrays(flat, DIM),
        "caption_embedding_of": ["caption"] * len(ids), "caption_embedding_model": [model] * len(ids),
        "near_duplicate_group": ids,
    }), "clip_id")  # fmt: skip
    return ids


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.open(tmp_path_factory.mktemp("density") / "store", create=True)
    captioned(store, SIZES)
    return store


def subjects_of(store: Store, name: str) -> pa.Table:
    return pa.concat_tables(store.snapshots.clips(name, ["subject"]))


def mass(store: Store, name: str) -> dict[str, float]:
    """Share of each subject by the weights of a snapshot."""
    rows = subjects_of(store, name).group_by("subject").aggregate([("weight", "sum")])
    sums = dict(zip(rows.column("subject").to_pylist(), rows.column("weight_sum").to_pylist(), strict=True))
    return {subject: weight / sum(sums.values()) for subject, weight in sums.items()}


def entropy(shares: dict[str, float]) -> float:
    p = np.array([share for share in shares.values() if share])
    return float(-(p * np.log(p)).sum())


def test_draws_per_subject_are_the_closed_form_and_their_entropy_rises(filled: Store) -> None:
    """Weights ∝ density^-alpha: a subject's share of draws is Σ w of its clips / Σ w of all."""
    filled.snapshots.create("even", ALL, weights=Balance("density", cap=10, alpha=1))
    filled.snapshots.create("plain", ALL)
    share = mass(filled, "even")
    subject = {row["clip_id"]: row["subject"] for row in subjects_of(filled, "even").to_pylist()}
    rows = snapshot_rows(filled, "even")
    data = DataConfig(sizes=("64p",), frames=(1, 17), tokens_per_batch=900, batches_per_step=8, holdout=0.0)
    plan = Schedule(rows, data, TaskConfig(t2v=1), DiTConfig(), 3, block=len(rows))
    drawn = Counter(
        subject[d.clip_id] for block in range(8) for k in plan.block_batches(block) for d in plan.batch(k).samples
    )
    total = sum(drawn.values())
    assert total == 8 * len(rows)
    chi_square = sum((drawn[s] - total * p) ** 2 / (total * p) for s, p in share.items())
    assert chi_square < 11.34, "99 % of independent draws with these shares; three degrees of freedom"
    before, by_weight = mass(filled, "plain"), {s: drawn[s] / total for s in SIZES}
    unlike = sum((drawn[s] - total * p) ** 2 / (total * p) for s, p in before.items())
    assert unlike > 100, "the shares without weights are refused by the same statistic"
    assert entropy(by_weight) > entropy(before) + 0.05


def test_density_is_measured_in_the_set_itself_and_that_is_recorded(filled: Store) -> None:
    """Cars are few in the store and most of this set: by the store's density they would weigh more than dogs."""
    query = f"{ALL} WHERE subject = 'cars' OR (subject = 'dogs' AND clip_id < 's0-020')"
    made = filled.snapshots.create("cars", query, weights=Balance("density"))
    share, plain = mass(filled, "cars"), 20 / 110
    assert share["dogs"] > plain * 1.2
    assert made.balance is not None
    assert (made.balance["within"], made.balance["column"]) == ("snapshot", "caption_embedding")
    assert (made.balance["with_value"], made.balance["fingerprint"]) == (110, "m1")
    assert "1 / density among its own clips" in describe(made.balance)
    again = filled.snapshots.create("cars-2", query + " ORDER BY clip_id DESC", weights=Balance("density"))
    assert again.content_hash == made.content_hash, "in whatever order they came"
    alone = filled.snapshots.create("few", ALL, limit=110, seed=2, weights=Balance("density"))
    assert alone.balance is not None
    assert alone.balance["with_value"] == 110, "of the clips that the limit has left"


def test_the_density_of_a_snapshot_of_all_is_the_annotator_s(
    filled: Store, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    clips = filled.read("clips", ["clip_id", "caption_embedding", "caption_embedding_model"])
    density = Density()(clips, None)[0]["density"].to_numpy()
    expect = dict(zip(clips["clip_id"].to_pylist(), bounded(1 / density.astype(float), 10), strict=True))
    filled.snapshots.create("all", ALL, weights=Balance("density"))
    rows = filled.snapshots.rows("all")
    found = dict(zip(rows["clip_id"].to_pylist(), rows["weight"].to_pylist(), strict=True))
    assert found == pytest.approx(expect, rel=1e-5)
    assert not list(tmp_path.glob("reel-set-*")), "the vectors' files are gone"


def test_alpha_tempers_and_the_effective_size_is_kish_s(filled: Store) -> None:
    sizes = []
    for alpha in (0.5, 1.0, 2.0):
        made = filled.snapshots.create(f"a{alpha}", ALL, weights=Balance("density", alpha=alpha))
        weights = filled.snapshots.rows(made.name).column("weight").to_numpy()
        found = filled.snapshots.review(made.name)
        assert found is not None
        assert found.effective_size == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
        sizes.append(found.effective_size)
    assert sizes == sorted(sizes, reverse=True)
    assert filled.snapshots.review("plain") is None, "equal weights have nothing to look at"


def test_a_broken_caption_is_seen_among_the_heaviest(tmp_path) -> None:
    store = Store.open(tmp_path / "store", create=True)
    ids = captioned(store, {"dogs": 60, "cars": 60, "zzz": 1}, seed=7)
    store.merge("clips", pa.table({"clip_id": [ids[-1]], "caption": [BROKEN]}), "clip_id")
    store.snapshots.create("x", ALL, weights=Balance("density"))
    found = store.snapshots.review("x", 3)
    assert found is not None
    assert [one.weight for one in found.heaviest] == sorted((one.weight for one in found.heaviest), reverse=True)
    assert (found.heaviest[0].clip_id, found.heaviest[0].caption) == (ids[-1], BROKEN)
    assert len(found.heaviest) == 3


def test_vectors_of_another_model_are_not_compared(tmp_path) -> None:
    store = Store.open(tmp_path / "store", create=True)
    captioned(store, {"dogs": 20, "cars": 10}, seed=1)
    others = captioned(store, {"dogs": 5}, seed=2, model="m2")
    made = store.snapshots.create("x", ALL, weights=Balance("density"))
    rows = store.snapshots.rows("x")
    weight = dict(zip(rows.column("clip_id").to_pylist(), rows.column("weight").to_pylist(), strict=True))
    assert [weight[one] for one in others] == [1.0] * 5
    assert made.balance is not None
    assert (made.balance["other_version"], made.balance["without_value"]) == (5, 5)


def test_of_near_duplicates_the_largest_stays_before_density_is_measured(tmp_path) -> None:
    store = Store.open(tmp_path / "store", create=True)
    ids = captioned(store, {"dogs": 12, "cars": 12}, seed=4)
    groups = [ids[0]] * 4 + [None] * 2 + ids[6:]
    store.merge("clips", pa.table({"clip_id": ids, "near_duplicate_group": groups}), "clip_id")
    made = store.snapshots.create("x", ALL, distinct=True, weights=Balance("density"))
    kept = store.snapshots.rows("x").column("clip_id").to_pylist()
    assert kept == ids[3:], "pictures get wider by one from clip to clip, so the last of the copies is the largest"
    assert made.distinct == {"left_out": 3, "without_group": 2}
    assert Store.open(store.uri).snapshots.show("x") == made
    assert made.balance is not None
    assert made.balance["with_value"] == len(ids) - 3
    assert store.snapshots.create("limited", ALL, distinct=True, limit=5).num_clips == 5
    with pytest.raises(StoreError, match="left out by near_duplicate_group"):
        store.snapshots.create("none", f"{ALL} WHERE near_duplicate_group IS NULL", distinct=True)
