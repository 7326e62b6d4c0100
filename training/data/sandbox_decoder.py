"""Windows of stored clips, decoded in a sandbox: what precomputing and encoding on the fly feed the VAE with."""

import os
import tempfile
import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from reelwright.training.data.buckets import Bucket, source_frames

if TYPE_CHECKING:
    from reelwright.training.data.encode import Decoded

MEMORY_MIB = 4096  # a window of 189 frames at 720p is 0.5 GB, and is held twice
STALL_S = 120.0


def read_window(path: str, rate: float, count: int, width: int, height: int, at: float) -> tuple[dict[str, Any], list]:
    """In the sandbox: `count` frames sampled `rate` times per second, as raw RGB."""
    from reelwright.curation.media.frames import ClipFacts
    from reelwright.curation.media.window import window

    seen: list[ClipFacts] = []

    def choose(facts: ClipFacts) -> list[int]:
        seen.append(facts)
        return source_frames(facts.num_frames, facts.fps, rate, count, at)

    with open(path, "rb") as file:
        numbers, frames = window(file.read(), choose, width=width, height=height)
    header = {"numbers": numbers, "shape": list(frames.shape), "width": seen[0].width, "height": seen[0].height}
    return header, [frames.data.cast("B")]


class SandboxDecoder:
    """A `training.data.encode.Decode`. Every thread that calls it has a sandbox of its own; `close` ends them."""

    def __init__(self, rate: float, rates: Mapping[int, float] = MappingProxyType({})) -> None:
        """Sample clips at a rate.

        Args:
            rate: samples per second.
            rates: frame rates by a window's number of frames, where they differ.
        """
        self.rate, self.rates = rate, dict(rates)
        self._own = threading.local()
        self._all: list[Any] = []

    def __call__(self, mp4: bytes, bucket: Bucket, at: float) -> "Decoded":
        """Decode a window of a clip in a sandbox.

        Raises:
            MediaError: the clip does not decode.
        """
        from reelwright.training.data.encode import Decoded

        with tempfile.TemporaryDirectory(prefix="reel-") as folder:
            path = os.path.join(folder, "clip.mp4")
            with open(path, "wb") as file:
                file.write(mp4)
            size = {"count": bucket.frames, "width": bucket.width, "height": bucket.height}
            rate = self.rates.get(bucket.frames, self.rate)
            arguments = {"path": path, "rate": rate, "at": at, **size}
            reply = self._sandbox().call("reelwright.training.data.sandbox_decoder:read_window", arguments)
        header = reply.value
        frames = np.frombuffer(reply.blobs[0], np.uint8).reshape(header["shape"])
        return Decoded(header["numbers"], frames, header["width"], header["height"])

    def close(self) -> None:
        """End the sandboxes."""
        for sandbox in self._all:
            sandbox.close()

    def _sandbox(self) -> Any:
        from reelwright.curation.media.sandbox import Sandbox

        if not hasattr(self._own, "sandbox"):
            self._own.sandbox = Sandbox(memory_bytes=MEMORY_MIB << 20, stall_s=STALL_S)
            self._all.append(self._own.sandbox)
        return self._own.sandbox
