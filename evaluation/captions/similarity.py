"""Caption-to-video similarity of two captioners, and whether the new one falls."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reelwright.annotate.backends.clip_encoder import ClipEncoder
from reelwright.evaluation.statistics.bootstrap import Interval, Resamples, compare

ALLOWED_FALL = 0.05  # of the mean similarity
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s*")


@dataclass(frozen=True)
class Gate:
    """Mean similarities before and after, and the interval of their difference over clips."""

    before: float
    after: float
    difference: Interval
    clips: int

    @property
    def fall(self) -> float:
        """Share of the similarity that is lost; negative where it rose."""
        return 1 - self.after / self.before if self.before > 0 else float("nan")

    @property
    def is_flagged(self) -> bool:
        """Whether more than 5 % is lost."""
        return not self.fall <= ALLOWED_FALL


def similarities(encoder: ClipEncoder, captions: Sequence[str], videos: np.ndarray) -> np.ndarray:
    """Return the cosine of each caption and its video, float64 [N].

    A caption is the mean of its sentences' unit vectors, at unit length: CLIP reads 77 tokens, and a caption has more.

    Args:
        encoder: of CLIP.
        captions: N texts; a blank one has similarity 0.
        videos: unit vectors of the videos by the same encoder, float32 [N, dim].
    """
    parts = [[part for part in _SENTENCE.split(text) if part.strip()] for text in captions]
    flat = encoder.embed_text([part for some in parts for part in some])
    found, start = np.zeros(len(captions)), 0
    for number, some in enumerate(parts):
        if some:
            mean = flat[start : start + len(some)].mean(0)
            found[number] = float(mean @ videos[number] / max(float(np.linalg.norm(mean)), 1e-12))
        start += len(some)
    return found


def gate(before: np.ndarray, after: np.ndarray) -> Gate:
    """Compare similarities of the same clips under two captioners, float [N] each."""
    sums = np.stack([after, before], 1)
    interval = compare(sums, np.ones_like(sums), Resamples(len(before))).differences[0, 1]
    return Gate(float(before.mean()), float(after.mean()), interval, len(before))
