"""Validation: fixed noise, bands of t, the same figures on any number of data ranks."""

import threading
from dataclasses import replace

import pytest
import torch

from reelwright.training.distributed.world import World
from reelwright.training.objectives.flow import FlowConfig, flow_loss
from reelwright.training.recipe import ValidationConfig
from reelwright.training.validation import timesteps, validate
from tests.training.batches import make_batch

BATCHES = [
    make_batch(3, seed=1),
    make_batch(1, task="i2v", cond_frames=1, seed=2),
    make_batch(2, task="t2i", frames=1, seed=3),
]


def loss_of(batch, t):
    return flow_loss(lambda x, t, *a, **k: -x, batch, FlowConfig(), t=t)


def test_bands_and_tasks_average_to_the_whole_and_repeat():
    config = ValidationConfig(bands=2)
    found = validate(loss_of, BATCHES, config, World.alone("cpu"))
    names = {"val/loss", *(f"val/{t}{b}" for t in ("t2i", "t2v", "i2v") for b in ("", "/0.00-0.50", "/0.50-1.00"))}
    assert set(found) == names
    sizes = {"t2v": 3, "i2v": 1, "t2i": 2}
    assert found["val/loss"] == pytest.approx(sum(found[f"val/{t}"] * n for t, n in sizes.items()) / 6)
    assert found["val/t2v"] == pytest.approx((found["val/t2v/0.00-0.50"] + found["val/t2v/0.50-1.00"]) / 2)
    assert found == validate(loss_of, BATCHES, config, World.alone("cpu"))


def test_the_next_batch_is_read_while_one_is_computed():
    """By another thread, one batch ahead."""
    read = [threading.Event() for _ in BATCHES]

    class Read(list):
        def __getitem__(self, i):
            assert threading.current_thread() is not threading.main_thread()
            read[i].set()
            return super().__getitem__(i)

    def loss_meanwhile(batch, t):
        at = next(i for i, one in enumerate(BATCHES) if one is batch)
        assert read[min(at + 1, 2)].wait(60)
        assert at or not read[2].is_set(), "no further ahead"
        return loss_of(batch, t)

    config = ValidationConfig(bands=2)
    found = validate(loss_meanwhile, Read(BATCHES), config, World.alone("cpu"))
    assert found == validate(loss_of, BATCHES, config, World.alone("cpu"))


def test_the_loss_is_the_mean_of_the_samples_errors():
    (batch,) = BATCHES[:1]
    found = validate(loss_of, [batch], ValidationConfig(bands=2), World.alone("cpu"))
    bands = [loss_of(batch, timesteps(batch.seeds, band, 2)).per_sample.mean().item() for band in range(2)]
    assert found["val/t2v/0.00-0.50"] == pytest.approx(bands[0])
    assert found["val/t2v/0.50-1.00"] == pytest.approx(bands[1])
    assert found["val/loss"] == pytest.approx(sum(bands) / 2)
    assert found["val/loss"] > 0
    assert validate(loss_of, [], ValidationConfig(), World.alone("cpu")) == {}


def test_ranks_that_share_a_sample_count_it_once():
    """Each of two has half of every sample's error."""

    class Both(World):
        def sum(self, values):
            return [2 * value for value in values]

    def halved(batch, t):
        whole = loss_of(batch, t)
        return replace(whole, per_sample=whole.per_sample / 2)

    config = ValidationConfig(bands=2)
    shared = validate(halved, BATCHES, config, Both(size=2, context_size=2))
    assert shared == pytest.approx(validate(loss_of, BATCHES, config, World.alone("cpu")))


def test_timesteps_lie_in_their_band():
    for band in range(4):
        t = timesteps(range(100), band, 4)
        assert (t >= band / 4).all()
        assert (t < (band + 1) / 4).all()
        assert t.std() > 0.05


def test_data_ranks_share_the_batches_and_count_each_once():
    sums = []

    class Share(World):
        def sum(self, values):
            sums.append(torch.tensor(values, dtype=torch.float64))
            return list(values)

    config = ValidationConfig(bands=2)
    for rank in range(2):
        validate(loss_of, BATCHES, config, Share(rank=rank, size=2, data_rank=rank, data_size=2))

    class Total(World):
        def sum(self, values):
            return (sums[0] + sums[1]).tolist()

    total = validate(loss_of, BATCHES, config, Total())
    assert total == pytest.approx(validate(loss_of, BATCHES, config, World.alone("cpu")))


def test_without_held_out_clips_there_is_nothing():
    assert validate(loss_of, [], ValidationConfig(), World.alone("cpu")) == {}
