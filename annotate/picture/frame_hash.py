"""Perceptual hashes of a few frames: copies of a clip are known by them, whatever they were encoded to."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from reelwright.annotate.contract import Annotator, Column, Frames

SIDE = 32  # pixels of the square that a frame is shrunk to
KEPT = 8  # lowest frequencies across and down that make the 64 bits
FLAT = 2.0  # grey levels: deviation of the shrunk frame below which it shows nothing but coding noise
NOTHING = 0  # the hash of a flat frame; no other frame has it


class FrameHash(Annotator):
    """pHash (Zauner, 2010) of frames spread over the clip: which of a frame's low frequencies lie above their median.

    64 bits per frame, in order of time, as a signed integer (a table with an unsigned column refuses filters in SQL, as
    Substrait knows none): `bit_count(xor(a, b))` counts those that differ. 0: a flat frame, whose bits would be noise.
    Re-encoding, scaling and a change of brightness or contrast turn few bits; mirroring, cropping and turning many.
    """

    name, version = "frame_hash", 1
    profiles = ("cpu", "full")
    typical_s = 0.01
    needs = Frames(count=4, height=64, color="gray")
    columns = {"frame_hash": Column(pa.list_(pa.int64()), "pHash of 4 frames in order of time; 0: a flat frame")}

    def __call__(self, frames: np.ndarray) -> dict[str, Any]:
        """frames: uint8 [T, H, W]."""
        return {"frame_hash": [_hash(frame) for frame in frames]}


def _hash(gray: np.ndarray) -> int:
    small = cv2.resize(gray, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    if small.std() < FLAT:
        return NOTHING
    # the mean, at [0, 0], is brightness: the block begins one further in both directions
    low = cv2.dct(small)[1 : KEPT + 1, 1 : KEPT + 1].ravel()
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big", signed=True)
