"""Hostile and damaged files are told apart by kind, and no file makes the decoder read another."""

import gc
import os
import shutil
import socket
import struct
from pathlib import Path

import av
import pytest

from reelwright.curation.media.decode import Orientation, Video, orientation_of, side_data_of
from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.probe import md5_of, probe
from reelwright.curation.media.sandbox import Sandbox
from tests.footage import HOSTILE, clicks, ffmpeg, frames, gray, number_of, write


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("good") / "good.mp4", frames(20))


def kind_of(path: Path | str) -> str:
    with pytest.raises(MediaError) as caught, Video(str(path)) as video:
        assert next(iter(video.frames()), None) is not None, "opened, but has no frame"
    return caught.value.kind


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_video_container_is_refused(tmp_path, good, name):
    kinds = {"empty.mp4": "empty", "text.mp4": "text", "cut off.mp4": "truncated"}
    HOSTILE[name](tmp_path / name, good)
    assert kind_of(tmp_path / name) == kinds.get(name, "playlist")


@pytest.mark.parametrize("suffix", ["m3u8", "ffconcat", "sdp", "mpd", "mp4", "txt", "ts"])
def test_playlists_are_refused_whatever_they_are_called(tmp_path, good, suffix):
    shutil.copy(good, tmp_path / "local.ts")
    for i, name in enumerate(("hls.mp4", "concat.mp4", "session.mp4", "dash.mp4")):
        path = tmp_path / f"{i}.{suffix}"
        HOSTILE[name](path, good)
        assert kind_of(path) == "playlist"
        path.write_text(path.read_text().replace(f"file://{good}", "local.ts").replace(str(good), "local.ts"))
        assert kind_of(path) == "playlist"


def test_no_address_is_ever_asked(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.3)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x.ts"
        for i, text in enumerate((f"#EXTM3U\n#EXTINF:4,\n{url}\n", f"ffconcat version 1.0\nfile '{url}'\n")):
            (tmp_path / f"{i}.mp4").write_text(text)
            assert kind_of(tmp_path / f"{i}.mp4") == "playlist"
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_mov_that_refers_to_another_file_does_not_reach_it(tmp_path, good):
    """QuickTime data references (dref 'alis'/'url ') may name files; the demuxer must not follow them."""
    data = good.read_bytes()
    at = data.index(b"dref")
    entry = data.index(b"url ", at)
    path = tmp_path / "ref.mp4"
    path.write_bytes(data[: entry + 4] + struct.pack(">I", 0) + data[entry + 8 :])  # "the data is elsewhere"
    with Video(str(path)) as video:
        assert all(number_of(gray(f)) == i for i, f in enumerate(video.frames()))


@pytest.mark.parametrize(
    "name",
    ["-i.mp4", "-.mp4", "concat:a|b.mp4", "a'b\".mp4", "new\nline.mp4", "Видео №1 – копия.mp4", "a%03d*?[x].mp4",
     "http:x.mp4", "pipe:0.mp4", "subfile,,start,0,end,9,,:x.mp4", "$(touch hacked);`id`.mp4", " .mp4", "tab\t.mp4",
     b"latin \xe9.mp4"],
)  # fmt: skip
def test_a_name_is_only_a_name(tmp_path, good, name, monkeypatch):
    path = os.path.join(os.fsencode(tmp_path), os.fsencode(name))
    shutil.copy(os.fsencode(good), path)
    monkeypatch.chdir(tmp_path)
    for given in (os.fsdecode(path), os.fsdecode(name)):
        with Video(given) as video:
            assert len(list(video.frames())) == 20
        assert md5_of(given)["bytes"] == good.stat().st_size


def test_what_cannot_be_read(tmp_path, good):
    assert kind_of(tmp_path / "missing.mp4") == "io"
    assert kind_of(tmp_path) == "io"
    os.mkfifo(tmp_path / "fifo.mp4")
    assert kind_of(tmp_path / "fifo.mp4") == "io"
    assert kind_of("nosuchprotocol://a/b.mp4") == "io"
    assert kind_of("/dev/zero") == "io"
    with pytest.raises(MediaError, match="^io"):
        md5_of(str(tmp_path / "missing.mp4"))


def test_sound_alone_is_no_video(tmp_path, good):
    voiced = write(tmp_path / "a.mp4", frames(25), sound=clicks([0.5], 1.0))
    for name in ("only.mp4", "only.mp3"):
        ffmpeg("-i", str(voiced), "-vn", *(["-c:a", "copy"] if name.endswith("mp4") else []), str(tmp_path / name))
    assert kind_of(tmp_path / "only.mp4") == "no_video"
    assert kind_of(tmp_path / "only.mp3") in ("no_video", "open")


def test_a_cover_picture_is_no_video(tmp_path):
    voiced = write(tmp_path / "a.mp4", frames(25), sound=clicks([0.5], 1.0))
    ffmpeg("-i", str(voiced), "-frames:v", "1", str(tmp_path / "cover.png"))
    song = tmp_path / "song.mp4"
    ffmpeg("-i", str(voiced), "-i", str(tmp_path / "cover.png"), "-map", "0:a", "-map", "1:v", "-c", "copy",
           "-disposition:v:0", "attached_pic", str(song))  # fmt: skip
    assert kind_of(song) == "no_video"


def test_a_frame_of_absurd_size_is_refused_before_it_is_allocated(tmp_path):
    """A PNG in a container that claims 30000x30000: a few bytes that want gigabytes."""
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"acTL", struct.pack(">II", 1, 0)) + chunk(b"IHDR", header)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"acTL", struct.pack(">II", 1, 0))
    png += chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 30_000, 30_000, 0, 0, 1, 25, 0, 0))
    png += chunk(b"IDAT", zlib.compress(bytes(10_000_000), 9)) + chunk(b"IEND", b"")
    bomb = tmp_path / "bomb.apng"
    bomb.write_bytes(png)
    box = Sandbox(memory_bytes=700 << 20, stall_s=30)
    try:
        with pytest.raises(MediaError) as caught:
            box.call("reelwright.pipelines.curate.workers.sandboxed:probe_source", {"uri": str(bomb)})
        assert caught.value.kind in ("limit", "open", "decode", "memory", "not_video")
        arguments = {"uri": str(bomb), "shots": {}, "borders": {}, "max_frames": 100}
        with pytest.raises(MediaError):
            box.call("reelwright.pipelines.curate.workers.sandboxed:scan_source", arguments)
        assert box.peak_rss_bytes < 700 << 20
    finally:
        box.close()


def test_one_frame_is_a_video(tmp_path):
    path = write(tmp_path / "a.mp4", frames(1))
    with Video(str(path)) as video:
        assert len(list(video.frames())) == 1
    assert probe(str(path))["width"] == 160


def test_a_file_that_is_cut_off_gives_what_it_has(tmp_path):
    whole = write(tmp_path / "a.mkv", frames(60))
    part = tmp_path / "part.mkv"
    part.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with Video(str(part)) as video:
        numbers = [number_of(gray(f)) for f in video.frames()]
    assert 15 < len(numbers) < 50
    assert numbers[:-1] == list(range(len(numbers) - 1))


def test_damage_in_the_middle_is_counted_and_the_rest_stands(tmp_path):
    path = write(tmp_path / "a.ts", frames(100), g="10", preset="veryfast")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 5000] = os.urandom(5000)
    path.write_bytes(data)
    with Video(str(path)) as video:
        numbers = [number_of(gray(f)) for f in video.frames()]
    assert len(numbers) > 50
    assert numbers[0] == 0
    assert numbers[-1] == 99


def test_random_damage_never_does_worse_than_a_media_error(good):
    """Flip bytes anywhere: it decodes, or it is a MediaError; in a sandbox even a crash is one."""
    import random

    box = Sandbox(memory_bytes=1 << 30, stall_s=30)
    data = good.read_bytes()
    try:
        for seed in range(25):
            rng = random.Random(seed)
            broken = bytearray(data)
            for _ in range(rng.choice([1, 10, 200])):
                broken[rng.randrange(len(broken))] = rng.randrange(256)
            path = good.with_name("broken.mp4")
            path.write_bytes(broken)
            work = {"uri": str(path), "shots": {"detector": "pyscenedetect"}, "borders": {}, "max_frames": 1000}
            try:
                value = box.call("reelwright.pipelines.curate.workers.sandboxed:scan_source", work).value
                assert value["num_frames"] > 0
            except MediaError as error:
                assert error.kind != "bug", error.detail
    finally:
        box.close()


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_orientation_turns_arrays_as_it_says(turns, mirrored):
    import numpy as np

    image = np.arange(24).reshape(4, 6)
    made = Orientation(turns, mirrored).apply(image)
    assert made.shape[::-1] == Orientation(turns, mirrored).size(6, 4)
    back = np.rot90(made, turns)
    np.testing.assert_array_equal(back[:, ::-1] if mirrored else back, image)


def with_exif(jpeg_stream: bytes, orientation: int) -> bytes:
    """Each picture of a JPEG stream with an APP1 segment (Exif 2.3) that names how the camera was held."""
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + entry + struct.pack("<I", 0)
    return jpeg_stream.replace(b"\xff\xd8", b"\xff\xd8\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif)


@pytest.mark.parametrize(("held", "turns"), [(1, 0), (6, 1), (3, 2), (8, 3)])
def test_side_data_that_pyav_has_no_name_for_is_passed_over(tmp_path, held, turns):
    """As that of 3D video and of cameras' JPEGs; the display matrix beside it is read."""
    raw = write(tmp_path / "a.mjpeg", frames(5), codec="mjpeg", pix_fmt="yuvj420p", format="mjpeg")
    raw.write_bytes(with_exif(raw.read_bytes(), held))
    path = tmp_path / "a.mov"
    ffmpeg("-f", "mjpeg", "-i", str(raw), "-c", "copy", str(path))
    with Video(str(path)) as video:
        shown = list(video.frames())
        with pytest.raises(ValueError, match="is not a valid Type"):  # once PyAV knows the kind, take a newer one
            _ = shown[0].side_data
        assert len(shown) == 5
        assert orientation_of(shown[0]) == Orientation(turns)
    assert probe(str(path))["rotation"] == 90 * turns


def test_reading_its_side_data_does_not_keep_a_frame_until_the_collector_runs(good):
    """One frame holds the memory of all pictures of its decoder."""
    gc.collect()
    gc.disable()
    try:
        with Video(str(good)) as video:
            frame = next(video.frames())
            side_data_of(frame)
        assert any(o is frame for o in gc.get_objects())
        del frame, video
        assert not [o for o in gc.get_objects() if isinstance(o, av.VideoFrame)]
    finally:
        gc.enable()


def test_packets_that_the_container_marks_as_corrupt_give_damaged_frames(tmp_path):
    """MPEG-TS says so of a packet whose transport error bit is set, or of which a part is missing."""
    path = write(tmp_path / "a.ts", frames(60), g="10", preset="veryfast")
    data = path.read_bytes()
    packets = [data[i : i + 188] for i in range(0, len(data), 188)]
    del packets[len(packets) // 2 : len(packets) // 2 + 2]
    path.write_bytes(b"".join(packets))
    with Video(str(path)) as video:
        damaged = [number_of(gray(f)) for f in video.frames() if video.is_damaged]
    assert 1 <= len(damaged) <= 3
