"""Clips without a mark that are hard on a watermark detector, made of still pictures; for benchmarks.watermark.

Things that stay in their place here belong to the scene, although the picture changes: its exposure does, the camera
zooms or rolls about a point of it, or a subject passes before it.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

WORDS = ("OPEN", "Bakery", "EXIT 12", "Hotel Park", "No parking", "MUSEUM")
Frames = list[np.ndarray]


def exposure_ramp(picture: np.ndarray, other: np.ndarray, rng: np.random.Generator, count: int) -> Frames:
    low, high = rng.uniform(0.3, 0.7), rng.uniform(1.2, 2.0)
    return _noisy([_exposed(picture, g) for g in np.geomspace(low, high, count)[:: rng.choice((-1, 1))]], rng)


def exposure_steps(picture: np.ndarray, other: np.ndarray, rng: np.random.Generator, count: int) -> Frames:
    gains = np.repeat(rng.uniform(0.4, 1.8, 4), -(-count // 4))[:count]
    return _noisy([_exposed(picture, g) for g in gains], rng)


def flicker(picture: np.ndarray, other: np.ndarray, rng: np.random.Generator, count: int) -> Frames:
    gains, offsets = rng.uniform(0.6, 1.3, count), rng.uniform(-25, 25, count)
    return _noisy([_exposed(picture, g, b) for g, b in zip(gains, offsets, strict=True)], rng)


def exposure_subject(picture: np.ndarray, other: np.ndarray, rng: np.random.Generator, count: int) -> Frames:
    """Exposure steps while a subject walks by."""
    gains = np.repeat(rng.uniform(0.4, 1.8, 3), -(-count // 3))[:count]
    walk = _passing(picture, other, rng, count)
    return _noisy([_exposed(f, g) for f, g in zip(walk, gains, strict=True)], rng)


def slow_zoom(picture: np.ndarray, other: np.ndarray, rng: np.random.Generator, count: int) -> Frames:
    total = rng.uniform(0.05, 0.35)
    scales = (1 + total * np.linspace(0, 1, count))[:: rng.choice((-1, 1))]
    return _noisy(_turned(picture, rng, np.zeros(count), scales), rng)


def slow_roll(picture: np.ndarray, other: np.ndarray, rng: np.random.Generator, count: int) -> Frames:
    angles = rng.choice((-1, 1)) * np.linspace(0, rng.uniform(4, 15), count)
    return _noisy(_turned(picture, rng, angles, np.full(count, 1.25)), rng)


def zoom_on_a_sign(picture: np.ndarray, other: np.ndarray, rng: np.random.Generator, count: int) -> Frames:
    return slow_zoom(_lettered(picture, rng, middle=True), other, rng, count)


def subject(picture: np.ndarray, other: np.ndarray, rng: np.random.Generator, count: int) -> Frames:
    return _noisy(_passing(picture, other, rng, count), rng)


def subject_at_a_sign(picture: np.ndarray, other: np.ndarray, rng: np.random.Generator, count: int) -> Frames:
    return subject(_lettered(picture, rng), other, rng, count)


KINDS: dict[str, Callable[[np.ndarray, np.ndarray, np.random.Generator, int], Frames]] = {
    maker.__name__: maker
    for maker in (
        exposure_ramp, exposure_steps, flicker, exposure_subject, slow_zoom, slow_roll, zoom_on_a_sign, subject,
        subject_at_a_sign,
    )
}  # fmt: skip


def _exposed(picture: np.ndarray, gain: float, offset: float = 0) -> np.ndarray:
    return np.clip(picture.astype(np.float32) * gain + offset, 0, 255).astype(np.uint8)


def _noisy(frames: Frames, rng: np.random.Generator) -> Frames:
    """With noise as of a sensor."""
    height, width = frames[0].shape[:2]
    grain = rng.normal(0, 2, (4, height, width, 1)).astype(np.float32)
    return [np.clip(f + grain[i % 4], 0, 255).astype(np.uint8) for i, f in enumerate(frames)]


def _turned(picture: np.ndarray, rng: np.random.Generator, angles: np.ndarray, scales: np.ndarray) -> Frames:
    """Zoomed and rolled about a place in the middle third."""
    height, width = picture.shape[:2]
    centre = float(rng.uniform(0.35, 0.65) * width), float(rng.uniform(0.35, 0.65) * height)
    return [
        cv2.warpAffine(
            picture, cv2.getRotationMatrix2D(centre, float(a), float(s)), (width, height),
            flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT,
        )
        for a, s in zip(angles, scales, strict=True)
    ]  # fmt: skip


def _lettered(picture: np.ndarray, rng: np.random.Generator, middle: bool = False) -> np.ndarray:
    """With a painted sign, clear of the corners."""
    height, width = picture.shape[:2]
    word, scale = str(rng.choice(WORDS)), float(rng.uniform(0.5, 1.1))
    (w, h), _ = cv2.getTextSize(word, cv2.FONT_HERSHEY_DUPLEX, scale, 2)
    spread = 0.1 if middle else 0.3
    x = round(width * rng.uniform(0.5 - spread, 0.5 + spread) - w / 2)
    y = round(height * rng.uniform(0.5 - spread, 0.5 + spread) + h / 2)
    out = picture.copy()
    cv2.rectangle(out, (x - 8, y - h - 8), (x + w + 8, y + 10), (40, 60, 90), -1)
    cv2.putText(out, word, (x, y), cv2.FONT_HERSHEY_DUPLEX, scale, (235, 235, 220), 2, cv2.LINE_AA)
    return out


def _passing(picture: np.ndarray, other: np.ndarray, rng: np.random.Generator, count: int) -> Frames:
    """A piece of another picture, round, passes in front."""
    height, width = picture.shape[:2]
    w, h = int(rng.uniform(0.15, 0.4) * width), int(rng.uniform(0.4, 0.9) * height)
    top = int(rng.uniform(0, height - h))
    cut = other[(height - h) // 2 :][:h, (width - w) // 2 :][:, :w]
    shape = cv2.ellipse(np.zeros((h, w, 1), np.uint8), (w // 2, h // 2), (w // 2, h // 2), 0, 0, 360, 1, -1)
    begin, end = (-w, width) if rng.random() < 0.5 else (int(rng.uniform(0, width - w)), int(rng.uniform(0, width - w)))
    frames = []
    for left in np.linspace(begin, end, count).astype(int):
        frame = picture.copy()
        x0, x1 = max(0, left), min(width, left + w)
        if x1 > x0:
            part, mask = cut[:, x0 - left : x1 - left], shape[:, x0 - left : x1 - left].astype(bool)
            frame[top : top + h, x0:x1] = np.where(mask, part, frame[top : top + h, x0:x1])
        frames.append(frame)
    return frames
