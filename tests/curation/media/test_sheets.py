"""Contact sheets: their pixels are the clip's, in order."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.sheets import GAP, LABEL_HEIGHT, clip_sheet, clips_sheet
from tests.annotate.synth import encode

Color = tuple[int, int, int]
RED, GREEN, BLUE = (220, 30, 30), (30, 200, 30), (30, 30, 220)


def flat_clip(colors: Sequence[Color], width: int = 96, height: int = 64, each: int = 6) -> bytes:
    """A clip that shows each colour for `each` frames."""
    return encode(np.full((height, width, 3), color, np.uint8) for color in colors for _ in range(each))


def picture(png: bytes) -> np.ndarray:
    assert png.startswith(b"\x89PNG")
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def assert_color(pixel: np.ndarray, color: Color) -> None:
    assert np.abs(pixel.astype(int) - color).max() < 16, f"{pixel} is not {color}"


def test_a_sheet_shows_the_clip_from_its_beginning_to_its_end() -> None:
    rng = np.random.default_rng(0)
    colors = [tuple(int(v) for v in rng.integers(30, 220, 3)) for _ in range(6)]
    sheet = picture(clip_sheet(flat_clip(colors), columns=3, rows=2, tile_height=80))
    assert sheet.shape == (GAP + 2 * (80 + GAP), GAP + 3 * (120 + GAP), 3)
    for k, color in enumerate(colors):
        row, column = divmod(k, 3)
        assert_color(sheet[GAP + row * (80 + GAP) + 30, GAP + column * (120 + GAP) + 60], color)


def test_each_frame_carries_its_time() -> None:
    sheet = picture(clip_sheet(flat_clip([GREEN]), columns=1, rows=1))
    corner, rest = sheet[-GAP - 18 : -GAP, GAP : GAP + 50], sheet[GAP : GAP + 80, GAP:-GAP]
    assert (corner.max(axis=2) < 40).any(), "dark ground"
    assert (corner.min(axis=2) > 200).any(), "light letters"
    assert_color(rest.reshape(-1, 3).mean(axis=0), GREEN)


def test_a_clip_with_fewer_frames_than_tiles_shows_each_once() -> None:
    sheet = picture(clip_sheet(flat_clip([RED, BLUE], each=1), columns=4, rows=3, tile_height=60))
    assert sheet.shape[:2] == (GAP + 60 + GAP, GAP + 2 * (90 + GAP))


@pytest.mark.parametrize(("width", "height", "expect"), [(64, 128, 40), (16, 320, 4), (320, 16, 320)])
def test_tiles_have_the_height_asked_for_and_the_clip_s_shape(width: int, height: int, expect: int) -> None:
    sheet = picture(clip_sheet(flat_clip([RED], width, height), columns=1, rows=1, tile_height=80))
    assert sheet.shape[:2] == (80 + 2 * GAP, expect + 2 * GAP)


def test_a_row_shows_the_first_middle_and_last_frame() -> None:
    first_and_last_differ = [RED, *[GREEN] * 7, BLUE]
    png = clips_sheet([("one.mp4", flat_clip(first_and_last_differ, each=1))], tile_height=80)
    sheet = picture(png)
    y = GAP + LABEL_HEIGHT + 40
    for x, color in ((60, RED), (182, GREEN), (304, BLUE)):
        assert_color(sheet[y, GAP + x], color)


def test_a_clip_that_does_not_decode_is_crossed_out_and_the_others_are_shown() -> None:
    clips = [("broken <&> ☠", b"no video"), ("whole", flat_clip([RED]))]
    sheet = picture(clips_sheet(clips, columns=1, tile_height=80))
    assert_color(sheet[GAP + LABEL_HEIGHT + 10, GAP + 60], (70, 70, 70))
    assert_color(sheet[-GAP - 40, GAP + 60], RED)
    assert picture(clips_sheet([])).size


def test_bytes_that_are_no_clip_have_no_sheet() -> None:
    with pytest.raises(MediaError):
        clip_sheet(b"no video")
