"""Frames that go through a video codec and come back: as many, the same each time, worse at a lower rate."""

import numpy as np
import pytest

from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.recompress import recompress


def picture(t: int) -> np.ndarray:
    y, x = np.mgrid[:48, :64]
    wave = 128 + 100 * np.sin((x + 2 * t) / 3) * np.cos(y / 4)
    return np.repeat(wave[..., None], 3, -1).astype(np.uint8)  # grey: chroma has half the resolution at any rate


FRAMES = np.stack([picture(t) for t in range(9)])


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_frames_come_back_in_order_and_alike_each_time(codec):
    found = recompress(FRAMES, codec=codec, bits_per_pixel=2, fps=15)
    assert found.shape == FRAMES.shape
    assert np.array_equal(found, recompress(FRAMES, codec=codec, bits_per_pixel=2, fps=15))
    errors = [[np.abs(a.astype(int) - b).mean() for b in FRAMES] for a in found]
    assert np.argmin(errors, 1).tolist() == list(range(9))
    worse = recompress(FRAMES, codec=codec, bits_per_pixel=0.02, fps=15)
    assert np.abs(worse.astype(int) - FRAMES).mean() > 1.5 * np.abs(found.astype(int) - FRAMES).mean()


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_noise_at_a_low_rate_comes_back_alike_a_hundred_times(codec):
    rough = np.random.default_rng(0).integers(0, 256, (9, 8, 12, 3), np.uint8)
    frames = rough.repeat(4, 1).repeat(4, 2)
    first = recompress(frames, codec=codec, bits_per_pixel=0.2, fps=8)
    assert all(np.array_equal(first, recompress(frames, codec=codec, bits_per_pixel=0.2, fps=8)) for _ in range(100))


def test_odd_sides_are_refused_in_a_sentence():
    with pytest.raises(MediaError, match="do not go through libx264"):
        recompress(FRAMES[:, :47, :63], codec="libx264", bits_per_pixel=1, fps=15)
