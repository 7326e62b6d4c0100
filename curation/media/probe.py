"""The facts that a file states, without decoding more than one frame. Run it inside a `Sandbox`."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from reelwright.curation.media.colour import colour_of, hdr_kind
from reelwright.curation.media.decode import (
    MAX_PIXELS,
    UPRIGHT,
    Orientation,
    Video,
    orientation_of,
    rate_claims,
    side_data_of,
)
from reelwright.curation.media.dolby_vision import dolby_vision_profile
from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.pictures import is_still
from reelwright.curation.media.remote import read_through
from reelwright.curation.media.sandbox_child import report_progress
from reelwright.curation.media.sniff import refuse_protected, why_not_a_file
from reelwright.curation.media.streams import choose_sound
from reelwright.curation.signed import without_signatures

HASH_BLOCK_BYTES = 4 << 20


@dataclass(frozen=True)
class VideoInfo:
    """Container facts. Sizes are upright (rotation applied); `display_*` also have square pixels."""

    container: str
    codec: str
    pix_fmt: str
    width: int
    height: int
    display_width: int
    display_height: int
    rotation: int  # degrees clockwise that the decoded picture is turned to stand upright
    sar: str  # sample aspect ratio, "1:1" for square pixels
    fps: float  # average by the container; the scan replaces it by the decoded one
    frames_hint: int  # by the container; 0 where it does not say
    duration_s: float  # by the container; 0 where it does not say
    bitrate_bps: int
    has_audio: bool
    audio_codec: str | None
    video_stream: int = 0  # index of the stream that is curated
    other_streams: tuple[str, ...] = ()  # a phrase for each other video stream
    color_matrix: str | None = None  # as the first frame is tagged, in ffmpeg's words; None: unspecified
    color_primaries: str | None = None
    color_transfer: str | None = None
    color_range: str | None = None  # tv (limited) or pc (full)
    bit_depth: int = 8
    hdr: str = "sdr"  # sdr, pq, hlg, hdr10plus, dolby_vision_p5 …
    has_alpha: bool = False
    is_image: bool = False  # a still image; of a GIF, WebP or AVIF the scan tells


def probe(uri: str, *, images: bool = False) -> dict[str, Any]:
    """Read one file's `VideoInfo` as a dict.

    Args:
        uri: the file.
        images: whether a still image is taken, as a video of one frame.

    Raises:
        MediaError: `limit`, `encrypted`, `not_video` for an image that is not taken, and what `Video` raises.
    """
    with Video(uri) as video:
        refuse_protected(uri, video.file)
        if is_still(video.container) and not images:
            kind = video.container.format.name.removesuffix("_pipe").upper()
            raise MediaError("not_video", f"it is a picture ({kind}); `images: true` takes it as a clip of one frame")
        return asdict(video_info(video, next(iter(video.frames()), None)))


def video_info(video: Video, frame: Any) -> VideoInfo:
    """Return the facts of an open video. frame: its first one, None where none decodes."""
    stream, container = video.stream, video.container
    orientation = orientation_of(frame) if frame is not None else UPRIGHT
    context = stream.codec_context
    if not context.width or not context.height:
        raise MediaError("open", "the video stream has no size")
    if context.width * context.height > MAX_PIXELS:
        raise MediaError("limit", f"frames of {context.width}x{context.height} are over {MAX_PIXELS} pixels")
    width, height = orientation.size(context.width, context.height)
    sar = upright_sar(stream.sample_aspect_ratio, orientation)
    display_width, display_height = square_size(width, height, sar)
    audio = choose_sound(container)
    return VideoInfo(
        container=container.format.name,
        codec=context.codec.canonical_name,
        pix_fmt=context.pix_fmt or "",
        width=width,
        height=height,
        display_width=display_width,
        display_height=display_height,
        rotation=orientation.degrees,
        sar=f"{sar.numerator}:{sar.denominator}",
        fps=float(next((rate for rate in rate_claims(video) if rate), 0)),
        frames_hint=stream.frames or 0,
        duration_s=_duration_s(video),
        bitrate_bps=int(context.bit_rate or container.bit_rate or 0),
        has_audio=audio is not None,
        audio_codec=audio.codec_context.name if audio is not None and audio.codec_context else None,
        video_stream=stream.index,
        other_streams=video.other_streams,
        is_image=is_still(container),
        **(_colour(video, frame) if frame is not None else {}),
    )


def _colour(video: Video, frame: Any) -> dict[str, Any]:
    colour, hdr = colour_of(frame), hdr_kind(frame, side_data_of(frame))
    profile = dolby_vision_profile(video.uri, video.file) if _may_be_mp4(video) else None
    if profile is not None:
        hdr = f"dolby_vision_p{profile}"
    return colour.names() | {"hdr": hdr, "has_alpha": colour.has_alpha or video.has_alpha}


def _may_be_mp4(video: Video) -> bool:
    return "mp4" in video.container.format.name


def md5_of(uri: str) -> dict[str, Any]:
    """Return the MD5 of a file's bytes and their count, streamed. Raises MediaError (`io`)."""
    digest, size = hashlib.md5(usedforsecurity=False), 0
    if "://" not in uri and not os.path.isfile(uri):  # opening a FIFO would wait for a writer
        raise why_not_a_file(uri)
    try:
        for block in read_through(uri) if "://" in uri else _local_blocks(uri):
            digest.update(block)
            size += len(block)
            report_progress(None)
    except Exception as error:
        raise MediaError("io", f"cannot be read ({without_signatures(str(error))})") from error
    return {"md5": digest.hexdigest(), "bytes": size}


def _local_blocks(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while block := file.read(HASH_BLOCK_BYTES):
            yield block


def upright_sar(ratio: Fraction | None, orientation: Orientation) -> Fraction:
    """Return a pixel's width over its height, after turning upright; 1 where the file is silent or says nonsense."""
    if not ratio or not Fraction(1, 10) < ratio < 10:
        return Fraction(1)
    ratio = Fraction(ratio)
    return 1 / ratio if orientation.turns % 2 else ratio


def square_size(width: int, height: int, sar: Fraction) -> tuple[int, int]:
    """Return the picture's size with square pixels: the height is kept, as players do."""
    return max(1, round(width * sar)), height


def _duration_s(video: Video) -> float:
    if video.stream.duration:
        return float(video.stream.duration * video.time_base)
    return (video.container.duration or 0) / 1e6
