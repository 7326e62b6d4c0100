"""The still part of a picture through a transition: another shot changes all of it, a thing that crosses it does not.

`Footage.similarity` asks where texture went, so over bare ground a car is all there is to ask about, and once it has
left nothing seems to remain. Here every pixel has a say, flat or not.
"""

from __future__ import annotations

import numpy as np

from reelwright.curation.shots.footage import Footage

BESIDE = (2, 6, 12)  # frames from both ends of a transition; a thing that only crosses has gone by the last
SAME, SAME_SHARE = 5.0, 0.04  # a colour that changed by fewer grey levels, plus this share of its own, is the same
EXPOSURE = 1.6  # times; the most a camera's exposure is taken to change meanwhile
DARK = 20.0  # grey levels; pixels that stay below, such as bars, belong to any shot
FEWEST = 0.1  # smallest share of pixels brighter than that to judge a picture by
BINS = 40  # of exposure, in equal ratios from 1 / EXPOSURE to EXPOSURE


def standing_share(footage: Footage, first: int, last: int) -> float:
    """Share of the picture, 0 to 1, that shows the same on both sides of frames [first, last], at any one exposure."""
    end = len(footage) - 1
    return max(_same_share(footage.small[max(0, first - d)], footage.small[min(end, last + d)]) for d in BESIDE)


def _same_share(before: np.ndarray, after: np.ndarray) -> float:
    """Return the share of pixels with colours that one gain explains. before, after: uint8 RGB [27, 48, 3]."""
    a, b = before.astype(np.float32), after.astype(np.float32)
    level_a, level_b = a.mean(-1), b.mean(-1)
    gain = _commonest_gain(level_a, level_b)
    same = np.abs(a * gain - b).max(-1) < SAME + SAME_SHARE * np.maximum(level_a * gain, level_b)
    seen = np.maximum(level_a, level_b) > DARK
    return float(same[seen].mean() if seen.mean() > FEWEST else same.mean())


def _commonest_gain(before: np.ndarray, after: np.ndarray) -> float:
    """Return the brightness ratio of most pixels: the background's, as long as more of it is seen than of other things.

    A least-squares fit would follow the thing that moved, which differs most.
    """
    ratio = np.log((after + 4) / (before + 4))  # the 4 keeps noise in the dark from being ratios
    limit = float(np.log(EXPOSURE))
    counts, edges = np.histogram(ratio, bins=BINS, range=(-limit, limit))
    peak = int(np.convolve(counts, np.ones(3), mode="same").argmax())
    near = ratio[(ratio >= edges[max(0, peak - 1)]) & (ratio <= edges[min(BINS, peak + 2)])]
    return float(np.exp(np.median(near))) if near.size else 1.0
