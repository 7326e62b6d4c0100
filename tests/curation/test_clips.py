"""From shots to spans: laws of `divide`, ids, and what makes no clip."""

import hashlib
import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reelwright.curation.borders import Crop
from reelwright.curation.clips import ClipConfig, clip_fingerprint, clip_id_of, clip_row, divide, plan_clips
from reelwright.curation.ingest.inputs import Span
from reelwright.curation.media.encode import EncodeConfig
from reelwright.curation.media.probe import VideoInfo
from reelwright.curation.scan import Scan, ScannedShot
from reelwright.curation.shots import Shot, shots_from_transitions
from reelwright.curation.timing import timing_of

GAPS = st.lists(st.floats(0.005, 3), min_size=1, max_size=300)


@given(gaps=GAPS, max_s=st.floats(0.1, 30), data=st.data())
def test_divide_partitions_evenly_and_within_the_bound(gaps, max_s, data):
    times = np.concatenate([[0], np.cumsum(gaps)])
    start = data.draw(st.integers(0, len(gaps) - 1))
    end = data.draw(st.integers(start + 1, len(gaps)))
    parts = divide(times, start, end, max_s)
    assert parts[0][0] == start
    assert parts[-1][1] == end
    assert all(a < b for a, b in parts)
    assert all(p[1] == q[0] for p, q in zip(parts, parts[1:], strict=False))
    assert all(times[b] - times[a] <= 1.1 * max_s + 1e-6 or b == a + 1 for a, b in parts)
    assert len(parts) <= 2 * np.ceil((times[end] - times[start]) / max_s)  # two neighbours outlast max_s


@given(count=st.integers(1, 5000), max_s=st.floats(0.5, 60), fps=st.sampled_from([24, 25, 30, 60]))
def test_divide_at_a_constant_rate_gives_parts_equal_to_a_frame(count, max_s, fps):
    parts = divide(np.arange(count + 1) / fps, 0, count, max_s)
    sizes = [b - a for a, b in parts]
    assert sum(sizes) == count
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= max_s * fps + 1
    assert len(parts) == max(1, int(np.ceil(count / fps / max_s - 1e-6)))


def scan_of(
    count: int,
    cuts: list[int],
    *,
    fps: int = 25,
    crop: Crop | None = None,
    trusted: bool = True,
    pts: list[int] | None = None,
) -> Scan:
    info = VideoInfo(container="mp4", codec="h264", pix_fmt="yuv420p", width=640, height=360, display_width=640,
                     display_height=360, rotation=0, sar="1:1", fps=fps, frames_hint=count, duration_s=count / fps,
                     bitrate_bps=1, has_audio=False, audio_codec=None)  # fmt: skip
    edges = [0, *cuts, count]
    made = [ScannedShot(Shot(a, b, "cut" if a else "start", a or None, a or None, 1.0), crop or Crop(0, 0, 640, 360))
            for a, b in zip(edges, edges[1:], strict=False)]  # fmt: skip
    pts = pts or [i * 3600 if trusted else None for i in range(count)]
    return Scan(info, timing_of(pts, Fraction(1, 90_000), [Fraction(fps)]), made, 0, "f")


def test_short_shots_and_small_pictures_make_no_clip():
    config = ClipConfig(min_s=1, max_s=20)
    planned = plan_clips("m", scan_of(200, [10, 35, 59]), config)
    assert [(c.spec.start_frame, c.spec.end_frame) for c in planned] == [(10, 35), (59, 200)]
    assert plan_clips("m", scan_of(200, [], crop=Crop(0, 0, 640, 62)), config) == []


def test_clips_carry_the_times_and_stamps_of_their_first_and_last_frame():
    (clip,) = plan_clips("m", scan_of(200, [150]), ClipConfig())[:1]
    assert (clip.spec.start_pts, clip.spec.last_pts) == (0, 149 * 3600)
    assert (clip.start_s, clip.end_s, clip.shot_index) == (0.0, 6.0, 0)


@pytest.mark.parametrize("jump_s", [110, 1e5, 1.7e9])
def test_no_clip_goes_over_a_jump_of_the_clock(jump_s):
    """And a jump of decades costs the driver no more than the frames there are."""
    late = [round(jump_s * 90_000) + i * 3600 for i in range(2000)]
    scan = scan_of(3000, [], pts=[*(i * 3600 for i in range(1000)), *late])
    planned = plan_clips("m", scan, ClipConfig(min_s=1, max_s=20))
    spans = [(c.spec.start_frame, c.spec.end_frame) for c in planned]
    assert [s for s in spans if s[0] < 1000] == [(0, 500), (500, 1000)]
    assert spans[2:] == [(1000, 1500), (1500, 2000), (2000, 2500), (2500, 3000)]
    assert all(c.end_s - c.start_s == pytest.approx(20) for c in planned)


def test_a_frame_before_a_jump_of_the_clock_makes_no_clip_of_its_own():
    late = [90_000 * 10**9 + i * 3600 for i in range(100)]
    scan = scan_of(101, [], pts=[0, *late])
    assert [c.spec.start_frame for c in plan_clips("m", scan, ClipConfig())] == [1]


@pytest.mark.parametrize("stands_s", [30, 75, 600])
def test_a_slide_show_keeps_its_slides_as_stills_within_the_bound(stands_s):
    """A picture that stands for half a minute is a picture that stands; a clip of it lasts as long as clips may."""
    scan = scan_of(4, [], pts=[stands_s * 90_000 * i for i in range(4)])
    planned = plan_clips("m", scan, ClipConfig())
    assert [(c.spec.start_frame, c.spec.end_frame) for c in planned] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert [(c.start_s, c.end_s, c.longest_frame_s) for c in planned] == [
        (pytest.approx(i * stands_s), pytest.approx(i * stands_s + 20), 20) for i in range(4)
    ]
    rows = [row_of(c) for c in planned]
    assert all(row["is_still"] and row["duration_s"] == pytest.approx(20) for row in rows)


def row_of(planned) -> dict:
    seconds = planned.end_s - planned.start_s
    encoded = {"width": 64, "height": 64, "num_frames": planned.spec.num_frames, "bytes": 99, "audio_note": None,
               "colour": {}, "fps": planned.spec.num_frames / seconds}  # fmt: skip
    return clip_row(planned, "m", encoded, "f")


def test_slides_of_different_lengths_never_share_more_than_a_clip_may_hold():
    scan = scan_of(8, [], pts=[15 * 90_000 * i for i in range(8)])
    planned = plan_clips("m", scan, ClipConfig())
    assert [c.end_s - c.start_s for c in planned] == [15] * 8
    scan = scan_of(4, [], pts=[90_000 * t for t in (0, 4, 9, 100)])
    planned = plan_clips("m", scan, ClipConfig())
    assert (planned[0].spec.end_frame, planned[0].start_s, planned[0].end_s) == (3, 0, pytest.approx(14))


def test_what_leads_to_a_slide_does_not_cost_it():
    """Ten frames of a fade in, then a picture for 12 s: the picture is the clip."""
    steps = [2000, 9000, 3000] * 10
    steps[10] = 12 * 90_000
    scan = scan_of(31, [11, 19], pts=[0, *np.cumsum(steps).tolist()])
    planned = plan_clips("m", scan, ClipConfig(min_s=2))
    assert [(c.spec.start_frame, c.spec.end_frame) for c in planned] == [(10, 11)]
    assert planned[0].end_s - planned[0].start_s == pytest.approx(12)


@pytest.mark.parametrize("gap_s", [0.6, 1.5, 40])
def test_no_clip_goes_over_a_hole(gap_s):
    pts = [3000 * i + (round(gap_s * 90_000) if i >= 100 else 0) for i in range(200)]
    planned = plan_clips("m", scan_of(200, [], fps=30, pts=pts), ClipConfig())
    assert [(c.spec.start_frame, c.spec.end_frame) for c in planned] == [(0, 100), (100, 200)]
    assert all(c.end_s - c.start_s == pytest.approx(100 / 30) for c in planned)
    assert planned[1].start_s == pytest.approx(100 / 30 + gap_s)
    assert all(c.longest_frame_s == pytest.approx(1 / 30, abs=1e-5) for c in planned)


def test_a_picture_that_freezes_inside_a_variable_rate_is_told_by_a_column():
    steps = [3600, 9000, 1800, 7200] * 30
    steps[60] = 3 * 90_000
    (clip,) = plan_clips("m", scan_of(121, [], pts=[0, *np.cumsum(steps).tolist()]), ClipConfig())
    assert clip.longest_frame_s == pytest.approx(3)


@given(runs=st.lists(st.integers(1, 20), max_size=40), start=st.integers(0, 500), length=st.integers(1, 300))
def test_corrupt_frames_of_a_span_are_those_in_it(runs, start, length):
    edges = np.cumsum([0, *runs])
    corrupt = tuple((int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=False))
    marked = {n for a, b in corrupt for n in range(a, b)}
    scan = replace(scan_of(10, []), corrupt=corrupt)
    assert scan.corrupt_in(start, start + length) == len(marked & set(range(start, start + length)))
    assert scan.corrupt_frames == len(marked)


def timelines() -> dict[str, Scan]:
    """Sources of each kind of clock, by integers alone."""
    steps = [3000 + 900 * (i * 7 % 5) for i in range(400)]
    variable = np.cumsum([0, *steps]).tolist()
    stands = [3600 * i + (25 * 90_000 if i > 150 else 0) for i in range(700)]
    hole = [3000 * i + (45_000 if i >= 100 else 0) + (100 * 90_000 if i >= 400 else 0) for i in range(900)]
    slides = [90_000 * t for t in (0, 4, 9, 29, 30, 100, 101)]
    return {
        "constant": scan_of(1700, [40, 700, 725]),
        "cropped": scan_of(130, [100], crop=Crop(8, 16, 512, 64)),
        "variable": scan_of(401, [90, 131], pts=variable),
        "stands": scan_of(700, [300], pts=stands),
        "holes": scan_of(900, [50, 95, 640], fps=30, pts=hole),
        "slides": scan_of(7, [3], pts=slides),
        "untrusted": scan_of(300, [120], trusted=False),
    }


CLIPS = {
    "constant": "6f92ee6ff214",
    "cropped": "5f2d12e87993",
    "variable": "ce3560b82ee3",
    "stands": "8613c10e3e1d",
    "holes": "30a3a2fc797d",
    "slides": "059e8903c28a",
    "untrusted": "8cebe712dd67",
}


@pytest.mark.parametrize("name", CLIPS)
def test_the_clips_of_a_source_stay_as_they_are(name: str) -> None:
    """Stores hold them: another answer cuts every source again. Raise CUTTING_VERSION with a change of these."""
    scan, spans = timelines()[name], [Span(1.0, 7.5, ("part",)), Span(3.0, 4.5, ("short",))]
    settings = [ClipConfig(), ClipConfig(min_s=0.5, max_s=3, min_side=65)]
    found = [plan_clips("m", scan, config, some) for config in settings for some in ([], spans)]
    told = [
        [row_of(c) | {"pts": [c.spec.start_pts, c.spec.last_pts], "seek": c.spec.may_seek} for c in clips]
        for clips in found
    ]
    rounded = json.loads(json.dumps(told), parse_float=lambda text: round(float(text), 5))
    assert hashlib.sha256(json.dumps(rounded, sort_keys=True).encode()).hexdigest()[:12] == CLIPS[name]


def test_an_id_says_what_the_clip_is_and_nothing_else():
    ids = {clip_id_of(m, a, b, (x, 0, 64, 64)) for m in "xy" for a in (0, 1) for b in (5, 6) for x in (0, 2)}
    assert len(ids) == 16
    assert (
        clip_id_of("abc", 0, 10, (0, 0, 640, 360)) == "e729fac130d736fae3935196"
    )  # stores hold these: they must never change
    assert all(len(i) == 24 and int(i, 16) >= 0 for i in ids)


def test_the_fingerprint_follows_the_encoding():
    assert clip_fingerprint(EncodeConfig()) == clip_fingerprint(EncodeConfig())
    assert clip_fingerprint(EncodeConfig()) != clip_fingerprint(EncodeConfig(crf=19))


@pytest.mark.parametrize("bad", [{"min_s": 11, "max_s": 20}, {"max_s": 0}, {"min_s": -1}, {"unknown": 1}])
def test_settings_that_make_no_sense_are_refused(bad):
    with pytest.raises(ValidationError):
        ClipConfig(**bad)


def test_no_transition_is_one_shot():
    assert [(s.start, s.end) for s in shots_from_transitions([], 7)] == [(0, 7)]
