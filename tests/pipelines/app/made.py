"""A small store with real videos for the app, and `reel app` over it as a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from reelwright.curation.store import Store
from reelwright.curation.store.schema import field
from tests.conftest import REEL, ROOT
from tests.footage import frames, write

CLIPS = 40
MOTIONS = ("static", "pan_left", "zoom_in")
HOSTILE = "<img src=x onerror=alert(1)> '; DROP TABLE clips; -- \"\x00\x1b[2J"
TOKEN = "a-token-of-tests"
FIELDS = [
    field("blur_score", pa.float32(), "sharpness", unit="level²", computed_by="blur"),
    field("blur_fingerprint", pa.string(), "of the blur annotator", computed_by="blur"),
    field("motion_score", pa.float64(), "flow, with holes and NaN", computed_by="motion"),
    field("camera_motion", pa.string(), "kind of camera motion", computed_by="camera_motion"),
    field("near_duplicate_group", pa.string(), "smallest clip_id of its group", computed_by="near_duplicates"),
    field("near_duplicate_count", pa.int32(), "clips of its group", computed_by="near_duplicates"),
    field("composed_caption", pa.string(), "caption from measurements", computed_by="composed_caption"),
    field("cluster_id", pa.int32(), "cluster of the clip's caption", computed_by="clusters"),
    field("cluster_name", pa.string(), "what the cluster's captions have in common", computed_by="cluster_names"),
    field("density", pa.float32(), "crowding among captions", computed_by="density"),
    field("map_x", pa.float32(), "place on the map of captions, to the right", computed_by="caption_map"),
    field("map_y", pa.float32(), "place on the map of captions, upwards", computed_by="caption_map"),
]
CLUSTERS = ("round balls", "<b>bold</b> & 'quoted'", "squares")


def clip_id(number: int) -> str:
    return f"{number:04x}{'0' * 20}"


def make_store(path: Path, *, clips: int = CLIPS) -> Store:
    """Make a store of `clips` clips of four sources; each has one of two videos."""
    store = Store.open(path, create=True)
    store.ensure_columns("clips", FIELDS)
    mp4s = [write(path.parent / f"{seed}.mp4", frames(24, seed=seed)).read_bytes() for seed in (1, 2)]
    ids = [clip_id(i) for i in range(clips)]
    store.commit_media([store.write_media(ids, [mp4s[i % 2] for i in range(clips)])])
    store.append("clips", [clip_row(i) for i in range(clips)])
    store.append("sources", [
        {"uri": f"/footage/{HOSTILE if i == 0 else i}.mp4", "source_id": str(i), "md5": f"source{i}", "state": "ok",
         "duration_s": 20.0} for i in range(4)
    ])  # fmt: skip
    store.append("shots", [{"source_md5": "source0", "shot_index": 0, "start_s": 0.0, "end_s": 4.0,
                            "transition": "start"}])  # fmt: skip
    return store


def clip_row(i: int) -> dict[str, Any]:
    return {
        "clip_id": clip_id(i), "source_md5": f"source{i // 10}", "shot_index": i % 10, "start_s": (i % 10) * 2.0,
        "end_s": (i % 10) * 2.0 + 1, "width": 160 + 16 * (i % 3), "height": 96, "fps": 25.0, "num_frames": 24,
        "duration_s": 1.0 + i / 8, "is_still": i % 7 == 0,
        "blur_fingerprint": "f00d",
        "blur_score": None if i % 11 == 0 else 10 * np.float32(i) / 3,
        "motion_score": None if i % 5 == 0 else float("nan") if i % 6 == 0 else (i * 7919 % 40) / 4,
        "camera_motion": None if i % 13 == 0 else MOTIONS[i % 3],
        "near_duplicate_group": clip_id(i - i % 4) if i < 20 else None, "near_duplicate_count": 4 if i < 20 else None,
        "composed_caption": HOSTILE if i == 1 else f"a ball number {i}",
        **_place(i),
    }  # fmt: skip


def _place(i: int) -> dict[str, Any]:
    """Put a clip on the map: clusters of half, a third and the rest of the clips lie around corners of a triangle."""
    if i % 10 == 9:
        return {}
    cluster = (0, 0, 0, 1, 1, 2)[i % 6]
    (x, y), angle = ((0, 0), (10, 0), (5, 8))[cluster], i * 2.4
    return {
        "cluster_id": cluster, "cluster_name": CLUSTERS[cluster], "density": (3.0, 1.0, 0.5)[cluster] + i / 100,
        "map_x": x + np.cos(angle) * (1 + i % 3) / 3, "map_y": y + np.sin(angle) * (1 + i % 3) / 3,
    }  # fmt: skip


class Served:
    """A running `reel app`. said: the lines that it printed first."""

    def __init__(self, process: subprocess.Popen[str], said: list[str]) -> None:
        self.process, self.said, self.url = process, said, said[-1].split()[1]
        found = re.fullmatch(r"http://[^/:]+:(\d+)/\?token=(\S+)", self.url)
        assert found, said
        self.port, self.token = int(found[1]), found[2]

    @property
    def cookie(self) -> str:
        return f"reel_{self.port}={self.token}"

    def ask(
        self, path: str, body: Any = None, *, method: str = "", raw: bytes | None = None, **headers: str | None
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request with the token, unless a header says otherwise; None leaves a header out."""
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        given = {"cookie": self.cookie, "content-type": "application/json"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}  # type: ignore[misc]
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data, {n: v for n, v in given.items() if v is not None},
            method=method or ("POST" if data is not None else "GET"),
        )  # fmt: skip
        opener = urllib.request.build_opener(_Stay)
        try:
            with opener.open(request, timeout=120) as answer:
                return answer.status, _lower(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, _lower(error.headers), error.read()

    def call(self, name: str, /, **body: Any) -> Any:
        status, _, answer = self.ask(f"/api/{name}", body)
        assert status == 200, answer
        return json.loads(answer)


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        return None


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


@contextmanager
def served(store: Path, *options: str) -> Iterator[Served]:
    """Run `reel app` on a free port, beside its store; it is interrupted at the end."""
    store = store.absolute()
    command = [*REEL, "app", "--store", str(store), "--port", "0", "--token", TOKEN, *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=store.parent) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("open:"):
                break
        assert lines, process.wait()
        try:
            yield Served(process, lines)
        finally:
            process.terminate()
            process.wait(60)
