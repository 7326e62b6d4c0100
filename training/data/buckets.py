"""Aspect-ratio and length buckets: the few shapes of video that a network sees.

A bucket is a size class at an aspect ratio (or a size given as width x height) and a number of frames. A clip goes to
the nearest ratio of every size class that it fills, and there to the longest bucket it has frames for; a frame of it
to the image bucket.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from reelwright.model.config import STRIDE
from reelwright.training.errors import TrainError
from reelwright.training.recipe import DataConfig

SIDE = 16  # pixels: a latent position is 8, a token 2 of them
CLASSES = {"256p": (256, 256), "480p": (832, 480), "720p": (1280, 720)}  # width, height of the class' own shape
FILLED = 0.9  # of a bucket's sides that a clip must have: beyond that, upscaling shows


@dataclass(frozen=True, order=True)
class Bucket:
    """A shape of video in pixels. frames: 1 (an image) or 4k + 1."""

    frames: int
    height: int
    width: int

    @property
    def key(self) -> str:
        """Name in the store: `93x480x832`."""
        return f"{self.frames}x{self.height}x{self.width}"

    @property
    def latent(self) -> tuple[int, int, int]:
        """(latent frames, rows, columns)."""
        return (self.frames - 1) // STRIDE[0] + 1, self.height // STRIDE[1], self.width // STRIDE[2]

    def tokens(self, patch: tuple[int, int, int] = (1, 2, 2)) -> int:
        """Tokens of one sample."""
        return math.prod(side // p for side, p in zip(self.latent, patch, strict=True))

    def scale(self, width: int, height: int) -> float:
        """How much a clip of this size is enlarged to cover the bucket; below 1 it is reduced."""
        return max(self.width / width, self.height / height)


def buckets_of(data: DataConfig) -> list[Bucket]:
    """Return every bucket of a recipe, ordered by frames, then height, then width.

    Raises:
        TrainError: a size is not valid.
    """
    return sorted({Bucket(f, h, w) for name in data.sizes for w, h in _shapes(name, data.ratios) for f in data.frames})


def main_bucket(data: DataConfig) -> Bucket:
    """Return the largest bucket of a recipe in its class' own shape.

    It has the most frames, of the largest size, such as 832x480 of 480p.
    """
    size = max(data.sizes, key=lambda name: (_area(_shapes(name, data.ratios)), name))
    own = CLASSES.get(size, (1, 1))
    shapes = _shapes(size, data.ratios)
    width, height = own if own in shapes else max(shapes, key=lambda s: (s[0] * s[1], s))
    return Bucket(max(data.frames), height, width)


def nearest(
    width: int, height: int, num_frames: int, fps: float, buckets: Sequence[Bucket], *, rate: float = 15
) -> Bucket:
    """Return the bucket of one clip among the buckets of one size class.

    It has the nearest ratio (the larger on a tie), then the most frames that the clip fills when sampled `rate` times
    per second; the fewest where it fills none.
    """
    ratio = min(abs(math.log(width / height * b.height / b.width)) for b in buckets)
    near = [b for b in buckets if math.isclose(abs(math.log(width / height * b.height / b.width)), ratio, abs_tol=1e-9)]
    frames = samples(num_frames, fps, rate)
    return max((b for b in near if b.frames <= frames), default=min(near))


def samples(num_frames: int, fps: float, rate: float) -> int:
    """Count the frames of a clip sampled `rate` times per second: sample k shows the time (k + 1/2) / rate.

    A clip slower than that repeats frames, so that its motion keeps its speed.
    """
    return max(1, round(num_frames * rate / fps))


def source_frames(num_frames: int, fps: float, rate: float, count: int, at: float = 0.5) -> list[int]:
    """Return the frames of the clip that `count` samples show.

    Args:
        num_frames: frames of the clip.
        fps: its frames per second.
        rate: samples per second.
        count: number of samples.
        at: place of the window in the clip, 0 its beginning and 1 its end.
    """
    first = math.floor(at * max(0, samples(num_frames, fps, rate) - count) + 0.5)
    if count == 1:
        return [min(num_frames - 1, int(at * num_frames))]
    return [min(num_frames - 1, int((first + k + 0.5) * fps / rate)) for k in range(count)]


@dataclass(frozen=True)
class Assignment:
    """Where each of N clips goes, over S size classes (from small to large): indices into `buckets`, -1 for nowhere.

    image, video: [N, S]. scale: [N, S], how much the clip is enlarged there; above 1 / 0.9 only in the smallest class.
    """

    buckets: list[Bucket]
    image: np.ndarray
    video: np.ndarray
    scale: np.ndarray


def assign(
    width: np.ndarray,
    height: np.ndarray,
    frames: np.ndarray,
    data: DataConfig,
    *,
    at_rate: Mapping[float, np.ndarray] = MappingProxyType({}),
) -> Assignment:
    """Assign clips to buckets.

    Args:
        width: of each clip, pixels, [N].
        height: of each clip, pixels, [N].
        frames: of each clip at the recipe's rate, as `samples` says, [N].
        data: of the recipe.
        at_rate: the same at each other frame rate of the recipe.
    """
    buckets = buckets_of(data)
    number = {b: i for i, b in enumerate(buckets)}
    classes = sorted({name: _shapes(name, data.ratios) for name in data.sizes}.values(), key=lambda s: (_area(s), s))
    image = np.full((len(width), len(classes)), -1, np.int32)
    video, scale = image.copy(), np.ones(image.shape, np.float32)
    for s, shapes in enumerate(classes):
        chosen = _nearest_shape(width, height, shapes)
        sides = np.array(shapes, float)[chosen]
        scale[:, s] = np.maximum(sides[:, 0] / width, sides[:, 1] / height)
        for count in sorted(data.frames):
            here = np.array([number[Bucket(count, h, w)] for w, h in shapes], np.int32)[chosen]
            if count == 1:
                image[:, s] = here
            else:
                long_enough = at_rate.get(data.rate_of(count), frames) >= count
                video[:, s] = np.where(long_enough, here, video[:, s])
    too_large = scale > 1 / FILLED
    too_large[:, 0] = False
    image[too_large], video[too_large] = -1, -1
    return Assignment(buckets, image, video, scale)


def size_order(data: DataConfig) -> list[int]:
    """Places in `data.sizes` of the size classes in the order of an `Assignment`."""
    shapes = [_shapes(name, data.ratios) for name in data.sizes]
    return sorted(range(len(shapes)), key=lambda i: (_area(shapes[i]), shapes[i]))


def _nearest_shape(width: np.ndarray, height: np.ndarray, shapes: Sequence[tuple[int, int]]) -> np.ndarray:
    logs = np.log([w / h for w, h in shapes])
    return np.abs(np.log(width / height)[:, None] - logs[None]).argmin(1)


def _area(shapes: Sequence[tuple[int, int]]) -> int:
    return max(w * h for w, h in shapes)


def _shapes(name: str, ratios: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """(width, height) of a size class at each ratio, from tall to wide.

    Sides are multiples of 16 near the class' area. The ratio nearest to the class' own shape, lying and standing, has
    exactly that: 16:9 at 480p is 832x480, as published, and not 848x480.
    """
    if exact := re.fullmatch(r"(\d+)x(\d+)", name):
        width, height = int(exact[1]), int(exact[2])
        if width % SIDE or height % SIDE or not width or not height:
            raise TrainError(f"data.sizes: {name} cannot be a bucket; width and height must be multiples of {SIDE}")
        return ((width, height),)
    if not re.fullmatch(r"[1-9]\d*p", name):
        raise TrainError(f"data.sizes: {name!r} is no size; name a class (256p, 480p, 720p, 64p) or WIDTHxHEIGHT")
    own = CLASSES.get(name) or (max(SIDE, round(int(name[:-1]) / SIDE) * SIDE),) * 2
    area = own[0] * own[1]
    found = {ratio: _of_ratio(ratio, area) for ratio in map(_ratio, ratios)}
    for shape in (own, own[::-1]):
        found[min(found, key=lambda r: abs(math.log(r * shape[1] / shape[0])))] = shape
    return tuple(found[ratio] for ratio in sorted(found))


def _of_ratio(ratio: float, area: int) -> tuple[int, int]:
    if ratio < 1:  # rounded as its lying counterpart
        width, height = _of_ratio(1 / ratio, area)
        return height, width
    height = max(SIDE, round(math.sqrt(area / ratio) / SIDE) * SIDE)
    return max(SIDE, round(height * ratio / SIDE) * SIDE), height


def _ratio(text: str) -> float:
    parts = re.fullmatch(r"([1-9]\d*):([1-9]\d*)", text)
    if not parts:
        raise TrainError(f"data.ratios: {text!r} is no ratio; write width:height, such as 16:9")
    return int(parts[1]) / int(parts[2])
