"""Frames of clips that we encoded ourselves: one sequential decode serves every sampling that is asked of a clip."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import numpy as np

from reelwright.curation.media.errors import MediaError

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.video.codeccontext import VideoCodecContext
    from av.video.reformatter import VideoReformatter

Color = Literal["gray", "rgb"]

_PIXEL_FORMAT = {"gray": "gray", "rgb": "rgb24"}  # both are full range (black 0, white 255), as swscale writes them
_LONGEST_OVER_HEIGHT = 4  # bounds the memory that a ribbon-shaped clip costs


@dataclass(frozen=True)
class Frames:
    """Frames that a consumer wants from a clip: how many, how large, in which colours.

    Samples are the middles of equal parts of the clip, so they are spread evenly; a clip with fewer frames gives all
    of them, once each. Give `count`, or `rate` in samples per second, if need be with the `least` and `most` of them.

    height: frames are scaled so that the shorter side has this many pixels: the height of a landscape frame, the width
        of a portrait one, which would otherwise be judged on a third of the pixels.
    every_line: only the width is scaled, as if the height were that: details of single lines stay.
    pairs: each sample comes with the frame `step` later, so that motion can be measured: [T, 2, H, W].
    """

    count: int | None = None
    rate: float | None = None
    height: int = 360
    color: Color = "gray"
    pairs: bool = False
    step: int = 1
    least: int | None = None
    most: int | None = None
    every_line: bool = False

    def __post_init__(self) -> None:
        if (self.count is None) == (self.rate is None):
            raise ValueError("Frames wants either count (frames per clip) or rate (frames per second)")
        if self.count is not None and (self.least or self.most):
            raise ValueError("Frames: least and most go with rate; count is both")
        if self.least and self.most and self.least > self.most:
            raise ValueError(f"Frames: least = {self.least} is above most = {self.most}")
        for name in ("count", "rate", "height", "step", "least", "most"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"Frames: {name} must be positive, got {value}")

    def indices(self, num_frames: int, fps: float) -> list[int]:
        """First frame of every sample, ascending and distinct."""
        usable = max(1, num_frames - self.step) if self.pairs else num_frames
        wanted = self.count or max(self.least or 1, round(num_frames / fps * (self.rate or 0)))
        count = min(wanted, self.most or wanted, usable)
        return [(2 * k + 1) * usable // (2 * count) for k in range(count)]

    def frame_indices(self, num_frames: int, fps: float) -> list[int]:
        """Every frame in the order of the samples; with `pairs` two per sample (a clip too short repeats its last)."""
        first = self.indices(num_frames, fps)
        return [min(j, num_frames - 1) for i in first for j in (i, i + self.step)] if self.pairs else first

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of the sampled frames of a clip of this size."""
        scale = min(self.height / min(width, height), _LONGEST_OVER_HEIGHT * self.height / max(width, height))
        if self.every_line:
            return max(1, round(width * min(1.0, scale))), height
        return max(1, round(width * scale)), max(1, round(height * scale))


@dataclass(frozen=True)
class ClipFacts:
    """Facts from the container and its packets, without decoding."""

    codec: str
    width: int
    height: int
    fps: float
    num_frames: int
    duration_s: float
    num_bytes: int
    video_bytes: int
    num_keyframes: int
    has_audio: bool


def sample(mp4: bytes, needs: Sequence[Frames]) -> list[np.ndarray]:
    """One array for each need: uint8 [T, H, W] (gray) or [T, H, W, 3] (rgb); with pairs [T, 2, H, W, ...].

    Raises MediaError when the bytes are no mp4 with video, or a wanted frame does not decode.
    """
    return read(mp4, needs)[1]


def read(mp4: bytes, needs: Sequence[Frames] = ()) -> tuple[ClipFacts, list[np.ndarray]]:
    """Return the facts and `sample` from one pass over the bytes; without needs nothing is decoded."""
    import av

    try:
        # the demuxer is named: bytes that claim to be a playlist or another container are not followed
        with av.open(io.BytesIO(mp4), format="mp4") as container:
            if not container.streams.video:
                raise MediaError("no_video", "the clip has no video stream")
            stream = container.streams.video[0]
            packets = [p for p in container.demux(stream) if p.size]
            shown = sorted(p.pts for p in packets if not p.is_discard and p.pts is not None)
            if not shown:
                raise MediaError("no_video", "the clip has no video frames")
            if len(packets) < stream.frames:
                raise MediaError(
                    "decode", f"the clip is cut off: {len(packets)} of its {stream.frames} frames are there"
                )
            facts = ClipFacts(
                codec=stream.codec_context.name,
                width=stream.codec_context.width,
                height=stream.codec_context.height,
                fps=float(stream.average_rate or 0) or _fps_of(shown, stream.time_base or Fraction(1, 1000)),
                num_frames=len(shown),
                duration_s=float((stream.duration or 0) * (stream.time_base or 0)),
                num_bytes=len(mp4),
                video_bytes=sum(p.size for p in packets),
                num_keyframes=sum(p.is_keyframe for p in packets),
                has_audio=bool(container.streams.audio),
            )
            def decode(wanted: set[int]) -> Iterator[VideoFrame]:
                return decode_wanted(stream.codec_context, packets, wanted)

            return facts, sample_shown(decode, shown, needs, facts)
    except av.error.FFmpegError as error:
        message = f"the clip ({len(mp4)} bytes) does not decode: {error.strerror}"
        raise MediaError("decode", message, str(error)) from error


def sample_shown(
    frames_at: Callable[[set[int]], Iterator[VideoFrame]], shown: list[int], needs: Sequence[Frames], facts: ClipFacts
) -> list[np.ndarray]:
    """Return one array for each need, as `sample` does; each wanted frame is converted once for each geometry.

    Args:
        frames_at: yields the frames with these presentation times, in their order; asked once.
        shown: presentation times of all frames, ascending.
        needs: the samplings.
        facts: of the clip.
    """
    from av.video.reformatter import VideoReformatter

    orders = [need.frame_indices(facts.num_frames, facts.fps) for need in needs]
    geometries = [(need.size(facts.width, facts.height), need.color) for need in needs]
    users: dict[int, set[tuple[tuple[int, int], Color]]] = {}  # presentation time -> geometries wanted of that frame
    for order, geometry in zip(orders, geometries, strict=True):
        for i in order:
            users.setdefault(shown[i], set()).add(geometry)
    scalers = {geometry: VideoReformatter() for geometry in geometries}  # keeps its swscale context between frames
    pictures: dict[tuple[int, tuple[tuple[int, int], Color]], np.ndarray] = {}
    for frame in frames_at(set(users)):
        for geometry in users[frame.pts]:
            pictures[frame.pts, geometry] = _convert(scalers[geometry], frame, *geometry)
    missing = users.keys() - {pts for pts, _ in pictures}
    if missing:
        first = shown.index(min(missing))
        message = f"{len(missing)} of {len(users)} wanted frames do not decode, the first is frame {first}"
        raise MediaError("decode", message)
    arrays = [np.stack([pictures[shown[i], g] for i in order]) for order, g in zip(orders, geometries, strict=True)]
    return [a.reshape(-1, 2, *a.shape[1:]) if n.pairs else a for a, n in zip(arrays, needs, strict=True)]


def decode_wanted(context: VideoCodecContext, packets: list[Packet], wanted: set[int]) -> Iterator[VideoFrame]:
    """Yield the frames with these presentation times, exactly as a full decode gives them, on one thread.

    Unwanted H.264 frames that no other frame refers to are skipped, half of the work at x264's defaults. So are all
    packets after the last wanted one (in decoding order: after it the decoder is flushed).
    """
    context.thread_count, context.thread_type = 1, "NONE"  # parallelism is over clips
    last = max((i for i, p in enumerate(packets) if p.pts in wanted), default=-1)
    for packet in [*packets[: last + 1], None] if wanted else []:
        if context.name == "h264":
            context.skip_frame = "DEFAULT" if packet is None or packet.pts in wanted else "NONREF"
        yield from (frame for frame in context.decode(packet) if frame.pts in wanted)


def _convert(scaler: VideoReformatter, frame: VideoFrame, size: tuple[int, int], color: Color) -> np.ndarray:
    width, height = size
    # AREA averages all pixels below a new one: what small frames mean does not hang on the size of the clip
    small = scaler.reformat(frame, width, height, format=_PIXEL_FORMAT[color], interpolation="AREA", threads=1)
    return small.to_ndarray()


def _fps_of(shown: list[int], time_base: Fraction) -> float:
    return float((len(shown) - 1) / ((shown[-1] - shown[0]) * time_base)) if shown[-1] > shown[0] else 1.0
