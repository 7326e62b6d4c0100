"""Sampling equals picking from a full decode, and does less work."""

import io

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.frames import Frames, read, sample
from tests.annotate.synth import encode, moved, texture


def all_frames(mp4: bytes, need: Frames) -> np.ndarray:
    """Oracle: decode everything, convert everything."""
    pixels = {"gray": "gray", "rgb": "rgb24"}[need.color]
    with av.open(io.BytesIO(mp4)) as container:
        frames = list(container.decode(video=0))
    size = need.size(frames[0].width, frames[0].height)
    return np.stack([f.reformat(*size, format=pixels, interpolation="AREA").to_ndarray() for f in frames])


@pytest.fixture(scope="module")
def clips() -> dict[str, bytes]:
    picture = texture(200, 300)
    path = 40 * np.sin(np.arange(40) / 5)
    frames = moved(picture, path, path / 2, 96, 160)
    return {
        "b pyramid": encode(frames),
        "no b frames": encode(frames, bf="0"),
        "open gop": encode(frames, g="8", x264opts="open-gop=1:b-pyramid=strict"),
        "short gop": encode(frames, g="5"),
        "index first": encode(frames, container={"movflags": "faststart"}),
        "one frame": encode(frames[:1]),
        "two frames": encode(frames[:2]),
        "odd size": encode([f[:95, :159] for f in frames]),
        "portrait": encode([np.ascontiguousarray(f.transpose(1, 0, 2)) for f in frames]),
    }


NEEDS = st.builds(
    Frames,
    count=st.integers(1, 60),
    height=st.sampled_from([16, 48, 96, 128]),
    color=st.sampled_from(["gray", "rgb"]),
    pairs=st.booleans(),
    step=st.integers(1, 3),
)
KINDS = st.sampled_from(
    [
        "b pyramid",
        "no b frames",
        "open gop",
        "short gop",
        "index first",
        "one frame",
        "two frames",
        "odd size",
        "portrait",
    ]
)


@given(kind=KINDS, needs=st.lists(NEEDS, min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_samples_equal_a_full_decode_at_their_indices(clips, kind, needs):
    num_frames = read(clips[kind])[0].num_frames
    for need, got in zip(needs, sample(clips[kind], needs), strict=True):
        expect = all_frames(clips[kind], need)
        assert len(expect) == num_frames
        expect = expect[need.frame_indices(num_frames, 24)]
        if need.pairs:
            expect = expect.reshape(-1, 2, *expect.shape[1:])
        np.testing.assert_array_equal(got, expect)


@given(count=st.integers(1, 100), num_frames=st.integers(1, 1000))
def test_samples_are_distinct_and_evenly_spread(count, num_frames):
    indices = Frames(count=count).indices(num_frames, fps=24)
    assert len(indices) == min(count, num_frames)
    assert indices == sorted(set(indices))
    assert indices[0] >= 0
    assert indices[-1] < num_frames
    gaps = np.diff([-1 - indices[0], *indices, 2 * num_frames - 1 - indices[-1]])  # as if mirrored at both ends
    assert gaps.max() - gaps.min() <= 2


def test_a_rate_gives_samples_by_duration():
    assert len(Frames(rate=2).indices(num_frames=120, fps=24)) == 10
    assert len(Frames(rate=2).indices(num_frames=2, fps=24)) == 1


def test_the_shorter_side_is_scaled_to_the_height_and_a_ribbon_is_bounded():
    assert Frames(count=1, height=360).size(1920, 1080) == (640, 360)
    assert Frames(count=1, height=360).size(1080, 1920) == (360, 640)
    assert max(Frames(count=1, height=360).size(4000, 20)) <= 4 * 360


def test_facts_come_without_decoding(clips):
    facts, arrays = read(clips["short gop"])
    assert arrays == []
    assert (facts.codec, facts.width, facts.height, facts.num_frames, facts.fps) == ("h264", 160, 96, 40, 24.0)
    assert facts.duration_s == pytest.approx(40 / 24, abs=0.01)
    assert facts.num_keyframes == 8
    assert 0 < facts.video_bytes < facts.num_bytes == len(clips["short gop"])
    assert not facts.has_audio


@pytest.mark.parametrize(
    "mp4", [b"", b"not a video", b"#EXTM3U\n#EXTINF:1\n/etc/passwd\n"], ids=["empty", "text", "hls"]
)
def test_bytes_that_are_no_clip_raise_one_clear_error(mp4):
    with pytest.raises(MediaError, match="does not decode"):
        sample(mp4, [Frames(count=1)])


def test_a_clip_that_is_cut_off_raises_rather_than_giving_fewer_frames(clips):
    whole = clips["index first"]
    with pytest.raises(MediaError, match=r"cut off|does not decode"):
        sample(whole[: len(whole) * 2 // 3], [Frames(count=40)])


@pytest.mark.parametrize("options", [{}, {"count": 1, "rate": 1.0}, {"count": 0}, {"count": 1, "height": -1}])
def test_a_need_that_makes_no_sense_is_refused(options):
    with pytest.raises(ValueError, match=r"^Frames"):
        Frames(**options)


@pytest.mark.parametrize(("seconds", "count"), [(1, 8), (10, 20), (60, 48), (0.2, 5)])
def test_a_rate_has_bounds(seconds, count):
    indices = Frames(rate=2.0, least=8, most=48).indices(round(25 * seconds), 25.0)
    assert len(set(indices)) == len(indices) == count


def test_bounds_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="go with rate"):
        Frames(count=4, most=8)
    with pytest.raises(ValueError, match="above most"):
        Frames(rate=1.0, least=9, most=8)
