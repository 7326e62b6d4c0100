"""Decode a source once: its frame times, its shots, and the picture inside its borders for each shot.

Frames are looked at where they are decoded and never leave the process: small ones feed the shot detector, a few in
full size feed the border finder (`scan_pass`), and what comes back is facts. Memory does not grow with the length of
the file, but for 16 bytes a frame of timestamps and numbers of distinct pictures, twice as many where the rate varies.
Run it inside a `Sandbox`.
"""

import base64
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from reelwright.curation.borders import BorderConfig, Crop
from reelwright.curation.media.decode import Video, rate_claims
from reelwright.curation.media.ear import NOTHING_HEARD, Heard
from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.kept import KeptFrames
from reelwright.curation.media.pictures import is_still
from reelwright.curation.media.probe import VideoInfo, video_info
from reelwright.curation.scan_pass import Clocks, Found, Looker, Pass
from reelwright.curation.shots import Shot, ShotConfig
from reelwright.curation.shots.repeats import true_rate
from reelwright.curation.timing import Timing


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
        looker, pass_ = Looker(), Pass(clocks_of(video), shots, borders, limits.max_frames)
        info = None
        try:
            for frame in video.frames():
                info = info or video_info(video, frame)
                with_profile = pass_.wants_profile()
                pass_.add(looker.look(frame, is_damaged=video.is_damaged, with_profile=with_profile))
                if kept:
                    kept.add(frame)
        except av.error.FFmpegError as error:  # a frame that nothing can convert
            raise MediaError("decode", f"frame {len(pass_.pts)} cannot be read ({error})") from error
        if info is None:
            raise MediaError("decode", "no frame could be decoded")
        info = replace(info, is_image=is_still(video.container, len(pass_.pts)))
        found = pass_.finish(
            info.width, info.height, is_image=info.is_image, lost_pts=video.lost_pts,
            lengths_s=(info.duration_s, (video.container.duration or 0) / 1e6),
        )  # fmt: skip
        faults = Faults(video.decode_errors, not video.false_keys, video.heard)
        return scan_of(info, found, tuple(looker.odd_tags), faults)


@dataclass(frozen=True)
class Faults:
    """What a decode met: packets that could not be decoded, whether keyframes are keyframes, and libav's log."""

    decode_errors: int
    can_seek: bool
    heard: Heard


def scan_of(info: VideoInfo, found: Found, odd_tags: tuple[str, ...], faults: Faults) -> Scan:
    """Put a scan together."""
    return Scan(
        info,
        found.timing,
        [ScannedShot(shot, crop) for shot, crop in found.shots],
        faults.decode_errors,
        found.fingerprint,
        corrupt=found.corrupt,
        interlaced=found.interlaced,
        can_seek=faults.can_seek,
        odd_tags=odd_tags,
        frames_in_transitions=found.frames_in_transitions,
        distinct=found.distinct,
        heard=faults.heard,
    )


def clocks_of(video: Video) -> Clocks:
    """Return what an open file says of its time."""
    return Clocks(rate_claims(video), video.time_base)


def _count_in(runs: Sequence[tuple[int, int]], start: int, end: int) -> int:
    """Return how many of frames [start, end) lie in ascending runs [first, after the last]."""
    first = bisect_right(runs, start, key=lambda run: run[1])
    after = bisect_left(runs, end, key=lambda run: run[0])
    return sum(min(end, b) - max(start, a) for a, b in runs[first:after])


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
