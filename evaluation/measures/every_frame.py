"""Every frame of a generation, small: measures over time must not skip one."""

from __future__ import annotations

from reelwright.curation.media.frames import Color, Frames

ABOVE_ANY_RATE = 1000  # samples per second: no generated video has more frames
MOST = 20_000  # 11 minutes at 30 frames per second; a longer video is sampled evenly


def every_frame(height: int, color: Color) -> Frames:
    """Return the need of all frames, with this many pixels on the shorter side."""
    return Frames(rate=ABOVE_ANY_RATE, most=MOST, height=height, color=color)
