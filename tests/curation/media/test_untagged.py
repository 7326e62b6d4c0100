"""A video without its tags shows the same pictures at the same times, and tells nothing of who made it."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.untagged import Untagged, untagged
from reelwright.model.sampling.video_file import VideoWriter, read_about
from tests.footage import ffmpeg, frames, write

SECRET = "runs/tuned-by-anna"


class Parts:
    """A file that is read in ranges, and how much of it was."""

    def __init__(self, data: bytes) -> None:
        self.data, self.size, self.seen = data, len(data), 0

    def read_range(self, start: int, length: int) -> bytes:
        part = self.data[start : start + max(0, length)]
        self.seen += len(part)
        return part


def pictures(mp4: bytes) -> tuple[list[np.ndarray], list[int | None], dict[str, str]]:
    with av.open(io.BytesIO(mp4)) as container:
        [stream] = container.streams.video
        metadata = dict(container.metadata) | dict(stream.metadata)
        shown = list(container.decode(video=0))
        return [f.to_ndarray(format="rgb24") for f in shown], [f.pts for f in shown], metadata


@pytest.fixture(params=["ours", "front", "back", "long places"])
def video(request: pytest.FixtureRequest, tmp_path: Path) -> bytes:
    """Of our writer; with the index in front or behind; with tags of file and track, and times; with 64-bit places."""
    if request.param == "ours":
        with VideoWriter(tmp_path / "a.mp4", 10.0) as out:
            out.write(torch.rand(3, 9, 64, 96) * 2 - 1)
            path = out.finish({"run": SECRET})
        assert read_about(path)["run"] == SECRET
        return path.read_bytes()
    plain = write(tmp_path / "plain.mp4", frames(12), fps=10)
    moved = {"front": "+faststart", "back": "+use_metadata_tags", "long places": "+faststart"}[request.param]
    tags = ["-metadata", f"comment={SECRET}", "-metadata", f"title={SECRET}", "-metadata:s:v", f"title={SECRET}",
            "-metadata", "creation_time=2026-01-02T03:04:05Z"]  # fmt: skip
    ffmpeg("-i", str(plain), "-c", "copy", *tags, "-movflags", moved, str(tmp_path / "tagged.mp4"))
    data = (tmp_path / "tagged.mp4").read_bytes()
    return with_long_places(data) if request.param == "long places" else data


def with_long_places(mp4: bytes) -> bytes:
    """Write the table of places with 8 bytes each, as files over 4 GiB have it (`co64`)."""
    at = mp4.index(b"stco") - 4
    size, count = int.from_bytes(mp4[at : at + 4], "big"), int.from_bytes(mp4[at + 12 : at + 16], "big")
    more = 4 * count
    places = (np.frombuffer(mp4, ">u4", count, at + 16).astype(np.int64) + more).astype(">u8")  # the index is in front
    box = (size + more).to_bytes(4, "big") + b"co64" + mp4[at + 8 : at + 16] + places.tobytes()
    found = bytearray(mp4[:at] + box + mp4[at + size :])
    for parent in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        where = found.index(parent) - 4
        found[where : where + 4] = (int.from_bytes(found[where : where + 4], "big") + more).to_bytes(4, "big")
    return bytes(found)


def test_pictures_and_their_times_stay_and_tags_go(video: bytes) -> None:
    assert SECRET.encode() in video
    found = untagged(video)
    assert SECRET.encode() not in found
    assert len(found) < len(video)
    (before, times, told), (after, same, left) = pictures(video), pictures(found)
    assert told
    assert (len(after), same) == (len(before), times)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert not {"comment", "title", "creation_time"} & left.keys()
    assert untagged(found) == found


def test_any_part_is_a_part_of_the_whole_and_little_is_read_for_it(video: bytes) -> None:
    file = Parts(video)
    found, whole = Untagged(file), untagged(video)
    assert found.size == len(whole)
    rng = np.random.default_rng(0)
    for start, count in [(0, len(whole)), (len(whole), 5), (len(whole) - 3, 9), *rng.integers(0, len(whole), (60, 2))]:
        assert found.read(int(start), int(count)) == whole[start : start + count]
    large = Parts(video + (1 << 24).to_bytes(4, "big") + b"free" + bytes((1 << 24) - 8))
    Untagged(large).read(100, 50)
    assert large.seen < len(video) + (64 << 10)


def test_the_length_says_nothing_of_the_tags(tmp_path: Path) -> None:
    lengths = set()
    for name in ("a", "b" * 500):
        with VideoWriter(tmp_path / "a.mp4", 10.0) as out:
            out.write(torch.zeros(3, 9, 64, 96))
            lengths.add(len(untagged(out.finish({"run": name}).read_bytes())))
    assert len(lengths) == 1


def test_a_video_in_fragments_is_refused(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.mp4", frames(12), fps=10)
    ffmpeg("-i", str(plain), "-c", "copy", "-movflags", "empty_moov+frag_keyframe", str(tmp_path / "parts.mp4"))
    with pytest.raises(MediaError, match="in fragments"):
        untagged((tmp_path / "parts.mp4").read_bytes())


@pytest.mark.parametrize("data", [b"", b"\0" * 40, b"\0\0\0\x10moov" + b"\xff" * 8, b"\0\0\0\x08free" * 3])
def test_what_is_no_video_is_left_out_without_an_error(data: bytes) -> None:
    assert len(untagged(data)) <= len(data)
