"""Decode a source once: its frame times, its shots, and the picture inside its borders for each shot.

Frames are looked at where they are decoded and never leave the process: small ones feed the shot detector, a few in
full size feed the border finder, and what comes back is facts. Memory does not grow with the length of the file, but
for 16 bytes a frame of timestamps and numbers of distinct pictures, twice as many where the rate varies. Run it inside
a `Sandbox`.
"""

import base64
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from reelwright.curation.borders import BorderConfig, Crop, find_crop, profile
from reelwright.curation.media.decode import Orientation, Video, forget_unusual_tags, orientation_of, rate_claims
from reelwright.curation.media.ear import NOTHING_HEARD, Heard
from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.kept import KeptFrames
from reelwright.curation.media.pictures import is_still
from reelwright.curation.media.probe import VideoInfo, video_info
from reelwright.curation.media.sandbox_child import report_progress
from reelwright.curation.shots import (
    ANALYSIS_WIDTH,
    Shot,
    ShotConfig,
    Transition,
    make_detector,
    shots_from_transitions,
)
from reelwright.curation.shots.repeats import true_rate
from reelwright.curation.timing import Timing, timing_of

CHUNK_FRAMES = 64
LIKELY_FPS = 240  # a file that claims more names its clock
PROFILES_PER_S = 4.0
MAX_PROFILES = 48  # of one shot; past that every second one is dropped and sampling slows down


class ScanLimits(BaseModel, frozen=True, extra="forbid"):
    """How long a file may be before it is refused: an endless one must not hold a worker."""

    max_frames: int = Field(5_000_000, gt=0, description="decoded frames of one source; 46 hours at 30 fps")


@dataclass(frozen=True)
class ScannedShot:
    """A shot and the picture inside its borders."""

    shot: Shot
    crop: Crop


@dataclass(frozen=True)
class Scan:
    """The findings of one decode of a source."""

    info: VideoInfo
    timing: Timing
    shots: list[ScannedShot]
    decode_errors: int
    detector_fingerprint: str
    corrupt: tuple[tuple[int, int], ...] = ()  # frames [first, after the last] that the decoder had to guess
    interlaced: tuple[tuple[int, int], ...] = ()  # frames flagged as interlaced, likewise
    can_seek: bool = True  # whether frames marked as keyframes are keyframes
    odd_tags: tuple[str, ...] = ()  # colour tags that were read as unspecified, such as "matrix 8"
    frames_in_transitions: int = 0
    frames_dropped: int = 0  # on purpose left out of both
    distinct: np.ndarray | None = None  # int64, frames that do not repeat the one before; None: none does
    heard: Heard = NOTHING_HEARD  # errors that libav reported

    @property
    def frames_in_shots(self) -> int:
        """Number of frames that lie in shots."""
        return sum(s.shot.num_frames for s in self.shots)

    @property
    def frames_lost(self) -> int:
        """Count the frames that are in no shot, no transition and no dropped span (negative: in two).

        Any number other than 0 is a bug.
        """
        return self.timing.num_frames - self.frames_in_shots - self.frames_in_transitions - self.frames_dropped

    def true_fps(self, times_s: np.ndarray, start: int, end: int) -> float | None:
        """Distinct pictures per second in frames [start, end); None where no frame there repeats another.

        times_s: `self.timing.times_s()`.
        """
        if self.distinct is None:
            return None
        rate = true_rate(self.distinct, times_s, start, end, self.timing.fps)
        return rate if rate < self.timing.fps else None

    @property
    def corrupt_frames(self) -> int:
        """Number of frames that are damaged."""
        return sum(end - start for start, end in self.corrupt)

    def corrupt_in(self, start: int, end: int) -> int:
        """Count the corrupt frames in [start, end)."""
        return _count_in(self.corrupt, start, end)

    def interlaced_in(self, start: int, end: int) -> int:
        """Count the frames in [start, end) that are flagged as interlaced."""
        return _count_in(self.interlaced, start, end)


def scan(
    uri: str, shots: ShotConfig, borders: BorderConfig, limits: ScanLimits, kept: KeptFrames | None = None
) -> Scan:
    """Scan one file. Raises MediaError (`io`, `open`, `no_video`, `decode`: no frame at all, `limit`).

    kept: takes the frames, for the cut.
    """
    import av

    with Video(uri, listens=True) as video:
        pass_ = _Pass(video, shots, borders, limits)
        try:
            for frame in video.frames():
                pass_.add(frame)
                if kept:
                    kept.add(frame)
        except av.error.FFmpegError as error:  # a frame that nothing can convert
            raise MediaError("decode", f"frame {len(pass_.pts)} cannot be read ({error})") from error
        return pass_.finish()


class _Pass:
    """State of one decode."""

    def __init__(self, video: Video, shots: ShotConfig, borders: BorderConfig, limits: ScanLimits) -> None:
        from av.video.reformatter import VideoReformatter

        self.video, self.limits = video, limits
        self.claims = rate_claims(video)
        fps = float(next((r for r in self.claims if r and r <= LIKELY_FPS), 25))
        self.detector = make_detector(shots, fps)
        self.borders = _Borders(borders, fps)
        self.pts: list[int | None] = []
        self.corrupt: list[tuple[int, int]] = []  # runs of frames [first, after the last]
        self.interlaced: list[tuple[int, int]] = []  # likewise, of those flagged so
        self.decoded: tuple[int, int] | None = None  # decoding times of the first and the last frame
        self.odd_tags: dict[str, None] = {}
        self.chunk: list[np.ndarray] = []
        self.transitions: list[Transition] = []
        self.orientation: Orientation | None = None
        self.info: VideoInfo | None = None
        self.full, self.small = (0, 0), (0, 0)  # sizes: of the first decoded frame, and after scaling
        self.scaler, self.gray = VideoReformatter(), VideoReformatter()  # each keeps its swscale context

    def add(self, frame: Any) -> None:
        if self.orientation is None:
            self.orientation = orientation_of(frame)
            self.info = video_info(self.video, frame)
            self.full = (frame.width, frame.height)
            self.small = _analysis_size(*self.full, self.orientation)
        self.odd_tags.update(dict.fromkeys(forget_unusual_tags(frame)))
        index = len(self.pts)
        if index >= self.limits.max_frames:
            raise MediaError("limit", f"over {self.limits.max_frames} frames; raise limits.max_frames to allow it")
        self.pts.append(frame.pts)
        if frame.dts is not None:
            self.decoded = (self.decoded[0], frame.dts) if self.decoded else (frame.dts, frame.dts)
        if self.video.is_damaged:
            _add_to_runs(self.corrupt, index)
        if frame.interlaced_frame:
            _add_to_runs(self.interlaced, index)
        if self.borders.wants(index):
            # a stream may change its size half-way: crops lie in the first frame's
            luma = self.gray.reformat(frame, *self.full, format="gray", threads=1).to_ndarray()
            self.borders.add(index, np.ascontiguousarray(self.orientation.apply(luma)))
        small = self.scaler.reformat(frame, *self.small, format="rgb24", interpolation="AREA", threads=1)
        self.chunk.append(self.orientation.apply(small.to_ndarray()))
        if len(self.chunk) == CHUNK_FRAMES:
            self._push()
        report_progress({"frames": index + 1})

    def _push(self) -> None:
        if self.chunk:
            pts, tick_s = self.pts[-len(self.chunk) :], float(self.video.time_base)
            self._found(self.detector.push(np.stack(self.chunk), [None if p is None else p * tick_s for p in pts]))
            self.chunk.clear()

    def _found(self, transitions: Iterable[Transition]) -> None:
        for transition in transitions:
            self.transitions.append(transition)
            self.borders.close(transition.first, transition.first if transition.is_cut else transition.last + 1)

    def finish(self) -> Scan:
        if self.info is None:
            raise MediaError("decode", "no frame could be decoded")
        self._push()
        self._found(self.detector.flush())
        num_frames = len(self.pts)
        self.borders.close(num_frames, num_frames)
        timing = timing_of(self.pts, self.video.time_base, self.claims, self._lengths_s(), self.video.lost_pts)
        shots = shots_from_transitions(self.transitions, num_frames)
        size = (self.info.width, self.info.height)
        is_image = is_still(self.video.container, num_frames)
        if is_image:  # it has no clock; and one frame cannot tell a border from a dark part of the picture
            timing = timing_of(self.pts, self.video.time_base, ())
            scanned = [ScannedShot(shot, whole_picture(*size)) for shot in shots]
        else:
            scanned = [ScannedShot(shot, self.borders.crop_of(shot, *size)) for shot in shots]
        distinct = self.detector.distinct_frames
        return Scan(
            replace(self.info, is_image=is_image),
            timing,
            scanned,
            self.video.decode_errors,
            self.detector.fingerprint,
            corrupt=tuple(self.corrupt),
            interlaced=tuple(self.interlaced),
            can_seek=not self.video.false_keys,
            odd_tags=tuple(self.odd_tags),
            frames_in_transitions=sum(t.last - t.first + 1 for t in self.transitions if not t.is_cut),
            distinct=distinct if len(distinct) < num_frames else None,
            heard=self.video.heard,
        )

    def _lengths_s(self) -> list[float]:
        """Return how long the frames last by decoding times, and by the container."""
        lengths = [self.info.duration_s, (self.video.container.duration or 0) / 1e6] if self.info else []
        if self.decoded and len(self.pts) > 1:
            first, last = self.decoded
            steps = len(self.pts) - 1
            lengths.insert(0, float((last - first) * self.video.time_base) * (steps + 1) / steps)
        return [length for length in lengths if length > 0]


class _Borders:
    """Samples of the open shot's borders; a crop for each shot that is closed."""

    def __init__(self, config: BorderConfig, fps: float) -> None:
        self.config, self.first_step = config, max(1, round(fps / PROFILES_PER_S))
        self.step, self.next_index = self.first_step, 0
        self.open: list[tuple[int, Any]] = []
        self.crops: dict[int, Crop] = {}  # by the frame at which the shot ends
        self.size = (0, 0)

    def wants(self, index: int) -> bool:
        return self.config.enabled and index >= self.next_index

    def add(self, index: int, luma: np.ndarray) -> None:
        """luma: uint8 [H, W], upright."""
        self.size = (luma.shape[1], luma.shape[0])
        self.open.append((index, profile(luma)))
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


def whole_picture(width: int, height: int) -> Crop:
    """Return the crop that leaves everything but an odd last row or column, which no clip can have."""
    return Crop(0, 0, max(2, width & ~1), max(2, height & ~1))


def _analysis_size(width: int, height: int, orientation: Orientation) -> tuple[int, int]:
    """Size that decoded frames are scaled to, so that upright ones are ANALYSIS_WIDTH wide."""
    upright_width, upright_height = orientation.size(width, height)
    small_height = int(np.clip(round(ANALYSIS_WIDTH * upright_height / upright_width / 2) * 2, 16, 4 * ANALYSIS_WIDTH))
    return orientation.size(ANALYSIS_WIDTH, small_height)


def _count_in(runs: Sequence[tuple[int, int]], start: int, end: int) -> int:
    """Return how many of frames [start, end) lie in ascending runs [first, after the last]."""
    first = bisect_right(runs, start, key=lambda run: run[1])
    after = bisect_left(runs, end, key=lambda run: run[0])
    return sum(min(end, b) - max(start, a) for a, b in runs[first:after])


def _add_to_runs(runs: list[tuple[int, int]], index: int) -> None:
    """Lengthen the last run by frame `index`, or begin one with it."""
    if runs and runs[-1][1] == index:
        runs[-1] = (runs[-1][0], index + 1)
    else:
        runs.append((index, index + 1))


def scan_to_json(found: Scan) -> tuple[dict[str, Any], list[bytes]]:
    """Turn a scan into JSON and one blob, for the way out of a sandbox.

    The blob holds the timestamps, and is empty where they cannot be trusted.
    """
    timing = found.timing
    value = {
        "info": asdict(found.info),
        "shots": [{"shot": asdict(s.shot), "crop": asdict(s.crop)} for s in found.shots],
        "decode_errors": found.decode_errors,
        "detector_fingerprint": found.detector_fingerprint,
        "time_base": str(timing.time_base),
        "rate": str(timing.rate) if timing.rate is not None else None,
        "fps": timing.fps,
        "num_frames": timing.num_frames,
        "holes": timing.holes,
        "corrupt": found.corrupt,
        "interlaced": found.interlaced,
        "can_seek": found.can_seek,
        "odd_tags": found.odd_tags,
        "frames_in_transitions": found.frames_in_transitions,
        "frames_dropped": found.frames_dropped,
        "heard": asdict(found.heard),
        "distinct": None if found.distinct is None else _packed(found.distinct, timing.num_frames),
    }
    return value, [b"" if timing.pts is None else timing.pts.astype("<i8").tobytes()]


def scan_from_json(value: dict[str, Any], pts: bytes) -> Scan:
    """Invert `scan_to_json`."""
    timing = Timing(
        pts=np.frombuffer(pts, "<i8") if pts else None,
        time_base=Fraction(value["time_base"]),
        rate=Fraction(value["rate"]) if value["rate"] else None,
        fps=value["fps"],
        num_frames=value["num_frames"],
        holes=tuple(value["holes"]),
    )
    shots = [ScannedShot(Shot(**s["shot"]), Crop(**s["crop"])) for s in value["shots"]]
    info = value["info"] | {"other_streams": tuple(value["info"]["other_streams"])}
    return Scan(
        VideoInfo(**info),
        timing,
        shots,
        value["decode_errors"],
        value["detector_fingerprint"],
        corrupt=tuple((a, b) for a, b in value["corrupt"]),
        interlaced=tuple((a, b) for a, b in value["interlaced"]),
        can_seek=value["can_seek"],
        odd_tags=tuple(value["odd_tags"]),
        frames_in_transitions=value["frames_in_transitions"],
        frames_dropped=value["frames_dropped"],
        heard=Heard(**value["heard"]),
        distinct=None if value["distinct"] is None else _unpacked(value["distinct"], timing.num_frames),
    )


def _packed(numbers: np.ndarray, num_frames: int) -> str:
    """Frame numbers as compressed bits, one per frame."""
    is_in = np.zeros(num_frames, bool)
    is_in[numbers] = True
    return base64.b64encode(zlib.compress(np.packbits(is_in).tobytes())).decode()


def _unpacked(text: str, num_frames: int) -> np.ndarray:
    bits = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    return np.flatnonzero(np.unpackbits(bits, count=num_frames))
