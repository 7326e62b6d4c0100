"""Files, servers and disks that misbehave, under a whole run: each costs only itself, in a sentence."""

import http.server
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from reelwright.curation.store import Store, StoreError
from tests.footage import footage
from tests.pipelines.helpers import check_whole, contents, curate, recipe_of

pytestmark = pytest.mark.usefixtures("ray_local")


@pytest.fixture
def stuck_server() -> Iterator[str]:
    """Says that it has a megabyte, sends none of it, and keeps the connection open."""
    done = threading.Event()

    class Stuck(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200)
            self.send_header("Content-Length", str(1 << 20))
            self.end_headers()

        def do_GET(self):
            self.do_HEAD()
            done.wait()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stuck) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/film.mp4"
        done.set()
        server.shutdown()


def bomb(path: Path, side: int = 8000) -> Path:
    """Two empty frames: a quarter of a megabyte here, half a gigabyte to a decoder that keeps one beside the next."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = side, side, "bgr0"
        frame = av.VideoFrame(side, side, "bgr0")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        for number in range(2):
            frame.pts = number
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


@pytest.mark.exhaustive
def test_a_hang_and_a_swelling_cost_only_their_files(tmp_path, stuck_server):
    films = footage(tmp_path / "in", 2, lengths=(40,))
    bomb(tmp_path / "in" / "bomb.mkv")
    recipe = recipe_of(limits__stall_s=8, limits__memory_mib=400, allow_http=True)
    summary = curate(tmp_path / "store", [films[0].parent, stuck_server], recipe, allow_http=True)
    assert (summary.ok, summary.failed, summary.clips) == (2, 2, 2)
    failures = Store.open(tmp_path / "store").read("failures", ["uri", "stage", "error"]).to_pylist()
    kinds = {Path(f["uri"]).name: f["error"].partition(":")[0] for f in failures}
    assert kinds == {"bomb.mkv": "memory", "film.mp4": "timeout"}
    check_whole(tmp_path / "store")


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(place)]
    if os.geteuid() or not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system, to have one that is full")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_a_sentence_and_the_same_command_goes_on(tmp_path, small_disk):
    films = footage(tmp_path / "in", 12, lengths=(60, 60))
    recipe = recipe_of(batches__commit_s=0.3, encode__crf=10)
    with pytest.raises(StoreError, match="no room is left to write to the store at .*/disk/store; free some"):
        curate(small_disk / "store", films, recipe)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert curate(small_disk / "store", films, recipe).ok == 12
    check_whole(small_disk / "store")
    assert len(contents(small_disk / "store")["media"]) == 24
