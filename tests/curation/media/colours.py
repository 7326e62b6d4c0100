"""Patches of colour as files: YUV values worked out by ITU-T H.273, and RGB read back by it."""

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

WEIGHTS = {1: (0.2126, 0.0722), 2: (0.299, 0.114), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114),
           7: (0.212, 0.087), 9: (0.2627, 0.0593)}  # fmt: skip
"""Of red and blue in luma, by matrix; unspecified is read as BT.601."""
PATCH = 32


def patches(width: int = 320, height: int = 192, seed: int = 0) -> np.ndarray:
    """Pure, grey and random patches: uint8 RGB [H, W, 3]."""
    rng = np.random.default_rng(seed)
    rows, columns = height // PATCH, width // PATCH
    colours = rng.integers(0, 256, (rows * columns, 3), np.uint8)
    colours[:8] = [(r, g, b) for r in (0, 255) for g in (0, 255) for b in (0, 255)]
    colours[8:12] = [[g] * 3 for g in (20, 90, 160, 230)]
    return np.kron(colours.reshape(rows, columns, 3), np.ones((PATCH, PATCH, 1), np.uint8))


def frame_of(rgb: np.ndarray, format: str, matrix: int, range: int, transfer: int = 2, primaries: int = 2) -> Any:
    """An av.VideoFrame of YUV `format` that shows `rgb` by matrix and range (0 and 1 limited, 2 full), tagged so."""
    frame = av.VideoFrame(rgb.shape[1], rgb.shape[0], format)
    depth = max(c.bits for c in frame.format.components)
    for plane, values in zip(frame.planes, _yuv(rgb, matrix, range, depth), strict=False):
        down, across = values.shape[0] // plane.height, values.shape[1] // plane.width
        small = values.reshape(plane.height, down, plane.width, across).mean((1, 3))
        kind = np.dtype(np.uint8 if depth == 8 else np.uint16)
        rows = np.zeros((plane.height, plane.line_size // kind.itemsize), kind)
        rows[:, : plane.width] = np.rint(small).clip(0, (1 << depth) - 1)
        plane.update(rows.tobytes())
    frame.colorspace, frame.color_range, frame.color_trc, frame.color_primaries = matrix, range, transfer, primaries
    return frame


def _yuv(rgb: np.ndarray, matrix: int, range: int, depth: int) -> list[np.ndarray]:
    kr, kb = WEIGHTS[matrix]
    r, g, b = np.moveaxis(rgb.astype(np.float64) / 255, -1, 0)
    y = kr * r + (1 - kr - kb) * g + kb * b
    cb, cr = (b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr))
    top, unit = (1 << depth) - 1, 1 << (depth - 8)
    if range == 2:
        return [y * top, cb * top + 128 * unit, cr * top + 128 * unit]
    return [(16 + 219 * y) * unit, (128 + 224 * cb) * unit, (128 + 224 * cr) * unit]


def rgb_of(frame: Any) -> np.ndarray:
    """A decoded planar YUV frame as RGB by its own tags, float [H, W, 3] of 0 to 255: chroma repeated, not smoothed."""
    depth = max(c.bits for c in frame.format.components)
    kind = np.dtype(np.uint8 if depth == 8 else np.uint16)
    planes = []
    for plane in list(frame.planes)[:3]:
        rows = np.frombuffer(bytes(plane), kind).reshape(plane.height, -1)[:, : plane.width].astype(np.float64)
        planes.append(np.kron(rows, np.ones((frame.height // plane.height, frame.width // plane.width))))
    y, cb, cr = (p / (1 << (depth - 8)) for p in planes)
    full = frame.color_range == 2
    y, cb, cr = (y / 255 if full else (y - 16) / 219), *((c - 128) / (255 if full else 224) for c in (cb, cr))
    kr, kb = WEIGHTS[int(frame.colorspace)]
    red, blue = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    return (np.stack([red, (y - kr * red - kb * blue) / (1 - kr - kb), blue], -1) * 255).clip(0, 255)


def write_frames(path: Path, frames: list[Any], codec: str = "ffv1", rate: int = 25, **options: str) -> Path:
    """Encode frames in their own pixel format, with the first one's tags."""
    first = frames[0]
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate, options=options)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = first.width, first.height, first.format.name
        context.colorspace, context.color_range = first.colorspace, first.color_range
        context.color_trc, context.color_primaries = first.color_trc, first.color_primaries
        for number, frame in enumerate(frames):
            frame.pts, frame.time_base = number, Fraction(1, rate)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def decoded(mp4: bytes) -> list[Any]:
    with av.open(io.BytesIO(mp4)) as file:
        return list(file.decode(video=0))


def worst_patch(got: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference of the middle of a patch, of 255. Both [H, W, 3], whole patches in each."""
    rows, columns = expected.shape[0] // PATCH, expected.shape[1] // PATCH
    scale = got.shape[0] / expected.shape[0]
    at = [((i + 0.5) * PATCH, (j + 0.5) * PATCH) for i in np.arange(rows) for j in np.arange(columns)]
    reach = max(1, round(PATCH * scale / 8))
    worst = 0.0
    for y, x in at:
        a, b = int(y * scale), int(x * scale)
        middle = got[a - reach : a + reach, b - reach : b + reach].mean((0, 1))
        worst = max(worst, float(np.abs(middle - expected[int(y), int(x)]).max()))
    return worst
