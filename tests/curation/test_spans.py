"""Parts of a file that a manifest names: clips lie inside of them, with their captions; and why there may be none."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelwright.curation.borders import Crop
from reelwright.curation.clips import ClipConfig, plan_clips
from reelwright.curation.ingest.inputs import Span
from reelwright.curation.no_clip import why_no_clip
from reelwright.curation.spans import pieces_of
from tests.curation.test_clips import scan_of


def planned(spans: list[Span], cuts: list[int] | None = None, **config) -> list[tuple]:
    clips = plan_clips("m", scan_of(500, cuts or []), ClipConfig(**config), spans)
    return [(c.spec.start_frame, c.spec.end_frame, c.captions) for c in clips]


def test_clips_lie_inside_of_spans_and_have_their_captions():
    spans = [Span(0, 2, ("a",)), Span(2, 5, ("b", "c")), Span(19, math.inf)]
    assert planned(spans) == [(0, 50, ("a",)), (50, 125, ("b", "c")), (475, 500, ())]


def test_a_cut_inside_of_a_span_divides_it_and_short_rests_make_no_clip():
    assert planned([Span(1, 4, ("a",))], cuts=[30, 90]) == [(30, 90, ("a",))]


def test_a_span_in_one_shot_is_cut_however_short_and_a_long_one_is_divided():
    assert planned([Span(1, 1.4, ("a",))]) == [(25, 35, ("a",))]
    assert planned([Span(0, 8, ("a",))], max_s=4) == [(0, 100, ("a",)), (100, 200, ("a",))]


def test_spans_that_overlap_make_clips_in_order_and_each_once():
    spans = [Span(0, 4, ("a",)), Span(1, 3, ("b",)), Span(1, 3.0005, ("c",))]
    assert planned(spans) == [(0, 100, ("a",)), (25, 75, ("b", "c"))]


def test_the_clips_of_a_span_of_everything_are_those_without_spans():
    scan = scan_of(500, [130, 300])
    plain, spanned = (plan_clips("m", scan, ClipConfig(max_s=3), s) for s in ([], [Span(0, math.inf)]))
    assert plain == spanned
    short = ClipConfig(min_s=2, max_s=4)
    plain, spanned = (plan_clips("m", scan_of(40, []), short, s) for s in ([], [Span(0, math.inf)]))
    assert plain == spanned == []


@given(
    edges=st.lists(st.floats(0, 20), min_size=2, max_size=8, unique=True),
    fps=st.sampled_from([24, 29.97, 60]),
    shot=st.tuples(st.integers(0, 200), st.integers(201, 400)),
)
def test_spans_side_by_side_share_out_a_shot_s_frames(edges, fps, shot):
    edges = [*sorted({0.0, *edges}), math.inf]
    times = np.arange(401) / fps
    spans = [Span(a, b) for a, b in zip(edges, edges[1:], strict=False)]
    frames = [f for p in pieces_of(*shot, times, spans) for f in range(p.start, p.end)]
    assert frames == list(range(*shot))


@pytest.mark.parametrize(
    ("scan", "spans", "reason"),
    [
        (scan_of(1, []), (), "one frame"),
        (scan_of(100, [20, 40, 60, 80]), (), "shots under 1 s"),
        (scan_of(200, [], crop=Crop(0, 0, 640, 62)), (), "picture under 64 px"),
        (scan_of(200, []), (Span(50, 60),), "outside the manifest's spans"),
        (scan_of(200, [100]), (Span(3.5, 4.5),), "shots under 1 s"),
    ],
)
def test_why_there_is_no_clip(scan, spans, reason):
    assert not plan_clips("m", scan, ClipConfig(), spans)
    assert why_no_clip(scan, ClipConfig(), spans) == reason


def test_a_source_without_a_shot_is_all_in_transitions():
    scan = scan_of(100, [])
    scan.shots.clear()
    assert why_no_clip(scan, ClipConfig()) == "all in transitions"
