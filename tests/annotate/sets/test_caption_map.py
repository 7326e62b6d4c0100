"""The map of captions: near captions lie near, clips stay where they were, and others find their place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from reelwright.annotate.sets.caption_map import CaptionMap
from reelwright.annotate.sets.clustering.layout import project
from tests.annotate.sets.embedded_clips import blobs, clips_of

SMALL = CaptionMap(sample=60, perplexity=10)


def mapped(clips: pa.Table, state: Any = None, by: CaptionMap = SMALL) -> tuple[np.ndarray, Any]:
    found, state = by(clips, state)
    return np.stack([np.array(found[name].to_pylist(), float) for name in ("map_x", "map_y")], 1), state


def purity(points: np.ndarray, which: np.ndarray) -> float:
    """Share of points whose nearest other point is of their own blob."""
    apart = np.square(points[:, None] - points[None]).sum(2)
    np.fill_diagonal(apart, np.inf)
    return float((which[apart.argmin(1)] == which).mean())


def named(count: int, first: int = 0) -> list[str]:
    return [f"{i:06d}" for i in range(first, first + count)]


def test_captions_that_say_alike_lie_near_also_those_beyond_the_sample():
    vectors, which = blobs([50, 40, 30])
    points, state = mapped(clips_of(vectors))
    assert len(state["layout"]["ids"]) == SMALL.sample < len(vectors)
    assert purity(points, which) > 0.97
    assert purity(project(blobs([20] * 6)[0])[0], blobs([20] * 6)[1]) < 0.9, "two principal components do not do"
    vectors, which = blobs([20] * 6)
    assert purity(mapped(clips_of(vectors), by=CaptionMap(perplexity=10))[0], which) > 0.97


def test_the_same_clips_have_the_same_map_in_whatever_order_they_come():
    vectors, _ = blobs([40, 30])
    clips = clips_of(vectors)
    points, _ = mapped(clips)
    shuffled = np.random.default_rng(0).permutation(len(vectors))
    assert mapped(clips)[0].tolist() == points.tolist()
    other = mapped(clips.take(pa.array(shuffled)))[0]
    np.testing.assert_allclose(other, points[shuffled], rtol=1e-5)  # sums in another order
    assert mapped(clips, by=CaptionMap(sample=60, perplexity=10, seed=1))[0].tolist() != points.tolist()


def test_few_new_clips_move_no_other_and_land_among_their_like():
    vectors, which = blobs([40, 40])
    before, state = mapped(clips_of(vectors))
    more, of = blobs([6, 6], seed=5)
    points, after = mapped(clips_of(np.vstack([vectors, more])), state)
    np.testing.assert_allclose(points[: len(vectors)], before, rtol=1e-4)  # sums in another order
    assert purity(points, np.concatenate([which, of])) > 0.97
    assert after["layout"] == state["layout"]


def test_many_new_clips_make_a_new_layout_which_begins_where_the_old_one_lay():
    vectors, which = blobs([40, 40, 40])
    before, state = mapped(clips_of(vectors))
    more, of = blobs([20, 20, 20], seed=5)
    points, after = mapped(clips_of(np.vstack([vectors, more])), state)
    assert after["layout"]["clips"] == 180
    assert after["layout"]["points"] != state["layout"]["points"]
    assert purity(points, np.concatenate([which, of])) > 0.97
    middles = [np.array([some[: len(which)][which == i].mean(0) for i in range(3)]) for some in (before, points)]
    flat = [(m - m.mean(0)).ravel() / np.linalg.norm(m - m.mean(0)) for m in middles]
    assert flat[0] @ flat[1] > 0.8, "each blob lies on the side where it lay"


def test_a_clip_whose_caption_changed_moves_to_its_new_like():
    vectors, which = blobs([40, 40])
    before, state = mapped(clips_of(vectors))
    one = int(np.flatnonzero(which == 0)[0])
    vectors[one] = vectors[which == 1][0]
    points, _ = mapped(clips_of(vectors), state)
    others = np.arange(len(which)) != one
    apart = np.square(points[others] - points[one]).sum(1)
    assert which[others][apart.argmin()] == 1
    assert np.linalg.norm(points[others] - before[others], axis=1).max() < np.ptp(before), "the others are about there"


def test_a_sample_that_is_gone_is_drawn_again():
    vectors, _ = blobs([40, 40])
    _, state = mapped(clips_of(vectors))
    points, after = mapped(clips_of(vectors, ids=named(80, first=500)), state)
    assert set(after["layout"]["ids"]) <= set(named(80, first=500))
    assert np.isfinite(points).all()


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 12])
def test_few_clips(count):
    points, _ = mapped(clips_of(blobs([count])[0]))
    assert points.shape == (count, 2)
    assert np.isfinite(points).all()


def test_identical_captions_have_one_place():
    points, _ = mapped(clips_of(np.repeat(blobs([1])[0], 70, axis=0)))
    assert np.isfinite(points).all()
    assert np.ptp(points, axis=0).tolist() == [0, 0]


def test_clips_without_a_vector_or_of_another_model_have_no_place_and_a_new_model_makes_a_new_map():
    vectors = [*blobs([30])[0], None]
    clips = clips_of(vectors, model=["m"] * 28 + ["old"] * 2 + ["m"])
    points, state = mapped(clips)
    assert np.isnan(points).any(1).tolist() == [False] * 28 + [True] * 3
    other = clips_of(blobs([30], seed=3)[0], model="newer")
    _, after = mapped(other, state)
    assert (after["model"], after["layout"]["clips"]) == ("newer", 30)


def test_mistakes_are_sentences():
    with pytest.raises(ValueError, match="caption_map: sample = 4; it must be at least 8"):
        CaptionMap(sample=4)
