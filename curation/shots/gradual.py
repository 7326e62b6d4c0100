"""Gradual transitions: frames some time apart show different things, and the frames between say how that came about.

Three ways are distinguished. A dissolve or fade adds the same picture of change frame after frame, so successive
differences point the same way. A wipe is a streak (see `wipes`). Motion does neither: it reverts its own changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from reelwright.curation.shots.footage import Footage
from reelwright.curation.shots.scores import Scores
from reelwright.curation.shots.stills import standing_share
from reelwright.curation.shots.types import Transition
from reelwright.curation.shots.wipes import find_sweep

GAPS = (8, 16, 32, 64)  # frames between the compared ones, at film rates
DIFFERENT = 0.68  # similarity below which two frames show different scenes
PARTLY = 0.88  # ... without looking for motion, below which a window of the picture may show another scene
STRAIGHT = 0.55  # correlation of successive changes that no motion reaches (motion: below 0.4)
MAYBE_STRAIGHT = 0.15  # ... below which it is no dissolve (motion: below 0.15 in 19 of 20 places)
SWEEP_CONTRAST = 3.0  # times the usual change; cameras and things on textured ground stay below 2.5
WIPED = 0.62  # similarity a wipe leaves at most; a car in a street sweeps too, but leaves 0.66
STANDING = 0.38  # share of the picture that may outlast a transition; real ones leave 0.26, a car that crosses 0.5
IN_TRANSITION = 0.3  # network score of frames that belong to a transition found
REST = 1.5  # times what three straight quarters change, that the fourth may: a slow pan is straight too
PACE = 0.35  # of a blend's speed at its middle that still counts as blending
EVEN = 3.0  # grey levels of change too small to have a direction

Span = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """Frames [start, end] with different scenes at the ends, and how alike the changes of its quarters are.

    middle: correlation of the two inner quarters' changes. straight: the same for three quarters in a row, its least,
    if they and not the fourth make most of the change.
    """

    start: int
    end: int
    straight: float
    middle: float


def find_gradual(
    footage: Footage, scores: Scores, taken: list[Transition], windows: dict[int, list[Window]], *, threshold: float
) -> tuple[list[Transition], list[Transition]]:
    """Wipes, whose frames are exact, and blends, which may reach farther; none of them over one already `taken`.

    windows: those `different`, by their gap, in order of it.
    """
    gaps = tuple(windows)
    blends: list[Transition] = []
    wipes: list[Transition] = []
    for gap in gaps[::-1]:  # the widest that fits shows a blend's own line best, and is straight only if it is as long
        blends += _blends(footage, windows[gap], taken + blends)
    for gap in gaps[:0:-1]:
        known = taken + blends + wipes
        for start, end in _stretches(_free([(w.start, w.end) for w in windows[gap]], known), gap):
            wipes += _clear_of(_wipes_in(footage, start, end, gap), taken + blends + wipes)
    for gap in gaps:
        maybe = [(w.start, w.end) for w in windows[gap] if w.middle > MAYBE_STRAIGHT]
        for start, end in _stretches(_free(maybe, taken + blends + wipes), gap // 2):
            stride = max(1, gap // 16)
            at, score = scores.over(start, end, stride)
            peaks = [t for t in _peaks(at, score, stride, threshold) if separates(footage, t)]
            blends += _clear_of(peaks, taken + blends + wipes)
    return wipes, blends


def different(footage: Footage, gap: int) -> list[Window]:
    """Frames `gap` apart, on a grid of the source's frame numbers, that show different scenes."""
    step = gap // 4
    starts = np.arange((-footage.start) % step, len(footage) - gap, step)
    if len(starts) == 0:
        return []
    maybe = starts[footage.still_similarity(starts, starts + gap) < DIFFERENT].tolist()
    return [_window(footage, s, s + gap) for s in maybe if footage.similarity(s, s + gap) < DIFFERENT]


def partly_different(footage: Footage, gap: int) -> list[Span]:
    """Frames `gap` apart, on the same grid, that differ in the scene somewhere."""
    step = gap // 4
    starts = np.arange((-footage.start) % step, len(footage) - gap, step)
    still = footage.still_similarity(starts, starts + gap) if len(starts) else np.empty(0)
    return [(s, s + gap) for s in starts[still < PARTLY].tolist()]


def _window(footage: Footage, start: int, end: int) -> Window:
    quarter = (end - start) // 4
    at = footage.grey[start : end + 1 : quarter]
    change = np.diff(at - at.mean((1, 2), keepdims=True), axis=0).reshape(4, -1)
    norm = np.square(change).sum(1)
    floor = change.shape[1] * EVEN**2 / 4
    line = (change[1:] * change[:-1]).sum(1) / np.sqrt(norm[1:] * norm[:-1] + floor**2)
    straight = -1.0
    for others, rest in ((slice(0, 3), 3), (slice(1, 4), 0)):
        if norm[rest] < REST**2 * np.square(change[others].sum(0)).sum():  # else it is another change that they lead to
            straight = max(straight, float(line[others.start : others.stop - 1].min()))
    return Window(start, end, straight, float(line[1]))


def _blends(footage: Footage, windows: list[Window], taken: list[Transition]) -> list[Transition]:
    """Dissolves and fades so straight that nothing else can be meant, straightest first."""
    found: list[Transition] = []
    for window in sorted(windows, key=lambda w: (-w.straight, w.start)):
        if window.straight < STRAIGHT:
            break
        if not _free([(window.start, window.end)], taken + found):
            continue
        first, last = _blend_extent(footage, window)
        blend = Transition(first, last, window.straight)
        if last > first and separates(footage, blend):
            found += _clear_of([blend], taken + found)
    return found


def _blend_extent(footage: Footage, window: Window) -> Span:
    """First and last frame of the run around the window's middle that moves along its line."""
    quarter = (window.end - window.start) // 4
    span = _along(footage, window.start + quarter, window.end - quarter)
    quarter = (span[1] - span[0]) // 4  # once more, along the line of the whole blend: less of it is motion
    return _along(footage, span[0] + quarter, span[1] - quarter) if quarter > 1 else span


def _along(footage: Footage, begin: int, end: int) -> Span:
    """Return the run of frames that continue the change from `begin` to `end`, at no less than PACE of its pace."""
    start, stop = max(0, begin - 3 * (end - begin)), min(len(footage) - 1, end + 3 * (end - begin))
    line = (footage.grey[end] - footage.grey[begin]).reshape(-1)
    step = np.diff(footage.grey[start : stop + 1], axis=0).reshape(stop - start, -1) @ line  # [i] leads to frame i + 1
    width = (end - begin) // 4 * 2 + 1
    pace = np.convolve(np.pad(step, width // 2, mode="edge"), np.full(width, 1 / width), mode="valid")
    inner = slice(begin - start, end - start)
    moving = pace > PACE * np.median(pace[inner])
    lo = hi = inner.start + int(pace[inner].argmax())
    while lo > 0 and moving[lo - 1]:
        lo -= 1
    while hi + 1 < len(moving) and moving[hi + 1]:
        hi += 1
    return start + lo + 1, start + hi


def _free(spans: list[Span], taken: list[Transition]) -> list[Span]:
    """Return the candidates with ends that no known transition separates already."""
    return [(s, e) for s, e in spans if not any(t.first <= e and t.last > s for t in taken)]


def _clear_of(new: list[Transition], taken: list[Transition]) -> list[Transition]:
    """Return the candidates that overlap neither `taken` nor an earlier candidate."""
    kept: list[Transition] = []
    for t in new:
        if not any(t.first <= other.last and other.first <= t.last for other in taken + kept):
            kept.append(t)
    return kept


def _stretches(spans: list[Span], gap: int) -> Iterator[Span]:
    """Join runs of spans that follow closely to one span each."""
    start = end = -1
    last = -gap
    for s, e in spans:
        if s - last > gap:
            if end > start:
                yield start, end
            start, end = s, e
        end, last = max(end, e), s
    if end > start:
        yield start, end


def _wipes_in(footage: Footage, start: int, end: int, gap: int) -> list[Transition]:
    """Sweeps in windows of twice `gap` over the stretch."""
    found: list[Transition] = []
    margin = gap // 4
    for at in range(start - margin, max(end + margin - gap, start - margin) + 1, gap):
        lo, hi = max(0, at), min(len(footage) - 1, at + 2 * gap, end + margin)
        sweep = find_sweep(footage, lo, hi) if hi - lo >= 4 else None
        if sweep and sweep.contrast >= SWEEP_CONTRAST:
            transition = Transition(sweep.first, sweep.last, 1 - 1 / sweep.contrast)
            if separates(footage, transition, WIPED):
                found.append(transition)
    return found


def _peaks(at: np.ndarray, score: np.ndarray, stride: int, threshold: float) -> list[Transition]:
    """Return the runs of frames that the network takes for one transition each."""
    strength = np.sqrt(score[:, 0] * score[:, 1])
    inside = (score[:, 1] > IN_TRANSITION) | (strength > threshold)
    edges = np.flatnonzero(np.diff(np.pad(inside.astype(np.int8), 1)))
    found = []
    for lo, hi in zip(edges[::2], edges[1::2] - 1, strict=True):
        best = float(strength[lo : hi + 1].max())
        if best >= threshold:
            found.append(Transition(int(at[lo]) - stride // 2, int(at[hi]) + stride // 2, best))
    return found


def separates(footage: Footage, t: Transition, alike: float = DIFFERENT + 0.05) -> bool:
    """Other things are seen after it than before, and hardly any place still shows the same."""
    before, after = max(0, t.first - 2), min(len(footage) - 1, t.last + 2)
    return footage.similarity(before, after) < alike and standing_share(footage, t.first, t.last) < STANDING
