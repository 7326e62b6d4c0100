"""How far a continued video drifts from its given frames: colours and sharpness of its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reelwright.training.rewards.contract import Reward, Score, Unscored, Video

JUST_SEEN = 2.3  # distance in CIE L*a*b* that is just noticeable (Mahy et al., 1994)


@dataclass(frozen=True)
class Drift(Reward):
    """Drift of the late frames of an image's or a video's continuation, with a minus; 0 is none.

    -(colour · d / 2.3 + sharpness · |difference of ln(1 + variance of the Laplacian)|) of the last frames against the
    given ones; d: distance of the colours' means plus that of their standard deviations, in CIE L*a*b*. A video that
    stands still does not drift: use it beside a reward of motion. Text to video has no given frames and is unscored.

    Args:
        late: share of the frames that were made, from the end, which are compared; at least one frame.
        colour: weight of the colours, in just noticeable differences.
        sharpness: weight of the sharpness.
        height: pixels of the shorter side that larger frames are scaled to.
    """

    late: float = 0.25
    colour: float = 1.0
    sharpness: float = 1.0
    height: int = 240

    name, version = "drift", 1

    def __post_init__(self) -> None:
        if not 0 < self.late <= 1:
            raise ValueError(f"late {self.late} must be a share above 0, at most 1")
        if min(self.colour, self.sharpness) < 0 or self.colour + self.sharpness == 0:
            raise ValueError(f"colour {self.colour} and sharpness {self.sharpness} must be weights, one above 0")
        if self.height < 3:
            raise ValueError(f"height {self.height} must be at least 3 pixels")

    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        """Score each video by itself."""
        return [self._score(video) for video in videos]

    def _score(self, video: Video) -> Score:
        import numpy as np

        from reelwright.training.rewards.pixels.frames import lab, scaled, sharpness

        made = len(video.frames) - video.given
        if not video.given:
            return Unscored("drift compares with given frames, and the video was made from text alone")
        if made < 1:
            return Unscored(f"drift needs frames that were made, and all {len(video.frames)} were given")
        frames = scaled(video.frames, self.height)
        given, late = frames[: video.given], frames[-max(1, round(self.late * made)) :]
        (mean, spread), (late_mean, late_spread) = (
            (part.mean(axis=(0, 1, 2)), part.std(axis=(0, 1, 2)))
            for part in (lab(given).astype(np.float64), lab(late).astype(np.float64))
        )
        colours = float(np.linalg.norm(mean - late_mean) + np.linalg.norm(spread - late_spread))
        sharp, late_sharp = (float(sharpness(part).mean()) for part in (given, late))
        return -(self.colour * colours / JUST_SEEN + self.sharpness * abs(sharp - late_sharp))
