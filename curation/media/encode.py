"""Encode one clip: crop, turn, square the pixels, H.264 in mp4. Run it inside a `Sandbox`."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from pydantic import BaseModel, Field

from curation.media.audio import AudioTrack, Sound, read_sound
from curation.media.decode import UPRIGHT, Orientation, Video, forget_unusual_tags, orientation_of
from curation.media.errors import MediaError
from curation.media.probe import square_size, upright_sar

Crop = tuple[int, int, int, int]  # x, y, w, h in upright source pixels


class EncodeConfig(BaseModel, frozen=True, extra="forbid"):
    """How clips are encoded. Part of every clip's fingerprint."""

    crf: int = Field(18, ge=0, le=51, description="x264 constant rate factor: 18 is visually lossless, +6 halves size")
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower"] = "fast"
    max_short_side: int | None = Field(1080, ge=16, description="pixels; larger clips are scaled down, never up")
    fps: float | None = Field(None, gt=0, le=240, description="resample to this constant rate; null keeps the source's")
    audio: Literal["drop", "aac"] = "drop"
    deinterlace: bool = Field(True, description="bwdif on frames flagged as interlaced; one frame in, one out")


@dataclass(frozen=True)
class Encoded:
    """An encoded clip."""

    mp4: bytes
    width: int
    height: int
    num_frames: int
    fps: float
    audio_note: str | None = None  # what of the source's sound did not come along


class ClipWriter:
    """One mp4 being written."""

    def __init__(
        self,
        path: str,
        first: Any,
        crop: Crop,
        video: Video,
        rate: Fraction | None,
        config: EncodeConfig,
        upright_size: tuple[int, int] | None = None,
        duration_s: float | None = None,
    ) -> None:
        """upright_size: of the frames that `crop` lies in, where that is not `first`'s. duration_s: how long the clip's
        frames are shown; None: as long as the frames themselves say."""
        import av

        forget_unusual_tags(first)
        self.duration_s = duration_s
        self.path, self.config = path, config
        self.rate = rate
        self.source_time_base = video.time_base
        self.first_pts = first.pts
        orientation = orientation_of(first)
        self.size = orientation.size(*upright_size) if upright_size else (first.width, first.height)
        self.format = first.format.name
        sar = upright_sar(video.stream.sample_aspect_ratio, orientation)
        width, height = clip_size(crop, sar, config.max_short_side)
        self.in_time_base = 1 / rate if rate else video.time_base
        self.graph = _graph(self._alike(first), video, self.in_time_base, orientation, crop, (width, height), config)
        muxing = {"movflags": "+faststart", "fflags": "+bitexact"}
        self.container = av.open(path, "w", format="mp4", container_options=muxing)
        out_rate = Fraction(config.fps).limit_denominator(1001) if config.fps else rate
        self.stream = self.container.add_stream("libx264", rate=out_rate or Fraction(30))
        self._configure(width, height, first, 1 / out_rate if out_rate else video.time_base)
        self.sound = self._sound(video) if config.audio == "aac" else None
        self.audio = AudioTrack(self.container) if self.sound and self.sound.parts else None
        self.width, self.height, self.frames_out = width, height, 0
        self.end_pts = 0

    def _configure(self, width: int, height: int, first: Any, time_base: Fraction) -> None:
        context = self.stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base = self.stream.time_base = time_base
        context.thread_count = 1  # the same bytes every time; clips run side by side instead
        context.options = {
            "preset": self.config.preset,
            "crf": str(self.config.crf),
            "threads": "1",
            # Even quality from first frame to last: mbtree starves a clip's last frames (-2.4 dB at equal size). And
            # the same bytes every time: with mbtree, x264 on AVX-512 gave other bytes from run to run.
            "x264-params": "mbtree=0",
        }
        for tag in ("color_primaries", "color_trc", "colorspace"):
            value = int(getattr(first, tag) or 0)
            if value not in (0, 2):  # 0 is RGB or reserved, 2 unspecified
                setattr(context, tag, value)
        context.color_range = 1  # limited

    def _sound(self, video: Video) -> Sound | None:
        """The sound of the clip's span; None where the source has none."""
        if not video.container.streams.audio:
            return None
        if self.first_pts is None or self.duration_s is None:
            return Sound([], "without sound: the picture has no times")
        start_s = float(self.first_pts * self.source_time_base)
        return read_sound(video.uri, start_s, start_s + self.duration_s)

    def write(self, frame: Any, index: int) -> None:
        """Filter and encode the clip's `index`-th source frame."""
        forget_unusual_tags(frame)
        frame = self._alike(frame)
        if self.rate:
            frame.pts, frame.time_base, frame.duration = index, self.in_time_base, 1
        elif frame.pts is not None and self.first_pts is not None:
            frame.pts -= self.first_pts
        self.graph.vpush(frame)
        self._drain()

    def _alike(self, frame: Any) -> Any:
        """A stream may change its size or its pixel format half-way; a filter's input may not."""
        if (frame.width, frame.height, frame.format.name) == (*self.size, self.format):
            return frame
        alike = frame.reformat(*self.size, self.format, interpolation="AREA", threads=1)
        alike.pts, alike.time_base, alike.duration = frame.pts, frame.time_base, frame.duration
        return alike

    def finish(self) -> Encoded:
        self.graph.vpush(None)
        self._drain()
        for packet in self.stream.encode():
            self.container.mux(packet)
        note = self.sound.note if self.sound else None
        if self.audio is not None and self.sound is not None:
            note = self.audio.write(self.sound) or note
        self.container.close()
        with open(self.path, "rb") as file:
            mp4 = file.read()
        return Encoded(mp4, self.width, self.height, self.frames_out, self._fps(), note)

    def _fps(self) -> float:
        if self.config.fps or self.rate:
            return float(1 / self.stream.codec_context.time_base)
        shown_s = self.duration_s or float(self.end_pts * self.stream.codec_context.time_base)
        return self.frames_out / max(shown_s, 1e-9)

    def _drain(self) -> None:
        import av

        while True:
            try:
                frame = self.graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            frame.pict_type = 0  # the source's frame types must not force the encoder's
            base = self.stream.codec_context.time_base
            step = max(1, round(frame.duration * frame.time_base / base)) if frame.duration else 1
            frame.pts = round(frame.pts * frame.time_base / base)
            frame.time_base = base
            self.end_pts = max(self.end_pts + 1, frame.pts + step)
            self.frames_out += 1
            try:
                packets = self.stream.encode(frame)
            except av.error.FFmpegError as error:
                raise MediaError("encode", f"encoding failed ({error})") from error
            for packet in packets:
                self.container.mux(packet)


def clip_size(crop: Crop, sar: Fraction, max_short_side: int | None) -> tuple[int, int]:
    """Even width and height of a clip: the crop with square pixels, scaled down to the bound."""
    width, height = square_size(crop[2], crop[3], sar)
    scale = min(1.0, max_short_side / min(width, height)) if max_short_side else 1.0
    return max(2, 2 * int(width * scale / 2 + 1e-6)), max(2, 2 * int(height * scale / 2 + 1e-6))


def _graph(
    first: Any,
    video: Video,
    time_base: Fraction,
    orientation: Orientation,
    crop: Crop,
    size: tuple[int, int],
    config: EncodeConfig,
) -> Any:
    """libavfilter chain from a decoded frame to a yuv420p frame of `size`."""
    import av.filter

    x, y, w, h = crop
    chain: list[tuple[str, str]] = []
    if config.deinterlace and first.interlaced_frame:
        chain.append(("bwdif", "mode=send_frame:deint=interlaced"))
    chain += _turns(orientation)
    if (x, y, w, h) != (0, 0, *orientation.size(first.width, first.height)):
        chain.append(("crop", f"{w}:{h}:{x}:{y}:exact=1"))
    if (w, h) != size:
        chain.append(("scale", f"{size[0]}:{size[1]}:flags=lanczos+accurate_rnd"))
    if config.fps:
        # "up": each output time shows the frame that was on then; "near" would show one up to half a step early.
        chain.append(("fps", f"{Fraction(config.fps).limit_denominator(1001)}:round=up"))
    chain += [("scale", "out_range=tv"), ("format", "yuv420p"), ("setsar", "1")]
    graph = av.filter.Graph()
    graph.threads = 1
    node = graph.add_buffer(video.stream, first.width, first.height, first.format, time_base=time_base)
    for name, arguments in [*chain, ("buffersink", "")]:
        following = graph.add(name, arguments or None)
        node.link_to(following)
        node = following
    graph.configure()
    return graph


def _turns(orientation: Orientation) -> list[tuple[str, str]]:
    if orientation == UPRIGHT:
        return []
    turn = {0: [], 1: [("transpose", "clock")], 2: [("hflip", ""), ("vflip", "")], 3: [("transpose", "cclock")]}
    return ([("hflip", "")] if orientation.mirrored else []) + turn[orientation.turns]
