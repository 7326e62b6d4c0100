"""What is no video is told apart by its kind and in words, however it is called."""

import gzip
import io
import json
import struct
import wave
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pytest

from reelwright.curation.media.decode import Video
from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.probe import md5_of, probe
from reelwright.curation.media.sniff import looks_like
from tests.footage import clicks, ffmpeg, frames, write

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n"
KEY = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "76a6c65c5ea762046bd749a2e632ccbb", "-encryption_kid",
       "a7e61c373e219033c21091fa607bf3b8")  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("good") / "good.mp4", frames(20))


def error_of(path: Path | str) -> MediaError:
    with pytest.raises(MediaError) as caught:
        probe(str(path))
    assert "\n" not in caught.value.message
    return caught.value


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("a.mp4", b"x" * 100)
    return out.getvalue()


def _wav() -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(2000))
    return out.getvalue()


NO_VIDEOS = {
    "nothing": (b"", "empty", "0 bytes"),
    "words": ("Day 3. Wind from the west – and rain.\n" * 40, "text", "it is text"),
    "words in utf-16": ("Day 3. Wind from the west.\n".encode("utf-16"), "text", "it is text"),
    "a page": ("\ufeff<!DOCTYPE html>\n<html><head><title>404</title>" + " " * 5000, "text", "web page"),
    "a login": ("\n\n<HTML lang=en><body>Please sign in", "text", "web page"),
    "xml": ('<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "text", "XML"),
    "json": (json.dumps({"error": "quota exceeded"}), "text", "JSON"),
    "git lfs": (POINTER, "pointer", "git lfs pull"),
    "git lfs, windows": (POINTER.replace("\n", "\r\n"), "pointer", "git lfs pull"),
    "git annex": ("/annex/objects/SHA256E-s123--abc.mp4\n", "pointer", "git annex get"),
    "hls": ("#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:4,\nseg0.ts\n", "playlist", "HLS"),
    "dash": ('<?xml version="1.0"?>\n<!-- x -->\n<MPD type="static"></MPD>', "playlist", "DASH"),
    "pls": ("[playlist]\nFile1=a.mp4\n", "playlist", "PLS"),
    "zip": (_zip(), "not_video", "packed file (zip)"),
    "gzip": (gzip.compress(b"x" * 100), "not_video", "packed file (gzip)"),
    "tar": (bytes(257).replace(b"\0", b"a", 1) + b"ustar\0" + bytes(400), "not_video", "tar"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(300), "not_video", "PDF"),
    "heic": (struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"heic", 0, b"mif1", b"heic") + bytes(50), "not_video", "picture"),
    "bmp": (b"BM" + bytes(200), "not_video", "picture (BMP)"),
    "wav": (_wav(), "no_video", "sound only"),
    "mp3": (b"ID3\x04\0\0\0\0\0\x23" + bytes(300), "no_video", "sound only"),
    "zeros": (bytes(100_000), "truncated", "zeros"),
    "noise": (np.random.default_rng(0).bytes(20_000), "open", "damaged, encrypted, or no video"),
}


@pytest.mark.parametrize("name", NO_VIDEOS)
def test_what_is_no_video_is_told_by_kind(tmp_path, name):
    data, kind, says = NO_VIDEOS[name]
    path = tmp_path / "a.mp4"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    error = error_of(path)
    assert (error.kind, says in error.message) == (kind, True), error
    files = fsspec.filesystem("memory")
    files.pipe("/sniff/a.mp4", path.read_bytes())
    try:
        assert error_of("memory://sniff/a.mp4").kind == kind
    finally:
        files.rm("/sniff", recursive=True)


@pytest.mark.parametrize("end", [0.3, 0.9])
def test_what_was_cut_off_before_its_index(tmp_path, good, end):
    data = good.read_bytes()
    (tmp_path / "part.mp4").write_bytes(data[: int(len(data) * end)] if end < 0.5 else data[: data.rindex(b"moov") - 4])
    error = error_of(tmp_path / "part.mp4")
    assert (error.kind, "moov" in error.message) == ("truncated", True)


def test_what_was_cut_off_in_its_index(tmp_path, good):
    data = good.read_bytes()
    (tmp_path / "part.mp4").write_bytes(data[: data.rindex(b"moov") + 40])
    assert error_of(tmp_path / "part.mp4").kind == "truncated"


def test_encrypted_pictures_are_told_whatever_the_decoder_makes_of_them(tmp_path, good):
    for name, more in {"plain.mp4": (), "fragments.mp4": ("-movflags", "empty_moov+frag_keyframe")}.items():
        ffmpeg("-i", str(good), "-c", "copy", *KEY, *more, str(tmp_path / name))
        assert error_of(tmp_path / name).kind == "encrypted"
    files = fsspec.filesystem("memory")
    files.pipe("/sniff/a.mp4", (tmp_path / "plain.mp4").read_bytes())
    files.pipe("/sniff/good.mp4", good.read_bytes())
    try:
        assert error_of("memory://sniff/a.mp4").kind == "encrypted"
        assert probe("memory://sniff/good.mp4") == probe(str(good))
    finally:
        files.rm("/sniff", recursive=True)


def test_scrambled_packets_and_protected_containers(tmp_path, good):
    stream = tmp_path / "a.ts"
    ffmpeg("-i", str(good), "-c", "copy", str(stream))
    data = bytearray(stream.read_bytes())
    for packet in range(3 * 188, len(data), 188):
        data[packet + 3] |= 0x80
    (tmp_path / "scrambled.ts").write_bytes(data)
    assert error_of(tmp_path / "scrambled.ts").kind == "encrypted"
    matroska = tmp_path / "a.mkv"
    ffmpeg("-i", str(good), "-c", "copy", str(matroska))
    assert probe(str(matroska))["width"] == 160
    head, cluster, rest = matroska.read_bytes().partition(b"\x1f\x43\xb6\x75")
    entry = head.index(b"\xe0", head.index(b"\x16\x54\xae\x6b"))  # the picture's settings, in its track
    encoding = bytes.fromhex("6d80 87 6240 84 5033 81 01".replace(" ", ""))
    assert len(encoding) < head[entry + 1] & 0x7F  # laid over a part of them
    changed = head[: entry + 2] + encoding + head[entry + 2 + len(encoding) :]
    (tmp_path / "b.mkv").write_bytes(changed + cluster + rest)
    assert error_of(tmp_path / "b.mkv").kind == "encrypted"


def test_sound_that_is_encrypted_beside_a_clear_picture_is_no_obstacle(tmp_path):
    film = write(tmp_path / "a.mp4", frames(25), sound=clicks([0.5], 1.0))
    data = film.read_bytes()
    assert data.count(b"mp4a") == 1
    (tmp_path / "b.mp4").write_bytes(data.replace(b"mp4a", b"enca"))
    assert probe(str(tmp_path / "b.mp4"))["width"] == 160


def test_what_is_not_there_or_no_file_says_so(tmp_path):
    (tmp_path / "link.mp4").symlink_to(tmp_path / "gone.mp4")
    for name, says in (("none.mp4", "does not exist"), ("link.mp4", "which does not exist"), ("", "is a folder")):
        path = str(tmp_path / name)
        for look in (probe, md5_of):
            with pytest.raises(MediaError, match=f"^io: .*{says}"):
                look(path)
    with pytest.raises(MediaError, match="^io: .*cannot be read"):
        md5_of("a\0b.mp4")


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm", "avi", "flv", "asf", "mpg", "m2v", "ts", "m2ts", "mxf",
                                    "ivf", "y4m", "rm", "nut"])  # fmt: skip
def test_containers_are_known_by_their_first_bytes(tmp_path, good, suffix):
    codecs = {"webm": "libvpx", "ivf": "libvpx", "mpg": "mpeg2video", "m2v": "mpeg2video", "mxf": "mpeg2video",
              "rm": "rv10", "asf": "wmv2", "flv": "flv", "y4m": "rawvideo"}  # fmt: skip
    codec = codecs.get(suffix, "libx264")
    path = tmp_path / f"a.{suffix}"
    size = ("-s", "176x144") if suffix == "rm" else ()
    ffmpeg("-i", str(good), "-an", "-c:v", codec, *size, str(path))
    assert looks_like(path.read_bytes()[:1000]), path.read_bytes()[:20]
    with Video(str(path)) as video:
        assert next(video.frames()).width
