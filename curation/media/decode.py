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

from reelwright.curation.media.ear import NOTHING_HEARD, Ear, Heard
from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.pictures import still_demuxer
from reelwright.curation.media.sniff import first_bytes, why_no_video, why_not_a_file, why_not_opened
from reelwright.curation.media.streams import choose_stream

CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,obu,ivf,flv,live_flv,asf,ogg,gif,"
    "apng,mxf,nut,dv,rm,wtv,gxf,yuv4mpegpipe,amv,vc1,cavsvideo,mjpeg,apng,webp,avif,iv8,smk,bink,roq,dxa,film_cpk,dhav,"
    "nsv,vvc,h261,h263"
)
MAX_PIXELS = 8192 * 8192  # of one frame; a larger one is a decompression bomb or wants its own pipeline
MAX_STREAMS = 64
MAX_LOST = 1_000_000  # lost packets with known times
STATE_DURATION = ("matroska", "webm", "flv", "asf", "mxf", "mov")  # containers that say how long they are
MAX_WAITING = 256  # packets in a decoder that have not become frames yet; decoders hold back 16, threads a few more
UNSPECIFIED = 2  # of colour tags (ITU-T H.273)
COLOUR_TAGS = (  # field, PyAV's name of it, values that swscale converts (H.273)
    ("matrix", "colorspace", frozenset({1, 2, 4, 5, 6, 7, 9})),
    ("transfer", "color_trc", frozenset({1, 2, *range(4, 9), *range(11, 19)})),
    ("primaries", "color_primaries", frozenset({1, 2, *range(4, 13), 22})),
)
PREDICTED = (2, 3, 4, 6)  # picture types P, B, S (global motion) and SP: made from others


@dataclass(frozen=True)
class Orientation:
    """How to turn decoded frames upright: quarter turns clockwise, after an optional mirror left to right."""

    turns: int = 0
    mirrored: bool = False

    @property
    def degrees(self) -> int:
        """Degrees clockwise, 0 to 270."""
        return 90 * self.turns

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) of an upright frame from those of a decoded one, in pixels."""
        return (height, width) if self.turns % 2 else (width, height)

    def apply(self, image: np.ndarray) -> np.ndarray:
        """image: [H, W, ...] as decoded -> upright view."""
        return np.rot90(image[:, ::-1] if self.mirrored else image, -self.turns) if self != UPRIGHT else image


UPRIGHT = Orientation()


class Video:
    """An open file's footage: the video stream that `choose_stream` takes. Use as a context manager.

    While `frames` decodes: `decode_errors` counts packets that could not be decoded; `is_damaged` says whether the
    decoder had to guess parts of the frame yielded last; `false_keys` counts packets that claim to be keyframes and are
    none: where there are such, frames after a seek decode wrong. `lost_pts` has the times of packets that gave no
    frame for an error.
    """

    def __init__(self, uri: str, *, threads: int = 1, listens: bool = False) -> None:
        """Open a video.

        Args:
            uri: a path or a URI that fsspec opens.
            threads: decoder threads.
            listens: keep libav's log messages for `heard`; needs threads = 1.

        Raises:
            MediaError: `io` (cannot be read), `no_video`, `open` (not a video container) or, where its first bytes tell
                its kind, `empty text pointer playlist not_video encrypted truncated`.
        """
        self.uri = uri
        self.file = _remote_file(uri)
        self.container = _open(uri, self.file)
        self.stream, self.other_streams = _footage(self.container, uri)
        self.stream.codec_context.thread_count = threads
        self.stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        if threads > 1:
            self.stream.thread_type = "AUTO"
        self.alpha_decoder = _alpha_decoder(self.stream)
        self.decode_errors = self.false_keys = 0
        self.is_damaged = False
        self.lost_pts: list[int] = []
        self.ear = Ear() if listens and threads == 1 else None
        self._ends: dict[int, int] = {}  # stream -> end of its last packet, in its ticks
        self._claims: dict[int, tuple[bool, bool]] = {}  # time of a packet that is (a keyframe, corrupt)

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *exc: object) -> None:
        self.container.close()
        if self.file is not None:
            self.file.close()

    @property
    def has_alpha(self) -> bool:
        """Whether transparency is kept beside the picture, as WebM does; pixel formats may have it too."""
        return self.alpha_decoder is not None

    @property
    def time_base(self) -> Fraction:
        """Seconds per tick of timestamps."""
        return self.stream.time_base or Fraction(1, 90000)

    def packets(self) -> Iterator[Any]:
        """Yield the packets of the footage in decoding order, and last an empty one; nothing is decoded."""
        import av

        packets = self.container.demux(self.stream, *self._sound())
        while True:
            try:
                with self._hearing("container"):
                    packet = next(packets)
            except StopIteration:
                return
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                self.decode_errors += 1
                return  # the container ends here; what came before it stands
            self._note_end(packet)
            is_other = packet.stream.index != self.stream.index  # of a flush packet, stream_index is always 0
            if not is_other and (packet.size or packet.dts is None):
                yield packet

    def frames(self) -> Iterator[Any]:
        """Yield decoded `av.VideoFrame`s in presentation order.

        Damaged packets are skipped and counted in `decode_errors`.
        """
        import av

        for packet in self.packets():
            self._note_claims(packet)
            try:
                with self._hearing("decoder"):
                    frames = self._decoded(packet)
                for frame in frames:
                    self._check_claims(frame)
                    yield frame
            except av.error.EOFError:
                return
            except av.error.MemoryError as error:
                raise MediaError("memory", "a frame asks for more memory than decoding may have") from error
            except av.error.FFmpegError:
                self.decode_errors += 1
                if packet.pts is not None and len(self.lost_pts) < MAX_LOST:
                    self.lost_pts.append(packet.pts)

    @property
    def heard(self) -> Heard:
        """Log of libav while `frames` decoded, and the end of the packets read."""
        if self.ear is None:
            return NOTHING_HEARD
        said = self.ear.said
        return Heard(
            self.ear.errors["decoder"], said.get("decoder", ""), said.get("container", ""), self._end_s(),
            claimed_end_s(self.container),
        )  # fmt: skip

    @property
    def has_faults(self) -> bool:
        """Whether a packet could not be decoded, claims wrongly to be a keyframe, or libav reported an error."""
        return bool(self.decode_errors or self.false_keys or (self.ear and self.ear.errors))

    def forget_faults(self) -> None:
        """Begin to count faults anew, such as after a seek, which leaves frames without those they are made from."""
        self.decode_errors = self.false_keys = 0
        self.lost_pts.clear()
        if self.ear:
            self.ear.errors.clear()
            self.ear.said.clear()

    def _hearing(self, who: str) -> contextlib.AbstractContextManager[object]:
        return self.ear.to(who) if self.ear else contextlib.nullcontext()

    def _sound(self) -> list[Any]:
        """Streams with packets that are read to find the end of the file; none is decoded."""
        return list(self.container.streams.audio) if self.ear else []

    def _note_end(self, packet: Any) -> None:
        if self.ear and packet.size and packet.pts is not None:
            of = packet.stream_index
            self._ends[of] = max(self._ends.get(of, 0), packet.pts + (packet.duration or 0))

    def _end_s(self) -> float:
        streams = self.container.streams
        return max((float(end * (streams[of].time_base or 0)) for of, end in self._ends.items()), default=0.0)

    def _decoded(self, packet: Any) -> list[Any]:
        if self.alpha_decoder is None:
            return packet.decode()
        return self.alpha_decoder.decode(packet if packet.size else None)

    def _note_claims(self, packet: Any) -> None:
        if packet.pts is not None and (packet.is_keyframe or packet.is_corrupt):
            self._claims[packet.pts] = (packet.is_keyframe, packet.is_corrupt)
            if len(self._claims) > MAX_WAITING:  # of packets that gave no frame
                del self._claims[next(iter(self._claims))]

    def _check_claims(self, frame: Any) -> None:
        claims_key, was_corrupt = self._claims.pop(frame.pts, (False, False))
        self.is_damaged = bool(frame.is_corrupt or was_corrupt)
        if claims_key and not frame.key_frame and frame.pict_type in PREDICTED:
            self.false_keys += 1

    def seek(self, pts: int) -> None:
        """Go to the last keyframe at or before `pts` (in `time_base`)."""
        self.container.seek(pts, stream=self.stream, backward=True)
        if self.alpha_decoder is not None:
            self.alpha_decoder.flush_buffers()


def _alpha_decoder(stream: Any) -> Any:
    """Return a decoder that sees the transparency of a WebM's pictures, which ffmpeg's own decoders drop.

    None where the stream has no transparency, or this build no such decoder.
    """
    import av

    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.codec.canonical_name)
    if name is None or stream.metadata.get("alpha_mode") != "1" or name not in av.codecs_available:
        return None
    decoder = av.CodecContext.create(name, "r")
    decoder.thread_count = 1
    return decoder


def claimed_end_s(container: Any) -> float:
    """Return when a file ends by its header; 0 where the header says nothing, or libavformat made the value up."""
    stated = any(name in container.format.name.split(",") for name in STATE_DURATION)
    return (container.duration or 0) / 1e6 if stated else 0.0


def rate_claims(video: Video) -> list[Fraction | None]:
    """Frame rates that a file names, most trusted first.

    A raw stream has no clock: its average is libavformat's default, and the codec's rate is the only one there is.
    """
    stream = video.stream
    has_clock = bool(stream.duration or video.container.duration or stream.frames)
    first = [stream.average_rate, stream.guessed_rate] if has_clock else [stream.guessed_rate, stream.average_rate]
    return [*first, stream.base_rate]


def side_data_of(frame: Any) -> dict[str, bytes]:
    """Return a decoded frame's side data by the name of its kind, such as `DISPLAYMATRIX`.

    Kinds that this PyAV has no name for (3D views, for example) are skipped, and so are all kinds after the first of
    them, which PyAV does not hand out.
    """
    found = {}
    with contextlib.suppress(ValueError):
        for side in _known_side_data(frame):
            found[side.type.name] = bytes(side)
    return found


def _known_side_data(frame: Any) -> Any:
    """Return the side data up to the first kind without a name.

    `frame.side_data` would keep it in the frame, which it refers to. The frame, and with it all its decoder's pictures,
    would then stay in memory until Python next looks for cycles, hundreds of MiB of a large source.
    """
    from av.sidedata.sidedata import SideDataContainer

    sides = SideDataContainer.__new__(SideDataContainer)
    with contextlib.suppress(ValueError):  # raised for a kind without a name
        sides.__init__(frame)  # type: ignore[misc] # fills it up to there
    return sides


def orientation_of(frame: Any) -> Orientation:
    """Read the display matrix of a decoded frame (ISO 14496-12): upright unless it is a quarter turn or mirror."""
    matrix = side_data_of(frame).get("DISPLAYMATRIX", b"")
    if len(matrix) == 36:
        return _from_matrix(np.frombuffer(matrix, np.int32).reshape(3, 3) / 65536.0)
    turns, rest = divmod(-frame.rotation % 360, 90)  # read past unknown side data, but without mirroring
    return Orientation(turns) if not rest else UPRIGHT


def forget_unusual_tags(frame: Any) -> list[str]:
    """Read a frame's reserved, private and rare colour tags as unspecified, in place, as swscale refuses them.

    Returns a phrase for each that was there: "matrix 8".
    """
    is_rgb, has_chroma = frame.format.is_rgb, len(frame.format.components) > 2
    found = []
    for name, attribute, known in COLOUR_TAGS:
        value = int(getattr(frame, attribute))
        if value not in known and not (is_rgb and value == 0):
            setattr(frame, attribute, UNSPECIFIED)
            if has_chroma or name != "matrix":  # PNG tags gray and palettes as RGB
                found.append(f"{name} {value}")
    if frame.color_range > 2:
        found.append(f"range {frame.color_range}")
        frame.color_range = 0
    return found


@functools.cache
def _quarter_turns() -> dict[tuple[int, int, int, int], Orientation]:
    """Return the orientations by (a, b, c, d) of their matrix [x' y'] = [x y]·[[a b] [c d]], y down."""
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
    """Open a URI by fsspec; return None for a local path, which the demuxer reads itself (faster)."""
    if "://" not in uri:
        return None
    from reelwright.curation.media.remote import open_seekable

    return open_seekable(uri)


def _open(uri: str, file: Any) -> Any:
    import av

    if file is None and not os.path.isfile(uri):
        raise why_not_a_file(uri)
    try:
        try:
            return _demuxed(uri, file, CONTAINERS)
        except av.error.FFmpegError:
            if (demuxer := still_demuxer(first_bytes(uri, file))) is None:
                raise
            return _demuxed(uri, file, demuxer, format=demuxer)
    except av.error.FFmpegError as error:
        raise why_not_opened(uri, file, _reason(error)) from error
    except (OSError, ValueError) as error:
        raise MediaError("io", f"cannot be read ({error})") from error


def _demuxed(uri: str, file: Any, allowed: str, format: str | None = None) -> Any:
    import av

    options = {"format_whitelist": allowed, "protocol_whitelist": "file", "max_streams": str(MAX_STREAMS)}
    # "file:" keeps names such as "concat:a|b" or "http://…" from meaning anything but a name.
    name = file or f"file:{os.path.abspath(uri)}"
    return av.open(name, format=format, container_options=options, metadata_errors="replace")


def _reason(error: Any) -> str:
    return (error.strerror or str(error)).strip().lower() or type(error).__name__


def _footage(container: Any, uri: str) -> tuple[Any, tuple[str, ...]]:
    """Return the stream that is curated, and a phrase for each other one."""

    @contextlib.contextmanager
    def reopened() -> Iterator[Any]:
        file = _remote_file(uri)
        with contextlib.closing(file) if file is not None else contextlib.nullcontext(), _open(uri, file) as again:
            yield again

    try:
        chosen = choose_stream(container, reopened)
        if chosen is None:
            raise why_no_video(uri)
        if chosen.stream.codec_context is None or chosen.stream.codec_context.codec is None:
            raise MediaError("open", "no decoder for the file's video codec")
    except BaseException:
        container.close()
        raise
    return chosen.stream, chosen.others
