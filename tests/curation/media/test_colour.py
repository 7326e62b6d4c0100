"""Colours of clips are their source's, by the tags of each; what reads clips sees them by their tags."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from reelwright.curation.media.colour import colour_of
from reelwright.curation.media.cut import CutSpec, Cutter
from reelwright.curation.media.decode import Video
from reelwright.curation.media.encode import ClipWriter, EncodeConfig, Encoded, Framing, Timing
from reelwright.curation.media.frames import Frames, sample
from tests.curation.media.colours import decoded, frame_of, patches, rgb_of, worst_patch, write_frames

WITHIN = 3.0  # of 255
SHARP = EncodeConfig(crf=4, preset="ultrafast")
RGB = patches()
FORMATS = ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p12le"]
BT709, BT2020, PQ, HLG = 1, 9, 16, 18


def cut(path: Path, config: EncodeConfig = SHARP, count: int = 3) -> Encoded:
    spec = CutSpec(0, count, (0, 0, RGB.shape[1], RGB.shape[0]))
    with Cutter(str(path), Fraction(25), config) as cutter:
        return cutter.cut(spec)


def source(folder: Path, format: str, matrix: int, range: int, transfer: int = 2, primaries: int = 2) -> Path:
    frames = [frame_of(RGB, format, matrix, range, transfer, primaries) for _ in "abc"]
    return write_frames(folder / "a.mkv", frames)


@pytest.mark.parametrize("short_side", [None, 96], ids=["same size", "scaled"])
@pytest.mark.parametrize("range", [0, 1, 2], ids=["no range", "limited", "full"])
@pytest.mark.parametrize("matrix", [1, 2, 4, 5, 6, 7, 9])
@pytest.mark.every(3)
def test_a_clip_shows_the_colours_of_its_source(tmp_path, matrix, range, short_side):
    config = SHARP.model_copy(update={"max_short_side": short_side})
    for format in FORMATS:
        frame = decoded(cut(source(tmp_path, format, matrix, range), config).mp4)[1]
        shown = rgb_of(frame_of(RGB, format, matrix, range))
        assert np.abs(shown - RGB).max() <= WITHIN  # eight bits' rounding of what was meant
        assert worst_patch(rgb_of(frame), shown) <= WITHIN, format
        assert frame.format.name == "yuv420p"
        assert frame.color_range in ((1,) if matrix != 2 else (0, 1))  # unspecified is read as limited
        assert {frame.colorspace, matrix} in ({matrix}, {5, 6})


@pytest.mark.parametrize("range", [0, 1], ids=["no range", "limited"])
def test_frames_that_need_no_conversion_reach_the_encoder_as_they_are(tmp_path, range):
    with Video(str(source(tmp_path, "yuv420p", 2, range))) as video:
        first = next(video.frames())
        place = first.planes[0].buffer_ptr
        whole = Framing((0, 0, RGB.shape[1], RGB.shape[0]))
        writer = ClipWriter(str(tmp_path / "clip.mp4"), first, video, SHARP, whole, Timing(Fraction(25)))
        writer.graph.vpush(first)
        assert writer.graph.vpull().planes[0].buffer_ptr == place, "no copy is made"
        writer.container.close()


RGB_KINDS = [("qtrle", "rgb24"), ("ffv1", "bgr0"), ("png", "rgb24"), ("ffv1", "gbrp10le")]


@pytest.mark.parametrize(("codec", "format"), RGB_KINDS)
def test_rgb_becomes_bt709_and_says_so(tmp_path, codec, format):
    frames = [av.VideoFrame.from_ndarray(RGB, format="rgb24").reformat(format=format) for _ in range(3)]
    path = write_frames(tmp_path / ("a.mkv" if codec == "ffv1" else "a.mov"), frames, codec)
    frame = decoded(cut(path).mp4)[1]
    assert worst_patch(rgb_of(frame), RGB) <= WITHIN
    assert frame.colorspace == BT709


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_is_kept_as_it_is_in_ten_bits(tmp_path, transfer):
    path = source(tmp_path, "yuv420p10le", BT2020, 1, transfer, 9)
    clip = cut(path)
    frame = decoded(clip.mp4)[1]
    assert frame.format.name == "yuv420p10le"
    assert (frame.colorspace, frame.color_trc, frame.color_primaries) == (BT2020, transfer, 9)
    assert worst_patch(rgb_of(frame), RGB) <= WITHIN
    assert clip.colour.names()["bit_depth"] == 10


def test_a_stream_whose_tags_change_half_way_keeps_its_colours(tmp_path):
    first = [frame_of(RGB, "yuv420p", BT709, 1) for _ in range(3)]
    second = [frame_of(RGB, "yuv420p", 6, 2) for _ in range(3)]
    for name, frames in (("a", first), ("b", second)):
        write_frames(tmp_path / f"{name}.h264", frames, "libx264", qp="0", preset="ultrafast")
    joined = tmp_path / "joined.h264"
    joined.write_bytes((tmp_path / "a.h264").read_bytes() + (tmp_path / "b.h264").read_bytes())
    frames = decoded(cut(joined, count=6).mp4)
    assert {f.colorspace for f in frames} == {BT709}
    shown = [rgb_of(f) for f in (*first, *second)]
    assert max(worst_patch(rgb_of(f), s) for f, s in zip(frames, shown, strict=True)) <= WITHIN


@pytest.mark.parametrize("matrix", [1, 2, 6, 7, 9])
def test_annotators_and_training_see_a_clip_by_its_tags(tmp_path, matrix):
    clip = cut(source(tmp_path, "yuv444p", matrix, 2))
    (seen,) = sample(clip.mp4, [Frames(count=1, height=RGB.shape[0], color="rgb")])
    assert worst_patch(seen[0].astype(float), RGB) <= WITHIN + 2  # 8-bit conversion of subsampled chroma


def test_transparent_pixels_show_black_whatever_lies_under_them(tmp_path):
    shown = np.zeros(RGB.shape[:2], bool)
    shown[:, : RGB.shape[1] // 2] = True
    rgba = np.dstack([RGB, np.where(shown, 255, 0).astype(np.uint8)])
    frames = [av.VideoFrame.from_ndarray(rgba, format="rgba") for _ in range(3)]
    path = write_frames(tmp_path / "a.mov", frames, "png")
    with av.open(str(path)) as file:
        assert colour_of(next(file.decode(video=0))).has_alpha
    got = rgb_of(decoded(cut(path).mp4)[1])
    assert worst_patch(got, np.where(shown[..., None], RGB, 0)) <= WITHIN


@pytest.mark.parametrize("matrix", [1, 2, 9])
@pytest.mark.parametrize("format", ["yuva420p", "yuva444p", "yuva444p10le"])
def test_what_is_opaque_keeps_its_colours_beside_transparency(tmp_path, format, matrix):
    base = frame_of(RGB, format.replace("yuva", "yuv"), matrix, 1)
    middle = RGB.shape[1] // 2
    frame = av.VideoFrame(base.width, base.height, format)
    kind = np.uint16 if "10" in format else np.uint8
    alpha = np.zeros((base.height, frame.planes[3].line_size // np.dtype(kind).itemsize), kind)
    alpha[:, :middle] = 1023 if "10" in format else 255
    for plane, data in zip(frame.planes, [*map(bytes, base.planes), alpha.tobytes()], strict=True):
        plane.update(data)
    frame.colorspace, frame.color_range = matrix, 1
    path = write_frames(tmp_path / "a.mkv", [frame] * 3)
    expected = rgb_of(base)
    expected[:, middle:] = 0
    assert worst_patch(rgb_of(decoded(cut(path).mp4)[1]), expected) <= WITHIN - 1
