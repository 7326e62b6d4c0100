"""Shares of bands, sizes of micro-batches of pictures, and the order of steps, against what follows from the draws."""

import numpy as np

from reelwright.training.data.rounds import arrange, mixture


def test_bands_hold_what_is_expected_of_their_buckets():
    expected = np.array([[2.0], [6.0], [2.0]])
    found = mixture(expected, np.array([False]), np.array([1, 2, 4]), np.array([100, 98, 10]), step=8)
    assert found.band.tolist() == [0, 0, 1]  # 98 is within 3 % of 100
    assert found.shares.tolist() == [0.8, 1.0]


def test_pictures_have_their_share_of_64_micro_batches():
    expected = np.array([[0.0, 250.0], [1000.0, 0.0]])  # columns: a task of clips, one of pictures
    is_still, capacity, cost = np.array([False, True]), np.array([128, 1]), np.array([50, 50])
    found = mixture(expected, is_still, capacity, cost, step=8)
    assert found.is_side.tolist() == [False, True]
    assert found.size[0].tolist() == [15, 1]  # 63 clips · 250 / 1000 = 15.75, rounded down
    longer = mixture(expected, is_still, capacity, cost, step=128)
    assert longer.size[0].tolist() == [31, 1]  # of a longer step's: 127 clips


def test_the_steps_of_each_band_are_spread_evenly_over_a_block():
    capacity, cost = np.array([1, 1]), np.array([100, 10])
    mixed = mixture(np.array([[60.0], [20.0]]), np.array([False]), capacity, cost, step=2)
    groups = np.repeat([0, 3], [60, 20])  # bucket 0 in band 0, bucket 1 in band 1
    for key in range(20):
        found = arrange(groups, mixed, lambda group, _: int(cost[group % 2]), step=2, offset=0, key=np.uint64(key))
        steps = found.groups.reshape(-1, 2)
        assert (steps[:, 0] == steps[:, 1]).all()
        cheap_so_far = np.cumsum(steps[:, 0] == 3)
        assert np.abs(cheap_so_far - np.arange(1, 41) / 4).max() <= 2
