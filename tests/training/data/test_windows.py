"""Windows of a clip: as many as it has room for, apart, and each drawn as often as the others."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelwright.model.config import DiTConfig
from reelwright.training.data.buckets import Bucket, source_frames
from reelwright.training.data.schedule import Draw, Schedule
from reelwright.training.data.windows import Window, count_windows, drawn_windows, wanted_windows, window
from reelwright.training.recipe import DataConfig, TaskConfig

BUCKET = Bucket(9, 64, 64)


@given(
    length=st.integers(1, 400), most=st.integers(1, 6), stride=st.floats(0.05, 4), frames=st.sampled_from([1, 9, 93])
)
def test_windows_lie_in_the_clip_and_apart(length, most, stride, frames):
    data, bucket = DataConfig(windows=most, window_stride_s=stride), Bucket(frames, 64, 64)
    (count,) = count_windows(np.array([length]), bucket, data).tolist()
    apart = max(1, round(stride * data.fps))
    assert 1 <= count <= most
    assert count in (most, max(1, (length - frames) // apart))
    shown = [source_frames(length, 15, 15, frames, float(window(bucket, i, count).place)) for i in range(count)]
    firsts = [numbers[0] for numbers in shown]
    assert all(0 <= number < length for numbers in shown for number in numbers)
    assert all(b - a >= apart - 1 for a, b in zip(firsts, firsts[1:], strict=False))  # to half a frame at either end


def test_the_middle_has_the_bucket_s_name_however_many_there_are():
    assert [window(BUCKET, i, 3).key for i in range(3)] == ["9x64x64@1/6", "9x64x64", "9x64x64@5/6"]
    assert window(BUCKET, 0, 1) == Window(BUCKET)


def schedule(lengths: list[int], **data) -> Schedule:
    ids = [f"c{i:02}" for i in range(len(lengths))]
    rows = pa.table({
        "clip_id": ids, "weight": [1.0] * len(ids), "width": [96] * len(ids), "height": [96] * len(ids),
        "fps": [15.0] * len(ids), "num_frames": lengths, "source_md5": ids,
    })  # fmt: skip
    options = {"sizes": ("64p",), "frames": (9,), "holdout": 0, "windows": 3, "window_stride_s": 0.5} | data
    return Schedule(rows, DataConfig(**options), TaskConfig(t2i=0), DiTConfig(hidden_size=64, num_heads=2))


def test_what_is_wanted_is_what_may_be_drawn():
    plan = schedule([9, 16, 24, 26, 40, 400])
    wanted = {(one, int(row)) for one, rows in wanted_windows(plan) for row in rows}
    draws = [Draw("", 0, seed, seed % 6) for seed in range(600)]
    drawn = set(zip(drawn_windows(plan, BUCKET, draws), (d.row for d in draws), strict=True))
    assert drawn == wanted
    assert Counter(row for _, row in wanted) == {0: 1, 1: 1, 2: 1, 3: 2, 4: 3, 5: 3}


@pytest.mark.parametrize("windows", [2, 3])
def test_every_window_is_drawn_as_often_as_the_others(windows):
    plan = schedule([400], windows=windows)
    counts = Counter(drawn_windows(plan, BUCKET, [Draw("", 0, seed * 7919, 0) for seed in range(3000)]))
    assert len(counts) == windows
    assert max(counts.values()) < 1.15 * min(counts.values())


def test_one_window_is_the_middle():
    plan = schedule([9, 400], windows=1)
    assert [(w.key, rows.tolist()) for w, rows in wanted_windows(plan)] == [("9x64x64", [0, 1])]
    assert drawn_windows(plan, BUCKET, [Draw("", 0, 5, 1)]) == [Window(BUCKET)]
