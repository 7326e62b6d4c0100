"""A stand-in for an aesthetics model, of measured composition, colour, contrast, sharpness and exposure."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from reelwright.annotate.contract import Annotator, Column, Frames
from reelwright.annotate.picture.light import colorfulness

FLOOR = 0.02  # of a factor: one that is nil pulls the score down, but lets the others be seen
COLOURFUL = 82.0  # Hasler & Süsstrunk's M of "highly colourful"
WELL_EXPOSED, EXPOSURE_WIDTH = 0.5, 0.2  # of the range of grey (Mertens et al., 2007)
BLUR = 9  # pixels (Crété-Roffet et al.)
SEEN = 1.0  # mean grey levels between neighbours below which a part of the frame shows nothing but coding noise
_OFF = np.arange(256, dtype=np.float32) / 255 - WELL_EXPOSED
_EXPOSURES = np.exp(-(_OFF**2) / (2 * EXPOSURE_WIDTH**2))  # by grey
THIRDS_WIDTH = 0.1  # standard deviation, in sides of the frame, of the weight around a power point


class AestheticStandin(Annotator):
    """Not the LAION score: the geometric mean of five measures from 0 to 1, so that a clip has to do well on all.

    None of them is trained. It ranks the dark, flat, blurred and washed-out last; it does not know the subject of a
    picture. `aesthetics` has the model.

    Mean over frames of (exposure · contrast · colour · sharpness · composition) ^ 1/5:
    exposure: mean of exp(-(y - 0.5)² / 2 · 0.2²) over the pixels' greys (Mertens et al., 2007).
    contrast: width of the middle 98 % of the greys (Ke et al., 2006), times their entropy of 8 bits: a title on a plain
        ground has two greys far apart, and no more.
    colour: Hasler & Süsstrunk's M (2003) of 82, highly colourful, at most 1; half of the measure, as black and white is
        a style: (1 + M / 82) / 2.
    sharpness: one less Crété-Roffet's blur (2007), of the sharpest third of the frame.
    composition: mean of how simple it is (one less the area that holds the middle 90 % of the edges, after Ke et al.)
        and how near salient parts (spectral residual: Hou & Zhang, 2007) lie to where the lines of thirds cross.
    """

    name, version = "aesthetic_standin", 1
    profiles = ("cpu", "full")
    typical_s = 0.02
    needs = Frames(count=5, height=256, color="rgb")
    columns = {
        "aesthetic_standin_score": Column(
            pa.float32(),
            "stand-in of composition, colour, contrast, sharpness and exposure; NOT the LAION aesthetic score",
            "0 to 1",
        )
    }

    def __call__(self, frames: np.ndarray) -> dict[str, Any]:
        """frames: uint8 [T, H, W, 3]."""
        return {"aesthetic_standin_score": float(np.mean([_score(frame) for frame in frames]))}


def _score(rgb: np.ndarray) -> float:
    return float(np.exp(np.mean(np.log(np.maximum(list(measures(rgb).values()), FLOOR)))))


def measures(rgb: np.ndarray) -> dict[str, float]:
    """Return the five measures of a frame, each from 0 to 1; rgb: uint8 [H, W, 3]."""
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return {
        "exposure": _exposure(gray),
        "contrast": _contrast(gray),
        "colour": (1 + min(1.0, colorfulness(rgb) / COLOURFUL)) / 2,
        "sharpness": _sharpness(gray),
        "composition": (_simplicity(gray) + _thirds(gray)) / 2,
    }


def _exposure(gray: np.ndarray) -> float:
    return float(cv2.LUT(gray, _EXPOSURES).mean())


def _contrast(gray: np.ndarray) -> float:
    counts = cv2.calcHist([gray], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    shares = counts / gray.size
    entropy = -float(np.sum(shares * np.log2(shares, where=shares > 0, out=np.zeros(256))))
    below = np.cumsum(counts)
    return (_percentile(below, 99) - _percentile(below, 1)) / 255 * entropy / 8


def _percentile(below: np.ndarray, percent: int) -> float:
    """Return `np.percentile` of greys, to the bit, from how many are at or below each: without sorting all pixels."""
    last = int(below[-1]) - 1
    at = last * (percent / 100)
    low, high = np.searchsorted(below, [int(at), min(int(at) + 1, last)], side="right").tolist()
    share = at - int(at)
    return high - (high - low) * (1 - share) if share >= 0.5 else low + (high - low) * share


def _sharpness(gray: np.ndarray) -> float:
    """Mean of the sharpest three of 3 x 3 cells: a subject before a soft ground is sharp, a caption does not count."""
    rows = np.array_split(gray.astype(np.float32), 3)
    cells = [cell for row in rows for cell in np.array_split(row, 3, axis=1)]
    return float(np.mean(sorted(min(_lost_to_blur(cell), _lost_to_blur(cv2.transpose(cell))) for cell in cells)[-3:]))


def _lost_to_blur(cell: np.ndarray) -> float:
    """Share of the differences between neighbours down the columns that blurring down the columns takes away."""
    cell = np.ascontiguousarray(cell)
    if len(cell) < 2 or not cell.size:
        return 0.0
    before = cv2.absdiff(cell[1:], cell[:-1])
    if before.mean() < SEEN:
        return 0.0
    blurred = cv2.blur(cell, (1, BLUR))
    lost = np.subtract(before, cv2.absdiff(blurred[1:], blurred[:-1]))
    return float(np.maximum(0, lost, out=lost).sum() / before.sum())


def _simplicity(gray: np.ndarray) -> float:
    """One less the area of the box that holds the middle 90 % of the edges in both directions."""
    edges = np.abs(cv2.Laplacian(cv2.resize(gray, (100, 100), interpolation=cv2.INTER_AREA), cv2.CV_32F))
    return 1 - float(np.prod([_middle(edges.sum(axis=axis)) for axis in (0, 1)]))


def _middle(weights: np.ndarray) -> float:
    """Share of the places that hold the middle 90 % of the weight; all where there is none."""
    total = np.cumsum(weights)
    if total[-1] <= 0:
        return 1.0
    low, high = np.searchsorted(total, [0.05 * total[-1], 0.95 * total[-1]])
    return float(high - low + 1) / len(weights)


def _thirds(gray: np.ndarray) -> float:
    """Weigh each salient part by its nearness to the closest power point."""
    standing_out = _spectral_residual(cv2.resize(gray, (64, 64), interpolation=cv2.INTER_AREA).astype(np.float32))
    centres = (np.arange(64) + 0.5) / 64
    off = np.minimum(abs(centres - 1 / 3), abs(centres - 2 / 3))
    near = np.exp(-(off[:, None] ** 2 + off[None] ** 2) / (2 * THIRDS_WIDTH**2))
    total = float(standing_out.sum())
    return float((standing_out * near).sum()) / total if total > 0 else 0.0


def _spectral_residual(gray: np.ndarray) -> np.ndarray:
    """Return the excess of the log spectrum over its local mean, back in the picture, squared and smoothed.

    Returns:
        float32 [64, 64].
    """
    spectrum = np.fft.fft2(gray)
    loudness = np.log(np.abs(spectrum) + 1e-6)
    residual = loudness - cv2.blur(loudness, (3, 3))
    back = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))) ** 2
    return cv2.GaussianBlur(back.astype(np.float32), (0, 0), 2.5)
