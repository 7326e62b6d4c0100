"""Paths of a virtual camera: for each class its movement, its speed, its smoothness, and its tremble."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

FAMILIES = ("static", "pan", "tilt", "zoom", "roll", "shake", "other")
RATES = (8, 10, 12, 15, 16, 20, 24, 25, 30, 50, 60)  # frames per second
REACH = 0.55  # mean distance of pixels from the centre in shorter sides: their move by a radian or a unit of log scale
DEEPEST = 1.2  # log of the scale that a zoom goes through at most
PAN, TILT, ZOOM, ROLL = range(4)


@dataclass(frozen=True)
class Shot:
    """The camera's motion in a clip.

    Attributes:
        path: float [T, 4]: content right and down in shorter sides, log of the scale, radians clockwise.
    """

    family: str
    fps: int
    path: np.ndarray


def draw_shot(family: str, rng: np.random.Generator) -> Shot:
    """Draw a shot of a family: its frame rate, its length, and the camera's path."""
    fps = int(rng.choice(RATES))
    duration = _log_uniform(rng, 0.35, 6.0)
    if family in ("shake", "other"):  # below, a jolt and a move are the same thing
        duration = max(duration, 1.0)
    frames = max(8, round(duration * fps))
    t = np.arange(frames) / fps
    path = _MAKERS[family](t, rng)
    return Shot(family, fps, path * rng.choice([-1, 1], 4))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _static(t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _tremble(t, rng) * rng.choice([0, _log_uniform(rng, 1e-4, 8e-4)])


def _shake(t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    strength = _log_uniform(rng, 0.006, 0.06)
    path = strength * _tremble(t, rng, (1.5, 8.0))
    path[:, rng.integers(2)] *= rng.uniform(0.3, 1)
    drift = rng.uniform(-1, 1, 4) * rng.uniform(0, 1.2) * strength
    return path + _progress(t, rng)[:, None] * drift * (1, 1, 0.3, 0.3)


def _moving(axis: int) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    def make(t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        way = _distance(t, rng)
        path = np.zeros((len(t), 4))
        path[:, axis] = way * _progress(t, rng)
        minor = np.delete(np.arange(4), axis)
        share = rng.uniform(-0.2, 0.2, 3) * rng.choice([0, 1])  # no pan is quite level; zooms aim off the centre
        path[:, minor] = way * share * _progress(t, rng)[:, None]
        return _in_units(path) + _slight(t, way, rng)

    return make


def _other(t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    kind = rng.choice(["together", "in turn", "to and fro", "rough"])
    a, b = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)][rng.integers(6)]
    way = max(_distance(t, rng), 0.08)
    path = np.zeros((len(t), 4))
    if kind == "together":
        path[:, a], path[:, b] = way * _progress(t, rng), way * rng.uniform(0.55, 1.8) * _progress(t, rng)
    elif kind == "in turn":
        first = np.clip(t / t[-1] / rng.uniform(0.4, 0.6), 0, 1)
        path[:, a], path[:, b] = way * first, way * rng.uniform(0.6, 1.6) * (1 - first[::-1])
    elif kind == "to and fro":
        turns = rng.uniform(0.8, max(0.8, min(2.0, t[-1] / 1.2)))
        path[:, a] = way * 0.5 * np.sin(2 * np.pi * turns * t / t[-1] + rng.uniform(-0.3, 0.3))
    else:
        path[:, a] = way * _progress(t, rng)
        return _in_units(path) + _rough(t, way, rng)
    return _in_units(path) + _slight(t, way, rng)


_MAKERS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "static": _static, "shake": _shake, "other": _other,
    "pan": _moving(PAN), "tilt": _moving(TILT), "zoom": _moving(ZOOM), "roll": _moving(ROLL),
}  # fmt: skip


def _distance(t: np.ndarray, rng: np.random.Generator) -> float:
    """Return how far the picture moves in a clip, in shorter sides: fast enough and far enough to be seen."""
    return float(np.clip(_log_uniform(rng, 0.025, 1.0) * t[-1], 0.03, 2.5))


def _in_units(path: np.ndarray) -> np.ndarray:
    """Scale and angle from the shorter sides that the picture moves by on average; no zoom to nothing."""
    path = path / (1, 1, REACH, REACH)
    return path * min(1.0, DEEPEST / max(1e-9, float(np.ptp(path[:, ZOOM]))))


def _progress(t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """From 0 to 1 over the clip: steady, eased, or in a part of the time."""
    x = t / t[-1]
    kind = rng.integers(4)
    if kind == 1:
        floor = rng.uniform(0, 0.5)
        return floor * x + (1 - floor) * (1 - np.cos(np.pi * x)) / 2
    if kind == 2:
        return x ** rng.uniform(0.5, 2)
    if kind == 3:
        start = rng.uniform(0, 0.4)
        x = np.clip((x - start) / rng.uniform(0.5, 1 - start), 0, 1)
        return (1 - np.cos(np.pi * x)) / 2
    return x


def _slight(t: np.ndarray, way: float, rng: np.random.Generator) -> np.ndarray:
    """Draw the tremble of a hand that does its best: shorter and slower than the move."""
    tremble = _tremble(t, rng)
    strength = min(_log_uniform(rng, 1e-4, 8e-3), 0.05 * way, 0.4 * way / _length(tremble))
    return strength * rng.choice([0, 1]) * tremble


def _rough(t: np.ndarray, way: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a shake as fast as the move that it overlays, and not as far."""
    tremble = _tremble(t, rng, (1.5, 8.0))
    return min(rng.uniform(1.5, 3) * way / _length(tremble), 0.25 * way) * tremble


def _length(path: np.ndarray) -> float:
    """Return how far the picture's centre goes in all."""
    return float(np.linalg.norm(np.diff(path[:, :2], axis=0), axis=1).sum())


def _tremble(t: np.ndarray, rng: np.random.Generator, band: tuple[float, float] = (0.7, 7.0)) -> np.ndarray:
    """Draw sums of sines in a band of frequencies (Hz), rms 1 of the shifts: [T, 4]."""
    waves = np.zeros((len(t), 4))
    for axis in range(4):
        for _ in range(rng.integers(2, 6)):
            waves[:, axis] += rng.uniform(0.3, 1) * np.sin(2 * np.pi * rng.uniform(*band) * t + rng.uniform(0, 6.3))
    waves = (waves - waves.mean(axis=0)) / waves.std(axis=0)
    return waves * (1, 1, rng.uniform(0, 0.2), rng.uniform(0, 0.5))
