"""Degradations of a first stage's frames, in the order blur, resize, noise, JPEG, video compression.

Every strength follows from the sample's seed and the step's name alone: switching one off changes no other, and each
rank makes the same frames. Frames are worked on one by one, so that memory holds two copies of them at most.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable

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

Frame = Callable[[np.ndarray], np.ndarray]
"""uint8 [H, W, 3] -> uint8 [H, W, 3]."""


def degrade(frames: np.ndarray, config: PairConfig, seed: int) -> np.ndarray:
    """Put frames through the chain.

    Args:
        frames: uint8 [F, H, W, 3]; not changed.
        config: what may happen, and how strongly.
        seed: of the sample.

    Returns:
        uint8 [F, H, W, 3].
    """
    for of_frame in _pictures(config, seed, *frames.shape[1:3]):
        out = np.empty_like(frames)
        for i, picture in enumerate(frames):
            out[i] = of_frame(picture)
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


def _pictures(config: PairConfig, seed: int, height: int, width: int) -> list[Frame]:
    """Return the steps that this sample gets of those that work on each frame by itself."""
    found = []
    if config.blur and (rng := _drawn(config.blur, "blur", seed)):
        found.append(_blur(config.blur, rng))
    if config.resize and (rng := _drawn(config.resize, "resize", seed)):
        found.append(_resize(config.resize, rng, height, width))
    if config.noise and (rng := _drawn(config.noise, "noise", seed)):
        found.append(_noise(config.noise, rng))
    if config.jpeg and (rng := _drawn(config.jpeg, "jpeg", seed)):
        found.append(_jpeg(config.jpeg, rng))
    return found


def _drawn(step: Degradation | None, name: str, seed: int) -> np.random.Generator | None:
    """Return the step's generator if this sample gets it."""
    if step is None:
        return None
    rng = generator(seed, name)
    return rng if rng.random() < step.chance else None


def _blur(config: BlurConfig, rng: np.random.Generator) -> Frame:
    import cv2

    sigma = between(rng, *config.sigma)
    return lambda picture: cv2.GaussianBlur(picture, (0, 0), sigma) if sigma > 0 else picture


def _resize(config: ResizeConfig, rng: np.random.Generator, height: int, width: int) -> Frame:
    import cv2

    factor = between(rng, *config.factor)
    back = [cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA][int(rng.integers(3))]
    small = (max(1, round(width * factor)), max(1, round(height * factor)))

    def apply(picture: np.ndarray) -> np.ndarray:
        less = cv2.resize(picture, small, interpolation=cv2.INTER_AREA)
        return cv2.resize(less, (width, height), interpolation=back)

    return apply


def _noise(config: NoiseConfig, rng: np.random.Generator) -> Frame:
    sigma, grey = between(rng, *config.sigma), rng.random() < config.grey

    def apply(picture: np.ndarray) -> np.ndarray:
        shape = (*picture.shape[:2], 1 if grey else 3)
        noisy = picture + np.float32(sigma) * rng.standard_normal(shape, np.float32)
        return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)

    return apply


def _jpeg(config: JpegConfig, rng: np.random.Generator) -> Frame:
    import cv2

    quality = round(between(rng, *config.quality))

    def apply(picture: np.ndarray) -> np.ndarray:
        _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert decoded is not None  # our own bytes of a moment ago
        return decoded[..., ::-1]

    return apply


def _compressed(frames: np.ndarray, config: VideoConfig, rng: np.random.Generator, fps: float) -> np.ndarray:
    from reelwright.curation.media.recompress import recompress

    codec = config.codecs[int(rng.integers(len(config.codecs)))]
    bits = math.exp(between(rng, *map(math.log, config.bits_per_pixel)))
    return recompress(frames, codec=codec, bits_per_pixel=bits, fps=fps)
