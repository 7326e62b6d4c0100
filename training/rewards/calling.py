"""Calling a reward so that every video gets a finite number or a stated failure, whatever the reward does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from numbers import Real

from reelwright.errors import first_line
from reelwright.training.rewards.contract import Reward, Score, Unscored, Video


def score(reward: Reward, videos: Sequence[Video]) -> list[Score]:
    """Score videos, at most `resources.batch` per call.

    An exception is the failure of its call's videos alone. A reward sees frames that it cannot write to, as other
    rewards see the same ones.

    Returns:
        A finite float or an `Unscored` per video, in their order.
    """
    size = max(1, reward.resources.batch)
    return [found for start in range(0, len(videos), size) for found in _call(reward, videos[start : start + size])]


def _call(reward: Reward, videos: Sequence[Video]) -> list[Score]:
    try:
        found = list(reward([_read_only(video) for video in videos]))
    except Exception as error:  # anything: a reward must not end the run
        return [Unscored(f"{reward.name}: {type(error).__name__}: {first_line(error)}")] * len(videos)
    if len(found) != len(videos):
        return [Unscored(f"{reward.name} returned {len(found)} scores for {len(videos)} videos")] * len(videos)
    return [_checked(reward, score) for score in found]


def _read_only(video: Video) -> Video:
    frames = video.frames.view()
    frames.flags.writeable = False
    return replace(video, frames=frames)


def _checked(reward: Reward, score: object) -> Score:
    if isinstance(score, Unscored):
        return score
    if not isinstance(score, Real) or isinstance(score, bool):  # NumPy's scalars are `Real` too
        return Unscored(f"{reward.name} returned {type(score).__name__} {str(score)[:80]!r} in place of a number")
    if not math.isfinite(score):
        return Unscored(f"{reward.name} is {float(score)}")
    return float(score)
