"""Of several video streams the footage is taken, by every decode of a file, and the others are named."""

from pathlib import Path

import av
import pytest

from reelwright.curation.media.decode import Video
from reelwright.curation.media.probe import probe
from tests.footage import ffmpeg, frames, gray, number_of, write

BIG, SMALL = (192, 112), (96, 64)


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> dict[str, Path]:
    """The footage, a smaller version of it, and pictures of it."""
    folder = tmp_path_factory.mktemp("streams")
    big = write(folder / "big.mp4", frames(40, *BIG), preset="veryfast")
    picture = folder / "picture.mp4"
    ffmpeg("-i", str(big), "-frames:v", "1", "-c:v", "mjpeg", "-q:v", "2", str(picture))
    large = folder / "large.mp4"
    ffmpeg("-i", str(picture), "-vf", "scale=384:224", "-c:v", "mjpeg", str(large))
    previews = folder / "previews.mp4"
    ffmpeg("-i", str(big), "-vf", "scale=384:224", "-r", "1", "-c:v", "mjpeg", str(previews))
    return {
        "big": big,
        "small": write(folder / "small.mp4", frames(40, *SMALL), preset="veryfast"),
        "picture": picture,
        "large picture": large,
        "previews": previews,
    }


def muxed(path: Path, parts: dict[str, Path], names: list[str], *flags: str) -> Path:
    """One file of several tracks. flags: dispositions of them in order."""
    inputs = [a for name in names for a in ("-i", str(parts[name]))]
    maps = [a for i in range(len(names)) for a in ("-map", f"{i}:v")]
    marks = [a for i, flag in enumerate(flags) for a in (f"-disposition:v:{i}", flag)]
    ffmpeg(*inputs, *maps, "-c", "copy", *marks, str(path))
    return path


def taken(path: Path) -> tuple[int, tuple[int, int], int]:
    """(index, size, frames) of the stream that is curated."""
    with Video(str(path)) as video:
        shown = list(video.frames())
        return video.stream.index, (shown[0].width, shown[0].height), len(shown)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize(
    ("names", "flags", "index"),
    [
        (["small", "big"], ("0", "default"), 1),
        (["big", "small"], ("0", "default"), 1),
        (["big", "small"], ("default", "0"), 0),
        (["small", "big"], ("default", "default"), 1),
        (["picture", "small"], ("0", "default"), 1),
        (["large picture", "small"], ("default", "0"), 1),
        (["large picture", "small"], ("default", "default"), 1),
        (["small", "large picture"], ("0", "default"), 0),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list | tuple) else str(value),
)
def test_the_default_track_that_moves_is_taken_then_the_largest(tmp_path, parts, suffix, names, flags, index):
    path = muxed(tmp_path / f"a.{suffix}", parts, names, *flags)
    size = {"big": BIG, "small": SMALL}[names[index]]
    assert taken(path) == taken(path) == (index, size, 40)
    facts = probe(str(path))
    assert (facts["video_stream"], facts["width"]) == (index, size[0])
    assert len(facts["other_streams"]) == 1
    assert facts["other_streams"][0].startswith(f"stream {1 - index} (")


def test_a_track_of_previews_is_not_taken_for_its_size_or_flag(tmp_path, parts):
    for suffix in ("mp4", "mkv"):
        path = muxed(tmp_path / f"a.{suffix}", parts, ["previews", "small"], "default", "0")
        assert taken(path)[:2] == (1, SMALL)


def test_where_no_track_has_the_flag_the_largest_is_taken(tmp_path, parts):
    matroska = muxed(tmp_path / "a.mkv", parts, ["small", "big"], "0", "0")
    assert taken(matroska)[:2] == (1, BIG)
    path = muxed(tmp_path / "a.mp4", parts, ["small", "big"], "default", "0")
    data, at = bytearray(path.read_bytes()), -1
    while (at := data.find(b"tkhd", at + 1)) >= 0:
        data[at + 7] &= ~1  # track_enabled (ISO/IEC 14496-12, 8.3.2)
    path.write_bytes(data)
    assert taken(path)[:2] == (1, BIG)


def test_covers_and_stills_are_not_taken_where_there_is_else(tmp_path, parts):
    cover = muxed(tmp_path / "cover.mp4", parts, ["small", "large picture"], "default", "attached_pic")
    assert taken(cover)[:2] == (0, SMALL)
    with Video(str(cover)) as video:
        assert video.other_streams == ("stream 1 (cover picture 384x224)",)


def test_a_program_without_packets_is_not_taken(tmp_path, parts):
    """As of broadcasts recorded with all their PIDs; the tables name a larger picture that never comes."""
    both = muxed(tmp_path / "both.ts", parts, ["big", "small"])
    with av.open(str(both)) as file:
        silent = file.streams.video[0].id
    data = both.read_bytes()
    packets = [data[i : i + 188] for i in range(0, len(data), 188)]
    kept = [p for p in packets if (p[1] & 0x1F) << 8 | p[2] != silent]
    path = tmp_path / "silent.ts"
    path.write_bytes(b"".join(kept))
    assert len(kept) < len(packets)
    assert taken(path) == (1, SMALL, 40)
    assert ", no frames)" in probe(str(path))["other_streams"][0]


def test_a_file_of_one_picture_is_still_read(tmp_path, parts):
    path = muxed(tmp_path / "a.mp4", parts, ["picture", "large picture"], "default", "default")
    assert taken(path) == (1, (384, 224), 1)


def test_every_open_container_over_a_remote_file_is_closed_and_the_same_stream_taken(tmp_path, parts):
    fsspec = pytest.importorskip("fsspec")
    path = muxed(tmp_path / "a.mkv", parts, ["small", "big"], "default", "0")
    memory = fsspec.filesystem("memory")
    memory.pipe("/streams/a.mkv", path.read_bytes())
    with Video("memory://streams/a.mkv") as video:
        numbers = [number_of(gray(f)) for f in video.frames()]
        assert (video.stream.index, numbers) == (0, list(range(40)))
