"""Stand-ins and drift rank videos that differ in one known way."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from reelwright.training.rewards.calling import score
from reelwright.training.rewards.contract import Unscored, Video
from reelwright.training.rewards.registry import built_in, load
from tests.annotate.synth import moved, texture

PICTURE = texture(200, 260)


def scored(kind: str, frames: np.ndarray, prompt: str = "", rate: float = 8.0, given: int = 0, **parameters) -> float:
    (found,) = score(load(kind, parameters), [Video(np.ascontiguousarray(frames), rate, prompt, given)])
    assert isinstance(found, float), found
    return found


def why_not(kind: str, frames: np.ndarray, prompt: str = "", given: int = 0) -> str:
    (found,) = score(load(kind), [Video(frames, 8.0, prompt, given)])
    assert isinstance(found, Unscored)
    return found.why


def pan(places: list[float]) -> np.ndarray:
    """Windows of 64 x 96 pixels of a texture that lies at these places from left to right."""
    return np.stack(moved(PICTURE, places, [0.0] * len(places), 64, 96))


def plain(*colours: tuple[int, int, int]) -> np.ndarray:
    """A frame of 32 x 48 pixels per colour."""
    return np.stack([np.full((32, 48, 3), colour, np.uint8) for colour in colours])


def blurred(frames: np.ndarray, sigma: float) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames])


def test_stand_ins_say_so_in_name_and_docstring() -> None:
    stand_ins = [name for name in built_in() if name.endswith("_standin")]
    assert {"sharpness_standin", "smoothness_standin", "caption_attributes_standin"} <= set(stand_ins)
    for name in stand_ins:
        reward = load(name)
        assert reward.describe()["name"] == name
        assert (type(reward).__doc__ or "").startswith("Not a")


def test_blur_is_less_sharp_and_noise_is_taken_for_sharp() -> None:
    frames = pan([0.0, 1.0, 2.0])
    levels = [scored("sharpness_standin", blurred(frames, sigma)) for sigma in (0.5, 1.0, 2.0, 4.0)]
    assert levels == sorted(levels, reverse=True)
    noisy = np.random.default_rng(0).integers(0, 256, frames.shape, np.uint8)
    assert scored("sharpness_standin", noisy) > levels[0]
    assert scored("sharpness_standin", plain((9, 9, 9))) == 0
    large = cv2.resize(frames[0], (960, 640), interpolation=cv2.INTER_NEAREST)[None]
    small = cv2.resize(large[0], (96, 64), interpolation=cv2.INTER_AREA)[None]
    assert scored("sharpness_standin", large, height=64) == scored("sharpness_standin", small)


def test_even_motion_is_smooth_and_jerks_are_not() -> None:
    even, jerky = pan([2.0 * k for k in range(8)]), pan([4.0 * (k // 2) for k in range(8)])
    noise = np.random.default_rng(1).integers(0, 256, even.shape, np.uint8)
    still, smooth, rough, chaos = (scored("smoothness_standin", v) for v in (pan([0.0] * 8), even, jerky, noise))
    assert still == 0
    assert still > smooth > rough > chaos
    assert smooth > rough / 2
    flicker = pan([0.0] * 8)
    flicker[::2] //= 2
    assert scored("smoothness_standin", flicker) < smooth


def test_smoothness_says_why_it_cannot_be_measured() -> None:
    assert why_not("smoothness_standin", pan([0.0, 1.0])) == "smoothness needs 3 frames, the video has 2"
    assert why_not("smoothness_standin", pan([0.0] * 3)[:, :12]) == (
        "flow needs 16 pixels across, a frame of 96x12 has too few"
    )


RED, BLUE, NIGHT, SNOW = (210, 30, 35), (40, 80, 200), (12, 14, 20), (240, 240, 245)


@pytest.mark.parametrize(
    ("prompt", "better", "worse"),
    [
        ("A red car.", RED, BLUE),
        ("Blue water, seen from above", BLUE, RED),
        ("A street at NIGHT", NIGHT, SNOW),
        ("a sunny beach", SNOW, NIGHT),
        ("a white wall in a dark room", NIGHT, (90, 90, 90)),
    ],
)
def test_what_the_prompt_names_is_looked_for(prompt: str, better: tuple, worse: tuple) -> None:
    kind = "caption_attributes_standin"
    assert 0 <= scored(kind, plain(worse), prompt) < scored(kind, plain(better), prompt) <= 1


def test_a_quarter_of_a_frame_shows_a_colour_and_nearer_colours_score_higher() -> None:
    kind = "caption_attributes_standin"
    quarter = plain(BLUE)
    quarter[:, :16, :24] = RED
    assert scored(kind, quarter, "a red car") == pytest.approx(1, abs=1e-4)
    quarter[:, :16, :12] = BLUE
    assert 0.5 < scored(kind, quarter, "a red car") < 0.6
    nearness = [scored(kind, plain((level, 128, 128)), "red") for level in (128, 160, 192, 224)]
    assert nearness == sorted(nearness)
    both = scored(kind, plain(RED), "red and blue")
    assert both == pytest.approx((scored(kind, plain(RED), "red") + scored(kind, plain(RED), "blue")) / 2)


def test_words_of_motion_want_motion_or_none() -> None:
    fast, still = pan([4.0 * k for k in range(6)]), pan([0.0] * 6)
    kind = "caption_attributes_standin"
    assert scored(kind, fast, "a dog running") > 0.7
    assert scored(kind, still, "a dog running") == 0
    assert scored(kind, still, "a motionless lake") == 1
    assert scored(kind, fast, "a motionless lake") < 0.3


def test_a_prompt_without_known_attributes_is_unscored() -> None:
    assert "names no colour, brightness or motion" in why_not("caption_attributes_standin", plain(RED), "a reddish car")


def test_drift_is_nil_without_change_and_grows_with_colour_and_softness() -> None:
    base = pan([0.0] * 12)
    assert scored("drift", base, given=4) == pytest.approx(0, abs=1e-9)
    tinted = [base.copy() for _ in range(3)]
    for frames, by in zip(tinted, (5, 15, 40), strict=True):
        frames[4:, ..., 0] = np.clip(frames[4:, ..., 0].astype(int) + by, 0, 255)
    colours = [scored("drift", frames, given=4, sharpness=0) for frames in tinted]
    assert 0 > colours[0] > colours[1] > colours[2]
    soft = base.copy()
    soft[4:] = blurred(base[4:], 1.5)
    assert scored("drift", soft, given=4, colour=0) < -0.5
    assert scored("drift", tinted[0], given=4, colour=0) == pytest.approx(0, abs=0.05)
    harsh = base.copy()
    harsh[4:] = np.random.default_rng(0).integers(0, 256, harsh[4:].shape, np.uint8)
    assert scored("drift", harsh, given=4, colour=0) < -0.5  # sharper than given is drift too


def test_drift_looks_at_the_end_alone_and_at_nothing_that_was_given() -> None:
    frames = pan([0.0] * 12)
    frames[4:8] = 0
    assert scored("drift", frames, given=4) == pytest.approx(0, abs=1e-9)
    assert scored("drift", frames, given=4, late=1.0) < -1
    frames[11] = 255
    assert scored("drift", frames, given=4, late=0.05) < -1


def test_drift_says_why_it_cannot_be_measured() -> None:
    frames = pan([0.0] * 3)
    assert why_not("drift", frames) == "drift compares with given frames, and the video was made from text alone"
    assert why_not("drift", frames, given=3) == "drift needs frames that were made, and all 3 were given"
    with pytest.raises(ValueError, match="late 0.0 must be a share above 0"):
        load("drift", {"late": 0})
    with pytest.raises(ValueError, match=r"colour 0.0 and sharpness 0.0 must be weights"):
        load("drift", {"colour": 0, "sharpness": 0})


def lightness(level: int) -> float:
    """L* of a grey, by the formulas of sRGB (IEC 61966-2-1) and CIE 1976, which OpenCV meets to half a percent."""
    value = level / 255
    linear = value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
    return 116 * linear ** (1 / 3) - 16 if linear > (6 / 29) ** 3 else linear * (29 / 3) ** 3


def test_drift_counts_just_noticeable_differences_and_the_logarithm_of_sharpness() -> None:
    greys = plain(*[(level,) * 3 for level in (100, 100, *[30] * 6, *[120] * 2)])  # 2 given, 8 made, 2 of them late
    step = (lightness(120) - lightness(100)) / 2.3
    assert scored("drift", greys, given=2) == pytest.approx(-step, rel=0.01)
    assert scored("drift", greys, given=2, colour=3.0) == pytest.approx(-3 * step, rel=0.01)
    spread = plain((100,) * 3, (100,) * 3)
    spread[1, :16], spread[1, 16:] = 80, 120  # means nearly alike, a spread of half the difference
    half = (lightness(120) - lightness(80)) / 2
    middle = (lightness(120) + lightness(80)) / 2 - lightness(100)
    found = scored("drift", spread, given=1, sharpness=0)
    assert found == pytest.approx(-(half + abs(middle)) / 2.3, rel=0.01)
    lines = np.zeros((2, 32, 48, 3), np.uint8)
    lines[1, :, ::2] = 10  # columns of 0 and 10: the Laplacian is +20 and -20 but at the borders
    assert scored("drift", lines, given=1, colour=0, sharpness=2.0) == pytest.approx(-2 * np.log1p(400), rel=0.02)


def test_drift_by_default_is_that_of_its_documented_settings() -> None:
    """A score of version 1 is comparable with an earlier one: other defaults would be another version."""
    lines = np.repeat(np.random.default_rng(0).integers(0, 256, (4, 241, 1, 3), np.uint8), 250, axis=2)
    stated = {"late": 0.25, "colour": 1.0, "sharpness": 1.0, "height": 240}
    expect = scored("drift", lines, given=1, **stated)
    assert scored("drift", lines, given=1) == expect
    for name, value in {"late": 0.5, "colour": 1.1, "sharpness": 1.1, "height": 241}.items():
        assert scored("drift", lines, given=1, **stated | {name: value}) != expect


def test_smoothness_counts_grey_levels_off_what_the_neighbours_foretell() -> None:
    flash = plain((10,) * 3, (14,) * 3, (10,) * 3)
    assert scored("smoothness_standin", flash) == pytest.approx(-np.log(1 + 4 / 2))
    ramp = plain((10,) * 3, (14,) * 3, (18,) * 3, (28,) * 3)
    assert scored("smoothness_standin", ramp) == pytest.approx(-np.log(1 + (0 + 3) / 2 / 2))


def test_speed_is_in_frame_heights_per_second() -> None:
    from reelwright.training.rewards.pixels.flow import speed

    frames = pan([3.0 * k for k in range(5)])  # of 64 x 96 pixels
    assert speed(frames, 8.0) == pytest.approx(3 * 8 / 64, rel=0.1)
    assert speed(frames[:2], 8.0) == pytest.approx(3 * 8 / 64, rel=0.1)
    assert speed(np.ascontiguousarray(frames.transpose(0, 2, 1, 3)), 8.0) == pytest.approx(3 * 8 / 64, rel=0.1)
    large = np.stack([cv2.resize(frame, (432, 288), interpolation=cv2.INTER_CUBIC) for frame in frames])
    assert speed(large, 8.0) == pytest.approx(3 * 8 / 64, rel=0.15)
    with pytest.raises(ValueError, match="flow needs 2 frames, the video has 1"):
        speed(frames[:1], 8.0)
    speed(frames[:, :16, :16], 8.0)
    moved = 3 * 8 / 64
    found = scored("caption_attributes_standin", frames, "running")
    assert found == pytest.approx(moved / (moved + 0.1), rel=0.05)


def test_the_frame_half_way_is_half_way() -> None:
    from reelwright.training.rewards.pixels.flow import greys, halfway

    gray = greys(pan([0.0, 2.0, 4.0]))
    middle = halfway(gray[0], gray[2])[8:-8, 8:-8]
    off = np.abs(middle - gray[1][8:-8, 8:-8]).mean()
    assert off < 0.2 * np.abs(gray[0].astype(float) - gray[1])[8:-8, 8:-8].mean()


def test_frames_are_scaled_down_to_their_shorter_side_and_never_up() -> None:
    from reelwright.training.rewards.pixels.frames import scaled

    frames = pan([0.0, 1.0])
    assert scaled(frames, 64) is frames
    assert scaled(frames, 32).shape == (2, 32, 48, 3)
    assert scaled(frames.transpose(0, 2, 1, 3), 32).shape == (2, 48, 32, 3)
    assert scaled(frames[:, :, :1], 1).shape == (2, 64, 1, 3)


def test_brightness_and_nearness_are_as_documented() -> None:
    kind = "caption_attributes_standin"
    assert scored(kind, plain((102,) * 3), "bright") == pytest.approx(102 / 255)
    assert scored(kind, plain((102,) * 3), "dark") == pytest.approx(1 - 102 / 255)
    away = lightness(245) - lightness(100)
    assert scored(kind, plain((100,) * 3), "a white wall") == pytest.approx(np.exp(-away / 50), rel=0.01)
    both = (scored(kind, plain(RED), "red") + 1 - RED[0] / 765 - RED[1] / 765 - RED[2] / 765) / 2
    assert scored(kind, plain(RED), "red in the dark") == pytest.approx(both)
