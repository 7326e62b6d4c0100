from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from reelwright.curation.borders import BorderConfig, Crop, find_crop, profile

W, H, T = 320, 240, 6
FULL = Crop(0, 0, W, H)


def texture(rng: np.random.Generator, width: int, height: int, frames: int = T) -> np.ndarray:
    """float32 [T, height, width]: a bright textured picture under a moving camera."""
    coarse = cv2.resize(rng.uniform(50, 230, (24, 32)).astype(np.float32), (width + 4 * frames, height + 4 * frames))
    coarse += rng.normal(0, 8, coarse.shape).astype(np.float32)
    return np.stack([coarse[3 * t : 3 * t + height, 4 * t : 4 * t + width] for t in range(frames)])


def crop_of(video: np.ndarray, config: BorderConfig | None = None) -> Crop:
    """video: any dtype [T, H, W], 0..255."""
    frames = np.clip(video, 0, 255).astype(np.uint8)
    return find_crop([profile(f) for f in frames], frames.shape[2], frames.shape[1], config)


def boxed(rng: np.random.Generator, x0: int, y0: int, x1: int, y1: int, luma: float = 0, noise: float = 0):
    """float32 [T, H, W]: a picture in [x0, x1) x [y0, y1), bars of `luma` around it, noise over all."""
    video = np.full((T, H, W), luma, np.float32)
    video[:, y0:y1, x0:x1] = texture(rng, x1 - x0, y1 - y0)
    return video + rng.normal(0, noise, video.shape).astype(np.float32) if noise else video


def assert_near(found: Crop, x0: int, y0: int, x1: int, y1: int, px: int = 2) -> None:
    got = (found.x, found.y, found.x + found.w, found.y + found.h)
    assert all(abs(a - b) <= px for a, b in zip(got, (x0, y0, x1, y1), strict=True)), (got, (x0, y0, x1, y1))
    assert not any(v % 2 for v in (found.x, found.y, found.w, found.h))


bars = st.one_of(st.just(0), st.integers(3, 60))


@settings(max_examples=60, deadline=None)
@given(
    left=bars,
    right=bars,
    top=bars,
    bottom=bars,
    luma=st.integers(0, 38),
    noise=st.sampled_from([0, 0.5, 2, 4]),
    seed=st.integers(0, 9999),
)
def test_window_is_found_within_two_pixels(left, right, top, bottom, luma, noise, seed):
    box = (left, top, W - right, H - bottom)
    assert_near(crop_of(boxed(np.random.default_rng(seed), *box, luma, noise)), *box)


@settings(max_examples=25, deadline=None)
@given(top=st.integers(30, 60), bottom=st.integers(30, 60), stays=st.booleans(), seed=st.integers(0, 999))
def test_text_in_the_bar_leaves_it_a_bar(top, bottom, stays, seed):
    video = boxed(np.random.default_rng(seed), 0, top, W, H - bottom).clip(0, 255).astype(np.uint8)
    for t, frame in enumerate(video):
        if stays or t % 2:
            words = "He never came back" if stays else f"line {t} of it"
            cv2.putText(frame, words, (30, H - bottom // 3), 0, 0.6, 240, 1)
        cv2.putText(frame, "TV1", (W - 50, top - 10), 0, 0.5, 220, 2)
    assert_near(crop_of(video), 0, top, W, H - bottom)


@settings(max_examples=25, deadline=None)
@given(x=st.integers(0, 3), y=st.integers(30, 33), w=st.integers(250, 253), h=st.integers(150, 153))
def test_result_is_even_and_holds_no_border_pixel(x, y, w, h):
    found = crop_of(boxed(np.random.default_rng(x + y), x + 20, y, x + 20 + w, y + h))
    assert not any(v % 2 for v in (found.x, found.y, found.w, found.h))
    assert found.x >= x + 20
    assert found.y >= y
    assert found.x + found.w <= x + 20 + w
    assert found.y + found.h <= y + h


def test_bright_line_at_the_rim_and_soft_edges():
    video = boxed(np.random.default_rng(1), 0, 41, W, H - 37)
    video[:, :2] = 210
    soft = np.stack([cv2.resize(cv2.resize(f, (W // 2, H // 2), interpolation=cv2.INTER_AREA), (W, H)) for f in video])
    assert_near(crop_of(soft), 0, 41, W, H - 37)


def test_dark_picture_inside_bars():
    video = boxed(np.random.default_rng(2), 0, 40, W, H - 40)
    assert_near(crop_of(video * 0.15), 0, 40, W, H - 40)


def test_bars_hold_through_a_fade():
    video = boxed(np.random.default_rng(3), 40, 0, W - 40, H) * np.linspace(0, 1, T)[:, None, None]
    assert_near(crop_of(video), 40, 0, W - 40, H)


def test_one_frame_without_bars_forbids_them():
    video = boxed(np.random.default_rng(4), 0, 40, W, H - 40)
    video[3] = texture(np.random.default_rng(4), W, H, 1)[0]
    assert crop_of(video) == FULL


def dark(rng: np.random.Generator, video: np.ndarray, yy: np.ndarray, xx: np.ndarray) -> np.ndarray:
    return video * 0.1


def vignette(rng: np.random.Generator, video: np.ndarray, yy: np.ndarray, xx: np.ndarray) -> np.ndarray:
    return video * np.clip(1.3 - 3 * ((yy - 0.5) ** 2 + (xx - 0.5) ** 2), 0, 1)


def gradient(rng: np.random.Generator, video: np.ndarray, yy: np.ndarray, xx: np.ndarray) -> np.ndarray:
    return video * np.clip(2 * (yy - 0.2), 0, 1)


def dark_floor(rng: np.random.Generator, video: np.ndarray, yy: np.ndarray, xx: np.ndarray) -> np.ndarray:
    ragged = 0.7 + 0.06 * np.sin(9 * xx) + rng.normal(0, 0.01, xx.shape)
    return video * (yy < ragged)


def slanted_floor(rng: np.random.Generator, video: np.ndarray, yy: np.ndarray, xx: np.ndarray) -> np.ndarray:
    return video * (yy < 0.75 + 0.06 * xx)


def street_lamps(rng: np.random.Generator, video: np.ndarray, yy: np.ndarray, xx: np.ndarray) -> np.ndarray:
    lamps = rng.uniform(0, 1, yy.shape) > 0.999
    return rng.normal(3, 1.5, video.shape) + 220 * cv2.dilate(lamps.astype(np.uint8), np.ones((5, 5)))


def title(rng: np.random.Generator, video: np.ndarray, yy: np.ndarray, xx: np.ndarray) -> np.ndarray:
    card = np.zeros((H, W), np.uint8)
    for i, words in enumerate(("DIRECTED BY", "JANE DOE", "AND FRIENDS")):
        cv2.putText(card, words, (40, 70 + 45 * i), 0, 1.1, 240, 2)
    return np.broadcast_to(card, video.shape)


def black(rng: np.random.Generator, video: np.ndarray, yy: np.ndarray, xx: np.ndarray) -> np.ndarray:
    return np.zeros_like(video)


def noisy_black(rng: np.random.Generator, video: np.ndarray, yy: np.ndarray, xx: np.ndarray) -> np.ndarray:
    return np.abs(rng.normal(8, 6, video.shape))


def spotlight(rng: np.random.Generator, video: np.ndarray, yy: np.ndarray, xx: np.ndarray) -> np.ndarray:
    return video * (np.hypot((xx - 0.5) * W / H, yy - 0.5) < 0.4)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "scene",
    [dark, vignette, gradient, dark_floor, slanted_floor, street_lamps, title, black, noisy_black, spotlight],
    ids=lambda f: f.__name__,
)
def test_dark_scenes_are_not_borders(scene, seed):
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[0:H, 0:W] / np.array([H, W])[:, None, None]
    assert crop_of(scene(rng, texture(rng, W, H), yy, xx)) == FULL


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (7, 5), (17, 31), (96, 64), (853, 479)])
def test_any_size_gives_the_whole_even_frame(size):
    w, h = size
    video = np.random.default_rng(5).uniform(60, 200, (3, h, w))
    assert crop_of(video) == Crop(0, 0, max(w - w % 2, 1), max(h - h % 2, 1))


def test_nothing_is_cropped_when_off_or_without_samples():
    video = boxed(np.random.default_rng(6), 0, 40, W, H - 40)
    assert crop_of(video, BorderConfig(enabled=False)) == FULL
    assert find_crop([], W, H, BorderConfig()) == FULL


def test_long_shots_are_thinned_not_refused():
    frames = boxed(np.random.default_rng(7), 0, 40, W, H - 40).astype(np.uint8)
    samples = [profile(f) for f in frames] * 50
    assert_near(find_crop(samples, W, H, BorderConfig()), 0, 40, W, H - 40)


def test_a_profile_is_small_and_says_what_it_wants():
    shape = profile(np.zeros((1080, 1920), np.uint8))
    assert shape.rows.nbytes + shape.columns.nbytes <= 100 * (1080 + 1920)
    with pytest.raises(ValueError, match=r"float32 \[2, 2\], expected uint8"):
        profile(np.zeros((2, 2), np.float32))
    with pytest.raises(ValueError, match="not of a 640x360 frame"):
        find_crop([shape], 640, 360, BorderConfig())
    with pytest.raises(ValidationError):
        BorderConfig(threshold=3)


def test_a_bar_half_of_whose_edge_is_seen_vouches_for_one_whose_edge_is_too_dark():
    video = boxed(np.random.default_rng(5), 50, 0, 270, H)
    video[:, 110:, 50:110] = 2  # the picture is black along the lower half of the left bar
    video[:, :, 170:270] *= np.linspace(1, 0, 100)  # and fades to black before the right one
    assert_near(crop_of(video), 50, 0, 270, H)
