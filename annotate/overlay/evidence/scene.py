"""The scene without the camera's motion."""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np

from reelwright.annotate.overlay.evidence.persistence import structure_of

POINTS, LEAST_POINTS = 500, 12
TILE, PER_TILE = 40, 5  # pixels; points in a tile, so that a subject with much detail does not outvote the scene
AGREE = 0.4  # share of the tracked points that must move as one picture
HALF = np.diag([0.5, 0.5, 1.0])


def moved_along(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the mean structure [H, W] of uint8 [T, H, W], as it is and with the camera's motion taken out.

    None where the motion is not known.

    For the second, each frame is moved, turned and scaled onto the middle one. An overlay smears in it; what belongs
    to the scene is as sharp as in the first or sharper, also about the fixed point of a zoom or a roll, where it keeps
    its place.
    """
    small = [_even(cv2.resize(f, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)) for f in frames]
    middle = len(frames) // 2
    moves: list[np.ndarray] = [np.eye(3)] * len(frames)
    for order in (range(middle + 1, len(frames)), range(middle - 1, -1, -1)):
        step = order.step
        for t in order:
            move = _motion(small[t], small[t - step])
            if move is None:
                return None
            moves[t] = moves[t - step] @ move
    height, width = frames.shape[1:]
    plain, along, seen = (np.zeros((height, width), np.float32) for _ in range(3))
    for frame, move in zip(frames, moves, strict=True):
        matrix = (np.linalg.inv(HALF) @ move @ HALF)[:2]
        structure = structure_of(frame)
        plain += structure
        along += cv2.warpAffine(structure, matrix, (width, height))
        seen += cv2.warpAffine(np.ones_like(plain), matrix, (width, height))
    return plain / len(frames), along / np.maximum(seen, 1)


def follows(along: tuple[np.ndarray, np.ndarray], x: float, y: float, w: float, h: float) -> float:
    """Return the share of the mean structure in a box that stays when the camera's motion is taken out.

    It is 1 or more for parts of the scene and wherever the camera stands, about 0 for an overlay.
    """
    rows, columns = slice(max(0, int(y) - 2), int(y + h) + 3), slice(max(0, int(x) - 2), int(x + w) + 3)
    plain, moved = (plane[rows, columns] for plane in along)
    return float((plain * moved).sum() / ((plain * plain).sum() + 1))


def _even(picture: np.ndarray) -> np.ndarray:
    """With the same contrast everywhere, so that a change of exposure or light is no motion."""
    plane = picture.astype(np.float32)
    plane -= cv2.blur(plane, (25, 25))
    spread = np.sqrt(np.maximum(0, cv2.blur(plane * plane, (25, 25))))
    return np.clip(128 + 50 * plane / (spread + 4), 0, 255).astype(np.uint8)


def _motion(frame: np.ndarray, onto: np.ndarray) -> np.ndarray | None:
    """Similarity [3, 3] from the places of one frame to those of another, by Lucas and Kanade's tracking."""
    points = _points(frame)
    if len(points) < LEAST_POINTS:
        return None
    found, status, _ = cv2.calcOpticalFlowPyrLK(frame, onto, points, None, winSize=(15, 15), maxLevel=3)
    good = status.ravel() > 0
    if good.sum() < LEAST_POINTS:
        return None
    matrix, agree = cv2.estimateAffinePartial2D(points[good], found[good], ransacReprojThreshold=1.0)
    if matrix is None or agree.sum() < max(LEAST_POINTS, AGREE * len(points)):
        return None
    return np.vstack([matrix, [0, 0, 1]])


def _points(frame: np.ndarray) -> np.ndarray:
    """Corners [N, 1, 2], the best of each tile."""
    points = cv2.goodFeaturesToTrack(frame, POINTS, 0.01, 5)
    if points is None:
        return np.empty((0, 1, 2), np.float32)
    tiles = (points[:, 0] // TILE) @ np.array([1, 1000])
    seen: Counter[float] = Counter()
    rank = []
    for tile in tiles.tolist():  # they come best first
        rank.append(seen[tile])
        seen[tile] += 1
    return points[np.array(rank) < PER_TILE]
