import cv2
import numpy as np
import pytest

from reelwright.annotate import annotate_clip, load
from tests.annotate.synth import encode, moved, noisy, texture


def light(frames: list[np.ndarray]) -> dict:
    columns, failures = annotate_clip(encode(frames), [load("light")])
    assert not failures
    return columns


def test_black_and_frozen_frames_are_shares_of_the_clip():
    moving = moved(texture(140, 220), 2 * np.arange(24), np.zeros(24), 90, 160)
    columns = light(moving[:12] + [np.zeros_like(moving[0])] * 12)
    assert columns["black_share"] == pytest.approx(0.5, abs=0.1)
    assert columns["frozen_share"] == pytest.approx(0.5, abs=0.1)
    assert light(moving)["black_share"] == light(moving)["frozen_share"] == 0


def test_a_still_picture_is_frozen_and_noise_is_not():
    still = [texture(90, 160)] * 24
    assert light(still)["frozen_share"] > 0.9
    assert light(noisy(still, sigma=6))["frozen_share"] == 0


@pytest.mark.parametrize("level", [0, 40, 128, 255])
def test_brightness_is_full_range(level):
    columns = light([np.full((90, 160, 3), level, np.uint8)] * 4)
    assert columns["brightness"] == pytest.approx(level, abs=1.5)
    assert columns["contrast"] < 1
    assert columns["colorfulness"] < 3


def test_colour_makes_colourful_and_grey_does_not():
    picture = texture(90, 160)
    grey = np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    pale = (0.7 * grey + 0.3 * picture).astype(np.uint8)
    scores = [light([p] * 3)["colorfulness"] for p in (grey, pale, picture)]
    assert scores[0] < 3 < scores[1] < scores[2]
