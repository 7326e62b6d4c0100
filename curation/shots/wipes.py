"""Wipes: a front sweeps the picture at constant speed, and each place it passes has a hard cut of its own then.

In the plane of time and position along the sweep, frame differences then show one straight streak from one end of
the picture to the other. Motion of a camera or of things changes many places at once and leaves no such streak.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from reelwright.curation.media.sandbox_child import report_progress
from reelwright.curation.shots.footage import HEIGHT, WIDTH, Footage

BINS = 24  # positions along the sweep
FEWEST = 0.25  # share of the positions that need not stand out (where both scenes look the same)
LENGTHS = (4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 21, 24, 28, 32, 37, 42, 48, 55, 63)  # frames a sweep may take


@dataclass(frozen=True)
class Sweep:
    """Best streak: how many times its changes exceed those usual at the same places and moments; its frames."""

    contrast: float
    first: int
    last: int


def find_sweep(footage: Footage, start: int, end: int) -> Sweep | None:
    """Return the clearest sweep that lies within frames [start, end], if any."""
    report_progress(None)
    change = np.abs(np.diff(footage.grey[start : end + 1], axis=0)).reshape(end - start, -1)
    best: Sweep | None = None
    for membership in _sweeps():
        profile = change @ membership  # [steps, BINS], grey levels
        for reverse in (False, True):
            found = _best_streak(profile[:, ::-1] if reverse else profile)
            if found and (best is None or found.contrast > best.contrast):
                best = Sweep(found.contrast, start + found.first, start + found.last)
    return best


def _best_streak(profile: np.ndarray) -> Sweep | None:
    steps = len(profile)
    usual = np.maximum(np.median(profile, 0)[None], np.median(profile, 1)[:, None])
    standing_out = profile / (1 + usual)
    padded = np.pad(standing_out, ((1, 1), (0, 0)))
    standing_out = np.maximum(np.maximum(padded[:-2], padded[2:]), padded[1:-1])  # a front is never on the grid exactly
    position = (np.arange(BINS) + 0.5) / BINS
    best: Sweep | None = None
    for length in LENGTHS:
        if length > steps:
            break
        offset = np.floor(length * position).astype(int)
        begins = np.arange(steps - length + 1)
        along = standing_out[begins[:, None] + offset[None], np.arange(BINS)]  # [begins, BINS]
        contrast = np.partition(along, int(FEWEST * BINS), axis=1)[:, int(FEWEST * BINS)]
        at = int(contrast.argmax())
        if best is None or contrast[at] > best.contrast:
            best = Sweep(float(contrast[at]), at + 1, at + length)
    return best


@lru_cache(maxsize=1)
def _sweeps() -> tuple[np.ndarray, ...]:
    """For each kind of sweep, which pixels lie where along it: float32 [27 * 48, BINS], columns sum to 1."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    y, x = y / HEIGHT, x / WIDTH
    radius = np.hypot(x - 0.5, y - 0.5) / np.sqrt(0.5)
    return tuple(_membership(u) for u in (x, y, (x + y) / 2, (x - y + 1) / 2, radius))


def _membership(position: np.ndarray) -> np.ndarray:
    where = (position.reshape(-1) * BINS).astype(int).clip(0, BINS - 1)
    chosen = np.zeros((where.size, BINS), np.float32)
    chosen[np.arange(where.size), where] = 1
    return chosen / chosen.sum(0).clip(1)
