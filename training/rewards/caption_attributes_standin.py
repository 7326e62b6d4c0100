"""A stand-in for a model of text alignment: colours, brightness and motion that the prompt names and pixels show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reelwright.training.rewards.contract import Reward, Score, Unscored, Video

if TYPE_CHECKING:
    import numpy as np

COLOURS = {
    "red": (210, 30, 35), "orange": (245, 140, 30), "yellow": (245, 225, 50), "green": (50, 150, 60),
    "cyan": (50, 200, 210), "blue": (40, 80, 200), "purple": (120, 50, 160), "pink": (240, 150, 190),
    "brown": (120, 75, 40), "white": (245, 245, 245), "black": (15, 15, 15), "gray": (128, 128, 128),
    "grey": (128, 128, 128), "golden": (220, 170, 60),
}  # fmt: skip
"""sRGB by word."""
LIGHT = frozenset({"bright", "sunny", "sunlit", "daylight", "snowy", "brightly"})
DARK = frozenset({"dark", "night", "dim", "dimly", "shadowy", "nighttime", "darkness"})
MOVING = frozenset({"fast", "quickly", "running", "runs", "racing", "races", "rushing", "rapidly", "speeding"})
STILL = frozenset({"still", "static", "motionless", "calm", "frozen", "unmoving"})

PART = 0.25  # of a frame's pixels, those nearest to a colour, which show it: a red car does not fill the frame
NEAR = 50.0  # distance in CIE L*a*b* at which a pixel shows 1/e of a colour
LIVELY = 0.1  # frame heights per second that are half of lively


@dataclass(frozen=True)
class CaptionAttributesStandin(Reward):
    """Not an alignment model: it reads single English words, without grammar ("not red" is red), and knows no objects.

    Mean over the attributes that the prompt names, each from 0 to 1:
    a colour: exp(-distance / 50) in CIE L*a*b*, mean over frames and the quarter of the pixels that are nearest to it.
    bright and dark: mean grey of 255, and one less it.
    moving and still: s / (s + 0.1) of the flow's mean speed s in frame heights per second, and one less it.
    A prompt that names none is unscored.
    """

    name, version = "caption_attributes_standin", 1

    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        """Score each video by its own prompt."""
        return [_score(video) for video in videos]


def _score(video: Video) -> Score:
    words = set(re.findall(r"[a-z]+", video.prompt.lower()))
    colours = {COLOURS[word] for word in words & COLOURS.keys()}
    light, dark, moving, still = (bool(words & named) for named in (LIGHT, DARK, MOVING, STILL))
    if not (colours or light or dark or moving or still):
        return Unscored("the prompt names no colour, brightness or motion that this stand-in knows")
    found = [_shown(video.frames, colour) for colour in sorted(colours)]
    if light or dark:
        level = float(video.frames.mean()) / 255
        found += [level] * light + [1 - level] * dark
    if moving or still:
        try:
            lively = _lively(video)
        except ValueError as error:
            return Unscored(str(error))
        found += [lively] * moving + [1 - lively] * still
    return sum(found) / len(found)


def _shown(frames: np.ndarray, colour: tuple[int, int, int]) -> float:
    import cv2
    import numpy as np

    from reelwright.training.rewards.pixels.frames import lab

    wanted = cv2.cvtColor(np.array([[colour]], np.float32) / 255, cv2.COLOR_RGB2LAB)[0, 0]
    pixels = lab(frames).reshape(len(frames), -1, 3)
    nearness = np.exp(-np.linalg.norm(pixels - wanted, axis=-1) / NEAR)  # [F, pixels]
    part = max(1, round(PART * nearness.shape[1]))
    return float(np.partition(nearness, -part, axis=1)[:, -part:].mean())


def _lively(video: Video) -> float:
    from reelwright.training.rewards.pixels.flow import speed

    moved = speed(video.frames, video.rate)
    return moved / (moved + LIVELY)
