"""From evidence to a score between 0 and 1 that means the same on every clip."""

from __future__ import annotations

import numpy as np

from reelwright.annotate.overlay.evidence.boxes import Box, Evidence

CORNER = 0.4  # of steady lettering in a corner of a picture that does not move: likely, and no more
TITLE = 0.12  # of the shorter side: height of a line from which it is more likely a title than a mark
WORDLESS = 0.8  # at most, without lettering


def line_score(evidence: Evidence, line: Box, shape: tuple[int, ...]) -> float:
    """Return the score of a line of lettering in frames of shape [H, W]."""
    height, width = shape
    if _is_caption(evidence, line, height, width):
        return 0.0
    # where only a subject moves, tall lines are the detector's blobs over foliage and cloth
    tall = line.h > TITLE * min(height, width)
    through = 0.0 if tall else _seen_through(evidence)
    changed = _ramp(evidence.around, 0.7, 0.45) * max(through, _camera(evidence, 0.35, 0.1))
    prior = CORNER if _in_corner(line, height, width) else 0.0
    return _ramp(evidence.stays, 0.5, 0.75) * (prior + (1 - prior) * changed)


def symbol_score(evidence: Evidence) -> float:
    """Return the score of a mark without lettering: only a camera that moves can tell it from the scene."""
    camera = _camera(evidence, 0.15, 0.05)
    return WORDLESS * _ramp(evidence.stays, 0.6, 0.85) * _ramp(evidence.around, 0.6, 0.35) * camera


def _camera(evidence: Evidence, still: float, moves: float) -> float:
    """Return how surely the camera's motion would have taken away a thing of the scene from this place."""
    if evidence.follows is None:
        return _ramp(evidence.scene_still, still, moves)
    return _ramp(evidence.follows, 0.85, 0.6) * _ramp(evidence.scene_still, 0.75, 0.5)


def _seen_through(evidence: Evidence) -> float:
    """How surely something passes behind; what passes before a thing covers it, and a zoom changes all things."""
    through = _ramp(evidence.seen_through, 0.05, 0.15) * _ramp(evidence.holds, 0.25, 0.5)
    if evidence.follows is None:
        return through
    return through * max(_ramp(evidence.follows, 0.85, 0.6), _ramp(evidence.scene_still, 0.5, 0.7))


def _is_caption(evidence: Evidence, line: Box, height: int, width: int) -> bool:
    """Subtitles and titles let nothing of the picture through; above a fifth of the height there are no marks."""
    across, down = (line.x + line.w / 2) / width, (line.y + line.h / 2) / height
    subtitle = down > 0.7 and abs(across - 0.5) < 0.1
    tall = line.h / min(height, width)
    return tall > 0.2 or ((subtitle or tall > TITLE) and evidence.seen_through < 0.1)


def _in_corner(line: Box, height: int, width: int) -> bool:
    """Near two edges and clear of both: a thing that an edge cuts belongs to the scene."""
    side = min(line.x, width - line.x - line.w) / width
    end = min(line.y, height - line.y - line.h) / height
    return 0.01 < side < 0.12 and 0.01 < end < 0.12 and line.w < 0.35 * width and line.h < 0.1 * height


def _ramp(value: float, zero: float, one: float) -> float:
    return float(np.clip((value - zero) / (one - zero), 0, 1))
