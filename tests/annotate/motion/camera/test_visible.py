import cv2
import numpy as np
import pytest

from reelwright.annotate.motion.camera.dataset import filmed
from reelwright.annotate.motion.camera.sources import Source
from reelwright.annotate.motion.camera.virtual import film_background
from reelwright.annotate.motion.camera.visible import background_shows, shares_of_blocks
from tests.annotate.motion.test_camera_motion import SCENE, shot, straight

ALONE = shot(straight(4))[:4].astype(np.float64)
FREE = np.ones(ALONE.shape, bool)


def shows(shown, free=FREE):
    return background_shows(np.clip(shown, 0, 255).astype(np.uint8), ALONE, free)


def grain(sigma):
    return np.random.default_rng(0).normal(0, sigma, ALONE.shape)


def test_a_plain_view_shows():
    assert shows(ALONE)
    assert shows(0.7 * ALONE + 20 + grain(1))  # other light, a little grain


def test_darkness_grain_and_compression_hide():
    assert not shows(0.03 * ALONE)
    assert not shows(0.2 * ALONE + grain(30))
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 15) for frame in ALONE])
    assert not shows(blurred)  # as strong compression leaves it


def test_a_lively_subject_over_a_blank_wall_shows_no_background():
    """What is shown has edges enough; they are not the background's."""
    blank = np.full(ALONE.shape, 128.0)
    free = FREE.copy()
    free[:, 30:120, 60:200] = False
    shown = np.where(free, blank, ALONE).astype(np.uint8)
    assert not background_shows(shown, blank, free)


@pytest.mark.parametrize(("covered", "expected"), [(0.3, (0.75, 0.25)), (0.6, (0.5, 0.5)), (1.0, (0.0, 1.0))])
def test_what_is_covered_does_not_count(covered, expected):
    free = FREE[0].copy()
    free[:, : round(covered * free.shape[1])] = False
    assert shares_of_blocks(ALONE[0].astype(np.uint8), ALONE[0], free) == pytest.approx(expected)


def test_a_subject_must_not_cover_more_than_shows():
    for columns, expected in ((120, True), (180, False)):
        free = FREE.copy()
        free[:, :, :columns] = False
        assert shows(ALONE, free) is expected


def test_most_frames_must_show_it():
    fade = np.array([1, 1, 1, 0])[:, None, None] * ALONE
    assert shows(fade)
    assert not shows(np.array([1, 1, 0, 0])[:, None, None] * ALONE)


def test_what_comes_and_goes_in_footage_is_no_background():
    """A bright bar that wanders over the scene is not in the picture that stays."""
    frames = np.repeat(SCENE[None], 15, axis=0)
    for k, frame in enumerate(frames):
        frame[:, 60 * k : 60 * k + 60] = 255
    np.testing.assert_array_equal(Source("footage", frames).still.frames[0], SCENE)


def test_the_background_filmed_alone_is_where_the_clip_shows_it():
    rng = np.random.default_rng(3)
    shot_, scene, frames, indices = filmed([Source("scene", SCENE[None])], "pan", rng)
    alone, free = film_background(scene, shot_, indices[:1])
    small = cv2.resize(alone[0], frames.shape[:0:-1], interpolation=cv2.INTER_AREA)
    where = cv2.resize(free[0].astype(np.float32), frames.shape[:0:-1], interpolation=cv2.INTER_AREA) > 0.99
    assert np.corrcoef(small[where], frames[0][where])[0, 1] > 0.9
    black = [Source("black", np.zeros((300, 400), np.uint8)[None]), Source("scene", SCENE[None])]
    assert {filmed(black, "static", np.random.default_rng(k))[1].background.name for k in range(6)} == {"scene"}
