"""Where each pixel of a frame comes from while one picture makes way for another: pushed, covered, squeezed, turned.

A layout is a table of sources: for each of STEPS stages of a kind of transition, for each pixel of the frame, an index
into the pixels of the old picture, the new one, blurred copies of both, and one black pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

STEPS = 32  # stages of a transition that are distinguished
LEVELS = 3  # copies of each picture: itself, and blurred for showing at a half and a quarter of its size
OLD, NEW, BLACK = 0, 1, 2
PANS = (0.25, 0.4, 0.55, 0.7, 0.85, 1.0)  # of the picture: a camera's largest turn from one rest to another
WAYS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}  # where the pictures go; y is down

Sources = tuple[np.ndarray, np.ndarray, np.ndarray]  # picture, and position y, x in it (0 to 1), of each pixel
Layout = Callable[[float], Sources]  # of a transition's progress, 0 to 1


@dataclass(frozen=True)
class Atlas:
    """All layouts at one size. names: [K]. index: int32 [K, STEPS, H * W]."""

    height: int
    width: int
    names: tuple[str, ...]
    index: np.ndarray

    @property
    def pans(self) -> np.ndarray:
        """Return which layouts are a camera's movements, bool [K]."""
        return np.array([name.startswith("pan ") for name in self.names])

    def compose(self, old: np.ndarray, new: np.ndarray, kinds: np.ndarray) -> np.ndarray:
        """Compose two float32 [H, W, C] by each stage of `kinds` [k]: [k, STEPS, H * W, C]."""
        channels = old.shape[-1]
        copies = [level.reshape(-1, channels) for picture in (old, new) for level in _blurred(picture)]
        pixels = np.concatenate([*copies, np.zeros((1, channels), np.float32)])
        return np.take(pixels, self.index[kinds], axis=0, mode="clip")  # a quarter of the time of an index in brackets


@lru_cache(maxsize=2)
def atlas(height: int, width: int) -> Atlas:
    """Make the layouts for pictures of this size."""
    y, x = (np.mgrid[:height, :width] + 0.5) / np.array([height, width])[:, None, None]
    layouts = dict(_layouts(y, x))
    stages = (np.arange(STEPS) + 0.5) / STEPS
    index = np.stack([_index([layout(p) for p in stages], height, width) for layout in layouts.values()])
    return Atlas(height, width, tuple(layouts), index)


def _blurred(picture: np.ndarray) -> list[np.ndarray]:
    import cv2

    return [picture, *(cv2.blur(picture, (size, size)) for size in (3, 5))]


def _index(stages: Sequence[Sources], height: int, width: int) -> np.ndarray:
    """Nearest source of each pixel, int32 [n, H * W]; of a blurred copy where the picture is shown smaller."""
    picture, y, x = (np.stack(part) for part in zip(*stages, strict=True))
    pixel = (y * height).astype(int).clip(0, height - 1) * width + (x * width).astype(int).clip(0, width - 1)
    shrunk = np.minimum(np.abs(np.gradient(y, axis=1)) * height, np.abs(np.gradient(x, axis=2)) * width)
    level = np.round(np.log2(shrunk.clip(1, 4))).astype(int)
    size = height * width
    index = (picture * LEVELS + level) * size + pixel
    return np.where(picture == BLACK, 2 * LEVELS * size, index).reshape(len(stages), -1).astype(np.int32)


def _layouts(y: np.ndarray, x: np.ndarray) -> Iterator[tuple[str, Layout]]:
    for way in WAYS:
        yield f"push {way}", _sliding(y, x, way, old_moves=True, new_moves=True)
        yield f"cover {way}", _sliding(y, x, way, old_moves=False, new_moves=True)
        yield f"uncover {way}", _sliding(y, x, way, old_moves=True, new_moves=False)
        yield f"squeeze {way}", _squeezed(y, x, way)
        for share in PANS:
            yield f"pan {way} {share}", _panned(y, x, way, share)
    for upright in (False, True):
        for closing in (False, True):
            yield f"doors {'upright' if upright else 'level'} {closing}", _doors(y, x, upright, closing)
    for tall, wide in ((True, True), (True, False), (False, True)):
        yield f"grow {tall} {wide}", _scaled(y, x, tall, wide, shrinks=False)
        yield f"shrink {tall} {wide}", _scaled(y, x, tall, wide, shrinks=True)
    yield "cube left", lambda p: _cube(y, x, -p)
    yield "cube right", lambda p: _cube(y, x, p)
    yield "iris of a box", lambda p: _through_black(y, x, p, np.maximum(np.abs(y - 0.5), np.abs(x - 0.5)) * 2)
    round_ = np.hypot((y - 0.5) * 9, (x - 0.5) * 16) / np.hypot(4.5, 8)
    yield "iris of a disc", lambda p: _through_black(y, x, p, round_)


def _entered(y: np.ndarray, x: np.ndarray, way: str, p: float) -> np.ndarray:
    """1 where the new picture is, 0 elsewhere."""
    return {"left": x > 1 - p, "right": x < p, "up": y > 1 - p, "down": y < p}[way].astype(int)


def _sliding(y: np.ndarray, x: np.ndarray, way: str, *, old_moves: bool, new_moves: bool) -> Layout:
    dx, dy = WAYS[way]

    def layout(p: float) -> Sources:
        new = _entered(y, x, way, p)
        moved = np.where(new, (p - 1) * new_moves, p * old_moves)
        return new, y - dy * moved, x - dx * moved

    return layout


def _panned(y: np.ndarray, x: np.ndarray, way: str, share: float) -> Layout:
    """Turn the camera by this share of the picture: the old picture where it still reaches, the new one beyond."""
    dx, dy = WAYS[way]

    def layout(p: float) -> Sources:
        new = _entered(y, x, way, p * share)
        moved = np.where(new, (p - 1) * share, p * share)
        return new, y - dy * moved, x - dx * moved

    return layout


def _squeezed(y: np.ndarray, x: np.ndarray, way: str) -> Layout:
    """Press the old picture together against the side it leaves by; the new one unfolds behind it."""

    def layout(p: float) -> Sources:
        new = _entered(y, x, way, p)
        along = y if way in ("up", "down") else x
        if way in ("left", "up"):
            along = np.where(new, (along - (1 - p)) / p, along / (1 - p))
        else:
            along = np.where(new, along / p, (along - p) / (1 - p))
        return (new, along, x) if way in ("up", "down") else (new, y, along)

    return layout


def _doors(y: np.ndarray, x: np.ndarray, upright: bool, closing: bool) -> Layout:
    """Halves of the old picture part before the new one, or halves of the new one meet over the old one."""

    def layout(p: float) -> Sources:
        gap = 1 - p if closing else p
        along = y if upright else x
        between = np.abs(along - 0.5) < gap / 2
        moved = np.where(between, along, np.where(along < 0.5, along + gap / 2, along - gap / 2))
        picture = (between != closing).astype(int)
        return (picture, moved, x) if upright else (picture, y, moved)

    return layout


def _scaled(y: np.ndarray, x: np.ndarray, tall: bool, wide: bool, *, shrinks: bool) -> Layout:
    """Grow the new picture from the middle over the old one, or shrink the old one into it, either way or in both."""

    def layout(p: float) -> Sources:
        size = 1 - p if shrinks else p
        sy, sx = ((y - 0.5) / size + 0.5 if tall else y), ((x - 0.5) / size + 0.5 if wide else x)
        inside = (np.abs(sy - 0.5) < 0.5) & (np.abs(sx - 0.5) < 0.5)
        return (inside != shrinks).astype(int), np.where(inside, sy, y), np.where(inside, sx, x)

    return layout


def _cube(y: np.ndarray, x: np.ndarray, p: float) -> Sources:
    """Turn a cube by p quarter turns, its front three half widths before the eye, to show its next face."""
    picture, sy, sx = np.full(y.shape, BLACK), y.copy(), x.copy()
    for face, turn in ((OLD, p * np.pi / 2), (NEW, (p - np.sign(p)) * np.pi / 2)):
        cos, sin = np.cos(turn), np.sin(turn)
        across = ((2 * x - 1) * (4 - cos) - 3 * sin) / (3 * cos - (2 * x - 1) * sin + 1e-9)
        depth = 4 - cos + across * sin
        upwards = (2 * y - 1) * depth / 3
        seen = (np.abs(across) <= 1) & (np.abs(upwards) <= 1) & (depth > 0)
        picture[seen], sy[seen], sx[seen] = face, (upwards[seen] + 1) / 2, (across[seen] + 1) / 2
    return picture, sy, sx


def _through_black(y: np.ndarray, x: np.ndarray, p: float, distance: np.ndarray) -> Sources:
    """Close the old picture to its middle, then open the new one."""
    picture = np.where(distance < abs(2 * p - 1), NEW if p > 0.5 else OLD, BLACK)
    return picture, y, x
