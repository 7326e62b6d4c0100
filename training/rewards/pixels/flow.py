"""Optical flow between a video's frames: DIS (Kroeger et al., 2016)."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from reelwright.training.rewards.pixels.frames import scaled

HEIGHT = 144  # pixels of the shorter side that flow is measured at
LEAST_SIDE = 16  # pixels: the coarsest step of DIS halves a frame twice and fits patches of 8


def greys(frames: np.ndarray) -> np.ndarray:
    """Return the greys that flow is measured on, uint8 [F, h, w]; frames: uint8 [F, H, W, 3].

    Raises:
        ValueError: the frames are too small.
    """
    rows, columns = frames.shape[1:3]
    if min(rows, columns) < LEAST_SIDE:
        raise ValueError(f"flow needs {LEAST_SIDE} pixels across, a frame of {columns}x{rows} has too few")
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in scaled(frames, HEIGHT)])


def flow(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the flow from one frame to another in pixels, float32 [h, w, 2]; a, b: uint8 [h, w]."""
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST).calc(a, b, None)


def speed(frames: np.ndarray, rate: float) -> float:
    """Return the mean length of the flow in frame heights (widths, where upright) per second.

    Args:
        frames: uint8 [F, H, W, 3].
        rate: frames per second.

    Raises:
        ValueError: the frames are too few or too small.
    """
    if len(frames) < 2:
        raise ValueError("flow needs 2 frames, the video has 1")
    gray = greys(frames)
    lengths = [np.linalg.norm(flow(a, b), axis=-1).mean() for a, b in pairwise(gray)]
    return float(np.mean(lengths)) * rate / min(gray.shape[1:])


def halfway(a: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Return the frame half-way between two, both moved along half of the flow between them and averaged.

    Args:
        a: uint8 [h, w].
        c: as a.

    Returns:
        float32 [h, w].
    """
    half = flow(a, c) / 2
    rows, columns = np.indices(a.shape, np.float32)
    moved = [
        cv2.remap(
            frame.astype(np.float32), columns + sign * half[..., 0], rows + sign * half[..., 1], cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for frame, sign in ((a, -1), (c, 1))
    ]  # fmt: skip
    return (moved[0] + moved[1]) / 2
