"""The fine structure that stays in its place, frame by frame, and the places where the picture changes at all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

CELL = 4  # pixels; measures are kept for each cell of 4 x 4
FINE = 11  # pixels: structure finer than this is looked at; strokes of marks are, shading and defocus are not
NOISE = 3.0  # standard deviation of grey levels that compression may change
DETAIL = 3.0  # grey levels (rms) from which a cell holds structure


@dataclass(frozen=True)
class Persistence:
    """Measures of T frames on cells [h, w]; energies are in grey levels squared.

    Structure means the picture less its local mean. R_t is that of frame t, R that of the temporal median picture, L
    that which outlasts changes of the picture (see `_lasting`).
    """

    picture: np.ndarray  # uint8 [H, W]: the median picture with L, doubled, in place of R
    energy: np.ndarray  # [h, w]: mean of R^2
    power: np.ndarray  # [T, h, w]: mean of R_t^2
    structure: np.ndarray  # float32 [H, W]: L
    lasting: np.ndarray  # [h, w]: mean of L^2
    kept: np.ndarray  # [T, h, w]: mean of R_t L
    stays: np.ndarray  # [T, h, w]: share of R that is in R_t, by regression: 1 where it stays, about 0 where it is gone
    novel: np.ndarray  # [T, h, w]: share of R_t^2 that R does not explain

    @cached_property
    def agreement(self) -> np.ndarray:
        """How well structure agrees with the median picture's, sorted: of each cell [T, h, w] the worst frame first."""
        return np.sort(agreement(self.stays), axis=0)

    @cached_property
    def worst(self) -> np.ndarray:
        """Agreement [h, w] in the worst quarter of the frames."""
        return worst(self.agreement)

    @cached_property
    def detail(self) -> tuple[np.ndarray, np.ndarray]:
        """Energy [h, w] about each cell: mean over the frames, and median."""
        return _around(self.power.mean(axis=0)), _around(_middle(np.sort(self.power, axis=0)))


def agreement(kept: np.ndarray) -> np.ndarray:
    """Return 1 where structure is as strong as in the median picture.

    A translucent mark is up to three times as strong before another background, lettering that comes and goes is more.
    """
    return np.where(kept > 3, 3 / np.maximum(kept, 3), np.clip(kept, -1, 1))


def worst(agreement: np.ndarray) -> np.ndarray:
    """Return the mean of the lowest quarter of frames that are sorted, lowest first."""
    return agreement[: max(1, len(agreement) // 4)].mean(axis=0)


def measure(frames: np.ndarray) -> Persistence:
    """Measure the structure that lasts over frames: uint8 [T, H, W]."""
    middle = median(frames)
    usual = structure_of(middle)
    fine = [structure_of(frame) for frame in frames]
    product = np.empty_like(usual)  # one for all: new ones would not stay in the processor's caches
    energy = _cells_of_whole(cv2.multiply(usual, usual, product))
    power = np.stack([_cells_of_whole(cv2.multiply(f, f, product)) for f in fine])
    stays = np.stack([_around(_cells_of_whole(cv2.multiply(f, usual, product))) for f in fine]) / (_around(energy) + 1)
    gain = _gain(stays, energy)
    stays, power = stays / gain, power / gain**2
    novel = _novel(stays, _around(energy), np.stack([_around(p) for p in power]))
    lasting = _lasting(fine, novel)
    kept = np.stack([_cells(cv2.multiply(f, lasting, product)) for f in fine]) / gain
    picture = np.clip(middle - usual + 2 * lasting, 0, 255).astype(np.uint8)
    square = _cells(cv2.multiply(lasting, lasting, product))
    return Persistence(picture, energy, power, lasting, square, kept, stays, novel)


def median(frames: np.ndarray) -> np.ndarray:
    """Return the temporal median (the upper one) of uint8 [T, H, W] by a sorting network, much faster than numpy's."""
    planes = list(frames)
    for i, j in _comparators(len(planes)):
        planes[i], planes[j] = cv2.min(planes[i], planes[j]), cv2.max(planes[i], planes[j])
    return planes[len(planes) // 2]


def _comparators(count: int) -> list[tuple[int, int]]:
    """Knuth, The Art of Computer Programming, vol. 3, 5.2.2, algorithm M."""
    pairs = []
    top = 1 << max(0, (count - 1).bit_length() - 1)
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while True:
            pairs += [(i, i + d) for i in range(count - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q >> 1, p
        p >>= 1
    return pairs


def structure_of(picture: np.ndarray) -> np.ndarray:
    """Return a picture's fine structure, float32: the picture less its local mean."""
    return np.subtract(picture, cv2.blur(picture, (FINE, FINE)), dtype=np.int16).astype(np.float32)


def _cells(plane: np.ndarray) -> np.ndarray:
    height, width = (max(1, side // CELL) for side in plane.shape)
    return cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA)


def _cells_of_whole(plane: np.ndarray) -> np.ndarray:
    """Return `_cells` of whole numbers: halved twice, which is faster, and exact."""
    if plane.shape[0] % CELL or plane.shape[1] % CELL:
        return _cells(plane)
    return _halved(_halved(plane))


def _halved(plane: np.ndarray) -> np.ndarray:
    return cv2.resize(plane, (plane.shape[1] // 2, plane.shape[0] // 2), interpolation=cv2.INTER_AREA)


def _middle(ranked: np.ndarray) -> np.ndarray:
    """Return the median over the first axis of what is sorted along it: numpy's own takes several times as long."""
    count = len(ranked)
    return ranked[(count - 1) // 2 : count // 2 + 1].mean(axis=0)


def _around(cells: np.ndarray) -> np.ndarray:
    return cv2.blur(cells, (3, 3))


def _gain(stays: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """Contrast of each frame relative to the median picture [T, 1, 1], so that fades and flicker are no change.

    1 where the scene itself has changed, which tells nothing of contrast.
    """
    detailed = _around(energy) > DETAIL**2
    if not detailed.any():
        return np.ones((len(stays), 1, 1), np.float32)
    gain = _middle(np.sort(stays[:, detailed], axis=1).T)
    return np.where(gain < 0.4, 1, np.clip(gain, 0.4, 2.5)).astype(np.float32)[:, None, None]


def _novel(stays: np.ndarray, energy: np.ndarray, power: np.ndarray) -> np.ndarray:
    rest = np.maximum(0, power - stays**2 * energy)
    return rest / (rest + np.maximum(0, stays) ** 2 * energy + NOISE**2)


def _lasting(fine: list[np.ndarray], novel: np.ndarray) -> np.ndarray:
    """Return the structure of the frames in which its place changed, [H, W].

    Edges of a still scene that were covered for a while fade; edges of an overlay do not.
    """
    weights = novel + 0.05
    weights /= weights.sum(axis=0)
    total = np.zeros_like(fine[0])
    for structure, cells in zip(fine, weights, strict=True):
        weight = cv2.resize(cells, total.shape[::-1], interpolation=cv2.INTER_LINEAR)
        cv2.accumulateProduct(structure, weight, total)
    return total
