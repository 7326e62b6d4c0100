"""Motions that explain a step's points, and the one that the camera made, which the whole path decides.

A subject that fills the picture can out-number its background for a few steps. Taken by itself, each such step would
follow the subject; the camera, which is heavy, would have to jump there and back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Points:
    """Tracked points of a step.

    Attributes:
        p: where they are before, complex [N] from the picture's centre.
        q: where they are after, likewise.
        weight: float [N]; the part of the sum, 1, that is missing belongs to points that were lost.
        near: pixels within which a point follows.
    """

    p: np.ndarray
    q: np.ndarray
    weight: np.ndarray
    near: float


def candidates(steps: Sequence[Points], rng: np.random.Generator) -> list[list[Candidate]]:
    """Return of each step the similarities that carry most weight of its points, best first, all different.

    RANSAC over pairs of points, with standing still among the tries, then reweighted least squares, of all steps at
    once: a step has so few points that numpy's calls would take longer than their arithmetic.
    """
    searches = [_Search(step, rng) for step in steps]
    while left := [search for search in searches if search.goes_on]:
        fits = _refined(_Batch([search.points for search in left]), [search.best for search in left])
        for search, (fit, share) in zip(left, fits, strict=True):
            search.take(fit, share)
    return [search.found for search in searches]


class _Search:
    """The tries of a step, and what was found so far."""

    def __init__(self, points: Points, rng: np.random.Generator) -> None:
        p, q = points.p, points.q
        i, j = rng.integers(0, len(p), (2, TRIES))
        far = abs(p[i] - p[j]) > APART
        i, j = i[far], j[far]
        a = np.concatenate([[STANDING[0]], (q[i] - q[j]) / (p[i] - p[j])])
        b = np.concatenate([[STANDING[1]], q[i] - a[1:] * p[i]])
        fair = (abs(np.log(abs(a) + 1e-9)) < LARGEST) & (abs(np.angle(a)) < LARGEST)
        self.points, self.a, self.b = points, a[fair], b[fair]
        off = self.a[:, None] * p
        off += self.b[:, None]
        off -= q
        self.support = _near_share(off, points.near) @ points.weight  # of each try; -1: it is done
        self.found: list[Candidate] = []

    @property
    def goes_on(self) -> bool:
        return len(self.found) < MOST and bool((self.support >= 0).any())

    @property
    def best(self) -> Similarity:
        """The try that is refined next."""
        best = int(self.support.argmax())
        return complex(self.a[best]), complex(self.b[best])

    def take(self, fit: Similarity, share: float) -> None:
        """Take the refined best try, and leave all that mean the same."""
        if not self.found or share > LEAST * self.found[0][1]:
            self.found.append((fit, share))
        left = np.flatnonzero(self.support >= 0)  # few, once the best ones are found: nothing costs more here
        apart = (self.a[left, None] - fit[0]) * self.points.p
        apart += self.b[left, None] - fit[1]
        alike = abs(apart).mean(axis=1) <= self.points.near
        self.support[self.support.argmax()] = -1
        self.support[left[alike]] = -1


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


class _Batch:
    """Points of several steps [S, N]; those that a step lacks weigh nothing."""

    def __init__(self, steps: Sequence[Points]) -> None:
        shape = len(steps), max(len(step.p) for step in steps)
        self.p, self.q, self.weight = np.zeros(shape, complex), np.zeros(shape, complex), np.zeros(shape)
        for row, step in enumerate(steps):
            for whole, part in ((self.p, step.p), (self.q, step.q), (self.weight, step.weight)):
                whole[row, : len(part)] = part
        self.near = np.array([[step.near] for step in steps])

    def closeness(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return float [S, N]: 1 for points that move exactly as a p + b, 0 from `near` pixels off; a, b: [S, 1]."""
        return _near_share(a * self.p + b - self.q, self.near)


def _refined(batch: _Batch, tries: Sequence[Similarity]) -> list[Candidate]:
    """Return of each step the try after three rounds of least squares, and the share that follows it."""
    a, b = np.array(tries).T[..., None]
    for _ in range(3):
        a, b = _least_squares(batch, batch.weight * batch.closeness(a, b) ** 2, a, b)
    shares = np.einsum("sn,sn->s", batch.closeness(a, b), batch.weight)
    return [((x, y), share) for x, y, share in zip(a[:, 0].tolist(), b[:, 0].tolist(), shares.tolist(), strict=True)]


def _near_share(off: np.ndarray, near: float | np.ndarray) -> np.ndarray:
    """Return 1 where complex `off` is 0, down to 0 where it is `near` long or more."""
    share = np.square(off.real)
    share += np.square(off.imag)
    share /= near**2
    np.subtract(1, share, out=share)
    return np.maximum(share, 0, out=share)


def _least_squares(batch: _Batch, weight: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a and b [S, 1] of q = a p + b by the weighted points; those given where no points say any."""
    total = weight.sum(1, keepdims=True)
    share = weight / np.where(total > 0, total, 1)
    p0, q0 = (share * batch.p).sum(1, keepdims=True), (share * batch.q).sum(1, keepdims=True)
    before, after = batch.p - p0, batch.q - q0
    before_weighted = share * before.conj()
    spread = (before_weighted * before).sum(1, keepdims=True).real
    known = (total > 0) & (spread > 0)
    turned = (before_weighted * after).sum(1, keepdims=True) / np.where(known, spread, 1)
    return np.where(known, turned, a), np.where(known, q0 - turned * p0, b)
