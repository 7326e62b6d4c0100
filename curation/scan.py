"""Decode a source once: its frame times, its shots, and the picture inside its borders for each shot.

Frames are looked at where they are decoded and never leave the process: small ones feed the shot detector, a few in
full size feed the border finder, and what comes back is facts. Memory does not grow with the length of the file, but
for 8 bytes a frame of timestamps. Run it inside a `Sandbox`.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from curation.borders import BorderConfig, Crop, find_crop, profile
from curation.media.decode import Orientation, Video, orientation_of
from curation.media.errors import MediaError
from curation.media.probe import VideoInfo, video_info
from curation.media.sandbox_child import report_progress
from curation.shots import ANALYSIS_WIDTH, Shot, ShotConfig, Transition, make_detector, shots_from_transitions
from curation.timing import Timing, timing_of

CHUNK_FRAMES = 64
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
    """What one decode of a source found."""

    info: VideoInfo
    timing: Timing
    shots: list[ScannedShot]
    decode_errors: int
    detector_fingerprint: str


def scan(uri: str, shots: ShotConfig, borders: BorderConfig, limits: ScanLimits) -> Scan:
    """Scan one file. Raises MediaError (`io`, `open`, `no_video`, `decode`: no frame at all, `limit`)."""
    with Video(uri) as video:
        pass_ = _Pass(video, shots, borders, limits)
        for frame in video.frames():
            pass_.add(frame)
        return pass_.finish()


class _Pass:
    """State of one decode."""

    def __init__(self, video: Video, shots: ShotConfig, borders: BorderConfig, limits: ScanLimits) -> None:
        from av.video.reformatter import VideoReformatter

        self.video, self.limits = video, limits
        stream = video.stream
        self.claims = [stream.average_rate, stream.guessed_rate, stream.base_rate]
        fps = float(next((r for r in self.claims if r), 25))
        self.detector = make_detector(shots, fps)
        self.borders = _Borders(borders, fps)
        self.pts: list[int | None] = []
        self.chunk: list[np.ndarray] = []
        self.transitions: list[Transition] = []
        self.orientation: Orientation | None = None
        self.info: VideoInfo | None = None
        self.full, self.small = (0, 0), (0, 0)  # decoded sizes: of the first frame, and what it is scaled to
        self.scaler, self.gray = VideoReformatter(), VideoReformatter()  # each keeps its swscale context

    def add(self, frame: Any) -> None:
        if self.orientation is None:
            self.orientation = orientation_of(frame)
            self.info = video_info(self.video, self.orientation)
            self.full = (frame.width, frame.height)
            self.small = _analysis_size(*self.full, self.orientation)
        index = len(self.pts)
        if index >= self.limits.max_frames:
            raise MediaError("limit", f"over {self.limits.max_frames} frames; raise limits.max_frames to allow it")
        self.pts.append(frame.pts)
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
            self._found(self.detector.push(np.stack(self.chunk)))
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
        timing = timing_of(self.pts, self.video.time_base, self.claims)
        shots = shots_from_transitions(self.transitions, num_frames)
        size = (self.info.width, self.info.height)
        scanned = [ScannedShot(shot, self.borders.crop_of(shot, *size)) for shot in shots]
        return Scan(self.info, timing, scanned, self.video.decode_errors, self.detector.fingerprint)


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
        """The shot that was open ends before frame `end`: find its crop, forget its samples and the transition's."""
        mine = [p for i, p in self.open if i < end]
        self.open = [(i, p) for i, p in self.open if i >= next_start]
        self.step = self.first_step
        if mine:
            keep = mine[:: -(-len(mine) // MAX_PROFILES)]
            self.crops[end] = find_crop(keep, *self.size, self.config)

    def crop_of(self, shot: Shot, width: int, height: int) -> Crop:
        """The crop found for the shot; the whole picture, made even, where it was too short to be sampled."""
        return self.crops.get(shot.end) or Crop(0, 0, max(2, width & ~1), max(2, height & ~1))


def _analysis_size(width: int, height: int, orientation: Orientation) -> tuple[int, int]:
    """Size that decoded frames are scaled to, so that upright ones are ANALYSIS_WIDTH wide."""
    upright_width, upright_height = orientation.size(width, height)
    small_height = int(np.clip(round(ANALYSIS_WIDTH * upright_height / upright_width / 2) * 2, 16, 4 * ANALYSIS_WIDTH))
    return orientation.size(ANALYSIS_WIDTH, small_height)


def scan_to_json(found: Scan) -> tuple[dict[str, Any], list[bytes]]:
    """For the way out of a sandbox: JSON and one blob, the timestamps (empty where they cannot be trusted)."""
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
    }
    return value, [b"" if timing.pts is None else timing.pts.astype("<i8").tobytes()]


def scan_from_json(value: dict[str, Any], pts: bytes) -> Scan:
    """The inverse of `scan_to_json`."""
    timing = Timing(
        pts=np.frombuffer(pts, "<i8") if pts else None,
        time_base=Fraction(value["time_base"]),
        rate=Fraction(value["rate"]) if value["rate"] else None,
        fps=value["fps"],
        num_frames=value["num_frames"],
    )
    shots = [ScannedShot(Shot(**s["shot"]), Crop(**s["crop"])) for s in value["shots"]]
    return Scan(VideoInfo(**value["info"]), timing, shots, value["decode_errors"], value["detector_fingerprint"])
