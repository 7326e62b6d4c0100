"""Whether pictures between two others are mixtures of both, as a dissolve's are, or other views of what moves.

A mixture of two pictures that have little in common is paler than they are (the variance of a dissolve's frames is a
parabola: Alattar, 1993). Water, leaves, smoke or a crowd may lead as smoothly from one picture to another, but keep
their contrast on the way.
"""

from __future__ import annotations

import numpy as np

AROUND = 9  # small pixels; what varies more slowly over the picture is light, not contrast


def paleness(pictures: np.ndarray) -> float:
    """Return how much contrast is lost between the first and the last picture, over what mixtures of both lose.

    About 1 in dissolves and fades, even if both shots move, and about 0 where one scene moves. A share s of the way on,
    a mixture's squared contrast lies as far between those of the ends, less s (1 - s) that of their difference.

    Args:
        pictures: uint8 RGB [n, h, w, 3].
    """
    import cv2

    seen = pictures.astype(np.float32)
    detail = np.stack([picture - cv2.blur(picture, (AROUND, AROUND)) for picture in seen]).reshape(len(seen), -1)
    seen = seen.reshape(len(seen), -1)
    way = seen[-1] - seen[0]
    share = (seen - seen[0]) @ way / max(1.0, float(way @ way))
    contrast = np.square(detail).sum(1)
    lost = (1 - share) * contrast[0] + share * contrast[-1] - contrast
    mixtures_lose = (share * (1 - share)).clip(0) * float(np.square(detail[-1] - detail[0]).sum())
    return float(lost @ mixtures_lose / max(1.0, float(mixtures_lose @ mixtures_lose)))  # least squares: middles count
