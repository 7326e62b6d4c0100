"""The cascade's memory of each frame, and the likeness of two frames whatever the camera and the exposure did."""

from __future__ import annotations

from collections.abc import Container
from functools import lru_cache

import numpy as np

from reelwright.curation.media.sandbox_child import report_progress

HEIGHT, WIDTH = 27, 48  # pixels of the small frames everything is measured on; also the network's input
ROWS, COLUMNS = 3, 6  # blocks
BLOCK_H, BLOCK_W = HEIGHT // ROWS, WIDTH // COLUMNS
REACH = 4  # small pixels a block may have moved: 8 % of the picture's width
NOISE = 3.0  # grey levels; a block with less contrast than this says little
SAME_LEVEL = 12.0  # grey levels between flat blocks that still count as one surface
KEPT_PLACES = 12  # frames whose places are kept, 0.4 MB each: those around one cut

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


class Footage:
    """A run of consecutive frames, reduced. Indices are positions in it; `start` is the first one's frame number.

    rate: frames per second. after_flash: frames before which light or dark was left out, so that motion leaps there.
    times_s: when each frame appears, and when the last one ends, [T + 1]; by `rate` unless given. begins, ends: whether
    the file begins with the first frame, and ends with the last one.
    """

    def __init__(
        self,
        small: np.ndarray,
        start: int = 0,
        rate: float = 25.0,
        after_flash: Container[int] = frozenset(),
        times_s: np.ndarray | None = None,
        *,
        ends: bool = True,
    ) -> None:
        """small: uint8 RGB [T, 27, 48, 3]."""
        self.small, self.start, self.rate, self.after_flash = small, start, rate, after_flash
        self.times_s = np.arange(len(small) + 1) / rate if times_s is None else times_s
        self.begins, self.ends = start == 0, ends
        self.grey = small @ _LUMA  # float32 [T, 27, 48]
        self.step = np.zeros(len(small), np.float32)  # mean grey levels changed since the frame before
        self.step[1:] = np.abs(np.diff(self.grey, axis=0)).mean((1, 2))
        self.level = self.grey.mean((1, 2))
        self.contrast = self.grey.std((1, 2))
        blocks = _blocks(self.grey)  # [T, 18, 72]
        self._colour = _blocks(small.astype(np.float32)).mean(3).transpose(1, 2, 0)  # [T, 18, 3]
        blocks = blocks - blocks.mean(-1, keepdims=True)
        energy = np.square(blocks).mean(-1)
        self.texture = energy / (energy + NOISE**2)  # [T, 18], 0 flat to 1
        self._mean_texture = self.texture.mean(1)  # [T]
        self._unit = blocks / np.sqrt(energy[..., None] * blocks.shape[-1] + 1e-6)
        self._known: dict[tuple[int, int], float] = {}
        self._placed: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # the frames asked for last

    def __len__(self) -> int:
        return len(self.small)

    def seconds(self, first: int, last: int) -> float:
        """How long frames [first, last] are shown: repeats, which are left out, count."""
        return float(self.times_s[last + 1] - self.times_s[first])

    def still_similarity(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """`similarity` without looking for motion, for many pairs: a lower bound of it, and far cheaper."""
        matched = np.einsum("nbp,nbp->nb", self._unit[i], self._unit[j]).clip(0)
        return self._pooled(i, j, matched, matched)

    def similarity(self, i: int, j: int) -> float:
        """How much of frames i and j shows the same thing, 0 to 1, forgiving motion of REACH pixels and any exposure.

        Normalised cross-correlation of blocks at their best displacement, both ways, weighted by texture.
        """
        if (i, j) not in self._known:
            report_progress(None)  # a block of a thousand frames can take a slow machine a minute
            there, back = self.matches(i, j), self.matches(j, i)
            self._known[i, j] = float(self._pooled(np.array([i]), np.array([j]), there[None], back[None])[0])
        return self._known[i, j]

    def matches(self, i: int, j: int) -> np.ndarray:
        """Correlation of each block of frame j with its best place in frame i: float32 [18]."""
        found = np.einsum("bp,bp->b", self._unit[i], self._unit[j])
        worth = np.flatnonzero((found < 0.97) & (self.texture[j] > 0.05))
        if len(worth):
            places, inverse_norm = self._places_of(i)  # [18, 81, 72], [18, 81]
            # a unit block has mean 0, so the places' own means drop out of the product
            moved = (places @ self._unit[j, :, :, None])[..., 0] * inverse_norm
            found[worth] = np.maximum(found[worth], moved[worth].max(1))
        return found.clip(0, 1)

    def _places_of(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Return `_places` of frame i: the same few frames around a cut are compared with one another."""
        if i not in self._placed:
            if len(self._placed) == KEPT_PLACES:
                del self._placed[next(iter(self._placed))]
            self._placed[i] = _places(self.grey[i])
        return self._placed[i]

    def _pooled(self, i: np.ndarray, j: np.ndarray, there: np.ndarray, back: np.ndarray) -> np.ndarray:
        """Turn matches of j in i and of i in j [N, 18] to a similarity [N]; flat pictures go by their colour."""
        textured_i, textured_j = self.texture[i], self.texture[j]
        shift = np.abs(self._colour[i] - self._colour[j]).mean((1, 2))
        flat = (2 - self._mean_texture[i] - self._mean_texture[j]) * 0.5  # weighs one block of eighteen at most
        same_level = np.exp(-np.square(shift / SAME_LEVEL))
        agree = 0.5 * (textured_j * there + textured_i * back).sum(1) + flat * same_level
        return agree / (0.5 * (textured_i + textured_j).sum(1) + flat + 1e-6)


def mean_colour(small: np.ndarray) -> np.ndarray:
    """Mean of each frame, uint8 [T, 27, 48, 3] -> float64 [T, 3]; numpy's mean over both axes takes far longer."""
    rows = small.reshape(len(small), HEIGHT, WIDTH * 3).sum(1, dtype=np.uint32)
    return rows.reshape(len(small), WIDTH, 3).sum(1) / (HEIGHT * WIDTH)


def _places(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every place within REACH of every block [18, 81, 72], and 1 / its norm about its mean [18, 81]."""
    places = np.take(grey, _places_index(), mode="clip")
    total = places.sum(-1)
    energy = np.einsum("nkp,nkp->nk", places, places) - total * total / places.shape[-1]
    return places, 1 / np.sqrt(np.maximum(energy, 1.0))  # the floor keeps rounding from looking like texture


@lru_cache(maxsize=1)
def _places_index() -> np.ndarray:
    """Pixel of the small frame, which continues mirrored beyond its sides, of each pixel of `_places`: [18, 81, 72]."""
    view = np.lib.stride_tricks.sliding_window_view
    pixels = np.pad(np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH), REACH, mode="reflect")
    around = view(pixels, (BLOCK_H + 2 * REACH, BLOCK_W + 2 * REACH))
    places = view(around[::BLOCK_H, ::BLOCK_W], (BLOCK_H, BLOCK_W), axis=(2, 3))
    return places.reshape(ROWS * COLUMNS, (2 * REACH + 1) ** 2, BLOCK_H * BLOCK_W)


def _blocks(frames: np.ndarray) -> np.ndarray:
    """[T, 27, 48] -> [T, 18, 72]; with channels [T, 27, 48, 3] -> [3, T, 18, 72]."""
    if frames.ndim == 4:
        return np.stack([_blocks(frames[..., c]) for c in range(frames.shape[-1])])
    split = frames.reshape(-1, ROWS, BLOCK_H, COLUMNS, BLOCK_W)
    return split.transpose(0, 1, 3, 2, 4).reshape(len(frames), ROWS * COLUMNS, BLOCK_H * BLOCK_W)


def shrink(frames: np.ndarray) -> np.ndarray:
    """uint8 RGB [n, h, w, 3] of any size -> uint8 [n, 27, 48, 3], by area; the picture's shape is not kept."""
    import cv2

    small = np.empty((len(frames), HEIGHT, WIDTH, 3), np.uint8)
    for source, target in zip(frames, small, strict=True):
        cv2.resize(source, (WIDTH, HEIGHT), dst=target, interpolation=cv2.INTER_AREA)
    return small
