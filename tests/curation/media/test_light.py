"""A clip of an HDR source that is kept as it is names the display it was graded on and its brightest light."""

import struct
from fractions import Fraction

import av
import pytest

from reelwright.curation.media.cut import CutSpec, Cutter
from reelwright.curation.media.decode import side_data_of
from reelwright.curation.media.encode import EncodeConfig
from reelwright.curation.media.light import x264_light
from tests.curation.media.colours import decoded, frame_of, patches

PQ = 16
DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"  # P3 in D65, 1,000 nits to 0.005
COLOURS = [(0.68, 0.32), (0.265, 0.69), (0.15, 0.06), (0.3127, 0.329)]  # the same by libavutil's order: R, G, B, white


def hdr10(path) -> str:
    """Write six frames of PQ in HEVC with both kinds of metadata."""
    coded = patches() * 0.6
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx265", rate=25)
        context = stream.codec_context
        context.height, context.width, context.pix_fmt = *coded.shape[:2], "yuv420p10le"
        context.options = {"x265-params": f"log-level=none:master-display={DISPLAY}:max-cll=800,300:hdr10=1"}
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 9, 9, PQ, 1
        for number in range(6):
            frame = frame_of(coded, "yuv420p10le", 9, 1, PQ, 9)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return str(path)


def light_of_clip(path, hdr: str) -> dict[str, bytes]:
    with av.open(path) as file:
        size = (0, 0, file.streams.video[0].width, file.streams.video[0].height)
    with Cutter(path, Fraction(25), EncodeConfig(preset="ultrafast", hdr=hdr)) as cutter:
        clip = cutter.cut(CutSpec(2, 6, size))
    return side_data_of(decoded(clip.mp4)[0])


def test_a_clip_of_hdr_that_is_kept_has_its_sources_metadata(tmp_path):
    found = light_of_clip(hdr10(tmp_path / "a.mp4"), "keep")
    assert struct.unpack("<II", found["CONTENT_LIGHT_LEVEL"][:8]) == (800, 300)
    numbers = struct.unpack("<22i", found["MASTERING_DISPLAY_METADATA"])
    values = [over / under for over, under in zip(numbers[:20:2], numbers[1:20:2], strict=True)]
    assert list(zip(values[:8:2], values[1:8:2], strict=True)) == [pytest.approx(xy, abs=1e-4) for xy in COLOURS]
    assert values[8:] == pytest.approx([0.005, 1000])


def test_a_tone_mapped_clip_has_none(tmp_path):
    found = light_of_clip(hdr10(tmp_path / "a.mp4"), "tonemap")
    assert not found.keys() & {"CONTENT_LIGHT_LEVEL", "MASTERING_DISPLAY_METADATA"}


@pytest.mark.parametrize(
    "fractions",
    [
        [1, 0] * 10,  # nothing over nothing
        [2, 1] * 8 + [1, 100, 1000, 1],  # colours that there are not
        [-1, 2] * 8 + [1, 100, 1000, 1],
        [1, 3] * 8 + [1, 100, 2_000_000_000, 1],  # light that fits no message
    ],
)
def test_metadata_that_makes_no_sense_is_left_out(fractions):
    assert x264_light({"MASTERING_DISPLAY_METADATA": struct.pack("<22i", *fractions, 1, 1)}) == []
    assert x264_light({"MASTERING_DISPLAY_METADATA": b"short", "CONTENT_LIGHT_LEVEL": bytes(8)}) == []
