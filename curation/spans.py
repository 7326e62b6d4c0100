"""Parts of a file that a manifest names, in frames: clips are planned inside of them, and have their captions."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reelwright.curation.ingest.inputs import Span

SLACK_S = 1e-3  # manifests round times to milliseconds: a frame so close to a span's edge lies at it


@dataclass(frozen=True)
class Piece:
    """Frames [start, end) of a shot that clips are cut from.

    Attributes:
        whole: they are all the frames that a span names, so their length is a person's choice.
    """

    start: int
    end: int
    captions: tuple[str, ...] = ()
    whole: bool = False


def pieces_of(start: int, end: int, times: np.ndarray, spans: Sequence[Span]) -> Iterator[Piece]:
    """Yield the part of a shot, frames [start, end), that lies inside of each span; all of it where there are no spans.

    times: float64 [N + 1] seconds, as `Timing.times_s`. A frame lies in a span if it begins to be shown in it.
    """
    if not spans:
        yield Piece(start, end)
    shown = times[:-1]
    for span in spans:
        first, after = np.searchsorted(shown, [span.start_s - SLACK_S, span.end_s - SLACK_S]).tolist()
        a, b = max(start, first), min(end, after)
        if a < b:
            is_chosen = span.start_s > 0 or math.isfinite(span.end_s)  # else it is the whole file, as without spans
            yield Piece(a, b, span.captions, whole=is_chosen and (a, b) == (first, after))
