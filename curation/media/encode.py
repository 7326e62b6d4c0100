"""Encode one clip: crop, turn, square the pixels, H.264 in mp4. Run it inside a `Sandbox`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any, Literal, Protocol

from pydantic import BaseModel, Field

from reelwright.curation.media.audio import AudioTrack, Sound, read_sound
from reelwright.curation.media.colour import (
    BT709,
    BT2020,
    HDR_KINDS,
    LIMITED,
    MATRICES,
    UNSPECIFIED,
    Colour,
    alike,
    colour_of,
    state_range,
)
from reelwright.curation.media.decode import (
    UPRIGHT,
    Orientation,
    forget_unusual_tags,
    orientation_of,
    side_data_of,
)
from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.light import x264_light
from reelwright.curation.media.probe import square_size, upright_sar
from reelwright.curation.media.tonemap import cube, peak_of

Crop = tuple[int, int, int, int]  # x, y, w, h in upright source pixels


class EncodeConfig(BaseModel, frozen=True, extra="forbid"):
    """How clips are encoded. Part of every clip's fingerprint."""

    crf: int = Field(18, ge=0, le=51, description="x264 constant rate factor: 18 is visually lossless, +6 halves size")
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower"] = "fast"
    max_short_side: int | None = Field(1080, ge=16, description="pixels; larger clips are scaled down, never up")
    fps: float | None = Field(None, gt=0, le=240, description="resample to this constant rate; null keeps the source's")
    audio: Literal["drop", "aac"] = "drop"
    deinterlace: bool = Field(True, description="bwdif on frames flagged as interlaced; one frame in, one out")
    hdr: Literal["keep", "tonemap"] = Field(
        "keep", description="keep: PQ and HLG as they are, in 10 bits; tonemap: made SDR (BT.709, 8 bits)"
    )


@dataclass(frozen=True)
class Encoded:
    """An encoded clip."""

    mp4: bytes
    width: int
    height: int
    num_frames: int
    fps: float
    colour: Colour
    audio_note: str | None = None  # the part of the source's sound that is missing


@dataclass(frozen=True)
class Framing:
    """Where a clip's picture lies. upright_size: of the frames that `crop` lies in; None: the first frame's."""

    crop: Crop
    upright_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Timing:
    """How long frames are shown.

    Attributes:
        rate: frames per second; None: each as long as its time says.
        duration_s: of all frames; None: as long as the frames themselves say.
    """

    rate: Fraction | None
    duration_s: float | None = None


class Source(Protocol):
    """The parts of an open source that the writer of a clip reads: `Video` has them."""

    uri: str
    stream: Any
    container: Any

    @property
    def time_base(self) -> Fraction:
        """Seconds per unit of its timestamps."""


class ClipWriter:
    """One mp4 being written."""

    def __init__(
        self,
        path: str,
        first: Any,
        video: Source,
        config: EncodeConfig,
        framing: Framing,
        timing: Timing,
        *,
        is_interlaced: bool = False,
    ) -> None:
        """Open the file and build the filters.

        Args:
            path: the mp4 to write.
            first: the clip's first decoded frame.
            video: the source, open.
            config: how to encode.
            framing: where the picture lies.
            timing: how long frames are shown.
            is_interlaced: any of the clip's frames is flagged as interlaced.
        """
        import av

        forget_unusual_tags(first)
        state_range(first)
        self.path, self.config = path, config
        self.rate, self.duration_s = timing.rate, timing.duration_s
        self.source_time_base = video.time_base
        self.first_pts = first.pts
        orientation = orientation_of(first)
        self.size = orientation.size(*framing.upright_size) if framing.upright_size else (first.width, first.height)
        self.format = first.format.name
        self.in_colour = colour_of(first)
        self.colour = clip_colour(self.in_colour, config)
        table = None
        if self.in_colour.transfer in HDR_KINDS and config.hdr == "tonemap":
            table = f"{path}.cube"
            with open(table, "w") as file:
                file.write(cube(self.in_colour.transfer, peak_of(side_data_of(first))))
        sar = upright_sar(video.stream.sample_aspect_ratio, orientation)
        width, height = clip_size(framing.crop, sar, config.max_short_side)
        self.in_time_base = 1 / self.rate if self.rate else video.time_base
        source = buffer(self._alike(first), self.in_colour, self.in_time_base)
        conversion = Conversion(
            decoded_size=self.size, source=self.in_colour, clip=self.colour, orientation=orientation, crop=framing.crop,
            size=(width, height), fps=config.fps, table=table,
            deinterlace=config.deinterlace and (is_interlaced or first.interlaced_frame),
        )  # fmt: skip
        self.graph = linked([source, *conversion.steps()])
        muxing = {"movflags": "+faststart", "fflags": "+bitexact"}
        self.container = av.open(path, "w", format="mp4", container_options=muxing)
        out_rate = Fraction(config.fps).limit_denominator(1001) if config.fps else self.rate
        self.stream = self.container.add_stream("libx264", rate=out_rate or Fraction(30))
        light = x264_light(side_data_of(first)) if self.colour.depth > 8 else []
        self._configure(width, height, 1 / out_rate if out_rate else video.time_base, light)
        self.sound = self._sound(video) if config.audio == "aac" else None
        self.audio = AudioTrack(self.container) if self.sound and self.sound.parts else None
        self.width, self.height, self.frames_out = width, height, 0
        self.end_pts = 0

    def _configure(self, width: int, height: int, time_base: Fraction, light: list[str]) -> None:
        context = self.stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, _pixel_format(self.colour)
        context.time_base = self.stream.time_base = time_base
        context.thread_count = 1  # the same bytes every time; clips run side by side instead
        context.options = {
            "preset": self.config.preset,
            "crf": str(self.config.crf),
            "threads": "1",
            # Even quality from first frame to last: mbtree starves a clip's last frames (-2.4 dB at equal size). And
            # the same bytes every time: with mbtree, x264 on AVX-512 gave other bytes from run to run.
            "x264-params": ":".join(["mbtree=0", *light]),
        }
        context.colorspace, context.color_range = self.colour.matrix, LIMITED
        context.color_primaries, context.color_trc = self.colour.primaries, self.colour.transfer

    def _sound(self, video: Source) -> Sound | None:
        """Read the sound of the clip's span; None where the source has none."""
        if not video.container.streams.audio:
            return None
        if self.first_pts is None or self.duration_s is None:
            return Sound([], "without sound: the picture has no times")
        start_s = float(self.first_pts * self.source_time_base)
        return read_sound(video.uri, start_s, start_s + self.duration_s)

    def write(self, frame: Any, index: int) -> None:
        """Filter and encode the clip's `index`-th source frame."""
        forget_unusual_tags(frame)
        state_range(frame)
        frame = self._alike(frame)
        if self.rate:
            frame.pts, frame.time_base, frame.duration = index, self.in_time_base, 1
        elif frame.pts is not None and self.first_pts is not None:
            frame.pts -= self.first_pts
        self.graph.vpush(frame)
        self._drain()

    def _alike(self, frame: Any) -> Any:
        return alike(frame, self.size, self.format, self.in_colour)

    def finish(self) -> Encoded:
        """Flush the encoder, close the file, and return the facts of the clip."""
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
        return Encoded(mp4, self.width, self.height, self.frames_out, self._fps(), self.colour, note)

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


def clip_colour(source: Colour, config: EncodeConfig) -> Colour:
    """Colour of a clip: the source's, in limited range; RGB becomes BT.709. HDR that is kept has ten bits."""
    is_hdr = source.transfer in HDR_KINDS
    if is_hdr and config.hdr == "tonemap":
        source = replace(source, matrix=BT709, primaries=BT709, transfer=BT709)
    return replace(
        source,
        matrix=BT709 if source.is_rgb else source.matrix,
        range=LIMITED,
        depth=10 if is_hdr and config.hdr == "keep" else 8,
        is_rgb=False,
        has_alpha=False,
    )


def _pixel_format(colour: Colour) -> str:
    return "yuv420p10le" if colour.depth > 8 else "yuv420p"


Step = tuple[str, str]  # a libavfilter filter and its arguments


def buffer(first: Any, colour: Colour, time_base: Fraction) -> Step:
    """Return where frames enter. It must know their matrix and range: frames without them are converted as BT.601."""
    size = f"video_size={first.width}x{first.height}:pix_fmt={first.format.name}"
    tags = "" if colour.is_rgb else f":colorspace={colour.matrix}:range={colour.range}"
    return "buffer", f"{size}:time_base={time_base}:pixel_aspect=1/1{tags}"


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """From a decoded frame to a frame of the clip.

    decoded_size: of the frame as decoded. source, clip: colours before and after. crop: in upright pixels. size: of the
    clip. fps: constant rate to resample to, if any. table: file that maps HDR's colours to SDR's.
    """

    decoded_size: tuple[int, int]
    source: Colour
    clip: Colour
    orientation: Orientation
    crop: Crop
    size: tuple[int, int]
    fps: float | None = None
    deinterlace: bool = False
    table: str | None = None

    def steps(self) -> list[Step]:
        """Return the chain of libavfilter's filters."""
        x, y, w, h = self.crop
        source, clip = self.source, self.clip
        chain: list[Step] = []
        if self.deinterlace:
            chain.append(("bwdif", "mode=send_frame:deint=interlaced"))
        if source.has_alpha:
            if source.depth == 8:  # it rounds down: in eight bits that shifts opaque pixels by up to three levels
                chain.append(("format", "yuva420p10le|yuva422p10le|yuva444p10le|gbrap10le"))
            chain.append(("premultiply", "inplace=1"))  # on black: transparent pixels show no hidden colour
        chain += _turns(self.orientation)
        if (x, y, w, h) != (0, 0, *self.orientation.size(*self.decoded_size)):
            chain.append(("crop", f"{w}:{h}:{x}:{y}:exact=1"))
        if (w, h) != self.size:
            chain.append(("scale", f"{self.size[0]}:{self.size[1]}:flags=lanczos+accurate_rnd"))
        if self.fps:
            # "up": each output time shows the frame that was on then; "near" would show one up to half a step early.
            chain.append(("fps", f"{Fraction(self.fps).limit_denominator(1001)}:round=up"))
        if self.table:
            untagged = f"in_color_matrix={MATRICES[BT2020]}:" if source.matrix == UNSPECIFIED else ""
            chain += [("scale", f"{untagged}out_range=pc:flags=accurate_rnd+full_chroma_int"), ("format", "gbrp12le")]
            chain += [("lut3d", f"file={_escaped(self.table)}:interp=tetrahedral")]
        matrix = "" if clip.matrix == UNSPECIFIED else f":out_color_matrix={MATRICES[clip.matrix]}"
        conversion = f"out_range=tv{matrix}:flags=bicubic+accurate_rnd+full_chroma_int"
        return [*chain, ("scale", conversion), ("format", _pixel_format(clip)), ("setsar", "1"), ("buffersink", "")]


def _escaped(path: str) -> str:
    """Escape a path for libavfilter's arguments."""
    return "".join(f"\\{c}" if c in "\\:'" else c for c in path)


def linked(steps: Sequence[Step]) -> Any:
    """Return a graph of one chain of filters, which frames are pushed into and pulled from."""
    import av.filter

    graph = av.filter.Graph()
    graph.threads = 1
    nodes = [graph.add(name, arguments or None) for name, arguments in steps]
    for node, following in pairwise(nodes):
        node.link_to(following)
    graph.configure()
    return graph


def _turns(orientation: Orientation) -> list[tuple[str, str]]:
    if orientation == UPRIGHT:
        return []
    turn = {0: [], 1: [("transpose", "clock")], 2: [("hflip", ""), ("vflip", "")], 3: [("transpose", "cclock")]}
    return ([("hflip", "")] if orientation.mirrored else []) + turn[orientation.turns]
