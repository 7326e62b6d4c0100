"""The camera's part of a flow field: the affine motion that most of it follows."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


def affine_part(flow: np.ndarray, seen: np.ndarray, rounds: int = 4) -> np.ndarray:
    """Return the affine motion that most of a flow field [H, W, 2] follows where it is seen [H, W], on the whole grid.

    Iteratively reweighted least squares from the median translation, so that a moving subject of less than half the
    picture does not pull the camera along. Zero where next to nothing is seen.
    """
    if seen.sum() < max(8, 0.02 * seen.size):
        return np.zeros_like(flow)
    grid = _grid(*seen.shape)
    basis = grid[seen]
    target = flow[seen].astype(np.float64)
    fitted = np.broadcast_to(np.median(target, axis=0), target.shape)
    for _ in range(rounds):
        off = np.square(target - fitted)
        distance = np.sqrt(off[:, 0] + off[:, 1])
        reach = 4.7 * 1.48 * _median(distance) + 1e-3  # Tukey's constant times a robust standard deviation, pixels
        weighted = basis * (np.clip(1 - (distance / reach) ** 2, 0, None) ** 2)[:, None]
        solution = np.linalg.lstsq(weighted.T @ basis, weighted.T @ target, rcond=None)[0]
        fitted = basis @ solution
    return grid @ solution


@lru_cache(maxsize=8)
def _grid(rows: int, columns: int) -> np.ndarray:
    """1, x and y of each place, float [rows, columns, 3]."""
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    return np.stack([np.ones_like(x), x, y], axis=-1)


def _median(values: np.ndarray) -> float:
    """Return numpy's median; of so few values, its own spends most of the time on other things."""
    ranked = np.sort(values)
    return float(ranked[(len(ranked) - 1) // 2] + ranked[len(ranked) // 2]) / 2
