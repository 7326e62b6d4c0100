"""Find a clip's frames in a source, exactly, and hand them to the encoder. Run it inside a `Sandbox`.

Frames are found by their timestamps as the scan decoded them, never by a seek's landing place: a seek goes to a
keyframe at or before the clip, decoding runs on until the very timestamp comes. Where timestamps cannot be trusted, or
a clip comes out with a frame too many or too few, frames are counted from the file's start.
"""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from reelwright.curation.media.decode import Video
from reelwright.curation.media.encode import ClipWriter, Crop, EncodeConfig, Encoded, Framing, Timing
from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.kept import KeptFrames
from reelwright.curation.media.sandbox_child import report_progress

MAX_DENOMINATOR = 1001  # of frame rates, as 30000/1001 has it
LEADING_FRAMES = 16  # that may follow a keyframe and be shown before it: the most that H.264 and HEVC can reorder
SEEK_MARGIN_S = 10.0  # a gap shorter than this is decoded through, a longer one is jumped over


@dataclass(frozen=True)
class CutSpec:
    """Frames [start_frame, end_frame) of a source, cropped to `crop` (x, y, w, h; upright pixels).

    `start_pts` and `last_pts` are the timestamps of its first and last frame; None where timestamps cannot be trusted.
    `size` (w, h; upright) is that of the frame that `crop` lies in: a stream may change its size half-way. None: the
    clip's first frame's. `duration_s`: how long its frames are shown; None: as long as the source's rate says.
    `may_seek`: False where frames are falsely marked as keyframes, and frames are decoded from the file's start.
    `is_interlaced`: any of its frames is flagged so.
    """

    start_frame: int
    end_frame: int
    crop: Crop
    start_pts: int | None = None
    last_pts: int | None = None
    size: tuple[int, int] | None = None
    duration_s: float | None = None
    may_seek: bool = True
    is_interlaced: bool = False

    @property
    def num_frames(self) -> int:
        """Number of frames in the clip."""
        return self.end_frame - self.start_frame


class Cutter:
    """A source being cut: keeps decoding where the last clip ended, and seeks only over long gaps.

    Ask for clips in order of time. `rate` is the source's constant frame rate, None for a variable one, whose frame
    times are then kept. `kept` has its frames where they are decoded already. Use as a context manager.
    """

    def __init__(self, uri: str, rate: Fraction | None, config: EncodeConfig, kept: KeptFrames | None = None) -> None:
        self.video, self.rate, self.config = Video(uri), rate, config
        self.is_decoded = kept is not None  # what `frames` yields: nothing is won by a seek over it
        self.frames = kept.frames() if kept else self.video.frames()
        self.next_index: int | None = 0  # index of the frame that `frames` yields next; None after a seek
        self.last_pts: int | None = None

    def __enter__(self) -> "Cutter":
        return self

    def __exit__(self, *exc: object) -> None:
        self.video.__exit__()

    def cut(self, spec: CutSpec) -> Encoded:
        """Cut one clip. Raises MediaError (`decode` when frames are not where the scan saw them, `encode`)."""
        import av

        try:
            return self._cut(spec)
        except av.error.FFmpegError as error:
            self.next_index = None
            span = f"frames {spec.start_frame}..{spec.end_frame}"
            raise MediaError("encode", f"{span} cannot be converted or encoded ({error})") from error
        except BaseException:
            self.next_index = None  # who knows where decoding stands
            raise

    def _cut(self, spec: CutSpec) -> Encoded:
        if spec.start_pts is not None and spec.may_seek:
            self._seek_if_far(spec.start_pts)
            encoded = self._encode(self._by_pts(spec), spec)
            if encoded is not None:
                return encoded
        if self.next_index is None or self.next_index > spec.start_frame:
            self._rewind()
        encoded = self._encode(self._by_index(spec), spec)
        if encoded is None:
            raise MediaError("decode", f"frames {spec.start_frame}..{spec.end_frame} did not decode a second time")
        return encoded

    def _by_pts(self, spec: CutSpec) -> Iterator[Any]:
        assert spec.start_pts is not None
        assert spec.last_pts is not None
        for frame in self.frames:
            report_progress(None)
            self._count()
            pts = self.last_pts = frame.pts  # read before yielding: the encoder restamps the frame
            if pts is not None and pts >= spec.start_pts:
                yield frame
                if pts >= spec.last_pts:
                    return

    def _by_index(self, spec: CutSpec) -> Iterator[Any]:
        for frame in self.frames:
            report_progress(None)
            assert self.next_index is not None
            index, self.next_index = self.next_index, self.next_index + 1
            self.last_pts = frame.pts
            if index >= spec.start_frame:
                yield frame
            if index + 1 >= spec.end_frame:
                return

    def _count(self) -> None:
        if self.next_index is not None:
            self.next_index += 1

    def _seek_if_far(self, start_pts: int) -> None:
        margin = int(SEEK_MARGIN_S / self.video.time_base)
        here = self.last_pts if self.last_pts is not None else (self.video.stream.start_time or 0)
        if start_pts > here and (self.is_decoded or start_pts - here <= margin):
            return
        # Early: leading frames of an open group of pictures decode wrong right after a seek.
        fps = self.rate or self.video.stream.average_rate or 25
        target = start_pts - int(max(1.0, LEADING_FRAMES / fps) / self.video.time_base)
        if target <= (self.video.stream.start_time or 0):
            if self.next_index != 0:
                self._rewind()
            return
        self.video.seek(target)
        self._decode_from(None)

    def _rewind(self) -> None:
        """Start over from the first frame, in a fresh decoder (some containers cannot seek back)."""
        uri = self.video.uri
        self.video.__exit__()
        self.video = Video(uri)
        self._decode_from(0)

    def _decode_from(self, index: int | None) -> None:
        """Take frames from the decoder, where it stands; index: of the first; None: unknown."""
        self.frames, self.next_index, self.last_pts, self.is_decoded = self.video.frames(), index, None, False

    def _encode(self, frames: Iterator[Any], spec: CutSpec) -> Encoded | None:
        """Encode `frames`; None if they are not the frames that `spec` names."""
        writer = None
        with tempfile.TemporaryDirectory(prefix="reel-") as folder:
            path = os.path.join(folder, "clip.mp4")
            seen, first_pts, last_pts = 0, None, None
            try:
                for frame in frames:
                    if writer is None:
                        first_pts = frame.pts
                        if spec.start_pts is not None and first_pts != spec.start_pts:
                            return None
                        writer = self._writer(path, frame, spec)
                    seen, last_pts = seen + 1, frame.pts
                    if seen == spec.num_frames and first_pts is not None and last_pts is not None and spec.duration_s:
                        ends_pts = first_pts + round(spec.duration_s / self.video.time_base)
                        frame.duration = max(1, ends_pts - last_pts)
                    writer.write(frame, seen - 1)
                if writer is None or seen != spec.num_frames:
                    return None
                if spec.last_pts is not None and last_pts != spec.last_pts:
                    return None
                return writer.finish()
            finally:
                if writer is not None:
                    writer.container.close()

    def _writer(self, path: str, first: Any, spec: CutSpec) -> ClipWriter:
        rate, duration_s = self.rate, spec.duration_s
        if spec.num_frames == 1 and duration_s:  # a picture that stands, however long the source showed it
            rate = Fraction(1 / duration_s).limit_denominator(MAX_DENOMINATOR)
        if duration_s is None and rate is not None:
            duration_s = float(spec.num_frames / rate)
        framing, timing = Framing(spec.crop, spec.size), Timing(rate, duration_s)
        return ClipWriter(
            path, first, self.video, self.config, framing, timing, is_interlaced=spec.is_interlaced
        )
