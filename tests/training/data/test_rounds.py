"""The order of steps, and what is in each, against what follows from the draws."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from reelwright.training.data.beside import Pictures, Ways, pieces
from reelwright.training.data.mixture import mixture
from reelwright.training.data.rounds import arrange


def test_the_steps_of_each_band_are_spread_evenly_over_a_block():
    mixed = mixture(np.array([[60.0], [20.0]]), np.array([False]), np.array([1, 1]), np.array([100, 10]), step=2)
    groups = np.repeat([0, 3], [60, 20])  # bucket 0 in band 0, bucket 1 in band 1
    for key in range(20):
        found = arrange(groups, mixed, step=2, offset=0, key=np.uint64(key))
        steps = found.groups.reshape(-1, 2)
        assert (steps[:, 0] == steps[:, 1]).all()
        cheap_so_far = np.cumsum(steps[:, 0] == 3)
        assert np.abs(cheap_so_far - np.arange(1, 41) / 4).max() <= 2


CAPACITY = np.array([64, 64, 2, 2, 5])  # two buckets of pictures, three of clips: two bands
COST = np.array([60, 60, 100, 98, 70])
STILL = np.array([True, False, False])  # tasks: pictures, and two of clips


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32), pictures=st.floats(0.02, 0.95), cheap=st.floats(0.05, 0.9),
    step=st.sampled_from([64, 96, 128]), offset=st.integers(0, 500), capacity=st.sampled_from([8, 64]),
)  # fmt: skip
def test_every_step_has_each_task_in_its_share_where_bands_and_blocks_end_too(
    seed, pictures, cheap, step, offset, capacity
):
    """Two blocks, and the step that the first begins and the second completes."""
    rng = np.random.default_rng(seed)
    clips = np.array([(1 - cheap) / 2, (1 - cheap) / 2, cheap]) * (1 - pictures)
    expected = np.zeros((5, 3))
    expected[:2, 0] = [0.9 * pictures, 0.1 * pictures]
    expected[2:, 1:] = clips[:, None] * [0.6, 0.4]
    mixed = mixture(expected * 1000, STILL, np.array([capacity, capacity, 2, 2, 5]), COST, step)
    sizes, head = [], -offset % step
    for block in range(2):
        drawn = rng.permutation(np.repeat(np.arange(15), np.rint(12_000 * expected.ravel()).astype(int)))
        key = np.uint64(seed + block)
        found = arrange(mixed.groups(*np.divmod(drawn, 3)), mixed, step=step, offset=offset, key=key)
        assert sorted(found.draws.tolist()) == list(range(len(drawn))), "every draw once"
        assert (found.stops - found.starts <= mixed.size[mixed.split(found.groups)[1]]).all()
        sizes.append(np.eye(3)[mixed.split(found.groups)[2]] * (found.stops - found.starts)[:, None])
        offset += len(found)
    whole = np.concatenate(sizes)
    shares = np.array([whole[a : a + step].sum(0) for a in range(head, len(whole) - step + 1, step)])
    shares /= shares.sum(1, keepdims=True)
    assert abs(shares - expected.sum(0)).max() < 0.07


def test_a_step_begun_by_one_block_is_completed_by_the_next_with_its_cheapest_clips_and_their_pictures():
    expected = np.zeros((5, 3))
    expected[0, 0], expected[2, 1], expected[4, 1] = 0.2, 0.4, 0.4
    drawn = np.random.default_rng(0).choice(15, 12_000, p=expected.ravel())
    mixed = mixture(expected * 1000, STILL, CAPACITY, COST, 64)
    groups = mixed.groups(*np.divmod(drawn, 3))
    found = arrange(groups, mixed, step=64, offset=44, key=np.uint64(1))
    bands, sizes = mixed.split(found.groups)[0][:20], (found.stops - found.starts)[:20]
    assert set(bands.tolist()) == {1, mixed.bands}, "the cheap band, and pictures"
    beside = np.mean(drawn == 0) / np.mean(drawn != 0)
    assert abs(sizes[bands == mixed.bands].sum() - beside * sizes[bands == 1].sum()) <= 0.5


@given(st.integers(0, 500), st.integers(1, 60), st.integers(0, 70))
def test_pieces_are_few_and_as_equal_as_can_be(total, most, least):
    found = pieces(total, most, least)
    assert sum(found) == total
    assert len(found) == max(-(-total // most), min(least, total))
    assert all(1 <= size <= most for size in found)
    assert max(found, default=0) - min(found, default=0) <= 1


def test_ways_are_every_number_of_micro_batches_of_two_sizes_up_to_a_step():
    ways = Ways((3, 5), 2)
    found = [(ways.sizes(i), int(ways.places[i]), int(ways.pictures[i])) for i in range(len(ways.places))]
    assert found == [([], 0, 0), ([3], 1, 3), ([5], 1, 5), ([3, 3], 2, 6), ([5, 3], 2, 8), ([5, 5], 2, 10)]
    alone = Ways((), 4)
    assert (alone.places.tolist(), alone.pictures.tolist(), alone.sizes(0)) == ([0], [0], [])


def test_pictures_are_taken_from_kinds_evenly_and_from_several_where_none_has_enough():
    taken = Pictures(np.array([7, 9]), np.array([0, 6]), np.array([6, 9]), np.zeros(2))
    assert taken.take([2, 2]).tolist() == [[7, 0, 2], [9, 6, 8]], "of the other all were left"
    assert taken.take([3]).tolist() == [[7, 2, 5]]
    assert (taken.take([4]).tolist(), taken.left) == ([[7, 5, 6], [9, 8, 9]], 0)
