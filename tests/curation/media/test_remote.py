"""Files on servers that answer requests for ranges, that ignore them, and that do not say how long a file is."""

import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reelwright.curation.media import remote
from reelwright.curation.media.decode import Video
from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.probe import md5_of, probe
from tests.footage import ffmpeg, frames, write

NAMES = {"ranges": "answers ranges", "none": "ignores ranges", "lies": "says bytes, sends all", "chunked": "no length"}


@contextmanager
def server(data: bytes, kind: str) -> Iterator[str]:
    """Serves `data` at any path, in one of the ways of `NAMES`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._head(200, len(data))

        def do_GET(self) -> None:
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if kind == "ranges" and wanted:
                part = data[int(wanted[1]) : int(wanted[2] or len(data)) + 1]
                self._head(206, len(part), f"bytes {wanted[1]}-{int(wanted[1]) + len(part) - 1}/{len(data)}")
                self.wfile.write(part)
                return
            self._head(200, len(data))
            if kind == "chunked":
                for block in (data[i : i + 50_000] for i in range(0, len(data), 50_000)):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))
                self.wfile.write(b"0\r\n\r\n")
            else:
                self.wfile.write(data)

        def _head(self, status: int, length: int, content_range: str = "") -> None:
            self.send_response(status)
            if kind == "chunked":
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Content-Length", str(length))
            if kind in ("ranges", "lies"):
                self.send_header("Accept-Ranges", "bytes")
            if content_range:
                self.send_header("Content-Range", content_range)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}/film.mp4"
        running.shutdown()


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    """Its index is at its end, so a demuxer must seek; longer than a block, so not all of it is read at once."""
    folder = tmp_path_factory.mktemp("remote")
    small = write(folder / "small.mp4", frames(30))
    padded = folder / "film.mp4"
    ffmpeg("-i", str(small), "-c", "copy", str(padded))
    data = padded.read_bytes()
    at = data.index(b"mdat") - 4
    filler = (remote.BLOCK_BYTES * 2).to_bytes(4, "big") + b"free" + bytes(remote.BLOCK_BYTES * 2 - 8)
    # Chunk offsets count from the file's start: the filler goes behind the media and before the index.
    size = int.from_bytes(data[at : at + 4], "big")
    padded.write_bytes(data[: at + size] + filler + data[at + size :])
    return padded


@pytest.mark.parametrize("kind", NAMES)
def test_a_film_on_any_server_is_read_as_the_file_it_is(film, kind):
    data = film.read_bytes()
    with server(data, kind) as uri:
        assert md5_of(uri) == {"md5": hashlib.md5(data).hexdigest(), "bytes": len(data)}
        assert probe(uri) == probe(str(film))
        with Video(uri) as there, Video(str(film)) as here:
            assert [f.pts for f in there.frames()] == [f.pts for f in here.frames()]


def test_a_copy_that_would_fill_the_disk_is_refused_in_a_sentence(film, monkeypatch):
    monkeypatch.setattr(remote, "MAX_DOWNLOAD_BYTES", 1 << 20)
    with server(film.read_bytes(), "none") as uri, pytest.raises(MediaError, match="download it and name the file"):
        probe(uri)


def test_what_is_not_there_is_an_io_failure(film):
    with pytest.raises(MediaError) as caught:
        probe("http://127.0.0.1:9/nothing.mp4")
    assert caught.value.kind == "io"


def test_every_file_system_takes_the_size_of_a_block():
    import fsspec

    with fsspec.open("memory://films/a.bin", "wb") as file:
        file.write(b"abc")
    with remote.open_seekable("memory://films/a.bin") as file:
        assert file.read() == b"abc"
