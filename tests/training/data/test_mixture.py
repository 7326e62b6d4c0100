"""Bands of cost, and the sizes of micro-batches of pictures, by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelwright.training.data.mixture import RARE, mixture

PICTURES = np.array([False, True])


def test_bands_hold_buckets_that_cost_about_the_same():
    expected = np.array([[2.0], [6.0], [2.0]])
    found = mixture(expected, np.array([False]), np.array([1, 2, 4]), np.array([100, 98, 10]), step=8)
    assert found.band.tolist() == [0, 0, 1]  # 98 is within 3 % of 100
    assert (found.bands, found.sides, found.size.tolist()) == (2, (), [1, 2, 4])


def test_pictures_alone_are_no_side_task():
    expected, cost = np.array([[0.0, 8.0], [0.0, 2.0]]), np.array([50, 20])
    found = mixture(expected, PICTURES, np.array([4, 4]), cost, step=8)
    assert found.is_side.tolist() == [False, False]
    assert found.band.tolist() == [0, 1]


@pytest.mark.parametrize(("step", "wanted"), [(8, 15.75), (64, 15.75), (128, 31.75)])
def test_pictures_have_their_share_of_64_micro_batches_or_of_a_longer_step(step, wanted):
    """One micro-batch of pictures beside 63 clips (127 of a step of 128), which are owed a quarter of as many."""
    expected = np.array([[0.0, 250.0], [1000.0, 0.0]])
    found = mixture(expected, PICTURES, np.array([128, 1]), np.array([50, 50]), step)
    assert found.is_side.tolist() == [False, True]
    low, high = found.sides
    assert low < wanted < high
    assert high - low == 2, "a few per cent of room for what blocks have more or fewer"


def test_pictures_never_cost_more_than_the_clips_beside_them():
    """Two bands: beside the cheap one 12 pictures of cost 5 cost as much as its clips, and 40 would fit the memory."""
    expected = np.array([[0.0, 400.0], [500.0, 0.0], [500.0, 0.0]])
    found = mixture(expected, PICTURES, np.array([40, 1, 2]), np.array([200, 150, 60]), step=64)
    assert found.most.tolist() == [30, 12]
    assert found.sides[0] <= 12
    # per picture 5: band 0 has (64 - n) · 0.4 / n pictures per micro-batch, n = 1: 25.2, n = 2: 12.4, n = 3: 8.1;
    # band 1, of twice the clips, n = 4: 12.0, n = 5: 9.44, n = 6: 7.7
    assert any(found.sides[0] <= s <= found.sides[1] for s in (12.4, 8.13, 6.0))


@given(
    clips=st.tuples(*[st.floats(20, 500)] * 3), pictures=st.floats(20, 1000), step=st.sampled_from([16, 64, 128]),
    capacity=st.tuples(*[st.integers(1, 12)] * 3),
)  # fmt: skip
def test_a_whole_number_of_micro_batches_of_the_two_sizes_gives_each_bands_share(clips, pictures, step, capacity):
    """Buckets 1 and 2 are one band: a micro-batch of it has as many clips as its micro-batches have in the mean."""
    expected = np.array([[0.0, pictures], *([of, 0.0] for of in clips)])
    found = mixture(expected, PICTURES, np.array([10_000, *capacity]), np.array([1, 100, 99, 50]), step)
    assert found.band.tolist() == [-1, 0, 0, 1]
    window, beside = max(step, 64), pictures / sum(clips)
    per_batch = [sum(clips[:2]) / (clips[0] / capacity[0] + clips[1] / capacity[1]), capacity[2]]
    shares = [sum(clips[:2]) / sum(clips), clips[2] / sum(clips)]
    low, high = found.sides
    for mean, share in zip(per_batch, shares, strict=True):
        sizes = [beside * (window - n) * mean / n for n in range(1, window)]
        assert share < RARE or any(low - 1 <= size <= high for size in sizes)


def test_a_band_that_is_rare_has_no_say_in_the_sizes():
    """One micro-batch of 63 · 1 / 2 pictures goes beside single clips; clips by sevens want 220, 108, 71 or 52.5."""
    capacity, cost = np.array([500, 1, 7]), np.array([10, 100, 50])
    rare, common = (
        mixture(np.array([[0.0, (1000 + n) / 2], [1000.0, 0.0], [n, 0.0]]), PICTURES, capacity, cost, 64)
        for n in (10.0, 500.0)
    )
    assert rare.sides == (30, 33)
    assert common.sides == (30, 54)


def test_pictures_that_are_never_drawn_bound_nothing():
    expected = np.array([[0.0, 250.0], [0.0, 0.0], [1000.0, 0.0]])
    found = mixture(expected, PICTURES, np.array([128, 1, 1]), np.array([50, 50, 50]), 64)
    assert found.most.tolist() == [128]
    assert found.sides == (15, 17)


def test_steps_follow_from_shares_of_the_draws_not_from_their_number():
    """Scaled by a power of two, which rounds nothing: a snapshot of a few clips is mixed as a large one."""
    expected = np.array([[0.0, 400.0], [500.0, 0.0], [500.0, 0.0]])
    of = (PICTURES, np.array([40, 1, 2]), np.array([200, 150, 60]), 64)
    few, many = mixture(expected / 1024, *of), mixture(expected, *of)
    assert few.band.tolist() == many.band.tolist()
    assert few.most.tolist() == many.most.tolist()
    assert few.sides == many.sides


def test_where_no_number_of_micro_batches_has_room_they_are_full():
    """Ten pictures per clip in micro-batches of two, beside one clip: 63 of 64 places would hold 126 of 10."""
    expected = np.array([[0.0, 10_000.0], [100.0, 0.0]])
    found = mixture(expected, PICTURES, np.array([2, 40]), np.array([50, 50]), 64)
    assert found.sides == (1, 2)
