"""Network scores for just the frames somebody asks about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from reelwright.curation.shots.footage import Footage

Network = Callable[[np.ndarray], np.ndarray]  # uint8 [T, 27, 48, 3] -> float [T, 2]
MARGIN = 10  # samples; enough for a gradual change, which fills many
LONGEST = 80  # samples judged in one go


@dataclass
class Scores:
    """Runs a network on stretches of a footage, at a stride, and counts what that took."""

    footage: Footage
    network: Network
    frames_seen: int = field(default=0)

    def over(self, start: int, end: int, stride: int, *, margin: int = MARGIN) -> tuple[np.ndarray, np.ndarray]:
        """Frames [start, end] -> positions [n] and scores [n, 2], every `stride` frames of the source's own numbering.

        margin: samples on each side that the network sees beyond those it judges.
        """
        first = start + (-(start + self.footage.start)) % stride
        at = np.arange(first, end + 1, stride)
        pieces = [self._piece(at[i : i + LONGEST], stride, margin) for i in range(0, len(at), LONGEST)]
        return at, np.concatenate(pieces) if pieces else np.empty((0, 2), np.float32)

    def _piece(self, at: np.ndarray, stride: int, margin: int) -> np.ndarray:
        beyond = np.arange(1, margin + 1) * stride
        frames = np.concatenate((at[0] - beyond[::-1], at, at[-1] + beyond)).clip(0, len(self.footage) - 1)
        self.frames_seen += len(frames)
        return self.network(self.footage.small[frames])[margin:-margin]
