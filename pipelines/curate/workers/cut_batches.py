"""Which clips of a source one task cuts."""

from collections.abc import Iterator
from typing import Protocol

from reelwright.curation.clips import PlannedClip
from reelwright.curation.scan import Scan

COUNTED_PIXELS = 8e9  # of clips in one task, 10 minutes of SD or 2 of 1080p: some 200 MB at x264's usual rates


class Bounds(Protocol):
    """How much one task cuts: of a recipe's `batches`."""

    @property
    def cut_clips(self) -> int:
        """Clips of one source."""

    @property
    def cut_s(self) -> float:
        """Seconds of footage."""


def cut_batches(clips: list[PlannedClip], scan: Scan, bounds: Bounds) -> Iterator[list[PlannedClip]]:
    """Neighbours together: a task decodes through small gaps and seeks over large ones.

    Where timestamps or keyframes cannot be trusted, each task decodes the file from its start: so there are as few
    tasks as memory for a task's clips allows.
    """
    counted = scan.timing.pts is None or not scan.can_seek
    pixels_per_frame = scan.info.width * scan.info.height
    batch: list[PlannedClip] = []
    for clip in clips:
        together = [*batch, clip]
        span_s = clip.end_s - together[0].start_s
        pixels = sum(c.spec.num_frames for c in together) * pixels_per_frame
        fits = len(together) <= bounds.cut_clips and span_s <= bounds.cut_s
        if batch and not fits and not (counted and pixels <= COUNTED_PIXELS):
            yield batch
            batch = []
        batch.append(clip)
    if batch:
        yield batch
