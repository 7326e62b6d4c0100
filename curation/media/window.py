"""Chosen frames of a clip that we encoded ourselves, at the size and shape that a network wants."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence

import numpy as np

from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.frames import ClipFacts, decode_wanted, read


def window(
    mp4: bytes, choose: Callable[[ClipFacts], Sequence[int]], *, width: int, height: int
) -> tuple[list[int], np.ndarray]:
    """Decode chosen frames of a clip, scaled to cover a size, with the middle cut out.

    Scaling is bicubic; where it reduces, over all pixels below a new one (swscale widens its filter), so nothing
    aliases.

    Args:
        mp4: the clip.
        choose: picks frame numbers from the clip's facts.
        width: px.
        height: px.

    Returns:
        The frame numbers, and uint8 [F, height, width, 3].

    Raises:
        MediaError: the bytes are no mp4 with video, or a wanted frame does not decode.
    """
    import av

    facts, _ = read(mp4)
    wanted = list(choose(facts))
    try:
        with av.open(io.BytesIO(mp4), format="mp4") as container:
            stream = container.streams.video[0]
            packets = [p for p in container.demux(stream) if p.size]
            shown = sorted(p.pts for p in packets if not p.is_discard and p.pts is not None)
            scaler = av.video.reformatter.VideoReformatter()
            pictures = {
                frame.pts: _cover(scaler, frame, width, height)
                for frame in decode_wanted(stream.codec_context, packets, {shown[i] for i in wanted})
            }
    except av.error.FFmpegError as error:
        raise MediaError("decode", f"the clip ({len(mp4)} bytes) does not decode: {error.strerror}") from error
    missing = [i for i in wanted if shown[i] not in pictures]
    if missing:
        raise MediaError(
            "decode", f"{len(missing)} of {len(wanted)} wanted frames do not decode, the first is {missing[0]}"
        )
    return wanted, np.stack([pictures[shown[i]] for i in wanted])


def _cover(scaler, frame, width: int, height: int) -> np.ndarray:  # type: ignore[no-untyped-def] # PyAV's classes
    scale = max(width / frame.width, height / frame.height)
    wide, high = (
        max(want, math.ceil(have * scale - 1e-6)) for want, have in ((width, frame.width), (height, frame.height))
    )
    picture = scaler.reformat(frame, wide, high, format="rgb24", interpolation="BICUBIC", threads=1).to_ndarray()
    top, left = (high - height) // 2, (wide - width) // 2
    return picture[top : top + height, left : left + width]
