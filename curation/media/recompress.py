"""Frames through a lossy video codec and back, in memory: traces of compression that refinement learns to remove."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import numpy as np

from reelwright.curation.media.errors import MediaError

OPTIONS = {
    # With mbtree, x264 on AVX-512 gives other bytes from run to run.
    "libx264": {"preset": "veryfast", "x264-params": "threads=1:lookahead-threads=1:sliced-threads=0:mbtree=0"},
    "mpeg4": {"threads": "1", "qmin": "2", "qmax": "31"},
}
MOST_BITS_PER_PIXEL = 24
"""A file that is larger than the frames themselves is no compression, and is not written on."""


def recompress(frames: np.ndarray, *, codec: str, bits_per_pixel: float, fps: float) -> np.ndarray:
    """Encode frames and decode them again, one thread each: the same bytes everywhere.

    Beside the frames and the result, it holds the encoded file, which the rate bounds.

    Args:
        frames: uint8 [F, H, W, 3]; sides are even.
        codec: libx264 or mpeg4.
        bits_per_pixel: of the encoded file, about.
        fps: frames per second, for the encoder's rate control.

    Returns:
        uint8 [F, H, W, 3].

    Raises:
        MediaError: the codec is not in this build of ffmpeg, or the file has another number of frames.
    """
    import av

    count, height, width = frames.shape[:3]
    rate = Fraction(fps).limit_denominator(1000)
    bits = max(1000, round(bits_per_pixel * width * height * float(rate)))  # per second
    options = OPTIONS[codec] | (_strict(bits, float(rate)) if codec == "mpeg4" else {})
    file = io.BytesIO()
    try:
        with av.open(file, "w", format="matroska") as container:
            stream: Any = container.add_stream(codec, rate=rate, options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.bit_rate = bits
            stream.codec_context.thread_count = 1
            for picture in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                if file.tell() > MOST_BITS_PER_PIXEL * frames.size // 8:
                    raise MediaError("encode", f"{codec} wrote more bytes than the {count} frames have")
            container.mux(stream.encode())
        return _decoded(file, count, height, width)
    except av.error.FFmpegError as error:
        raise MediaError("encode", f"{count} frames of {width}x{height} do not go through {codec}: {error}") from error


def _strict(bits: int, rate: float) -> dict[str, str]:
    """Options by which ffmpeg's rate control keeps to a rate from the first frames on: clips are short here."""
    return {"bt": str(max(4000, round(bits / rate))), "maxrate": str(bits), "bufsize": str(bits)}


def _decoded(file: io.BytesIO, count: int, height: int, width: int) -> np.ndarray:
    import av

    out = np.empty((count, height, width, 3), np.uint8)
    file.seek(0)
    shown = 0
    with av.open(file, format="matroska") as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        for frame in container.decode(stream):
            if shown < count:
                out[shown] = frame.to_ndarray(format="rgb24")
            shown += 1
    if shown != count:
        raise MediaError("decode", f"{count} frames were encoded, and {shown} came back")
    return out
