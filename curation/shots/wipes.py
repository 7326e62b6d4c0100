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
    profiles = np.stack([change @ membership for membership in _sweeps()])  # [5, steps, BINS], grey levels
    both_ways = np.stack([profiles, profiles[..., ::-1]], 1).reshape(-1, *profiles.shape[1:])
    return _best_streak(both_ways, start)


def _best_streak(profiles: np.ndarray, start: int) -> Sweep | None:
    """Best of all in profiles [n, steps, BINS], of the first of them where several are as good."""
    steps = profiles.shape[1]
    usual = np.maximum(np.median(profiles, 1, keepdims=True), np.median(profiles, 2, keepdims=True))
    standing_out = profiles / (1 + usual)
    padded = np.pad(standing_out, ((0, 0), (1, 1), (0, 0)))
    # a front is never on the grid exactly
    standing_out = np.maximum(np.maximum(padded[:, :-2], padded[:, 2:]), padded[:, 1:-1])
    lengths = [length for length in LENGTHS if length <= steps]
    if not lengths:
        return None
    position = (np.arange(BINS) + 0.5) / BINS
    fewest = int(FEWEST * BINS)
    streaks = []  # (contrasts [n], first steps [n]) of each length
    for length in lengths:
        offset = np.floor(length * position).astype(int)
        begins = np.arange(steps - length + 1)
        along = standing_out[:, begins[:, None] + offset[None], np.arange(BINS)]  # [n, begins, BINS]
        contrast = np.partition(along, fewest, axis=2)[..., fewest]
        streaks.append((contrast.max(1), contrast.argmax(1)))
    contrasts = np.stack([contrast for contrast, _ in streaks], 1)  # [n, lengths]
    which, index = divmod(int(contrasts.argmax()), len(lengths))
    at = int(streaks[index][1][which])
    return Sweep(float(contrasts[which, index]), start + at + 1, start + at + lengths[index])


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
