"""Pictures taken from the encoder are those that a decoder of the clip gives, and the clip is the same."""

import os
from pathlib import Path

import numpy as np
import pytest

from reelwright.annotate import annotate_clip, load
from reelwright.curation.media import frames as frames_module
from reelwright.curation.media.coded import CodedClip, PictureDump, dump_of
from reelwright.curation.media.cut import Cutter
from reelwright.curation.media.encode import EncodeConfig, Encoded
from reelwright.curation.media.frames import Frames, read
from tests.curation.media.colours import frame_of, patches
from tests.curation.media.test_cut import KINDS, SPANS, specs_of
from tests.footage import frames, write

ROOM = 64 << 20
ALL = 100
NEEDS = (
    Frames(count=ALL, height=48),
    Frames(count=ALL, height=36, color="rgb"),
    Frames(count=7, height=96, pairs=True, every_line=True),
    Frames(count=ALL, height=200, color="rgb"),
)


def cut(path: Path, spans: list[tuple[int, int]], room: int, config: EncodeConfig | None = None) -> list[Encoded]:
    seen, specs = specs_of(path, spans)
    with Cutter(str(path), seen.rate, config or EncodeConfig(), coded_bytes=room) as cutter:
        return [cutter.cut(spec) for spec in specs]


def expect_as_decoded(clip: Encoded) -> None:
    assert clip.pictures is not None
    decoded, taken = read(clip.mp4, NEEDS), read(clip.mp4, NEEDS, clip.pictures)
    assert decoded[0] == taken[0]
    for theirs, ours in zip(decoded[1], taken[1], strict=True):
        np.testing.assert_array_equal(theirs, ours)


@pytest.mark.parametrize("kind", ["B pyramid", "4:4:4", "full range mjpeg", "rgb ffv1", "odd size", "packed B avi"])
def test_pictures_are_those_that_a_decoder_gives_and_clips_stay_the_same(tmp_path, kind):
    path = KINDS[kind](tmp_path)
    for clip, plain in zip(cut(path, SPANS, ROOM), cut(path, SPANS, 0), strict=True):
        assert clip.mp4 == plain.mp4
        assert plain.pictures is None
        expect_as_decoded(clip)


@pytest.mark.parametrize("size", [(16, 16), (34, 18), (66, 50), (130, 94), (322, 182), (854, 478)])
def test_sizes_that_fill_no_block(tmp_path, size):
    path = write(tmp_path / "a.mp4", [np.ascontiguousarray(f[: size[1], : size[0]]) for f in frames(9, 896, 512)])
    (clip,) = cut(path, [(0, 9)], ROOM)
    assert (clip.width, clip.height) == size
    expect_as_decoded(clip)


@pytest.mark.parametrize(("matrix", "range"), [(1, 1), (5, 1), (6, 2), (7, 1), (9, 1), (2, 1), (2, 0)])
def test_colours(tmp_path, matrix, range):
    import av

    path, rgb = tmp_path / "a.mkv", patches()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = rgb.shape[1], rgb.shape[0], "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, range
        for index in np.arange(6):
            frame = frame_of(np.roll(rgb, index, 1), "yuv420p", matrix, range)
            frame.pts = int(index)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (clip,) = cut(path, [(0, 6)], ROOM)
    expect_as_decoded(clip)


def test_annotators_find_the_same_and_decode_nothing(tmp_path, monkeypatch):
    (clip,) = cut(KINDS["B pyramid"](tmp_path), [(0, 60)], ROOM)
    annotators = [load(name, {}) for name in ("motion", "blur", "light", "texture", "technical")]
    decoded = annotate_clip(clip.mp4, annotators)

    def no_decoding(*_: object) -> None:
        raise AssertionError("a frame was decoded")

    monkeypatch.setattr(frames_module, "decode_wanted", no_decoding)
    assert annotate_clip(clip.mp4, annotators)[1]  # which fails
    assert annotate_clip(CodedClip(clip.mp4, clip.pictures), annotators) == decoded
    assert not decoded[1]


@pytest.mark.parametrize(
    ("kind", "room", "config"),
    [
        ("B pyramid", 60 * 160 * 96 * 3 // 2 - 1, {}),
        ("B pyramid", ROOM, {"fps": 12.0}),
        ("B pyramid", 0, {}),
    ],
    ids=["too large", "another rate", "not asked for"],
)
def test_where_no_pictures_are_taken(tmp_path, kind, room, config):
    (clip,) = cut(KINDS[kind](tmp_path), [(0, 60)], room, EncodeConfig(**config))
    assert clip.pictures is None


def test_ten_bits_are_decoded(tmp_path):
    path = write(tmp_path / "a.mp4", frames(20), pix_fmt="yuv420p10le", color_trc="smpte2084", colorspace="bt2020nc")
    (clip,) = cut(path, [(0, 20)], ROOM)
    assert clip.colour.depth == 10
    assert clip.pictures is None


@pytest.mark.parametrize("missing", ["first", "last", "none"])
def test_pictures_that_were_not_all_written_are_not_taken(missing):
    """x264 says nothing when it cannot write."""
    size, count = 64 * 64 * 3 // 2, 4
    dump = dump_of(64, 64, count, ROOM)
    assert isinstance(dump, PictureDump)
    with open(dump.parameter.removeprefix("dump-yuv="), "r+b") as file:
        for index in range(count):
            if (missing, index) not in {("first", 0), ("last", count - 1)}:
                os.pwrite(file.fileno(), bytes([index]) * size, index * size)
    taken = dump.taken(count, 1)
    dump.close()
    if missing != "none":
        assert taken is None
    else:
        assert [int(picture.max()) for picture in taken.pictures] == [0, 1, 2, 3]


def test_nothing_of_a_clip_stays_open(tmp_path):
    path = KINDS["B pyramid"](tmp_path)
    cut(path, SPANS, ROOM)
    before = sorted(os.listdir("/proc/self/fd"))
    cut(path, SPANS, ROOM)
    assert sorted(os.listdir("/proc/self/fd")) == before
