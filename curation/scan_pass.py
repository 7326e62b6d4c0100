"""One pass over a source's frames: what each of them shows (`Looker`), and what follows from all of them (`Pass`).

A pass asks for nothing but looks in order, so that they may come from a decoder or from several (`scan_parts`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from reelwright.curation.borders import BorderConfig, Crop, Profile, find_crop, profile
from reelwright.curation.media.decode import Orientation, forget_unusual_tags, orientation_of
from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.sandbox_child import report_progress
from reelwright.curation.shots import (
    ANALYSIS_WIDTH,
    Shot,
    ShotConfig,
    Transition,
    make_detector,
    shots_from_transitions,
)
from reelwright.curation.timing import Timing, timing_of

CHUNK_FRAMES = 64
LIKELY_FPS = 240  # a file that claims more names its clock
PROFILES_PER_S = 4.0
MAX_PROFILES = 48  # of one shot; past that every second one is dropped and sampling slows down


@dataclass(frozen=True)
class Look:
    """What a pass is told of one frame.

    Args:
        pts: timestamp, None where there is none.
        dts: decoding time, likewise.
        is_damaged: whether the decoder had to guess parts of it.
        is_interlaced: whether it is flagged so.
        small: uint8 RGB [h, w, 3], upright, for the shot detector.
        profile: for borders, where the pass wants one.
    """

    pts: int | None
    dts: int | None
    is_damaged: bool
    is_interlaced: bool
    small: np.ndarray
    profile: Profile | None = None


class Looker:
    """Reduces decoded frames. Orientation and sizes are the first frame's."""

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self.orientation: Orientation | None = None
        self.odd_tags: dict[str, None] = {}
        self.full, self.small = (0, 0), (0, 0)  # sizes: of the first decoded frame, and after scaling
        self._scaler, self._gray = VideoReformatter(), VideoReformatter()  # each keeps its swscale context

    def look(self, frame: Any, *, is_damaged: bool, with_profile: bool) -> Look:
        """Reduce a decoded frame; its unusual colour tags are forgotten."""
        if self.orientation is None:
            self.orientation = orientation_of(frame)
            self.full = (frame.width, frame.height)
            self.small = _analysis_size(*self.full, self.orientation)
        self.odd_tags.update(dict.fromkeys(forget_unusual_tags(frame)))
        of_borders = None
        if with_profile:
            # a stream may change its size half-way: crops lie in the first frame's
            luma = self._gray.reformat(frame, *self.full, format="gray", threads=1).to_ndarray()
            of_borders = profile(np.ascontiguousarray(self.orientation.apply(luma)))
        small = self._scaler.reformat(frame, *self.small, format="rgb24", interpolation="AREA", threads=1)
        picture = self.orientation.apply(small.to_ndarray())
        return Look(frame.pts, frame.dts, is_damaged, bool(frame.interlaced_frame), picture, of_borders)


@dataclass(frozen=True)
class Clocks:
    """What a file says of its time: the rates that it claims, most trusted first, and its ticks."""

    claims: Sequence[Fraction | None]
    time_base: Fraction

    @property
    def fps(self) -> float:
        """The first likely rate."""
        return float(next((r for r in self.claims if r and r <= LIKELY_FPS), 25))


@dataclass(frozen=True)
class Found:
    """What follows from all frames. shots: with the crop of each; the others as in `Scan`."""

    timing: Timing
    shots: list[tuple[Shot, Crop]]
    fingerprint: str
    corrupt: tuple[tuple[int, int], ...]
    interlaced: tuple[tuple[int, int], ...]
    frames_in_transitions: int
    distinct: np.ndarray | None


class Pass:
    """State of one pass."""

    def __init__(self, clocks: Clocks, shots: ShotConfig, borders: BorderConfig, max_frames: int) -> None:
        self.clocks, self.max_frames = clocks, max_frames
        self.detector = make_detector(shots, clocks.fps)
        self.borders = _Borders(borders, clocks.fps)
        self.pts: list[int | None] = []
        self.corrupt: list[tuple[int, int]] = []  # runs of frames [first, after the last]
        self.interlaced: list[tuple[int, int]] = []  # likewise, of those flagged so
        self.decoded: tuple[int, int] | None = None  # decoding times of the first and the last frame
        self.chunk: list[np.ndarray] = []
        self.transitions: list[Transition] = []

    def wants_profile(self) -> bool:
        """Return whether the next look needs a profile."""
        return self.borders.wants(len(self.pts))

    def add(self, look: Look) -> None:
        """Take the next frame's look."""
        index = len(self.pts)
        if index >= self.max_frames:
            raise MediaError("limit", f"over {self.max_frames} frames; raise limits.max_frames to allow it")
        self.pts.append(look.pts)
        if look.dts is not None:
            self.decoded = (self.decoded[0], look.dts) if self.decoded else (look.dts, look.dts)
        if look.is_damaged:
            add_to_runs(self.corrupt, index)
        if look.is_interlaced:
            add_to_runs(self.interlaced, index)
        if look.profile is not None:
            self.borders.add(index, look.profile)
        self.chunk.append(look.small)
        if len(self.chunk) == CHUNK_FRAMES:
            self._push()
        report_progress({"frames": index + 1})

    def _push(self) -> None:
        if self.chunk:
            pts, tick_s = self.pts[-len(self.chunk) :], float(self.clocks.time_base)
            self._found(self.detector.push(np.stack(self.chunk), [None if p is None else p * tick_s for p in pts]))
            self.chunk.clear()

    def _found(self, transitions: Iterable[Transition]) -> None:
        for transition in transitions:
            self.transitions.append(transition)
            self.borders.close(transition.first, transition.first if transition.is_cut else transition.last + 1)

    def finish(
        self,
        width: int,
        height: int,
        *,
        lengths_s: Sequence[float] = (),
        lost_pts: Sequence[int] = (),
        is_image: bool = False,
    ) -> Found:
        """Decide what is left after the last frame.

        Args:
            width: of upright frames.
            height: of them.
            lengths_s: of the whole, by the file.
            lost_pts: times of packets that gave no frame.
            is_image: a still has no clock, and one frame cannot tell a border from a dark part of the picture.
        """
        self._push()
        self._found(self.detector.flush())
        num_frames, clocks = len(self.pts), self.clocks
        self.borders.close(num_frames, num_frames)
        timing = timing_of(self.pts, clocks.time_base, clocks.claims, self._lengths_s(lengths_s), lost_pts)
        shots = shots_from_transitions(self.transitions, num_frames)
        if is_image:
            timing = timing_of(self.pts, clocks.time_base, ())
        crops = [whole_picture(width, height) if is_image else self.borders.crop_of(s, width, height) for s in shots]
        distinct = self.detector.distinct_frames
        return Found(
            timing,
            list(zip(shots, crops, strict=True)),
            self.detector.fingerprint,
            tuple(self.corrupt),
            tuple(self.interlaced),
            frames_in_transitions=sum(t.last - t.first + 1 for t in self.transitions if not t.is_cut),
            distinct=distinct if len(distinct) < num_frames else None,
        )

    def _lengths_s(self, stated: Sequence[float]) -> list[float]:
        """Return how long the frames last: by decoding times, and as the file states."""
        lengths = list(stated)
        if self.decoded and len(self.pts) > 1:
            first, last = self.decoded
            steps = len(self.pts) - 1
            lengths.insert(0, float((last - first) * self.clocks.time_base) * (steps + 1) / steps)
        return [length for length in lengths if length > 0]


class _Borders:
    """Samples of the open shot's borders; a crop for each shot that is closed."""

    def __init__(self, config: BorderConfig, fps: float) -> None:
        self.config, self.first_step = config, profile_step(fps)
        self.step, self.next_index = self.first_step, 0
        self.open: list[tuple[int, Profile]] = []
        self.crops: dict[int, Crop] = {}  # by the frame at which the shot ends
        self.size = (0, 0)

    def wants(self, index: int) -> bool:
        return self.config.enabled and index >= self.next_index

    def add(self, index: int, of_frame: Profile) -> None:
        self.size = (len(of_frame.columns), len(of_frame.rows))
        self.open.append((index, of_frame))
        if len(self.open) > 2 * MAX_PROFILES:
            self.open, self.step = self.open[::2], self.step * 2
        self.next_index = index + self.step

    def close(self, end: int, next_start: int) -> None:
        """Close the open shot before frame `end`: find its crop, forget its samples and the transition's."""
        mine = [p for i, p in self.open if i < end]
        self.open = [(i, p) for i, p in self.open if i >= next_start]
        self.step = self.first_step
        if mine:
            keep = mine[:: -(-len(mine) // MAX_PROFILES)]
            self.crops[end] = find_crop(keep, *self.size, self.config)

    def crop_of(self, shot: Shot, width: int, height: int) -> Crop:
        """Return the crop found for the shot; the whole picture, made even, where it was too short to be sampled."""
        return self.crops.get(shot.end) or whole_picture(width, height)


def profile_step(fps: float) -> int:
    """Return the number that all frames with a profile are multiples of."""
    return max(1, round(fps / PROFILES_PER_S))


def whole_picture(width: int, height: int) -> Crop:
    """Return the crop that leaves everything but an odd last row or column, which no clip can have."""
    return Crop(0, 0, max(2, width & ~1), max(2, height & ~1))


def _analysis_size(width: int, height: int, orientation: Orientation) -> tuple[int, int]:
    """Size that decoded frames are scaled to, so that upright ones are ANALYSIS_WIDTH wide."""
    upright_width, upright_height = orientation.size(width, height)
    small_height = int(np.clip(round(ANALYSIS_WIDTH * upright_height / upright_width / 2) * 2, 16, 4 * ANALYSIS_WIDTH))
    return orientation.size(ANALYSIS_WIDTH, small_height)


def add_to_runs(runs: list[tuple[int, int]], index: int) -> None:
    """Lengthen the last run by frame `index`, or begin one with it."""
    if runs and runs[-1][1] == index:
        runs[-1] = (runs[-1][0], index + 1)
    else:
        runs.append((index, index + 1))
