"""Motions that explain a step's points, and the one that the camera made, which the whole path decides.

A subject that fills the picture can out-number its background for a few steps. Taken by itself, each such step would
follow the subject; the camera, which is heavy, would have to jump there and back.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Similarity = tuple[complex, complex]  # q = a p + b, points as complex numbers from the picture's centre
Candidate = tuple[Similarity, float]  # and the weighted share of the points that follow it, near ones counting more

STANDING: Similarity = (1 + 0j, 0j)
MOST = 5  # candidates of a step
TRIES = 160  # pairs of points that are tried
APART = 8.0  # pixels between the points of a pair
LARGEST = 0.35  # log scale, and radians, of a step; more is a mismatch
LEAST = 0.12  # of the best one's support, below which a candidate is none
JUMP = 0.15  # shorter sides per second: a larger change of the camera's speed is a jump


def candidates(
    p: np.ndarray, q: np.ndarray, weight: np.ndarray, near: float, rng: np.random.Generator
) -> list[Candidate]:
    """Return the similarities that carry most weight of points p to q (complex [N]), best first, all different.

    weight: float [N], sum 1. near: pixels within which a point follows. RANSAC over pairs of points, with standing
    still among the tries, then reweighted least squares.
    """
    i, j = rng.integers(0, len(p), (2, TRIES))
    far = abs(p[i] - p[j]) > APART
    i, j = i[far], j[far]
    a = np.concatenate([[STANDING[0]], (q[i] - q[j]) / (p[i] - p[j])])
    b = np.concatenate([[STANDING[1]], q[i] - a[1:] * p[i]])
    fair = (abs(np.log(abs(a) + 1e-9)) < LARGEST) & (abs(np.angle(a)) < LARGEST)
    a, b = a[fair], b[fair]
    off = a[:, None] * p
    off += b[:, None]
    off -= q
    support = _near_share(off, near) @ weight
    found: list[Candidate] = []
    while (support >= 0).any() and len(found) < MOST:
        best = int(support.argmax())
        fit = _refined(p, q, weight, near, (complex(a[best]), complex(b[best])))
        share = float(_closeness(p, q, near, fit) @ weight)
        if not found or share > LEAST * found[0][1]:
            found.append((fit, share))
        left = np.flatnonzero(support >= 0)  # few, once the best ones are found: nothing costs more here
        apart = (a[left, None] - fit[0]) * p
        apart += b[left, None] - fit[1]
        alike = abs(apart).mean(axis=1) <= near
        support[left[alike]] = support[best] = -1
    return found


def likeliest(
    steps: Sequence[Sequence[Candidate]], gaps_s: np.ndarray, size: tuple[int, ...]
) -> list[Similarity | None]:
    """Return one candidate of each step, so that support is high and speed even (Viterbi); None of a step without any.

    gaps_s: seconds of each step. size: (height, width).
    """
    best = np.zeros(1)
    before = None
    back = list[np.ndarray | None]()
    for found, gap in zip(steps, gaps_s, strict=True):
        if not found:
            back.append(None)
            continue
        speed = np.array([_speed(fit, size) for fit, _ in found]) / gap
        support = np.log(np.array([share for _, share in found]) + 1e-3)
        if before is None:
            back.append(np.zeros(len(found), int))
            best = support
        else:
            changes = np.linalg.norm(speed[:, None] - before[None], axis=2)
            total = best[None] - np.minimum(changes, JUMP) / JUMP
            back.append(total.argmax(axis=1))
            best = support + total.max(axis=1)
        before = speed
    return _traced(steps, back, int(best.argmax()))


def _traced(
    steps: Sequence[Sequence[Candidate]], back: Sequence[np.ndarray | None], last: int
) -> list[Similarity | None]:
    chosen: list[Similarity | None] = []
    for found, links in zip(reversed(steps), reversed(back), strict=True):
        chosen.append(None if links is None else found[last][0])
        last = last if links is None else int(links[last])
    return chosen[::-1]


def _speed(motion: Similarity, size: tuple[int, ...]) -> np.ndarray:
    """Right, down, outwards and clockwise, each as pixels move on average, in shorter sides of the picture."""
    a, b = motion
    reach = float(np.hypot(size[0], size[1])) / np.sqrt(12)
    return np.array([b.real, b.imag, np.log(abs(a)) * reach, np.angle(a) * reach]) / min(size)


def _refined(p: np.ndarray, q: np.ndarray, weight: np.ndarray, near: float, fit: Similarity) -> Similarity:
    for _ in range(3):
        fit = _least_squares(p, q, weight * _closeness(p, q, near, fit) ** 2, fit)
    return fit


def _closeness(p: np.ndarray, q: np.ndarray, near: float, fit: Similarity) -> np.ndarray:
    """Return float [N]: 1 for points that move exactly as `fit`, 0 from `near` pixels off."""
    return _near_share(fit[0] * p + fit[1] - q, near)


def _near_share(off: np.ndarray, near: float) -> np.ndarray:
    """Return 1 where complex `off` is 0, down to 0 where it is `near` long or more; in place."""
    share = np.square(off.real)
    share += np.square(off.imag)
    share /= near**2
    np.subtract(1, share, out=share)
    return np.maximum(share, 0, out=share)


def _least_squares(p: np.ndarray, q: np.ndarray, weight: np.ndarray, otherwise: Similarity) -> Similarity:
    total = weight.sum()
    if total <= 0:
        return otherwise
    p0, q0 = (weight @ p) / total, (weight @ q) / total
    spread = weight @ abs(p - p0) ** 2
    if spread <= 0:
        return otherwise
    a = (weight * (p - p0).conj()) @ (q - q0) / spread
    return complex(a), complex(q0 - a * p0)
