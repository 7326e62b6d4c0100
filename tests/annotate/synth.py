"""Small clips made for a test: frames as arrays, encoded as the pipeline's clips are."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np


def encode(
    frames: Iterable[np.ndarray], fps: int = 24, crf: int = 20, container: dict[str, str] | None = None, **options: str
) -> bytes:
    """H.264 mp4 of uint8 [H, W] or [H, W, 3] RGB frames; even sides get 4:2:0, odd ones 4:4:4."""
    frames = [np.repeat(f[..., None], 3, axis=2) if f.ndim == 2 else f for f in frames]
    height, width = frames[0].shape[:2]
    with tempfile.TemporaryDirectory() as folder:  # in memory the mp4 muxer cannot put the index first (faststart)
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w", options=container or {}) as file:
            stream = file.add_stream("libx264", rate=Fraction(fps))
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuv444p" if width % 2 or height % 2 else "yuv420p"
            stream.codec_context.thread_count = 1
            stream.codec_context.options = {"crf": str(crf), "preset": "veryfast", **options}
            for frame in frames:
                file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
            file.mux(stream.encode())
        return path.read_bytes()


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth random picture, uint8 [H, W, 3], with detail at many sizes, as footage has."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(
            rng.normal(0, 1, (height // s + 2, width // s + 2, 3)), (width, height), interpolation=cv2.INTER_CUBIC
        )
        * s**0.3
        for s in (2, 4, 8, 16, 32)
    ]
    picture = np.sum(layers, axis=0)
    return np.clip(128 + 40 * picture / picture.std(), 0, 255).astype(np.uint8)


def moved(picture: np.ndarray, dx: Sequence[float], dy: Sequence[float], height: int, width: int) -> list[np.ndarray]:
    """Windows of a larger picture whose content moves by (dx, dy) pixels from start, at sub-pixel places."""
    centre = ((picture.shape[1] - 1) / 2, (picture.shape[0] - 1) / 2)
    places = zip(dx, dy, strict=True)
    return [cv2.getRectSubPix(picture, (width, height), (centre[0] - x, centre[1] - y)) for x, y in places]


def noisy(frames: Iterable[np.ndarray], sigma: float, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [np.clip(f + rng.normal(0, sigma, f.shape), 0, 255).astype(np.uint8) for f in frames]
