"""A clock tells when frames are shown, however their timestamps arrive."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reelwright.curation.shots.clock import TICK_S, Clock


def times(stamps_s: list[float | None], fps: float, parts: int = 1) -> np.ndarray:
    clock = Clock(fps)
    for part in np.array_split(np.arange(len(stamps_s)), parts):
        clock.push([stamps_s[i] for i in part])
    return clock.times_s(np.arange(len(stamps_s) + 1))


@given(fps=st.floats(5, 120), start=st.floats(-5, 1e5), parts=st.integers(1, 5))
def test_a_steady_rate_in_milliseconds_is_a_steady_rate(fps, start, parts):
    stamps = [round(start + i / fps, 3) for i in range(300)]
    np.testing.assert_allclose(times(stamps, fps, parts), np.arange(301) / fps, atol=1e-9)


@given(steps=st.lists(st.floats(0.001, 100), min_size=1, max_size=80), fps=st.floats(1, 240), parts=st.integers(1, 5))
def test_times_rise_and_lie_by_the_timestamps(steps, fps, parts):
    stamps = np.cumsum(steps).tolist()
    found = times(stamps, fps, parts)
    assert (np.diff(found) > 0).all()
    assert np.abs(found[:-1] - (np.array(stamps) - stamps[0])).max() <= max(0.1 / fps, TICK_S) + 1e-4 * len(steps)


def test_frames_are_counted_from_a_timestamp_that_says_nothing():
    for nothing in (None, 0.5):
        found = times([0.0, 0.5, nothing, 9.0, 9.5], 10.0)
        np.testing.assert_allclose(found, [0.0, 0.5, 0.6, 0.7, 0.8, 0.9])
