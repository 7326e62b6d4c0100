"""What makers of fresh cases share: footage that is not ours, a seeded choice, and the ffmpeg command to write with."""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from benchmarks.cases.oracle import executable

PICTURES = {".jpg", ".jpeg", ".png"}
VIDEOS = {".avi", ".mp4", ".mkv", ".mov", ".webm"}
WIDTH, HEIGHT = 480, 270
LONGEST = 400  # frames read of a video
TURN, OTHER_COLOURS = 12, 0.45  # frames; share of the colours that views of one take have in common at least

Entry = dict[str, Any]
Maker = Callable[["Bench"], Iterator[Entry]]
MAKERS: dict[str, Maker] = {}


def maker(function: Maker) -> Maker:
    """Register a maker under its name."""
    MAKERS[function.__name__] = function
    return function


@dataclass
class Bench:
    """A folder to fill. files: footage that scenes are taken from, videos and pictures."""

    out: Path
    files: list[Path]
    rng: np.random.Generator

    def scene(self, frames: int, *, moving: bool | None = None, avoid: Path | None = None) -> "Scene":
        """Frames of one take, chosen by the seed. moving: True for a video, False for a filmed picture."""
        kinds = {True: VIDEOS, False: PICTURES, None: VIDEOS | PICTURES}[moving]
        choice = [f for f in self.files if f.suffix.lower() in kinds and f != avoid]
        for _ in range(50):
            file = choice[int(self.rng.integers(len(choice)))]
            if file.suffix.lower() in PICTURES:
                return Scene(file, filmed(file, frames, self.rng))
            found = longest_take(file)
            if len(found) >= frames:
                start = int(self.rng.integers(len(found) - frames + 1))
                return Scene(file, found[start : start + frames])
        raise ValueError(f"no footage has {frames} frames in one take")

    def pair(self, first: int, second: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Two scenes of different files."""
        one = self.scene(first)
        return one.frames, self.scene(second, avoid=one.file).frames


@dataclass(frozen=True)
class Scene:
    file: Path
    frames: list[np.ndarray]  # uint8 RGB [HEIGHT, WIDTH, 3]


def filmed(path: Path, frames: int, rng: np.random.Generator) -> list[np.ndarray]:
    """A picture under a slow virtual camera: a pan with a little zoom."""
    picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    scale = 1.5 * max(WIDTH / picture.shape[1], HEIGHT / picture.shape[0])
    picture = cv2.resize(
        picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    )
    height, width = picture.shape[:2]
    free = np.array([width - WIDTH, height - HEIGHT]) * 0.4
    begin = np.array([width, height]) / 2 - free * rng.uniform(-1, 1, 2) / 2
    speed = rng.uniform(-0.5, 0.5, 2)
    out = []
    for i in range(frames):
        zoom = 1 + 0.0008 * i
        reach = np.array([WIDTH, HEIGHT]) / zoom
        centre = np.clip(begin + speed * i, reach / 2, np.array([width, height]) - reach / 2)
        left, top = centre - reach / 2
        move = np.float32([[zoom, 0, -left * zoom], [0, zoom, -top * zoom]])
        out.append(cv2.warpAffine(picture, move, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR))
    return out


_takes: dict[Path, list[np.ndarray]] = {}


def longest_take(path: Path) -> list[np.ndarray]:
    """The longest run of a video's first frames without a cut or a dissolve of its own, at one size."""
    if path not in _takes:
        frames: list[np.ndarray] = []
        with av.open(str(path)) as file:
            for frame in file.decode(video=0):
                picture = frame.to_ndarray(format="rgb24")
                frames.append(cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA))
                if len(frames) == LONGEST:
                    break
        small = np.stack([cv2.resize(f, (32, 18), interpolation=cv2.INTER_AREA) for f in frames]).astype(np.float32)
        jumps = np.flatnonzero(np.abs(np.diff(small, axis=0)).mean((1, 2, 3)) > 25) + 1
        edges = sorted([0, *jumps.tolist(), *_turns(frames), len(frames)])
        start, end = max(pairwise(edges), key=lambda e: e[1] - e[0])
        _takes[path] = frames[start:end]
    return _takes[path]


def _turns(frames: Sequence[np.ndarray]) -> list[int]:
    """Frames before and after which other colours are seen: of dissolves, which no single step shows."""
    colours = np.stack([
        cv2.calcHist([f], [0, 1, 2], None, [6, 6, 6], [0, 256] * 3).ravel() / (WIDTH * HEIGHT) for f in frames
    ])  # fmt: skip
    shared = np.minimum(colours[: -2 * TURN], colours[2 * TURN :]).sum(1)
    return (np.flatnonzero(shared < OTHER_COLOURS) + TURN).tolist()


def ffmpeg(*arguments: str | Path, data: bytes | None = None) -> bytes:
    """Run the ffmpeg command and return what it prints; data is its standard input."""
    command = [executable(), "-hide_banner", "-loglevel", "error", "-y", *map(str, arguments)]
    done = subprocess.run(command, input=data or b"", capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ffmpeg {' '.join(map(str, arguments))}: {done.stderr.decode(errors='replace')[-500:]}")
    return done.stdout


def encode(path: Path, frames: Sequence[np.ndarray], *options: str, fps: int = 25) -> Path:
    """Write RGB frames through the ffmpeg command; H.264 unless the options say otherwise."""
    height, width = frames[0].shape[:2]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "-"]
    chosen = options or ("-c:v", "libx264", "-crf", "16", "-pix_fmt", "yuv420p")
    ffmpeg(*raw, *chosen, path, data=b"".join(np.ascontiguousarray(f).tobytes() for f in frames))
    return path
