"""Hard cuts: the picture before cannot be found in the picture after, though neither side moves that much itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reelwright.curation.shots.footage import COLUMNS, ROWS, Footage

STEP_FLOOR = 1.5  # grey levels; a smaller change of the whole picture is not looked at
STEP_PEAK = 1.5  # times the steps around it
NEAR = 5  # frames on each side that tell how much a shot moves
JUMP_FLOOR = 3.0  # grey levels that a jump cut within a framing changes at least,
JUMP_PEAK = 3.2  # ... times the largest step around it: cameras and subjects, birds' wings included, stay below 3
JUMP_CONTRAST = 1.35  # ... with sides that much more alike than what lies across
JUMP_SHARE = 0.4  # ... in that share of all places; the lower third that captions take is less
FLASH = 4  # frames; shorter interruptions that end where they began are flashes, not shots


@dataclass(frozen=True)
class CutEvidence:
    """At frame `at`: highest similarity over it, lowest within its sides. contrast: the ratio of their unlikeness."""

    at: int
    across: float
    within: float

    @property
    def contrast(self) -> float:
        """Ratio of the two similarities' distances from 1."""
        return (1 - self.across) / (1.02 - self.within)


def candidate_frames(footage: Footage) -> np.ndarray:
    """Frames that differ from the one before more than their neighbours do."""
    step = footage.step
    padded = np.pad(step, NEAR, mode="reflect" if len(step) > NEAR else "edge")
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * NEAR + 1)
    around = np.delete(around, NEAR, axis=1)
    quiet = np.median(around, axis=1)
    peak = step >= around[:, NEAR - 1 : NEAR + 1].max(1)
    return np.flatnonzero((step > STEP_FLOOR) & (step > STEP_PEAK * (0.5 + quiet)) & peak)


def weigh(footage: Footage, t: int, *, alike: float) -> CutEvidence | None:
    """Evidence for a cut at t; None as soon as a frame before and one after are more than `alike` similar."""
    across = 0.0
    for before, after in _pairs_across(t, len(footage)):
        across = max(across, footage.similarity(before, after))
        if across > alike:
            return None
    sides = [(t - 3, t - 1), (t, t + 2), (t - 2, t - 1), (t, t + 1)]
    within = [footage.similarity(a, b) for a, b in sides if a >= 0 and b < len(footage)]
    return CutEvidence(t, across, min(within, default=1.0))


def is_jump(footage: Footage, evidence: CutEvidence) -> bool:
    """Return whether a cut is a jump within one framing.

    Nearly all of the picture is found again, displaced, yet most of it has changed in one frame by far more than it
    does in any frame around. A caption that appears changes fewer places.
    """
    t, step = evidence.at, footage.step
    before, after = step[max(1, t - NEAR) : t], step[t + 1 : t + 1 + NEAR]
    if evidence.contrast < JUMP_CONTRAST or len(before) < NEAR or len(after) < NEAR:
        return False
    usual = max(float(before.max()), float(after.max()))
    return (
        bool(step[t] > JUMP_FLOOR and step[t] > JUMP_PEAK * (0.3 + usual)) and _share_changed(footage, t) > JUMP_SHARE
    )


def _share_changed(footage: Footage, t: int) -> float:
    """Share of the blocks that change more into frame t than into the frames beside it."""
    change = np.abs(np.diff(footage.grey[t - 2 : t + 2], axis=0))
    rows, columns = change.shape[1] // ROWS, change.shape[2] // COLUMNS
    blocks = change.reshape(3, ROWS, rows, COLUMNS, columns).mean((2, 4))
    return float((blocks[1] > 1 + 2 * np.maximum(blocks[0], blocks[2])).mean())


def _pairs_across(t: int, length: int) -> list[tuple[int, int]]:
    """Pairs on both sides of t, nearest first; the wide ones look past a flash that begins or ends at t."""
    pairs = [(t - 1, t), (t - 2, t + 1)]
    pairs += [(t - 1, t + k) for k in range(1, FLASH + 1)] + [(t - 1 - k, t) for k in range(1, FLASH + 1)]
    return [(a, b) for a, b in pairs if a >= 0 and b < length]
