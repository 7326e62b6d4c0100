import numpy as np
import pytest

from reelwright.annotate import annotate_clip, load
from tests.annotate.synth import encode, moved, noisy, texture

HEIGHT, WIDTH, FPS, NUM = 180, 320, 24, 24


def motion(frames: list[np.ndarray], fps: int = FPS, crf: int = 20) -> dict:
    columns, failures = annotate_clip(encode(frames, fps=fps, crf=crf), [load("motion")])
    assert not failures
    return columns


def pan(pixels_a_frame: float) -> list[np.ndarray]:
    return moved(texture(HEIGHT + 40, WIDTH + 300), pixels_a_frame * np.arange(NUM), np.zeros(NUM), HEIGHT, WIDTH)


@pytest.mark.parametrize("speed", [0.5, 2.0, 6.0])
def test_a_pan_is_measured_in_heights_per_second_and_is_the_cameras(speed):
    columns = motion(pan(speed))
    expect = speed * FPS / HEIGHT
    assert columns["motion_score"] == pytest.approx(expect, rel=0.15)
    assert columns["motion_global"] == pytest.approx(expect, rel=0.15)
    assert columns["motion_local"] < 0.2 * expect
    assert columns["still_share"] == 0


def test_the_frame_rate_does_not_change_the_speed():
    assert motion(pan(1), fps=50)["motion_score"] == pytest.approx(motion(pan(2), fps=25)["motion_score"], rel=0.15)


def test_a_moving_subject_is_not_the_camera():
    still = texture(HEIGHT, WIDTH)
    subject = texture(60, 60, seed=1)
    frames = []
    for k in range(NUM):
        frame = still.copy()
        frame[60:120, 20 + 5 * k : 80 + 5 * k] = subject
        frames.append(frame)
    columns = motion(frames)
    assert columns["motion_global"] < 0.1 * columns["motion_local"]
    assert columns["motion_score"] > 0.01


@pytest.mark.parametrize("crf", [18, 34])
def test_noise_and_compression_are_not_motion(crf):
    still = texture(360, 640)
    still[:, :320] = 120  # a flat wall, where flow is made of nothing but noise
    columns = motion(noisy([still] * NUM, sigma=6), crf=crf)
    slow = motion(pan(0.5))
    assert columns["motion_score"] < 0.1 * slow["motion_score"]
    assert columns["still_share"] == 1
    assert columns["motion_global"] < 0.002


def test_a_stop_shows_in_the_share_and_the_deviation():
    frames = pan(3)
    columns = motion(frames[:12] + [frames[11]] * 12)
    assert 0.3 < columns["still_share"] < 0.7
    assert columns["motion_std"] > 0.5 * columns["motion_score"]


def test_one_frame_is_still():
    columns = motion([texture(HEIGHT, WIDTH)])
    assert columns["motion_score"] == 0
    assert columns["still_share"] == 1
