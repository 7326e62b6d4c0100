"""Detectors over a stream of frames, of any length and cut into pieces anyhow, with bounded memory.

They judge distinct pictures (see `repeats`), numbered through; their results are in the source's frames.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from abc import ABC, abstractmethod
from bisect import bisect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from reelwright.curation.media.sandbox_child import report_progress
from reelwright.curation.shots.cascade import detect
from reelwright.curation.shots.clock import Clock
from reelwright.curation.shots.config import ShotConfig
from reelwright.curation.shots.footage import Footage, shrink
from reelwright.curation.shots.network import OVERLAP, WINDOW, load_network, weights_digest
from reelwright.curation.shots.repeats import Distinct
from reelwright.curation.shots.types import Transition

ANALYSIS_WIDTH = 96  # pixels; twice what detection works on, for any aspect ratio
VERSION = 7  # of the code whose results a fingerprint stands for: raise it whenever they may change
STANDS_S = 1.0  # a picture that stands longer says nothing about the rate around it
EDGE = 8  # frames; a transition this close to both ends of a file separates nothing


class ShotDetector(ABC):
    """Finds transitions in consecutive frames. `settled`: no later call returns one that touches an earlier frame."""

    def __init__(self, config: ShotConfig, fps: float) -> None:
        if not fps > 0:
            raise ValueError(f"fps is {fps}, expected a positive frame rate")
        self.config, self.fps = config, fps
        self.settled = 0
        self.network_frames = 0  # looked at by the network so far, repeats counted
        self._distinct = Distinct(fps)
        self._clock = Clock(fps)
        self._has_ended = False
        self._seen = self._settled = 0  # distinct pictures

    def push(self, frames: np.ndarray, stamps_s: Sequence[float | None] | None = None) -> list[Transition]:
        """Take the next frames.

        Args:
            frames: uint8 RGB [n, h, w, 3].
            stamps_s: their timestamps in seconds, None where one has none; by the rate if not given.

        Returns:
            Transitions that are final now, in order.
        """
        if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
            raise ValueError(f"frames are {frames.dtype} {frames.shape}, expected uint8 [n, h, w, 3]")
        self._clock.push([None] * len(frames) if stamps_s is None else stamps_s)
        return self._judged(self._distinct.push(frames)) if len(frames) else []

    def flush(self) -> list[Transition]:
        """Return the transitions left at the end of the frames; nothing may be pushed after it."""
        self._has_ended = True
        found = self._judged(self._distinct.flush()) + [self._in_source(t) for t in self._flush()]
        self.settled = self._distinct.numbers[-1]
        return found

    @property
    def distinct_frames(self) -> np.ndarray:
        """Numbers of the frames that do not repeat the one before, int64, once `flush` was called."""
        numbers, flashes = (np.array(kept, np.int64) for kept in (self._distinct.numbers, self._distinct.flashes))
        return np.union1d(numbers[:-1], flashes)

    def _judged(self, pictures: np.ndarray) -> list[Transition]:
        if len(pictures) == 0:
            return []
        self._seen += len(pictures)
        found = [self._in_source(t) for t in self._push(pictures)]
        self.settled = self._distinct.numbers[self._settled]
        return found

    def _in_source(self, t: Transition) -> Transition:
        """Map a transition to the source's frames.

        A cut is where its first picture appears; a gradual one lasts as long as its last picture stands. Flashes
        between two shots belong to neither.
        """
        numbers, flashes = self._distinct.numbers, self._distinct.flashes
        first = numbers[t.first]
        if not t.is_cut:
            return Transition(first, numbers[t.last + 1] - 1, t.confidence)
        between = flashes[bisect(flashes, numbers[t.first - 1]) : bisect(flashes, first)] if t.first else flashes[:0]
        is_longer = len(between) > 1
        return Transition(between[0] if is_longer else first, first - 1 if is_longer else first, t.confidence)

    @property
    def fingerprint(self) -> str:
        """Hash of everything a result depends on besides the frames."""
        made_by = f"shots {VERSION} {self.config.model_dump_json()} {ANALYSIS_WIDTH} {self._engine()}"
        return hashlib.sha256(made_by.encode()).hexdigest()[:16]

    @abstractmethod
    def _push(self, frames: np.ndarray) -> list[Transition]: ...

    @abstractmethod
    def _flush(self) -> list[Transition]: ...

    @abstractmethod
    def _engine(self) -> str:
        """Version of the library that does the work outside this package."""


def make_detector(config: ShotConfig, fps: float) -> ShotDetector:
    """Make the detector that `config` names.

    Raises:
        MissingNetwork: it needs a network that is not installed.
    """
    kinds: dict[str, Callable[[ShotConfig, float], ShotDetector]] = {
        "cascade": CascadeDetector,
        "transnetv2": TransNetDetector,
        "pyscenedetect": AdaptiveDetector,
    }
    return kinds[config.detector](config, fps)


class _Blocks(ShotDetector):
    """Judges blocks of fixed frame numbers with fixed surroundings, so that how frames arrive makes no difference."""

    block: int
    context: int

    def __init__(self, config: ShotConfig, fps: float) -> None:
        super().__init__(config, fps)
        weights_digest()  # say now, not after an hour of decoding, that the network is missing
        self._small: list[np.ndarray] = []  # uint8 [n, 27, 48, 3] each, from frame _kept on
        self._kept = 0
        self._next = 0  # first frame of the block to judge next
        self._last = -1  # last frame of the last transition returned

    def _push(self, frames: np.ndarray) -> list[Transition]:
        self._small.append(shrink(frames))
        found: list[Transition] = []
        while self._seen >= self._next + self.block + self.context:
            found += self._judge(self._next + self.block)
        return found

    def _flush(self) -> list[Transition]:
        found: list[Transition] = []
        while self._next < self._seen:
            found += self._judge(min(self._next + self.block, self._seen))
        return [t for t in found if t.first > EDGE or self._seen - 1 - t.last > EDGE]

    def _judge(self, end: int) -> list[Transition]:
        """Judge frames [_next, end), then forget those no later block looks at."""
        small = np.concatenate(self._small) if len(self._small) > 1 else self._small[0]
        begin, self._next = self._next, end
        found = [
            t
            for t in self._transitions(small[: end + self.context - self._kept], self._kept, begin, end)
            if begin <= t.first < end and t.first > self._last
        ]
        if found:
            self._last = found[-1].last
        keep = max(self._kept, end - self.context)
        self._small, self._kept = [small[keep - self._kept :]], keep
        self._settled = max(end, self._last + 1)
        return found

    @abstractmethod
    def _transitions(self, small: np.ndarray, start: int, begin: int, end: int) -> list[Transition]:
        """Transitions in `small`, which begins at frame `start`; only those in [begin, end) will be used."""

    def _run_network(self, small: np.ndarray) -> np.ndarray:
        self.network_frames += len(small)
        report_progress(None)
        return load_network()(small)

    def _engine(self) -> str:
        return weights_digest()


class CascadeDetector(_Blocks):
    """See `cascade`."""

    block, context = 1024, 192

    def _transitions(self, small: np.ndarray, start: int, begin: int, end: int) -> list[Transition]:
        after = start + len(small)
        times_s = self._clock.times_s(np.append(self._distinct.numbers[start:after], self._end_of(after)))
        steps_s = np.minimum(np.diff(times_s[:-1]), STANDS_S)
        rate = float(1 / steps_s.mean()) if len(steps_s) else self.fps
        ends = self._has_ended and after == len(self._distinct.numbers) - 1
        footage = Footage(small, start, rate, self._after_flash(start, after), times_s, ends=ends)
        found, _ = detect(footage, self._run_network, fps=rate, threshold=self.config.cascade_threshold)
        return [Transition(t.first + start, t.last + start, t.confidence) for t in found]

    def _end_of(self, after: int) -> int:
        """Return the source's frame at which picture `after` - 1 ends."""
        numbers = self._distinct.numbers
        return numbers[after] if after < len(numbers) else numbers[after - 1] + 1

    def _after_flash(self, start: int, end: int) -> frozenset[int]:
        """Of pictures [start, end), those right after a flash; counted from `start`."""
        flashes = self._distinct.flashes
        numbers = np.asarray(self._distinct.numbers[start:end])
        at = np.searchsorted(numbers, np.asarray(flashes[bisect(flashes, numbers[0]) :]))
        return frozenset(at[at < len(numbers)].tolist())


class TransNetDetector(_Blocks):
    """TransNet V2 as published: every frame judged in the middle of a window, transitions where its score is high."""

    block, context = 10 * (WINDOW - 2 * OVERLAP), 150  # frames; a transition may begin in one block and end in the next

    def _transitions(self, small: np.ndarray, start: int, begin: int, end: int) -> list[Transition]:
        step = WINDOW - 2 * OVERLAP
        first = max(start, begin - step)
        scores = np.concatenate([self._window(small, at - start) for at in range(first, end + step, step)])
        inside = scores[: start + len(small) - first] > self.config.transnetv2_threshold
        edges = np.flatnonzero(np.diff(np.pad(inside.astype(np.int8), 1)))
        found = []
        for lo, hi in zip(edges[::2], edges[1::2], strict=True):  # scores [lo, hi) are high; lo is the old shot's last
            confidence = float(scores[lo:hi].max())
            found.append(Transition(first + int(lo) + 1, first + max(int(lo) + 1, int(hi) - 1), confidence))
        return [t for t in found if t.last < start + len(small)]

    def _window(self, small: np.ndarray, at: int) -> np.ndarray:
        """Scores of the frames from `at` on, half a window of them; frames beyond an end repeat the last one there."""
        frames = np.arange(at - OVERLAP, at - OVERLAP + WINDOW).clip(0, len(small) - 1)
        return self._run_network(small[frames])[OVERLAP:-OVERLAP, 0]


class AdaptiveDetector(ShotDetector):
    """PySceneDetect's AdaptiveDetector: hard cuts where the content changes more than around them."""

    def __init__(self, config: ShotConfig, fps: float) -> None:
        super().__init__(config, fps)
        from scenedetect import AdaptiveDetector as Adaptive

        self._detector: Any = Adaptive(
            adaptive_threshold=config.adaptive_threshold, min_scene_len=config.min_shot_frames
        )
        self._lag = config.min_shot_frames + self._detector.window_width

    def _push(self, frames: np.ndarray) -> list[Transition]:
        from scenedetect import FrameTimecode

        found = []
        for number, frame in enumerate(frames, self._seen - len(frames)):
            bgr = np.ascontiguousarray(frame[..., ::-1])
            found += self._detector.process_frame(FrameTimecode(number, self.fps), bgr)
        self._settled = max([self._settled, self._seen - self._lag, *(cut.frame_num + 1 for cut in found)])
        return [Transition(cut.frame_num, cut.frame_num, 1.0) for cut in found]

    def _flush(self) -> list[Transition]:
        from scenedetect import FrameTimecode

        found = self._detector.post_process(FrameTimecode(self._seen, self.fps)) if self._seen else []
        return [Transition(cut.frame_num, cut.frame_num, 1.0) for cut in found]

    def _engine(self) -> str:
        return "scenedetect " + importlib.metadata.version("scenedetect")
