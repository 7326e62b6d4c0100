"""Where clips go: shapes of the published classes, the nearest ratio, the longest length, sizes a clip fills."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelwright.training.data.buckets import (
    SIDE,
    Bucket,
    assign,
    buckets_of,
    main_bucket,
    nearest,
    samples,
    source_frames,
)
from reelwright.training.errors import TrainError
from reelwright.training.recipe import DataConfig


def shapes(*sizes: str, **more) -> list[tuple[int, int]]:
    return sorted({(b.width, b.height) for b in buckets_of(DataConfig(sizes=sizes, **more))})


def test_the_classes_have_their_published_shapes():
    assert {(832, 480), (480, 832)} <= set(shapes("480p"))
    assert {(1280, 720), (720, 1280)} <= set(shapes("720p"))
    assert (256, 256) in shapes("256p")
    assert shapes("320x192") == [(320, 192)]
    assert len(shapes("480p")) == 7
    assert {(h, w) for w, h in shapes("96p", "480p")} == set(shapes("96p", "480p"))


@pytest.mark.parametrize(
    ("sizes", "frames", "key"),
    [
        (("256p",), (1, 93), "93x256x256"),
        (("256p", "480p"), (1, 33, 93), "93x480x832"),
        (("720p", "480p"), (1,), "1x720x1280"),
        (("112x64",), (9,), "9x64x112"),
        (("64p", "32x32"), (1, 9, 17), "17x64x64"),
    ],
)
def test_the_main_bucket_is_the_longest_of_the_largest_class_in_its_own_shape(sizes, frames, key):
    data = DataConfig(sizes=sizes, frames=frames)
    assert main_bucket(data).key == key
    assert main_bucket(data) in buckets_of(data)


@pytest.mark.parametrize("size", ["64p", "96p", "256p", "480p", "720p"])
def test_sides_are_multiples_of_a_token_and_areas_near_the_class(size):
    found = buckets_of(DataConfig(sizes=(size,), frames=(1, 93)))
    area = np.median([b.width * b.height for b in found])
    for b in found:
        assert b.width % SIDE == 0 == b.height % SIDE
        assert 0.7 < b.width * b.height / area < 1.4
    assert Bucket(93, 480, 832).tokens() == 37440
    assert Bucket(93, 480, 832).latent == (24, 60, 104)


@pytest.mark.parametrize("size", ["480", "p", "0p", "100x64", "480P"])
def test_a_size_that_is_none_is_refused_in_a_sentence(size):
    with pytest.raises(TrainError, match="data.sizes"):
        buckets_of(DataConfig(sizes=(size,)))


def test_a_clip_goes_to_the_nearest_ratio_and_the_longest_length_it_fills():
    buckets = buckets_of(DataConfig(sizes=("256p",), frames=(1, 33, 61, 93)))
    assert nearest(1920, 1080, 300, 30, buckets, rate=15).frames == 93
    wide = nearest(1920, 1080, 122, 30, buckets, rate=15)  # 61 samples
    assert wide.frames == 61
    assert wide.width > wide.height
    assert nearest(1080, 1920, 60, 30, buckets, rate=15).frames == 1  # 30 samples
    assert nearest(500, 500, 40, 15, buckets, rate=15) == Bucket(33, 256, 256)


@given(
    width=st.integers(16, 4000), height=st.integers(16, 4000), count=st.integers(1, 2000), fps=st.sampled_from([10,
    23.976, 25, 30, 60]), size=st.sampled_from(["64p", "480p"]),
)  # fmt: skip
def test_assigning_many_says_what_nearest_says_of_one(width, height, count, fps, size):
    data = DataConfig(sizes=(size,), frames=(1, 33, 93))
    one = nearest(width, height, count, fps, buckets_of(data), rate=data.fps)
    frames = np.array([samples(count, fps, data.fps)])
    found = assign(np.array([width]), np.array([height]), frames, data)
    index = found.video[0, 0] if found.video[0, 0] >= 0 else found.image[0, 0]
    got = found.buckets[index]
    ratio = math.log(width / height)
    assert got.frames == one.frames
    assert math.isclose(
        abs(ratio - math.log(got.width / got.height)), abs(ratio - math.log(one.width / one.height)), abs_tol=1e-9
    )


def test_a_clip_is_in_every_size_it_fills_and_in_the_smallest_where_it_fills_none():
    data = DataConfig(sizes=("720p", "480p"), frames=(1, 33))
    sides = np.array([[1920, 1080], [1200, 680], [848, 480], [320, 180]])
    found = assign(sides[:, 0], sides[:, 1], np.full(4, 100), data)
    filled = [[True, True], [True, True], [True, False], [True, False]]
    assert (found.video >= 0).tolist() == (found.image >= 0).tolist() == filled
    assert found.scale[3, 0] > 2  # enlarged, and recorded


@given(
    count=st.integers(1, 1000),
    fps=st.sampled_from([8, 15, 24, 29.97, 60]),
    at=st.floats(0, 1),
    want=st.sampled_from([1, 33, 93]),
)
def test_source_frames_exist_go_forward_and_keep_the_clip_s_speed(count, fps, at, want):
    n = samples(count, fps, 15)
    if want > n:
        return
    picked = source_frames(count, fps, 15, want, at)
    assert len(picked) == want
    assert min(picked) >= 0
    assert max(picked) < count
    steps = np.diff(picked)
    assert (steps >= 0).all()
    if want > 1 and picked[-1] < count - 1:
        assert abs((picked[-1] - picked[0]) / (want - 1) - fps / 15) <= 1 / (want - 1) + 1e-9


def test_a_sample_shows_the_source_frame_at_the_middle_of_its_time():
    """Frame f is on the screen from f / fps to (f + 1) / fps; sample k stands for the time (k + 1/2) / rate."""
    assert source_frames(40, 30, 15, 5, at=0) == [1, 3, 5, 7, 9]
    assert source_frames(40, 24, 15, 5, at=0) == [0, 2, 4, 5, 7]
    assert source_frames(40, 15, 15, 5, at=0) == [0, 1, 2, 3, 4]
    assert source_frames(40, 10, 15, 5, at=0) == [0, 1, 1, 2, 3]
    assert source_frames(41, 24, 15, 1, at=0.5) == [20]


@given(count=st.integers(2, 400), fps=st.integers(5, 120), at=st.fractions(0, 1), want=st.integers(2, 93))
def test_source_frames_are_those_on_the_screen(count, fps, at, want):
    n = samples(count, fps, 15)
    if want > n:
        return
    first = math.floor(at * (n - want) + Fraction(1, 2))
    times = [(first + k + Fraction(1, 2)) / 15 for k in range(want)]
    on_screen = [min(count - 1, max(f for f in range(count + fps) if Fraction(f, fps) <= t)) for t in times]
    assert source_frames(count, fps, 15, want, at) == on_screen
