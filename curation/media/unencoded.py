"""Videos that were never files: read as clips are, or encoded as clips are."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.frames import ClipFacts, Frames, sample_shown

if TYPE_CHECKING:
    from av import VideoFrame

    from reelwright.curation.media.encode import EncodeConfig

MAX_DENOMINATOR = 1001  # of frame rates, as 30000/1001 has it


@dataclass(frozen=True, eq=False)
class Unencoded:
    """A video of frames, uint8 [F, H, W, 3] RGB, at `fps` frames per second."""

    frames: np.ndarray
    fps: float

    def __post_init__(self) -> None:
        shape = self.frames.shape
        if self.frames.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape:
            raise ValueError(f"frames are {self.frames.dtype} {list(shape)}; they must be uint8 [F, H, W, 3]")
        if not self.fps > 0:
            raise ValueError(f"fps is {self.fps}; it must be above 0")

    @property
    def rate(self) -> Fraction:
        """Frames per second as containers have it."""
        return Fraction(self.fps).limit_denominator(MAX_DENOMINATOR)


@dataclass(frozen=True)
class PictureFacts:
    """`ClipFacts` of a video that was never a file: facts of its file are missing, and asking for one is an error."""

    width: int
    height: int
    fps: float
    num_frames: int
    duration_s: float

    def __getattr__(self, name: str) -> Any:
        if name in ClipFacts.__dataclass_fields__:
            raise MediaError("not_video", f"{name} is a fact of a file, and this video was never encoded")
        raise AttributeError(name)


def read_unencoded(video: Unencoded, needs: Sequence[Frames] = ()) -> tuple[ClipFacts, list[np.ndarray]]:
    """Return facts and samplings, as `frames.read` returns those of the clip's file.

    Wanted frames go through the clip encoder's conversion (limited range, BT.709, 4:2:0), so the arrays are those of a
    file whose coding lost nothing.
    """
    from reelwright.curation.media.encode import EncodeConfig, clip_size

    height, width = video.frames.shape[1:3]
    config = EncodeConfig(fps=None, audio="drop")
    size = clip_size((0, 0, width, height), Fraction(1), config.max_short_side)
    count = len(video.frames)
    facts = cast(ClipFacts, PictureFacts(*size, float(video.rate), count, float(count / video.rate)))

    def frames_at(wanted: set[int]) -> Iterator[VideoFrame]:
        return _converted(video, sorted(wanted), size, config)

    return facts, sample_shown(frames_at, list(range(count)), needs, facts) if needs else []


def encode_clip(video: Unencoded, config: EncodeConfig) -> bytes:
    """Return the mp4 that the clip encoder makes of a video, without sound."""
    from reelwright.curation.media.encode import ClipWriter, Framing, Timing

    height, width = video.frames.shape[1:3]
    framing, timing = Framing((0, 0, width, height)), Timing(video.rate, float(len(video.frames) / video.rate))
    with tempfile.TemporaryDirectory(prefix="reel-") as folder:
        writer = ClipWriter(
            os.path.join(folder, "clip.mp4"), _frame(video, 0), _Nowhere(1 / video.rate),
            config.model_copy(update={"audio": "drop"}), framing, timing,
        )  # fmt: skip
        try:
            for index in range(len(video.frames)):
                writer.write(_frame(video, index), index)
            return writer.finish().mp4
        finally:
            writer.container.close()


@dataclass
class _Nowhere:
    """An `encode.Source` without a file: square pixels, no sound."""

    time_base: Fraction
    uri: str = ""
    stream: Any = field(default_factory=lambda: SimpleNamespace(sample_aspect_ratio=None))
    container: Any = field(default_factory=lambda: SimpleNamespace(streams=SimpleNamespace(audio=())))


def _frame(video: Unencoded, index: int) -> VideoFrame:
    import av

    return av.VideoFrame.from_ndarray(np.ascontiguousarray(video.frames[index]), format="rgb24")


def _converted(
    video: Unencoded, indices: Sequence[int], size: tuple[int, int], config: EncodeConfig
) -> Iterator[VideoFrame]:
    """Yield these frames as the encoder is given them; pts: the index."""
    from reelwright.curation.media.colour import colour_of
    from reelwright.curation.media.decode import UPRIGHT
    from reelwright.curation.media.encode import Conversion, buffer, clip_colour, linked

    height, width = video.frames.shape[1:3]
    first = _frame(video, indices[0])
    source = colour_of(first)
    clip = clip_colour(source, config)
    conversion = Conversion(
        decoded_size=(width, height), source=source, clip=clip, orientation=UPRIGHT, crop=(0, 0, width, height),
        size=size,
    )  # fmt: skip
    *steps, sink = conversion.steps()
    steps.append(("setparams", "chroma_location=left"))  # as decoders of H.264 say; scaling to RGB goes by it
    graph = linked([buffer(first, source, 1 / video.rate), *steps, sink])
    for index in indices:
        frame = _frame(video, index)
        frame.pts, frame.time_base = index, 1 / video.rate
        graph.vpush(frame)
        made = graph.vpull()
        made.pts, made.colorspace, made.color_range = index, clip.matrix, clip.range
        yield made
