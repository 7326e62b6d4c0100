from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelwright.annotate.overlay.evidence.boxes import LEAST_CELLS, MARGIN, Box, Evidence, where_steady
from reelwright.annotate.overlay.evidence.persistence import CELL, _cells, _cells_of_whole, measure, structure_of, worst
from reelwright.annotate.overlay.evidence.scores import line_score, symbol_score
from tests.annotate.synth import moved, texture

share = st.floats(0, 1)
evidence = st.builds(
    Evidence, stays=share, holds=share, seen_through=share, around=share, scene_still=share, crowd=share
)


@given(
    known=evidence,
    follows=share,
    line=st.builds(Box, st.floats(0, 600), st.floats(0, 340), st.floats(8, 300), st.floats(6, 80)),
)
def test_scores_fall_with_what_follows_the_camera_and_lie_between_where_it_is_not_known(known, follows, line):
    """So where nothing and everything score the same, the camera's motion need not be measured."""
    for score in (symbol_score, lambda e: line_score(e, line, (360, 640))):
        overlay, between, scene = (score(replace(known, follows=f)) for f in (0.0, follows, 1.0))
        assert overlay >= between >= scene
        assert overlay >= score(known) >= scene


def test_specks_are_no_place_for_a_line():
    steady = np.zeros((90, 160), bool)
    assert where_steady(steady) is None
    steady[10, 10] = steady[70, 100] = True
    assert where_steady(steady) is None
    steady[40:42, 50 : 50 + LEAST_CELLS] = True
    left, top, right, bottom = where_steady(steady)
    assert (left, top) == (50 * CELL - MARGIN, 40 * CELL - MARGIN)
    assert (right, bottom) == ((50 + LEAST_CELLS) * CELL + MARGIN, 42 * CELL + MARGIN)


@pytest.mark.parametrize("count", [6, 7, 16])
def test_what_is_kept_of_a_clip_is_what_numpy_says(count):
    picture = texture(400, 700)
    frames = moved(picture, 3.0 * np.arange(count), 1.0 * np.arange(count), 360, 640)
    seen = measure(np.stack([cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in frames]))
    np.testing.assert_array_equal(seen.detail[1], cv2.blur(np.median(seen.power, axis=0), (3, 3)))
    assert (np.diff(seen.agreement, axis=0) >= 0).all()
    np.testing.assert_array_equal(seen.worst, worst(seen.agreement))


@pytest.mark.parametrize("shape", [(360, 640), (358, 642), (10, 9)])
def test_cells_of_whole_numbers_are_those_of_any(shape):
    gray = cv2.cvtColor(texture(*shape), cv2.COLOR_RGB2GRAY)
    structure = structure_of(gray)
    np.testing.assert_array_equal(structure, gray.astype(np.float32) - cv2.blur(gray, (11, 11)))
    square = structure * structure
    np.testing.assert_array_equal(_cells_of_whole(square), _cells(square))
