"""How long clips are once a trainer has resampled them, and the frame buckets that keep most of them.

Causal video VAEs pack time by four, so lengths are 4n + 1 frames.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

RATES = (16, 24)
"""Frames a second that models train at, and trainers resample to: Wan 2.1 and others 16, Wan 2.2 5B and others 24."""
LONGEST = 81
"""Frames, unless asked otherwise: what Wan 2.1 is trained on. A longer clip gives its first ones."""
BUCKETS = 6
"""At most: a bucket of few clips may not fill a batch."""
SHORTEST = 5
"""Frames of the shortest length that is no still."""

Lengths = Counter[tuple[int, float]]
"""(frames, frames per second) -> clips."""


def packed(frames: int, pack: int = 4) -> int:
    """Return the longest length of pack * n + 1 that the frames fill; 0 for none."""
    return (frames - 1) // pack * pack + 1 if frames > 0 else 0


def resampled(frames: int, fps: float, rate: float) -> int:
    """Return the number of a clip's frames at another rate."""
    return int(frames * rate / fps) if fps > 0 else 0


def at_rate(lengths: Lengths, rate: float | None) -> Counter[int]:
    """Return frames -> clips, at `rate` frames per second, or as they are."""
    out: Counter[int] = Counter()
    for (frames, fps), clips in lengths.items():
        out[frames if rate is None else resampled(frames, fps, rate)] += clips
    return out


def buckets(lengths: Iterable[Counter[int]], longest: int = LONGEST, most: int = BUCKETS) -> list[int]:
    """Return the frame buckets that drop no clip of `SHORTEST` frames or more and cut the fewest frames off the others.

    Args:
        lengths: frames -> clips, at each rate that they are for.
        longest: frames that no bucket exceeds.
        most: number of buckets, at most.

    Returns:
        Frames, ascending; `[1]` where no clip is as long as `SHORTEST`.
    """
    every: Counter[int] = Counter()
    for one in lengths:
        for length, clips in one.items():
            every[packed(min(length, longest))] += clips
    sizes = sorted(size for size in every if size >= SHORTEST)
    if not sizes:
        return [1]
    # best[i]: (frames kept of clips of sizes[i:], buckets) where sizes[i] is a bucket; one more bucket each round
    best = [(size * sum(every[s] for s in sizes[i:]), [size]) for i, size in enumerate(sizes)]
    for _ in range(most - 1):
        best = [max([best[i], *_with_next(i, sizes, every, best)]) for i in range(len(sizes))]
    return best[0][1]


def _with_next(
    i: int, sizes: list[int], every: Counter[int], best: list[tuple[int, list[int]]]
) -> Iterator[tuple[int, list[int]]]:
    """With sizes[i] and then each longer one as the next bucket."""
    clips = 0
    for j in range(i + 1, len(sizes)):
        clips += every[sizes[j - 1]]
        kept, chosen = best[j]
        yield sizes[i] * clips + kept, [sizes[i], *chosen]


def bucket_of(length: int, buckets: Sequence[int]) -> int | None:
    """Return the longest bucket above 1 that a clip fills; None where it is too short for all."""
    return max((b for b in buckets if 1 < b <= length), default=None)


def kept(lengths: Counter[int], buckets: Sequence[int]) -> tuple[Counter[int], int]:
    """Return (bucket -> clips, clips that are too short for all)."""
    found: Counter[int] = Counter()
    dropped = 0
    for length, clips in lengths.items():
        bucket = bucket_of(length, buckets)
        if bucket is None:
            dropped += clips
        else:
            found[bucket] += clips
    return found, dropped


def table(lengths: Lengths, chosen: Sequence[int], rates: Sequence[float | None] = RATES) -> list[str]:
    """Return one line per rate: how many clips each bucket keeps, and how many are too short."""
    lines = []
    for rate in rates:
        found, dropped = kept(at_rate(lengths, rate), chosen)
        each = ", ".join(f"{found[b]:,} of {b} frames" for b in sorted(found)) or "none"
        when = "as they are" if rate is None else f"at {rate:g} fps"
        lines.append(f"{when}: {each}; {dropped:,} too short, dropped")
    return lines
