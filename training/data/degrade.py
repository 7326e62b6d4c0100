"""Degradations of a first stage's frames, in the order blur, resize, noise, JPEG, video compression.

Every strength follows from the sample's seed and the step's name alone: switching one off changes no other, and each
rank makes the same frames. Frames are worked on one by one, so that memory holds two copies of them at most.

With `walk` the strengths of blur, resize, noise and JPEG walk over the frames, as RealBasicVSR's do (arXiv 2111.12704):
each frame adds an even draw of ± `walk` of the range, and a strength stays within its range.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reelwright.training.pair_config import (
    BlurConfig,
    Degradation,
    JpegConfig,
    NoiseConfig,
    PairConfig,
    ResizeConfig,
    VideoConfig,
)

Frame = Callable[[np.ndarray, int], np.ndarray]
"""(uint8 [H, W, 3], its number) -> uint8 [H, W, 3]."""


def degrade(frames: np.ndarray, config: PairConfig, seed: int) -> np.ndarray:
    """Put frames through the chain.

    Args:
        frames: uint8 [F, H, W, 3]; not changed.
        config: what may happen, and how strongly.
        seed: of the sample.

    Returns:
        uint8 [F, H, W, 3].
    """
    for of_frame in _pictures(config, seed, frames.shape):
        out = np.empty_like(frames)
        for i, picture in enumerate(frames):
            out[i] = of_frame(picture, i)
        frames = out
    rng = _drawn(config.video, "video", seed)
    if rng is None or len(frames) == 1:
        return frames
    assert config.video is not None
    return _compressed(frames, config.video, rng, config.fps)


def reduced(frames: np.ndarray, *, height: int, width: int, times: int) -> np.ndarray:
    """Drop frames and pixels: every `times`-th frame, at the first stage's size, each pixel the mean of its area.

    Frames are dropped, not blended: a camera at half the rate sees each moment as sharply.

    Args:
        frames: uint8 [F, H, W, 3].
        height: of the first stage.
        width: of the first stage.
        times: how many times fewer frames.
    """
    import cv2

    kept = frames[::times]
    out = np.empty((len(kept), height, width, 3), np.uint8)
    for i, picture in enumerate(kept):
        cv2.resize(picture, (width, height), dst=out[i], interpolation=cv2.INTER_AREA)
    return out


def generator(seed: int, name: str) -> np.random.Generator:
    """Return the generator of one step of a sample."""
    return np.random.default_rng([seed & (2**63 - 1), zlib.crc32(name.encode())])


def between(rng: np.random.Generator, least: float, most: float) -> float:
    """Draw evenly from a range."""
    return float(least + (most - least) * rng.random())


@dataclass(frozen=True)
class _Walk:
    """A walk of strengths over a sample's frames; it has a generator of its own, so that it changes no other draw."""

    seed: int
    share: float
    frames: int

    def over(self, name: str, first: float, least: float, most: float) -> list[float]:
        """Return the strength of each frame; without a walk, the first one's."""
        if not self.share:
            return [first] * self.frames
        found, rng = [first], generator(self.seed, f"{name} walk")
        for step in rng.uniform(-self.share, self.share, self.frames - 1):
            found.append(min(most, max(least, found[-1] + step * (most - least))))
        return found


def _pictures(config: PairConfig, seed: int, shape: tuple[int, ...]) -> list[Frame]:
    """Return the steps that this sample gets of those that work on each frame. shape: of the frames [F, H, W, 3]."""
    count, height, width = shape[:3]
    walk, found = _Walk(seed, config.walk, count), []
    if config.blur and (rng := _drawn(config.blur, "blur", seed)):
        found.append(_blur(config.blur, rng, walk))
    if config.resize and (rng := _drawn(config.resize, "resize", seed)):
        found.append(_resize(config.resize, rng, walk, (height, width)))
    if config.noise and (rng := _drawn(config.noise, "noise", seed)):
        found.append(_noise(config.noise, rng, walk))
    if config.jpeg and (rng := _drawn(config.jpeg, "jpeg", seed)):
        found.append(_jpeg(config.jpeg, rng, walk))
    return found


def _drawn(step: Degradation | None, name: str, seed: int) -> np.random.Generator | None:
    """Return the step's generator if this sample gets it."""
    if step is None:
        return None
    rng = generator(seed, name)
    return rng if rng.random() < step.chance else None


def _blur(config: BlurConfig, rng: np.random.Generator, walk: _Walk) -> Frame:
    import cv2

    sigmas = walk.over("blur", between(rng, *config.sigma), *config.sigma)
    return lambda picture, i: cv2.GaussianBlur(picture, (0, 0), sigmas[i]) if sigmas[i] > 0 else picture


def _resize(config: ResizeConfig, rng: np.random.Generator, walk: _Walk, size: tuple[int, int]) -> Frame:
    import cv2

    height, width = size
    factors = walk.over("resize", between(rng, *config.factor), *config.factor)
    back = [cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA][int(rng.integers(3))]

    def apply(picture: np.ndarray, i: int) -> np.ndarray:
        small = (max(1, round(width * factors[i])), max(1, round(height * factors[i])))
        less = cv2.resize(picture, small, interpolation=cv2.INTER_AREA)
        return cv2.resize(less, (width, height), interpolation=back)

    return apply


def _noise(config: NoiseConfig, rng: np.random.Generator, walk: _Walk) -> Frame:
    sigmas = walk.over("noise", between(rng, *config.sigma), *config.sigma)
    grey = rng.random() < config.grey

    def apply(picture: np.ndarray, i: int) -> np.ndarray:
        shape = (*picture.shape[:2], 1 if grey else 3)
        noisy = picture + np.float32(sigmas[i]) * rng.standard_normal(shape, np.float32)
        return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)

    return apply


def _jpeg(config: JpegConfig, rng: np.random.Generator, walk: _Walk) -> Frame:
    import cv2

    qualities = walk.over("jpeg", between(rng, *config.quality), *config.quality)

    def apply(picture: np.ndarray, i: int) -> np.ndarray:
        _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, round(qualities[i])])
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert decoded is not None  # our own bytes of a moment ago
        return decoded[..., ::-1]

    return apply


def _compressed(frames: np.ndarray, config: VideoConfig, rng: np.random.Generator, fps: float) -> np.ndarray:
    from reelwright.curation.media.recompress import recompress

    codec = config.codecs[int(rng.integers(len(config.codecs)))]
    bits = math.exp(between(rng, *map(math.log, config.bits_per_pixel)))
    return recompress(frames, codec=codec, bits_per_pixel=bits, fps=fps)
