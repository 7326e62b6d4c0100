"""The shape of a clip's camera path, in numbers that do not depend on size, frame rate or direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from reelwright.annotate.motion.camera.motion import Steps

SMOOTH_S = 0.2  # seconds, standard deviation of the Gaussian that parts the path from its tremble
LEAST = 0.003  # shorter sides (per second): smaller values are lost in the error of measurement
MEASURED = 0.5  # share of the steps below which a clip is not described
LAG_S = 0.5  # seconds over which the path's length is taken a second time
_AXES = ("x", "y", "zoom", "roll")
FEATURES = (
    *(f"{what}_{axis}" for what in ("net", "net_rate", "reach", "reach_rate", "straight", "net_share", "reach_share",
                                    "tremble") for axis in _AXES),
    "tremble", "off_line", "length", "length_rate", "length_slow", "net_of_length", "second", "third",
    "tremble_of_reach", *(f"turns_{axis}" for axis in _AXES),
    "agreed", "agreed_least", "still", "spread", "measured", "duration", "gap",
)  # fmt: skip


@dataclass(frozen=True)
class CameraPath:
    """The camera's path over a clip.

    Attributes:
        path: float [T, 4], how the content has moved since the first frame, in shorter sides of the picture: right,
            down, outwards (by zoom; mean over the pixels), clockwise (by roll; mean over the pixels).
        times_s: float [T].
        tremble: path less its smooth part.
        measured: share of the time in which motion could be measured.
    """

    times_s: np.ndarray
    path: np.ndarray
    tremble: np.ndarray
    measured: float
    reach: float

    @property
    def net(self) -> np.ndarray:
        """Motion from the first to the last frame, [4]."""
        return self.path[-1] - self.path[0]

    @property
    def duration_s(self) -> float:
        """Time from the first to the last frame, in seconds."""
        return float(self.times_s[-1] - self.times_s[0])


def camera_path(steps: Steps, times_s: np.ndarray, size: tuple[int, int]) -> CameraPath | None:
    """Return the camera's path; None where less than half of the time was measured. size: (height, width) of frames."""
    seen = np.isfinite(steps.motion[:, 0])
    if not len(seen) or seen.mean() < MEASURED:
        return None
    reach = float(np.hypot(*size) / np.sqrt(12) / min(size))  # mean distance of pixels from the centre
    gaps = np.diff(times_s)
    speed = steps.motion / gaps[:, None] * (1 / min(size), 1 / min(size), reach, reach)
    at = times_s[:-1] + gaps / 2
    speed = np.stack([np.interp(at, at[seen], speed[seen, k]) for k in range(4)], axis=1)
    path = np.concatenate([np.zeros((1, 4)), np.cumsum(speed * gaps[:, None], axis=0)])
    tremble = path - _smooth(path, SMOOTH_S / gaps.mean())
    return CameraPath(times_s, path, tremble, float(gaps @ seen / gaps.sum()), reach)


def features(camera: CameraPath, steps: Steps) -> np.ndarray:
    """Return float [F], in the order of FEATURES."""
    duration = camera.duration_s
    gaps = np.diff(camera.times_s)
    smooth = camera.path - camera.tremble
    moves = np.diff(smooth, axis=0)
    net = abs(camera.net)
    length = abs(moves).sum(axis=0)
    reach = np.ptp(smooth, axis=0)
    tremble = camera.tremble.std(axis=0)
    line = np.linspace(0, 1, len(camera.path))[:, None] * camera.net
    lag = max(1, round(LAG_S / gaps.mean()))
    fine = np.linalg.norm(np.diff(camera.path, axis=0), axis=1).sum()
    coarse = np.linalg.norm(camera.path[lag:] - camera.path[:-lag], axis=1).mean() if lag < len(camera.path) else 0
    ranked = np.sort(reach)[::-1]
    ways = np.sign(np.diff(camera.path, axis=0))
    turns = (np.diff(ways, axis=0) != 0).mean(axis=0) if len(moves) > 1 else np.zeros(4)
    parts = [
        _log(net), _log(net / duration), _log(reach), _log(reach / duration),
        net / (length + LEAST), net / (net.sum() + LEAST), reach / (reach.sum() + LEAST),
        _log(tremble), _log(np.linalg.norm(tremble)), _log(np.linalg.norm((camera.path - line).std(axis=0))),
        _log(fine), _log(fine / duration), _log(coarse), (net.max() / (fine + LEAST)),
        np.log((ranked[1] + LEAST) / (ranked[0] + LEAST)), np.log((ranked[2] + LEAST) / (ranked[0] + LEAST)),
        np.log((np.linalg.norm(tremble) + LEAST) / (ranked[0] + LEAST)), turns,
        np.median(steps.agreed), np.percentile(steps.agreed, 10), np.median(steps.still),
        np.median(steps.spread), camera.measured, np.log(duration), np.log(gaps.mean()),
    ]  # fmt: skip
    return np.concatenate([np.atleast_1d(part) for part in parts])


def _log(values: Any) -> np.ndarray:
    return np.log(np.asarray(values) + LEAST)


def _smooth(path: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian over time; the ends are continued by point reflection, so that a straight path stays straight."""
    half = max(1, round(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / max(sigma, 1e-6)) ** 2)
    padded = np.pad(path, ((half, half), (0, 0)), mode="reflect", reflect_type="odd")
    return np.stack([np.convolve(column, kernel / kernel.sum(), "valid") for column in padded.T], axis=1)
