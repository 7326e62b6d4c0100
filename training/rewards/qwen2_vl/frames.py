"""Which frames of a video VideoAlign looks at."""

from __future__ import annotations

import numpy as np

from reelwright.annotate.backends.videos.patches import PictureError

LEAST, MOST = 4, 768  # frames


def chosen(count: int, rate: float, per_second: float) -> np.ndarray:
    """Return the frames to look at, evenly spread, the first and the last among them.

    n = count / rate · per_second, at least 4 and at most 768 and the video's own, rounded to an even number: 93 frames
    at 15 per second give 12. The rate decides how many, so it must be the one that the video plays at.

    Args:
        count: frames of the video.
        rate: of the video, per second.
        per_second: frames to look at.

    Returns:
        Indices, int64 [n], ascending.

    Raises:
        PictureError: the video has no two frames, or no rate.
    """
    if count < 2 or not rate > 0:
        raise PictureError(f"{count} frames at {rate:g} per second; at least 2, and a rate above 0, are needed")
    most = min(MOST, count) // 2 * 2
    wanted = min(max(count / rate * per_second, LEAST), most)
    return np.linspace(0, count - 1, round(wanted / 2) * 2).round().astype(np.int64)
