import numpy as np
import pytest

from reelwright.annotate import annotate_clip, load
from tests.annotate.synth import encode, moved, noisy, texture


def woven(frames: list[np.ndarray]) -> list[np.ndarray]:
    """Every second frame, its odd lines taken from the one after it: two moments in a frame."""
    out = []
    for one, other in zip(frames[::2], frames[1::2], strict=True):
        frame = one.copy()
        frame[1::2] = other[1::2]
        out.append(frame)
    return out


def score(frames: list[np.ndarray]) -> float:
    columns, failures = annotate_clip(encode(frames), [load("combing")])
    assert not failures
    return columns["combing_score"]


def panned(speed: float, count: int = 48, picture: np.ndarray | None = None) -> list[np.ndarray]:
    across = np.arange(count) * speed
    seen = texture(240, int(across[-1]) + 340) if picture is None else picture
    return moved(seen, across, np.zeros(count), 240, 320)


@pytest.mark.parametrize("speed", [3.0, 6.0])
def test_woven_fields_are_told_from_whole_frames(speed):
    frames = panned(speed)
    assert score(woven(frames)) > 0.8
    assert score(frames[::2]) < 0.2


@pytest.mark.parametrize("sigma", [0, 4])
@pytest.mark.parametrize("speed", [0.5, 1.0, 1.5])
def test_slow_movement_combs_by_less_than_the_pictures_detail_and_is_told_all_the_same(speed, sigma):
    frames = panned(speed, 24)
    assert score(list(noisy(woven(frames), sigma=sigma))) > 0.5
    assert score(list(noisy(frames[::2], sigma=sigma))) < 0.2


def test_slow_movement_up_and_down_is_no_combing_unless_woven():
    frames = moved(texture(340, 320), np.zeros(24), np.arange(24) * 0.5, 240, 320)
    assert score(frames[::2]) < 0.2
    assert score(woven(frames)) > 0.5


def test_noise_and_fine_lines_are_no_combing():
    stripes = np.full((240, 640, 3), 60, np.uint8)
    stripes[::2] = 190
    still = [stripes[:, :320]] * 24
    assert score(list(noisy(panned(3.0, 24), sigma=8))) < 0.2
    assert score(still) == 0.0


def test_film_carried_to_video_is_told_by_its_combed_frames():
    film = panned(4.0, 60)
    video = []  # 2:3 pulldown: of five frames two are woven of different film frames
    for a, b, c, d in zip(*(film[i::4] for i in range(4)), strict=True):
        mixed = [woven([b, c])[0], woven([c, d])[0]]
        video += [a, b, *mixed, d]
    assert score(video) > 0.5
