"""Combing: two moments woven into one frame, line by line, that no flag tells of."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from reelwright.annotate.contract import Annotator, Column, Frames

CELL = 16  # pixels; cells are judged whole, so that noise averages out
MOVES = 6.0  # grey levels by which a cell must change to the next frame: still cells are never combed
CLEAR, CLEAR_SHARE = 1.5, 0.15  # grey levels, and share of both differences, from which neither of them is noise
FEWEST = 3  # cells that say something; fewer are a speck
EVERY = 4  # columns: one of this many is tested for slow movement
STEADY = 24.0  # grey levels; a pixel that changes more moves too fast for its change to be followed by a straight line
SEEN = 0.3  # grey levels of change that a frame must have, of each pixel asked, for slow movement to be seen in it
SURE = 8.0  # standard errors by which fields must lie apart
UPPER = 75  # percentile over frames: of film carried to video two frames in five are combed


class Combing(Annotator):
    """Share of the moving picture in which lines resemble the next but one more than their neighbours.

    In a picture of one moment neighbouring lines are the more alike; where two fields of different moments are woven,
    every other one is. Asked of moving cells alone, so that fine horizontal patterns that stand still do not count.

    Slow movement combs by less than the picture's own detail. But in woven fields every other line is half a frame
    ahead: it departs from its neighbours by half of the change to the next frame, everywhere and the same way.
    """

    name, version = "combing", 2
    profiles = ("cpu", "full")
    typical_s = 0.02
    needs = Frames(count=6, height=360, color="gray", pairs=True, every_line=True)
    columns = {
        "combing_score": Column(
            pa.float32(), "0 to 1: share of the moving picture that is combed; above 0.5: interlaced", "share"
        )
    }

    def __call__(self, pairs: np.ndarray) -> dict[str, Any]:
        """pairs: uint8 [T, 2, H, W], every line of the clip."""
        return {"combing_score": float(np.percentile([max(_combed(a, b), _ahead(a, b)) for a, b in pairs], UPPER))}


def _combed(frame: np.ndarray, following: np.ndarray) -> float:
    """frame, following: uint8 [H, W]."""
    if min(frame.shape) < 2 * CELL:
        return 0.0
    near = _cells(cv2.absdiff(frame[:-2], frame[1:-1]))
    far = _cells(cv2.absdiff(frame[:-2], frame[2:]))
    moves = _cells(cv2.absdiff(frame[:-2], following[:-2])) > MOVES
    excess = near - far
    speaks = moves & (np.abs(excess) > np.maximum(CLEAR, CLEAR_SHARE * (near + far)))
    if speaks.sum() < FEWEST:
        return 0.0
    found = excess[speaks]
    return float(found.clip(0).sum() / np.abs(found).sum())


def _ahead(frame: np.ndarray, following: np.ndarray) -> float:
    """Return how far every other line is ahead of its neighbours, or behind.

    0 is not at all, 1 half a field's time or more, as noise hides a part of it.

    Args:
        frame: uint8 [H, W].
        following: the next frame, uint8 [H, W].
    """
    if len(frame) < 2 * CELL:
        return 0.0
    here, there = (f[:, ::EVERY].astype(np.float32) for f in (frame, following))
    change = (there - here)[1:-1]
    departs = here[1:-1] - (here[:-2] + here[2:]) / 2
    departs[1::2] *= -1  # the picture's own detail takes turns and cancels; a field's lead does not
    departs[np.abs(change) > STEADY] = 0
    product, square = departs * change, np.square(change)
    if float(square.mean()) < SEEN**2:
        return 0.0
    lead = float(product.sum())
    is_sure = abs(lead) > SURE * float(np.sqrt(np.square(product).sum()))
    return min(1.0, 4 * abs(lead) / float(square[np.abs(change) <= STEADY].sum() + 1.0)) if is_sure else 0.0


def _cells(difference: np.ndarray) -> np.ndarray:
    """Mean of each cell: uint8 [H, W] -> float32 [H / CELL, W / CELL]."""
    rows, columns = (side // CELL for side in difference.shape)
    whole = difference[: rows * CELL, : columns * CELL].astype(np.float32)
    return cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA)
