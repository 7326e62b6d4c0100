"""Open hostile video bytes and iterate their frames in presentation order. Run it inside a `Sandbox`.

Only container formats that hold their own data are opened: playlists and scripts (HLS, DASH, concat, SDP …) could make
the demuxer read other files or addresses.
"""

import contextlib
import functools
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from curation.media.errors import MediaError
from curation.media.sniff import why_no_video, why_not_a_file, why_not_opened

CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,obu,ivf,flv,live_flv,asf,ogg,gif,"
    "apng,mxf,nut,dv,rm,wtv,gxf,yuv4mpegpipe,amv,vc1,cavsvideo,mjpeg,apng,webp,avif,iv8,smk,bink,roq,dxa,film_cpk,dhav,"
    "nsv,vvc,h261,h263"
)
MAX_PIXELS = 8192 * 8192  # of one frame; a larger one is a decompression bomb or wants its own pipeline
MAX_STREAMS = 64


@dataclass(frozen=True)
class Orientation:
    """How to turn decoded frames upright: quarter turns clockwise, after an optional mirror left to right."""

    turns: int = 0
    mirrored: bool = False

    @property
    def degrees(self) -> int:
        return 90 * self.turns

    def size(self, width: int, height: int) -> tuple[int, int]:
        return (height, width) if self.turns % 2 else (width, height)

    def apply(self, image: np.ndarray) -> np.ndarray:
        """image: [H, W, ...] as decoded -> upright view."""
        return np.rot90(image[:, ::-1] if self.mirrored else image, -self.turns) if self != UPRIGHT else image


UPRIGHT = Orientation()


class Video:
    """An open file's first real video stream. Use as a context manager."""

    def __init__(self, uri: str, *, threads: int = 1) -> None:
        """Raises MediaError: `io` (cannot be read), `no_video`, `open` (not a video container) or, where its first
        bytes tell what it is instead, `empty text pointer playlist not_video encrypted truncated`."""
        self.uri = uri
        self.file = _remote_file(uri)
        self.container = _open(uri, self.file)
        self.stream = _video_stream(self.container, uri)
        self.stream.codec_context.thread_count = threads
        self.stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        if threads > 1:
            self.stream.thread_type = "AUTO"
        self.decode_errors = 0

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *exc: object) -> None:
        self.container.close()
        if self.file is not None:
            self.file.close()

    @property
    def time_base(self) -> Fraction:
        return self.stream.time_base or Fraction(1, 90000)

    def frames(self) -> Iterator[Any]:
        """Decoded av.VideoFrame in presentation order. Damaged packets are skipped and counted in `decode_errors`."""
        import av

        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                self.decode_errors += 1
                return  # the container ends here; what came before it stands
            if packet.size == 0 and packet.dts is not None:
                continue
            try:
                yield from packet.decode()
            except av.error.EOFError:
                return
            except av.error.MemoryError as error:
                raise MediaError("memory", "a frame asks for more memory than decoding may have") from error
            except av.error.FFmpegError:
                self.decode_errors += 1

    def seek(self, pts: int) -> None:
        """Go to the last keyframe at or before `pts` (in `time_base`)."""
        self.container.seek(pts, stream=self.stream, backward=True)


def orientation_of(frame: Any) -> Orientation:
    """Read the display matrix of a decoded frame (ISO 14496-12): upright unless it is a quarter turn or mirror."""
    for side in frame.side_data:
        if side.type.name == "DISPLAYMATRIX":
            return _from_matrix(np.frombuffer(bytes(side), np.int32).reshape(3, 3) / 65536.0)
    return UPRIGHT


@functools.cache
def _quarter_turns() -> dict[tuple[int, int, int, int], Orientation]:
    """(a, b, c, d) of the matrix [x' y'] = [x y]·[[a b] [c d]], y down, to the orientation it stands for."""
    found = {}
    for turns in range(4):
        cos, sin = round(math.cos(turns * math.pi / 2)), round(math.sin(turns * math.pi / 2))
        found[(cos, sin, -sin, cos)] = Orientation(turns)
        found[(-cos, -sin, -sin, cos)] = Orientation(turns, mirrored=True)
    return found


def _from_matrix(matrix: np.ndarray) -> Orientation:
    (a, b), (c, d) = matrix[0, :2], matrix[1, :2]
    scale = max(abs(a), abs(b)) or 1.0
    a, b, c, d = (round(float(v / scale)) for v in (a, b, c, d))
    return _quarter_turns().get((a, b, c, d), UPRIGHT)


def _remote_file(uri: str) -> Any:
    """An fsspec file for a URI; None for a local path, which the demuxer reads itself (faster)."""
    if "://" not in uri:
        return None
    import fsspec

    try:
        return fsspec.open(uri, "rb", block_size=4 << 20).open()
    except Exception as error:
        raise MediaError("io", f"cannot read {uri}: {error}") from error


def _open(uri: str, file: Any) -> Any:
    import av

    if file is None and not os.path.isfile(uri):
        raise why_not_a_file(uri)
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file", "max_streams": str(MAX_STREAMS)}
    try:
        # "file:" keeps names such as "concat:a|b" or "http://…" from meaning anything but a name.
        return av.open(file or f"file:{os.path.abspath(uri)}", container_options=options, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise why_not_opened(uri, file, _reason(error)) from error
    except (OSError, ValueError) as error:
        raise MediaError("io", f"cannot be read ({error})") from error


def _reason(error: Any) -> str:
    return (error.strerror or str(error)).strip().lower() or type(error).__name__


def _video_stream(container: Any, uri: str) -> Any:
    """The default video stream that is no cover picture."""
    real = [s for s in container.streams.video if "attached_pic" not in _dispositions(s)]
    if not real:
        container.close()
        raise why_no_video(uri)
    stream = real[0]
    if stream.codec_context is None or stream.codec_context.codec is None:
        container.close()
        raise MediaError("open", "no decoder for the file's video codec")
    return stream


def _dispositions(stream: Any) -> set[str]:
    with contextlib.suppress(Exception):
        return {flag.name for flag in stream.disposition}
    return set()
