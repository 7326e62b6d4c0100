"""Videos of samples: facts and frames, read in sandboxes, whose death costs one video."""

from __future__ import annotations

import os
import stat
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reelwright.annotate.chat.frame_times import FrameSampling
from reelwright.curation.media.errors import MediaError
from reelwright.training.tuning.samples import Reason, VideoRef

if TYPE_CHECKING:
    from reelwright.curation.store import Store

MOST_BYTES = 1 << 30  # of a video's file
MEMORY_MIB = 4096  # of a sandbox
STALL_S, LONGEST_S = 60.0, 600.0  # without progress, and in all, per video
_HERE = "reelwright.training.tuning.videos"


class VideoError(Exception):
    """A video cannot be used."""

    def __init__(self, reason: Reason, why: str) -> None:
        super().__init__(why)
        self.reason: Reason = reason


@dataclass(frozen=True)
class VideoFacts:
    """What is known of a video before it is decoded. content: a hash of its bytes, or its id in the store."""

    num_frames: int
    fps: float
    width: int
    height: int
    content: str

    def shape(self, sampling: FrameSampling) -> tuple[int, int, int]:
        """Return (frames, height, width) of its sampled frames."""
        return sampling.shape(self.num_frames, self.fps, self.width, self.height)

    @property
    def duration_s(self) -> float:
        """Its length by its frames, as captions' questions have it."""
        return self.num_frames / self.fps


@dataclass(frozen=True, eq=False)
class Seen:
    """Sampled frames, uint8 [T, H, W, 3], of a video of `duration_s` seconds."""

    frames: np.ndarray
    duration_s: float

    @property
    def seconds_per_frame(self) -> float:
        """Time from one sampled frame to the next."""
        return self.duration_s / len(self.frames)


class Videos:
    """Reads videos. Every thread that calls it has a sandbox of its own; `close` ends them."""

    def __init__(self, sampling: FrameSampling, jpeg_quality: int, store: Store | None = None) -> None:
        """Take what is sampled, the quality of frames as JPEG (0: as decoded), and the store of clips."""
        self.sampling, self.jpeg_quality, self.store = sampling, jpeg_quality, store
        self._own = threading.local()
        self._all: list[Any] = []

    def facts(self, video: VideoRef) -> VideoFacts:
        """Return a video's facts. Raises VideoError."""
        with self._path(video) as path:
            reply = self._call("facts_of", {"path": path})
        return VideoFacts(**reply.value)

    def seen(self, video: VideoRef) -> Seen:
        """Return the sampled frames. Raises VideoError."""
        from reelwright.annotate.chat.payload import pixels

        arguments = {"sampling": asdict(self.sampling), "quality": self.jpeg_quality}
        with self._path(video) as path:
            reply = self._call("frames_of", {"path": path, **arguments})
        shape, duration_s = reply.value["shape"], reply.value["duration_s"]
        if self.jpeg_quality:
            return Seen(pixels(reply.blobs), duration_s)
        return Seen(np.frombuffer(reply.blobs[0], np.uint8).reshape(shape), duration_s)

    def close(self) -> None:
        """End the sandboxes."""
        for sandbox in self._all:
            sandbox.close()

    @contextmanager
    def _path(self, video: VideoRef) -> Iterator[str]:
        if video.kind == "file":
            _refuse_file(video.name)
            yield video.name
            return
        data = self._stored(video)
        if len(data) > MOST_BYTES:
            raise VideoError("large", video.name)
        with tempfile.TemporaryDirectory(prefix="reel-") as folder:
            path = os.path.join(folder, "clip.mp4")
            with open(path, "wb") as file:
                file.write(data)
            yield path

    def _stored(self, video: VideoRef) -> bytes:
        from reelwright.curation.store import StoreError

        if self.store is None:
            raise VideoError("missing", "no store was named")
        try:
            if video.kind == "generation":
                return generation_bytes(self.store, video.name)
            ((_, data),) = self.store.read_media([video.name])
        except StoreError as error:
            raise VideoError("missing", str(error)) from error
        return data

    def _call(self, function: str, arguments: Mapping[str, Any]) -> Any:
        from reelwright.curation.media.sandbox import Sandbox

        if not hasattr(self._own, "sandbox"):
            self._own.sandbox = Sandbox(memory_bytes=MEMORY_MIB << 20, stall_s=STALL_S)
            self._all.append(self._own.sandbox)
        try:
            return self._own.sandbox.call(f"{_HERE}:{function}", arguments, max_s=LONGEST_S)
        except MediaError as error:
            raise VideoError("decode", str(error)) from error


def generation_bytes(store: Store, generation_id: str) -> bytes:
    """Return the mp4 of a generation: the one place that knows where its bytes lie. Raises StoreError."""
    ((_, data),) = store.read_generated([generation_id])
    return data


def stored_facts(store: Store, table: str, key: str, ids: Sequence[str]) -> dict[str, VideoFacts]:
    """Return the facts of clips or generations from their rows, by id; those that lack one are left out."""
    from reelwright.curation.store.sql_text import literals

    columns, found = ["num_frames", "fps", "width", "height"], {}
    for start in range(0, len(ids), 1000):
        some = sorted(ids[start : start + 1000])
        for row in store.read(table, [key, *columns], f"{key} IN ({literals(some)})").to_pylist():
            values = [row[name] for name in columns]
            if all(value and value > 0 for value in values):
                found[row[key]] = VideoFacts(**{name: row[name] for name in columns}, content=row[key])
    return found


def facts_of(path: str) -> tuple[dict[str, Any], list[bytes]]:
    """In the sandbox: a file's facts and the hash of its bytes."""
    import hashlib

    from reelwright.curation.media.frames import read

    with open(path, "rb") as file:
        data = file.read(MOST_BYTES + 1)
    facts, _ = read(data)
    found = {name: getattr(facts, name) for name in ("num_frames", "fps", "width", "height")}
    return {**found, "content": hashlib.sha256(data).hexdigest()}, []


def frames_of(path: str, sampling: dict[str, Any], quality: int) -> tuple[dict[str, Any], list]:
    """In the sandbox: sampled frames, as JPEGs or (quality 0) raw."""
    from reelwright.annotate.chat.payload import jpegs
    from reelwright.curation.media.frames import Frames, read

    wanted = FrameSampling(**sampling)
    with open(path, "rb") as file:
        data = file.read(MOST_BYTES + 1)
    facts, (frames,) = read(data, [need for need in wanted.needs if isinstance(need, Frames)])
    frames, _ = wanted.seen(frames, facts)
    header = {"shape": list(frames.shape), "duration_s": facts.num_frames / facts.fps}
    return header, jpegs(frames, quality) if quality else [np.ascontiguousarray(frames).data.cast("B")]


def _refuse_file(path: str) -> None:
    try:
        status = os.stat(path)
    except OSError as error:
        raise VideoError("missing", f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise VideoError("missing", f"{path} is no file")
    if status.st_size > MOST_BYTES:
        raise VideoError("large", f"{path} has {status.st_size:,} bytes")
