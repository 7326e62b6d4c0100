import cv2
import numpy as np
import pytest

from reelwright.annotate.backends.text_detector import TextDetector
from tests.annotate.synth import texture

HEIGHT, WIDTH = 352, 640


@pytest.fixture(scope="module")
def detector() -> TextDetector:
    return TextDetector(min_probability=0.6)


def lettered(seed: int) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """Return a picture with a word somewhere, and the word's left, top, right and bottom."""
    rng = np.random.default_rng(seed)
    frame = cv2.GaussianBlur(texture(HEIGHT, WIDTH, seed), (0, 0), 3)
    word = str(rng.choice(["STOCKPIX", "channel four", "Preview 2026", "demo footage"]))
    scale, thickness = rng.uniform(0.6, 1.4), 2
    (w, h), below = cv2.getTextSize(word, cv2.FONT_HERSHEY_DUPLEX, scale, thickness)
    x, y = int(rng.integers(4, WIDTH - w - 4)), int(rng.integers(h + 4, HEIGHT - below - 4))
    cv2.putText(frame, word, (x, y), cv2.FONT_HERSHEY_DUPLEX, scale, (255, 255, 255), thickness, cv2.LINE_AA)
    return frame, (x, y - h, x + w, y + below)


@pytest.mark.parametrize("seed", range(8))
def test_a_part_shows_the_lines_that_the_whole_picture_shows_there(detector, seed):
    frame, (left, top, right, bottom) = lettered(seed)
    whole = detector.lines(frame)
    part = detector.lines(frame, (left - 32, top - 32, right + 32, bottom + 32))
    assert len(whole) == 1
    assert 1 <= len(part) <= 2  # two words may be two lines
    for end in (np.min, np.max):
        np.testing.assert_allclose(end(part, axis=(0, 1)), end(whole[0], axis=0), atol=8)
    assert sum(map(cv2.contourArea, part)) == pytest.approx(cv2.contourArea(whole[0]), rel=0.25)


def test_a_line_may_be_as_tall_in_a_part_as_in_the_whole_picture(detector):
    frame = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    cv2.putText(frame, "LARGE", (60, 200), cv2.FONT_HERSHEY_DUPLEX, 3, (255, 255, 255), 6, cv2.LINE_AA)
    part = detector.lines(frame, (40, 110, 460, 230))
    assert len(detector.lines(frame)) == len(part) == 1


@pytest.mark.parametrize("within", [(-32, -32, 700, 400), (0, 0, WIDTH, HEIGHT), (10, 10, 630, 340)])
def test_a_part_that_is_nearly_all_is_all(detector, within):
    frame, _ = lettered(0)
    np.testing.assert_array_equal(detector.lines(frame, within), detector.lines(frame))


def test_nothing_is_found_outside_of_the_part(detector):
    frame, (_, top, _, bottom) = lettered(3)
    away = (0, bottom + 40, WIDTH, HEIGHT) if bottom < HEIGHT / 2 else (0, 0, WIDTH, top - 40)
    assert len(detector.lines(frame, away)) == 0
