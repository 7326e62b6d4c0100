"""The nearest vectors, found in parts, are those of a sort of all."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reelwright.evaluation.neighbours import nearest, pictures_vector


@given(seed=st.integers(0, 10**6), clips=st.integers(0, 40), parts=st.integers(1, 5), count=st.integers(1, 8))
def test_parts_give_what_a_sort_of_all_gives(seed: int, clips: int, parts: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    vectors, own = rng.normal(size=(clips, 3)), rng.normal(size=3)
    ids = [f"{i:02d}" for i in range(clips)]
    cosines = vectors @ own / np.linalg.norm(vectors, axis=1) / np.linalg.norm(own)
    expect = sorted(zip(ids, cosines, strict=True), key=lambda one: (-one[1], one[0]))[:count]
    split = np.array_split(np.arange(clips), parts)
    some = [([ids[i] for i in part], vectors[part]) for part in [*split, split[0]]]  # a clip of two snapshots
    found = nearest(own, some, count)
    assert [name for name, _ in found] == [name for name, _ in expect]
    np.testing.assert_allclose([cosine for _, cosine in found], [cosine for _, cosine in expect])


def test_pictures_of_like_colours_are_near() -> None:
    colours = ((200, 20, 20), (150, 15, 15), (9, 9, 220))
    red, dark, blue = (np.full((3, 36, 64, 3), colour, np.uint8) for colour in colours)
    parts = [([name], pictures_vector(frames)[None]) for name, frames in (("dark", dark), ("blue", blue))]
    assert [name for name, _ in nearest(pictures_vector(red), parts, 2)] == ["dark", "blue"]
