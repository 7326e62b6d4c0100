"""Which frames of a clip the camera's motion is measured on."""

from __future__ import annotations

from reelwright.curation.media.frames import Frames

# Ten per second catch slow and fast movement; clips too short for that are sampled by count
BY_RATE = Frames(rate=10, height=144, color="gray")
BY_COUNT = Frames(count=10, height=144, color="gray")
NEEDS = (BY_RATE, BY_COUNT)


def chosen(num_frames: int, fps: float) -> tuple[Frames, list[int]]:
    """Return the sampling that serves a clip, and its frames' indices."""
    need = max(NEEDS, key=lambda n: len(n.indices(num_frames, fps)))
    return need, need.indices(num_frames, fps)
