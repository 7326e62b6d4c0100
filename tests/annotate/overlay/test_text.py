import cv2
import numpy as np
import pytest

from reelwright.annotate import annotate_clip, load
from tests.annotate.synth import encode, moved, noisy, texture

HEIGHT, WIDTH = 360, 640
FONT = cv2.FONT_HERSHEY_DUPLEX


def background(num: int = 9) -> list[np.ndarray]:
    picture = cv2.GaussianBlur(texture(HEIGHT + 40, WIDTH + 60), (0, 0), 6)
    return moved(picture, np.arange(num), np.zeros(num), HEIGHT, WIDTH)


def write(frame: np.ndarray, text: str, y: int, scale: float) -> float:
    """Draw a centred line with its baseline at y; returns the share of the frame that its glyphs' box covers."""
    thickness = max(1, round(1.6 * scale))
    (width, height), baseline = cv2.getTextSize(text, FONT, scale, thickness)
    at = ((WIDTH - width) // 2, y)
    cv2.putText(frame, text, at, FONT, scale, (0, 0, 0), thickness + 4, cv2.LINE_AA)
    cv2.putText(frame, text, at, FONT, scale, (255, 255, 255), thickness, cv2.LINE_AA)
    return width * (height + baseline / 2) / (HEIGHT * WIDTH)


def text(frames: list[np.ndarray]) -> dict:
    columns, failures = annotate_clip(encode(frames, crf=26), [load("text")])
    assert not failures
    return columns


@pytest.mark.parametrize("scale", [0.6, 1.0, 2.0])
def test_coverage_is_that_of_tight_boxes(scale):
    frames = background()
    line = {0.6: "We should have left before the rain", 1.0: "before the rain started", 2.0: "Chapter Ten"}[scale]
    truth = max([write(frame, line, 180, scale) for frame in frames])
    columns = text(frames)
    assert columns["text_coverage"] == pytest.approx(truth, rel=0.35)
    assert columns["text_largest"] == pytest.approx(columns["text_coverage"], rel=0.05)
    assert columns["text_subtitle"] == 0


def test_a_page_of_lines_is_their_union():
    frames = background()
    line, places = "Directed by Anna Keller and friends", range(40, 350, 40)
    truth = max([sum(write(frame, line, y, 0.8) for y in places) for frame in frames])
    columns = text(frames)
    assert columns["text_coverage"] == pytest.approx(truth, rel=0.35)
    assert columns["text_largest"] < 0.2 * columns["text_coverage"]


def test_a_subtitle_counts_where_it_shows_for_part_of_the_time():
    frames = background()
    truth = max([write(frame, "nobody wanted to go home", 335, 0.8) for frame in frames[3:6]])
    columns = text(frames)
    assert columns["text_subtitle"] == pytest.approx(1 / 3)
    assert columns["text_coverage"] == pytest.approx(truth, rel=0.35)


@pytest.mark.parametrize("kind", ["soft", "detailed", "black", "noise", "stripes"])
def test_no_text_is_claimed_where_there_is_none(kind):
    flat = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    stripes = flat.copy()
    stripes[:, ::8] = stripes[:, 1::8] = 200
    frames = {
        "soft": background(3),
        "detailed": moved(texture(HEIGHT, WIDTH + 20), [0, 2, 4], [0, 0, 0], HEIGHT, WIDTH),
        "black": [np.zeros_like(flat)] * 3,
        "noise": noisy([flat] * 3, 20),
        "stripes": [stripes] * 3,
    }[kind]
    assert text(frames)["text_coverage"] == 0
