"""From a scan to clips: they last as long as their frames are shown, and begin with the source's frames."""

import io
from pathlib import Path

import av
import numpy as np
import pytest

from reelwright.curation.borders import BorderConfig
from reelwright.curation.clips import ClipConfig, plan_clips
from reelwright.curation.media import cut as cut_module
from reelwright.curation.media.cut import Cutter
from reelwright.curation.media.encode import EncodeConfig
from reelwright.curation.scan import Scan, ScanLimits, scan
from reelwright.curation.shots import ShotConfig
from tests import footage
from tests.curation.media.test_cut import CLOSE_DB, SHARP, cut
from tests.footage import frames, luma_of, number_of, psnr, shots, times_of, write


def scanned(path: Path) -> Scan:
    return scan(str(path), ShotConfig(detector="pyscenedetect"), BorderConfig(), ScanLimits())


def test_frames_that_are_falsely_marked_as_keyframes_are_not_seeked_to(tmp_path, monkeypatch):
    """Without `stss`, every frame of an mp4 counts as a keyframe; MPEG-4's decoder starts at any, with garbage."""
    monkeypatch.setattr(cut_module, "SEEK_MARGIN_S", 0.5)
    path = write(tmp_path / "a.mp4", frames(200), codec="mpeg4", qscale="2", g="100", flags="+qscale")
    path.write_bytes(path.read_bytes().replace(b"stss", b"free"))
    found = scanned(path)
    assert not found.can_seek
    planned = plan_clips("m", found, ClipConfig(min_s=0.5, max_s=2))
    assert len(planned) == 4
    whole = luma_of(path)
    with Cutter(str(path), found.timing.rate, SHARP) as cutter:
        for clip in (planned[0], planned[2], planned[1]):
            got = luma_of(cutter.cut(clip.spec).mp4)
            span = whole[clip.spec.start_frame : clip.spec.end_frame]
            assert min(psnr(a, b) for a, b in zip(span, got, strict=True)) > CLOSE_DB


def held(count: int, at: int, hold_s: float) -> list[int]:
    """Times of `count` frames at 30 a second, in ticks; frame `at` comes so many seconds late."""
    return [3000 * i + (round(90_000 * hold_s) if i >= at else 0) for i in range(count)]


def test_a_hold_before_a_cut_does_not_slow_the_clip_after_it(tmp_path):
    """Stored by decoding time, the hold is the duration of a frame far behind it in order of showing."""
    path = write(tmp_path / "a.mp4", shots((50, 50)), pts=held(100, 50, 10), preset="veryfast", bf="3")
    found = scanned(path)
    planned = plan_clips("m", found, ClipConfig())
    assert [(c.spec.start_frame, c.spec.end_frame) for c in planned] == [(0, 50), (50, 100)]
    with Cutter(str(path), found.timing.rate, SHARP) as cutter:
        for clip in planned:
            cut_out = cutter.cut(clip.spec)
            assert cut_out.fps == pytest.approx(30, rel=1e-3)
            assert clip.end_s - clip.start_s == pytest.approx(50 / 30, rel=1e-3)
            with av.open(io.BytesIO(cut_out.mp4)) as file:
                stream = file.streams.video[0]
                assert float(stream.duration * stream.time_base) == pytest.approx(50 / 30, abs=0.01)


def test_a_clip_of_a_variable_rate_is_as_long_as_its_frames_are_shown(tmp_path):
    steps = [2000, 4000, 3000, 9000] * 25
    path = write(tmp_path / "a.mp4", frames(100), pts=[0, *np.cumsum(steps[:-1]).tolist()], preset="veryfast", bf="3")
    found = scanned(path)
    (clip,) = plan_clips("m", found, ClipConfig())
    with Cutter(str(path), found.timing.rate, SHARP) as cutter:
        cut_out = cutter.cut(clip.spec)
    assert found.timing.is_vfr
    assert clip.end_s == pytest.approx(sum(steps) / 90_000, abs=0.06)
    assert cut_out.num_frames / cut_out.fps == pytest.approx(clip.end_s - clip.start_s)
    assert clip.longest_frame_s == pytest.approx(0.1)
    np.testing.assert_allclose(np.diff(times_of(cut_out.mp4)), np.array(steps[:-1]) / 90_000, atol=1e-4)


@pytest.mark.parametrize("fps", [None, 10.0])
def test_a_slide_is_a_still_no_longer_than_a_clip_may_be(tmp_path, fps):
    path = write(tmp_path / "a.mp4", shots((1, 1, 1)), pts=[0, 75 * 90_000, 150 * 90_000])
    found = scanned(path)
    planned = plan_clips("m", found, ClipConfig())
    assert [(c.spec.start_frame, c.start_s, c.end_s) for c in planned] == [(0, 0, 20), (1, 75, 95), (2, 150, 170)]
    config = EncodeConfig(crf=8, preset="ultrafast", fps=fps)
    with Cutter(str(path), found.timing.rate, config) as cutter:
        for clip in planned:
            cut_out = cutter.cut(clip.spec)
            assert cut_out.num_frames / cut_out.fps == pytest.approx(20, rel=0.01)
            assert cut_out.num_frames == (200 if fps else 1)
            assert {number_of(f) for f in luma_of(cut_out.mp4)} == {clip.spec.start_frame}


@pytest.mark.parametrize("tags", [("0", "0", "0"), ("8", "1", "1"), ("14", "9", "22"), ("10", "10", "3")])
def test_no_colour_tag_loses_a_file(tmp_path, tags):
    path, plain = tmp_path / "a.mp4", write(tmp_path / "plain.mp4", frames(30))
    matrix, transfer, primaries = tags
    marks = {"colour_primaries": primaries, "transfer_characteristics": transfer, "matrix_coefficients": matrix}
    written = "h264_metadata=" + ":".join(f"{name}={value}" for name, value in marks.items())
    footage.ffmpeg("-i", str(plain), "-c", "copy", "-bsf:v", written, str(path))
    found = scanned(path)
    assert any(tag.startswith("matrix") for tag in found.odd_tags)
    (clip,) = cut(path, [(0, 30)])
    assert [number_of(f) for f in luma_of(clip.mp4)] == list(range(30))


def test_a_hole_ends_a_clip_and_the_rate_holds_on_either_side(tmp_path):
    """Packets of a span are lost: what is left is two clips of the source's rate, not one that jumps."""
    path = write(tmp_path / "a.ts", frames(200), g="25", fps=25)
    cut_off = tmp_path / "hole.mkv"
    footage.ffmpeg("-i", str(path), "-c", "copy", "-bsf:v", "noise=drop='between(n,75,124)'", str(cut_off))
    found = scanned(cut_off)
    assert (found.timing.rate, found.timing.holes) == (25, (75,))
    planned = plan_clips("m", found, ClipConfig())
    assert [(c.spec.start_frame, c.spec.end_frame) for c in planned] == [(0, 75), (75, 150)]
    assert [(c.start_s, c.end_s) for c in planned] == [(0, pytest.approx(3)), (pytest.approx(5), pytest.approx(8))]
    with Cutter(str(cut_off), found.timing.rate, SHARP) as cutter:
        for clip, first in zip(planned, (0, 125), strict=True):
            cut_out = cutter.cut(clip.spec)
            assert cut_out.fps == 25
            assert [number_of(f) for f in luma_of(cut_out.mp4)] == list(range(first, first + 75))


@pytest.mark.parametrize("fps", [24, 25, 30, 50])
@pytest.mark.parametrize("b_frames", ["0", "2"])
def test_the_rate_of_h264_that_was_copied_into_avi_is_the_one_that_its_length_agrees_with(tmp_path, fps, b_frames):
    path = write(tmp_path / "a.mp4", frames(60), fps=fps, preset="veryfast", bf=b_frames)
    copied = tmp_path / "a.avi"
    footage.ffmpeg("-i", str(path), "-c", "copy", str(copied))
    timing = scanned(copied).timing
    assert (timing.rate, timing.num_frames) == (fps, 60)


@pytest.mark.parametrize("name", ["a.h264", "a.m2v", "a.m4v"])
def test_a_raw_stream_has_the_rate_that_its_codec_says(tmp_path, name):
    codec = {"a.h264": "libx264", "a.m2v": "mpeg2video", "a.m4v": "mpeg4"}[name]
    options = {"preset": "veryfast"} if codec == "libx264" else {"qscale": "3"}
    form = {"a.h264": "h264", "a.m2v": "mpeg2video", "a.m4v": "m4v"}[name]
    path = write(tmp_path / name, frames(40), fps=30, codec=codec, format=form, **options)
    assert scanned(path).timing.rate == 30


def test_frames_that_the_decoder_marks_as_corrupt_are_counted_where_they_are(tmp_path):
    path = write(tmp_path / "a.mp4", frames(120), preset="veryfast", g="20")
    with av.open(str(path)) as file:
        packets = [p for p in file.demux(video=0) if p.size]
        hit = packets[50]
        at, size, pts = hit.pos, hit.size, hit.pts
    data = bytearray(path.read_bytes())
    data[at + size // 2 : at + size] = bytes(size - size // 2)
    path.write_bytes(data)
    found = scanned(path)
    number = int(np.flatnonzero(found.timing.pts == pts)[0])
    assert found.corrupt == ((number, number + 1),)
    planned = plan_clips("m", found, ClipConfig(min_s=0.5, max_s=1.2))
    assert [c.corrupt_frames for c in planned] == [
        int(c.spec.start_frame <= number < c.spec.end_frame) for c in planned
    ]
    assert sum(c.corrupt_frames for c in planned) == found.corrupt_frames == 1
