"""What a run's samples follow from, pinned: a run that goes on under newer code has to draw what it would have drawn.

A change of these values is a change of every run's samples: raise `schedule.VERSION` with it, and write the new ones.
"""

import hashlib
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelwright.model.config import DiTConfig
from reelwright.training.data.draws import key_of, mix, permuted, rows_of, uniform
from reelwright.training.data.schedule import VERSION, Schedule
from reelwright.training.recipe import DataConfig, TaskConfig

GAMMA = 0x9E3779B97F4A7C15
PERMUTED = [3, 0, 2, 5, 7, 9, 1, 8, 4, 6]
ROWS = [1, 2, 0, 1, 1, 3, 3, 0, 1, 3, 1, 1]
SAMPLES = {"steps": "883da6a0e86a1de2", "late": "82450db906ac2637", "validation": "4f0a5d0397a36b74"}


def test_mixing_is_splitmix64():
    """The first outputs of the published generator for the state 0."""
    states = np.array([0, GAMMA, 2 * GAMMA % 2**64], np.uint64)
    assert mix(states).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


@given(counter=st.integers(0, 2**63), key=st.integers(0, 2**64 - 1))
def test_a_uniform_number_has_the_53_high_bits_of_its_mixed_counter(counter, key):
    mixed = int(mix(np.array([int(mix(np.array([counter], np.uint64))[0]) ^ key], np.uint64))[0])
    assert uniform(np.array([counter], np.uint64), np.uint64(key))[0] == (mixed >> 11) / 2**53


def test_keys_depend_on_each_word_and_their_order():
    keys = {int(key_of(*words)) for words in ((0,), (1,), (0, 1), (1, 0), (0, 0), (-1, 0), (2**64 - 1,))}
    assert len(keys) == 7
    assert key_of(-1) == key_of(2**64 - 1)


def test_orders_of_version_3():
    assert VERSION == 3
    assert permuted(np.arange(10), 10, np.uint64(1)).tolist() == PERMUTED
    assert rows_of(np.arange(4, 16), np.array([0.5, 3, 3.25, 5]), 5, seed=7).tolist() == ROWS


def schedule(**data) -> Schedule:
    """Forty clips of several shapes and lengths, by integers alone."""
    numbers = np.arange(40)
    rows = pa.table({
        "clip_id": [f"{n * 7919 % 1009:04d}" for n in numbers], "weight": 1.0 + numbers % 5 / 4,
        "width": np.array([160, 320, 640])[numbers % 3], "height": np.array([96, 192, 320])[numbers // 3 % 3],
        "fps": np.array([15.0, 24.0, 30.0])[numbers // 9 % 3], "num_frames": 1 + numbers * 37 % 190,
        "source_md5": [f"s{n // 2}" for n in numbers],
        "captions": pa.array([["a", "b", "c"][: 1 + n % 3] for n in numbers]),
    })  # fmt: skip
    options = {
        "sizes": ("64p", "128p"), "frames": (1, 17, 33), "tokens_per_batch": 900, "batches_per_step": 4,
        "holdout": 0.1, "size_weights": (1, 2),
    }  # fmt: skip
    tasks = TaskConfig(t2i=1, t2v=2, i2v=1, continuation=1, condition_frames=(5, 13))
    return Schedule(rows, DataConfig(**(options | data)), tasks, DiTConfig(), 3, block=64)


def told(micros) -> str:
    """Digest of micro-batches."""
    facts = [[m.bucket.key, m.task, m.cond_frames, [[d.clip_id, d.index, d.seed] for d in m.samples]] for m in micros]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", ["steps", "late", "validation"])
def test_samples_of_version_3(name):
    plan = schedule()
    of = {
        "steps": lambda: [m for i in range(8) for m in plan.step(i)],
        "late": lambda: plan.step(100),
        "validation": lambda: plan.validation(16),
    }
    assert told(of[name]()) == SAMPLES[name]


def test_a_bucket_of_clips_has_a_shape_per_number_of_clean_frames_and_no_more():
    plan = schedule()
    found: dict[str, list[int]] = {}
    for shape in plan.shapes():
        if shape.bucket.frames > 1:
            found.setdefault(shape.bucket.key, []).append(shape.cond_frames)
    assert len(found) == sum(b.frames > 1 and any(plan.plan.facts.expected[i]) for i, b in enumerate(plan.plan.buckets))
    for key, conditions in found.items():
        lengths = [2, 4] if key.startswith("33x") else [2, 4][: 1 + (int(key.partition("x")[0]) > 13)]
        assert sorted(conditions) == [0, 1, *lengths], key
