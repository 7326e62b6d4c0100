"""A clip's frames are the source's, to the frame: told by the number drawn into each and by how close it is."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from reelwright.curation.media import cut as cut_module
from reelwright.curation.media.cut import CutSpec, Cutter
from reelwright.curation.media.decode import Video, orientation_of
from reelwright.curation.media.encode import EncodeConfig, Encoded, clip_size
from reelwright.curation.media.errors import MediaError
from reelwright.curation.timing import Timing, timing_of
from tests import footage
from tests.footage import (
    MIRRORED,
    MIRRORED_AND_TURNED,
    QUARTER_TURNS,
    frames,
    luma_of,
    number_of,
    psnr,
    times_of,
    write,
)

SHARP = EncodeConfig(crf=8, preset="ultrafast")
CLOSE_DB = 35.0


def timing(path: Path) -> Timing:
    """As the scan judges it."""
    with Video(str(path)) as video:
        pts = [f.pts for f in video.frames()]
        stream = video.stream
        return timing_of(pts, video.time_base, [stream.average_rate, stream.guessed_rate, stream.base_rate])


def upright_size(path: Path) -> tuple[int, int]:
    with Video(str(path)) as video:
        first = next(iter(video.frames()))
        return orientation_of(first).size(first.width, first.height)


def specs_of(path: Path, spans: Sequence[tuple[int, int]], crop: tuple[int, int, int, int] | None = None):
    seen, size = timing(path), upright_size(path)
    box = crop or (0, 0, *size)
    known, times = seen.pts is not None, seen.times_s()
    return seen, [
        CutSpec(
            start_frame=a,
            end_frame=b,
            crop=box,
            start_pts=int(seen.pts[a]) if known else None,
            last_pts=int(seen.pts[b - 1]) if known else None,
            duration_s=float(times[b] - times[a]),
        )
        for a, b in spans
    ]


def cut(path: Path, spans: Sequence[tuple[int, int]], config: EncodeConfig = SHARP, crop=None) -> list[Encoded]:
    seen, specs = specs_of(path, spans, crop)
    with Cutter(str(path), seen.rate, config) as cutter:
        return [cutter.cut(spec) for spec in specs]


def expect_exact(path: Path, spans: Sequence[tuple[int, int]], *, oracle: Path | None = None) -> list[Encoded]:
    """Cut, and compare every clip with a sequential decode (of `oracle`, where the source stands on its side)."""
    size = upright_size(path)
    whole = luma_of(oracle or path, size=size)
    clips = cut(path, spans)
    for (start, end), clip in zip(spans, clips, strict=True):
        got = luma_of(clip.mp4)
        assert len(got) == clip.num_frames == end - start
        assert [number_of(f) for f in got] == list(range(start, end))
        even = (size[0] & ~1, size[1] & ~1)
        for theirs, ours in ((whole[start], got[0]), (whole[end - 1], got[-1])):
            shown = theirs if even == size else _scaled(theirs, even)
            assert psnr(shown, ours) > CLOSE_DB
    return clips


def _scaled(luma: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    import cv2

    return cv2.resize(luma, size, interpolation=cv2.INTER_LANCZOS4)


SPANS = [(0, 12), (12, 13), (20, 45), (45, 60)]


KINDS: dict[str, Callable[[Path], Path]] = {
    "mp4, constant rate": lambda d: write(d / "a.mp4", frames(60)),
    "B pyramid": lambda d: write(d / "a.mp4", frames(60), preset="veryfast", bf="3", g="250"),
    "29.97": lambda d: write(d / "a.mp4", frames(60), fps=Fraction(30000, 1001)),
    "23.976 in mkv, ms ticks": lambda d: write(d / "a.mkv", frames(60), fps=Fraction(24000, 1001)),
    "mpeg-ts": lambda d: write(d / "a.ts", frames(60), bf="2", preset="veryfast"),
    "mpeg-2 program stream": lambda d: write(d / "a.mpg", frames(60), codec="mpeg2video", bf="2", qscale="2"),
    "webm": lambda d: write(d / "a.webm", frames(60), codec="libvpx", crf="4", cpu_used="8", b="4M"),
    "10 bit": lambda d: write(d / "a.mp4", frames(60), pix_fmt="yuv420p10le"),
    "4:4:4": lambda d: write(d / "a.mp4", frames(60), pix_fmt="yuv444p"),
    "4:2:2 prores": lambda d: write(d / "a.mov", frames(60), codec="prores_ks", pix_fmt="yuv422p10le"),
    "full range mjpeg": lambda d: write(d / "a.mov", frames(60), codec="mjpeg", pix_fmt="yuvj420p", qmin="1", qmax="2"),
    "rgb ffv1": lambda d: write(d / "a.mkv", frames(60), codec="ffv1", pix_fmt="bgr0"),
    "odd size": lambda d: write(d / "a.mp4", frames(60, 161, 97), pix_fmt="yuv444p"),
    "raw h264, no times": lambda d: write(d / "a.h264", frames(60), bf="2", preset="veryfast", format="h264"),
    "packed B avi": lambda d: footage.write_packed_avi(d / "a.avi", frames(60)),
    "h264 avi": lambda d: write(d / "a.avi", frames(60), preset="veryfast"),
    "gif": lambda d: write(d / "a.gif", frames(60), codec="gif", pix_fmt="rgb8"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.every(2)
def test_cut_is_frame_exact(tmp_path, kind):
    path = KINDS[kind](tmp_path)
    assert timing(path).num_frames == 60
    expect_exact(path, SPANS)


@pytest.mark.parametrize("kind", ["raw h264, no times", "packed B avi", "h264 avi"])
def test_these_kinds_have_times_that_are_not_trusted(tmp_path, kind):
    seen = timing(KINDS[kind](tmp_path))
    assert seen.pts is None
    assert seen.rate == 25


def test_a_variable_rate_keeps_its_times_to_a_tick(tmp_path):
    steps = np.random.default_rng(0).integers(1500, 9000, 60)
    pts = [0, *np.cumsum(steps[:-1]).tolist()]
    path = write(tmp_path / "vfr.mp4", frames(60), pts=pts)
    seen = timing(path)
    assert seen.is_vfr
    for (start, end), clip in zip(SPANS, expect_exact(path, SPANS), strict=True):
        expect = (np.array(pts[start:end]) - pts[start]) / 90_000
        np.testing.assert_allclose(times_of(clip.mp4), expect, atol=1.01 / 90_000)


@pytest.mark.parametrize("rotation", [*QUARTER_TURNS.values(), MIRRORED, MIRRORED_AND_TURNED], ids=str)
def test_clips_stand_as_players_show_them(tmp_path, rotation):
    path = footage.set_display_matrix(write(tmp_path / "a.mp4", frames(30)), rotation)
    shown = tmp_path / "shown.mkv"  # by ffmpeg, which turns by default
    footage.ffmpeg("-i", str(path), "-c:v", "ffv1", "-pix_fmt", "yuv420p", str(shown))
    with av.open(str(shown)) as file:
        assert upright_size(path) == (file.streams.video[0].width, file.streams.video[0].height)
    whole = luma_of(shown)
    for (start, end), clip in zip([(0, 10), (10, 30)], cut(path, [(0, 10), (10, 30)]), strict=True):
        got = luma_of(clip.mp4)
        assert len(got) == end - start
        assert psnr(whole[start], got[0]) > CLOSE_DB
        assert psnr(whole[end - 1], got[-1]) > CLOSE_DB


def test_pixels_come_out_square(tmp_path):
    lying = write(tmp_path / "lying.mp4", frames(20, 144, 96), sar=Fraction(4, 3))
    upright = footage.set_display_matrix(Path(shutil.copy(lying, tmp_path / "upright.mp4")), QUARTER_TURNS[90])
    for path, size in ((lying, (192, 96)), (upright, (72, 144))):  # the height is kept, as players do
        (clip,) = cut(path, [(5, 15)])
        with av.open(_file(clip)) as file:
            stream = file.streams.video[0]
            assert (stream.width, stream.height) == (clip.width, clip.height) == size
            assert stream.sample_aspect_ratio in (None, 0, 1)


def test_interlaced_frames_are_deinterlaced_one_for_one(tmp_path):
    path = write(tmp_path / "a.mp4", frames(60), x264opts="fake-interlaced=1", flags="+ildct+ilme")
    woven = cut(path, SPANS, EncodeConfig(crf=8, preset="ultrafast", deinterlace=False))
    made = cut(path, SPANS)
    for (start, end), as_is, clip in zip(SPANS, woven, made, strict=True):
        for one in (as_is, clip):
            assert [number_of(f) for f in luma_of(one.mp4)] == list(range(start, end))
        assert (as_is.mp4 != clip.mp4) == (clip.num_frames > 1)  # one frame has no neighbours to go by


def test_open_groups_of_pictures_after_a_far_seek(tmp_path, monkeypatch):
    """x264's open GOPs: a keyframe whose leading B frames refer to the group before it, wrong after a seek."""
    monkeypatch.setattr(cut_module, "SEEK_MARGIN_S", 0.5)
    options = {"preset": "veryfast", "x264opts": "open-gop=1:bframes=3:b-adapt=0:keyint=20:min-keyint=20:scenecut=0"}
    path = write(tmp_path / "a.mp4", frames(300), g="20", **options)
    spans = [(a, a + 9) for a in range(0, 291, 17)]  # in every place of a group, each past a jump
    whole = luma_of(path)
    for (start, end), clip in zip(spans, cut(path, spans), strict=True):
        got = luma_of(clip.mp4)
        assert [number_of(f) for f in got] == list(range(start, end))
        assert min(psnr(a, b) for a, b in zip(whole[start:end], got, strict=True)) > CLOSE_DB


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi", "a.h264"])
def test_gaps_are_jumped_over_and_clips_may_be_asked_for_in_any_order(tmp_path, monkeypatch, name):
    monkeypatch.setattr(cut_module, "SEEK_MARGIN_S", 0.5)
    path = write(tmp_path / name, frames(300), preset="veryfast", format="h264" if name == "a.h264" else None)
    expect_exact(path, [(0, 5), (150, 160), (290, 300), (100, 105), (101, 104), (0, 2)])


def test_far_clips_are_reached_without_decoding_what_lies_between(tmp_path):
    path = write(tmp_path / "a.mp4", frames(900), g="25")
    seen, (spec,) = specs_of(path, [(850, 860)])
    with Cutter(str(path), seen.rate, SHARP) as cutter:
        cutter.cut(spec)
        assert cutter.next_index is None  # it has jumped


def test_a_delayed_start_and_an_edit_list(tmp_path):
    """`-ss` with stream copy leaves an edit list: the first frames are decoded and never shown."""
    whole = write(tmp_path / "whole.mp4", frames(100), g="50", preset="veryfast", bf="2")
    trimmed, late = tmp_path / "trimmed.mp4", tmp_path / "late.mp4"
    footage.ffmpeg("-ss", "0.68", "-i", str(whole), "-c", "copy", str(trimmed))
    sound = footage.clicks([0.5], 5)
    voiced = write(tmp_path / "voiced.mp4", frames(100), sound=sound)
    footage.ffmpeg("-i", str(voiced), "-itsoffset", "1.5", "-i", str(voiced), "-map", "0:a", "-map", "1:v", "-c",
                   "copy", str(late))  # fmt: skip
    shown = [number_of(f) for f in luma_of(trimmed)]
    assert shown[0] == 17
    (clip,) = cut(trimmed, [(3, 20)])
    assert [number_of(f) for f in luma_of(clip.mp4)] == shown[3:20]
    expect_exact(late, [(0, 10), (60, 100)])
    with Video(str(late)) as video:
        assert float(next(iter(video.frames())).time) == pytest.approx(1.5, abs=0.1)


def test_the_same_bytes_every_time(tmp_path):
    path = write(tmp_path / "a.mp4", frames(60), sound=footage.clicks([1.0], 2.4))
    config = EncodeConfig(preset="veryfast", audio="aac")
    once, again = cut(path, SPANS, config), cut(path, list(reversed(SPANS)), config)
    assert [c.mp4 for c in once] == [c.mp4 for c in reversed(again)]


@pytest.mark.parametrize(("fps", "count"), [(10, 20), (50, 100), (24000 / 1001, 48)])
def test_resampling_keeps_the_length(tmp_path, fps, count):
    path = write(tmp_path / "a.mp4", frames(60))
    (clip,) = cut(path, [(5, 55)], EncodeConfig(crf=8, preset="ultrafast", fps=fps))
    numbers = [number_of(f) for f in luma_of(clip.mp4)]
    assert len(numbers) == clip.num_frames == pytest.approx(count, abs=1)
    assert clip.fps == pytest.approx(fps, rel=1e-3)
    assert numbers[0] == 5
    assert numbers == sorted(numbers)
    assert all(abs(n - 5 - i * 25 / fps) <= 1 for i, n in enumerate(numbers))


def test_a_variable_rate_resampled_is_constant(tmp_path):
    pts = [0, *np.cumsum(np.random.default_rng(1).integers(1500, 9000, 59)).tolist()]
    path = write(tmp_path / "a.mp4", frames(60), pts=pts)
    (clip,) = cut(path, [(10, 50)], EncodeConfig(crf=8, preset="ultrafast", fps=20))
    times, numbers = times_of(clip.mp4), [number_of(f) for f in luma_of(clip.mp4)]
    np.testing.assert_allclose(np.diff(times), 0.05, atol=1e-3)
    assert len(times) == pytest.approx((pts[50] - pts[10]) / 90_000 * 20, abs=1)
    for t, n in zip(times, numbers, strict=True):  # the frame that is on at that time, or the next within a half step
        shown = np.searchsorted(np.array(pts), pts[10] + 90_000 * (t + 0.026), side="right") - 1
        assert abs(int(shown) - n) <= 1


def test_a_crop_is_of_upright_pixels(tmp_path):
    path = footage.set_display_matrix(write(tmp_path / "a.mp4", frames(20)), QUARTER_TURNS[90])
    (clip,) = cut(path, [(3, 9)], crop=(10, 20, 64, 96))
    shown = tmp_path / "shown.mkv"
    footage.ffmpeg("-i", str(path), "-c:v", "ffv1", "-pix_fmt", "yuv420p", str(shown))
    assert (clip.width, clip.height) == (64, 96)
    assert psnr(luma_of(shown)[3][20:116, 10:74], luma_of(clip.mp4)[0]) > CLOSE_DB


def test_the_short_side_is_bounded_and_nothing_is_enlarged(tmp_path):
    path = write(tmp_path / "a.mp4", frames(10))
    (small,) = cut(path, [(0, 10)], EncodeConfig(preset="ultrafast", max_short_side=48))
    (same,) = cut(path, [(0, 10)], EncodeConfig(preset="ultrafast", max_short_side=1080))
    assert (small.width, small.height) == (80, 48)
    assert (same.width, same.height) == (160, 96)
    assert clip_size((0, 0, 97, 161), Fraction(1), None) == (96, 160)


def test_clips_are_plain_h264_that_plays_anywhere(tmp_path):
    path = write(tmp_path / "a.mp4", frames(20), pix_fmt="yuv444p")
    (clip,) = cut(path, [(0, 20)])
    with av.open(_file(clip)) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.start_time == 0
        assert stream.average_rate == 25
    assert clip.mp4.index(b"moov") < clip.mp4.index(b"mdat")


def test_a_source_that_changed_since_the_scan_is_an_error(tmp_path):
    path = write(tmp_path / "a.mp4", frames(60))
    seen, specs = specs_of(path, [(20, 50)])
    shutil.copy(write(tmp_path / "b.mp4", frames(30)), path)
    with Cutter(str(path), seen.rate, SHARP) as cutter, pytest.raises(MediaError, match="decode: frames 20..50"):
        cutter.cut(specs[0])


def joined(folder: Path, *parts: Path) -> Path:
    """MPEG-TS files are joined by joining their bytes."""
    path = folder / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


@pytest.mark.parametrize("larger_first", [False, True])
def test_a_stream_that_changes_its_size_half_way_is_cut(tmp_path, larger_first):
    """Crops lie in the first frame's picture, also those of clips that begin after the change."""
    first, second = ((320, 192), (160, 96))[:: 1 if larger_first else -1]
    both = joined(
        tmp_path, write(tmp_path / "a.ts", frames(30, *first)), write(tmp_path / "b.ts", frames(30, *second, first=30))
    )
    seen, specs = specs_of(both, [(0, 25), (20, 40), (35, 60)])
    with Cutter(str(both), seen.rate, SHARP) as cutter:
        clips = [cutter.cut(replace(spec, size=first)) for spec in specs]
    for spec, clip in zip(specs, clips, strict=True):
        assert (clip.width, clip.height) == first
        assert [number_of(f) for f in luma_of(clip.mp4)] == list(range(spec.start_frame, spec.end_frame))


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv444p"])
def test_a_stream_that_changes_its_pixel_format_half_way_is_cut(tmp_path, pix_fmt):
    second = write(tmp_path / "b.ts", frames(30, first=30), pix_fmt=pix_fmt)
    both = joined(tmp_path, write(tmp_path / "a.ts", frames(30)), second)
    (clip,) = cut(both, [(10, 50)])
    assert [number_of(f) for f in luma_of(clip.mp4)] == list(range(10, 50))


def test_where_frames_are_counted_a_file_is_decoded_once_for_all_clips(tmp_path, monkeypatch):
    path = write(tmp_path / "a.avi", frames(300), preset="veryfast")
    decoded = []
    real = Video.frames

    def counted(video: Video):
        for frame in real(video):
            decoded.append(frame.pts)
            yield frame

    seen, specs = specs_of(path, [(a, a + 15) for a in range(0, 300, 15)])
    monkeypatch.setattr(Video, "frames", counted)
    with Cutter(str(path), seen.rate, SHARP) as cutter:
        for spec in specs:
            cutter.cut(spec)
        assert len(decoded) == 300
        cutter.cut(specs[0])  # the only way back is from the start
        assert len(decoded) == 315


def _file(clip: Encoded):
    import io

    return io.BytesIO(clip.mp4)
