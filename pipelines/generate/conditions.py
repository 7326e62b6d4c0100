"""Frames that a generation begins with: an image, or the end of a video, as strangers' files.

They are decoded in a sandbox. Pictures are scaled to cover the size that is generated, and cut about their middle; or
stretched to it, as published.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from reelwright.curation.media.colour import hdr_kind
from reelwright.curation.media.decode import MAX_PIXELS, Video, forget_unusual_tags, orientation_of, side_data_of
from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.probe import square_size, upright_sar
from reelwright.curation.media.sandbox import Sandbox
from reelwright.curation.media.sandbox_child import report_progress
from reelwright.curation.media.streams import choose_sound
from reelwright.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

MAX_IMAGE_BYTES = 256 << 20
SLACK_S = 1e-3  # rounding of a container's clock
CUT_SHORT_S = 0.2  # that a whole file's header and its last frame may differ by: a last frame that lasts longer

Fit = Literal["cover", "stretch"]
"""How a picture gets its size: cover scales it and cuts its edges off, stretch changes its proportions."""

Part = tuple[int, int] | None
"""Width and height whose proportions the part of a picture has that covers the size; None: those of the size itself.

A first stage of 832x480 that is refined to 1280x704 is stretched a little, so what it begins with has to be as well.
"""


@dataclass(frozen=True)
class Shown:
    """How a player shows a video.

    width, height: in pixels, upright and square. rate: of its frames, per second. claimed_s: its length as its header
    says, 0 where it says none. hdr: kind of HDR, sdr where it is none.
    """

    width: int
    height: int
    duration_s: float = 0.0
    rate: float = 0.0
    claimed_s: float = 0.0
    hdr: str = "sdr"
    has_sound: bool = False

    def faults(self, path: Path) -> str:
        """Say what a person should know of a file before its frames are used; empty where there is nothing."""
        pale = "" if self.hdr == "sdr" else f"{path} is HDR ({self.hdr}) and is read as it is coded, which looks pale"
        return "; ".join(filter(None, [self.cut_short(path), pale]))

    def cut_short(self, path: Path) -> str:
        """Say that a file ends before its header says, as a download that broke off does; empty where it does not."""
        if self.claimed_s - self.duration_s <= CUT_SHORT_S:
            return ""
        return (
            f"{path} is cut short: it ends after {self.duration_s:.2f} s, and its header says {self.claimed_s:.2f} s; "
            "the frames that are there are used"
        )


def read_image(path: Path, size: tuple[int, int], fit: Fit = "cover", part: Part = None) -> "Tensor":
    """[3, H, W] in -1..1. size: width, height. Raises UserError."""
    return _frames("decode_image", path, {"path": str(path), "size": size, "fit": fit, "part": part})[:, 0]


def read_end(
    path: Path, size: tuple[int, int], count: int, fps: float, fit: Fit = "cover", part: Part = None
) -> "Tensor":
    """Read the last `count` frames of a video at a constant rate, [3, F, H, W] in -1..1; fewer if it is shorter.

    Raises:
        UserError: the video cannot be read.
    """
    arguments = {"path": str(path), "size": size, "count": count, "fps": fps, "fit": fit, "part": part}
    return _frames("decode_end", path, arguments)


def read_span(path: Path, size: tuple[int, int], start: int, stop: int, *, fps: float, fit: Fit = "cover") -> "Tensor":
    """Read frames start to stop of a video at a constant rate, [3, stop - start, H, W] in -1..1.

    Frame k is what a player shows at k / fps seconds from its first; past the end it is the last frame.

    Raises:
        UserError: the video cannot be read.
    """
    arguments = {"path": str(path), "size": size, "start": start, "stop": stop, "fps": fps, "fit": fit}
    return _frames("decode_span", path, arguments)


def read_shown(path: Path, *, is_image: bool = False) -> Shown:
    """Read how a picture or a video is shown. Raises UserError."""
    return Shown(*_in_sandbox("decode_shown", path, {"path": str(path), "is_image": is_image}).value)


def _frames(function: str, path: Path, arguments: dict[str, Any]) -> "Tensor":
    import torch

    reply = _in_sandbox(function, path, arguments)
    frames = torch.frombuffer(bytearray(reply.blobs[0]), dtype=torch.uint8).view(reply.value)
    return frames.permute(3, 0, 1, 2).float() / 127.5 - 1


def _in_sandbox(function: str, path: Path, arguments: dict[str, Any]) -> Any:
    sandbox = Sandbox()
    try:
        return sandbox.call(f"{__name__}:{function}", arguments)
    except MediaError as error:
        raise UserError(f"{path} cannot be used: {error.message}") from error
    finally:
        sandbox.close()


# --- inside the sandbox ----------------------------------------------------------------------------------------------


def decode_image(path: str, size: tuple[int, int], fit: Fit, part: Part) -> tuple[list[int], list[bytes]]:
    """([1, H, W, 3], uint8 RGB)."""
    return _pack([fitted(_picture(path), *size, fit, part)])


def decode_shown(path: str, is_image: bool) -> tuple[list[Any], list[bytes]]:
    """([width, height, seconds, frames per second, seconds by the header, kind of HDR, has sound], nothing)."""
    if is_image:
        picture = _picture(path)
        return [picture.shape[1], picture.shape[0]], []
    with Video(path) as video:
        first = next(video.frames(), None)
        if first is None:
            raise MediaError("decode", "no frame of the video decodes")
        height, width = _turned(first, video).shape[:2]
        rate = float(video.stream.average_rate or video.stream.guessed_rate or 0)
        begin = float((first.pts or 0) * video.time_base)
        claimed = float((video.stream.duration or 0) * video.time_base)
        coded = [hdr_kind(first, side_data_of(first)), choose_sound(video.container) is not None]
    return [width, height, _last_time(path) - begin + (1 / rate if rate else 0.0), rate, claimed, *coded], []


def _picture(path: str) -> np.ndarray:
    """[H, W, 3], uint8 RGB."""
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(MAX_PIXELS)
    import cv2

    if not os.path.isfile(path):
        raise MediaError("io", "there is no such file")
    if os.path.getsize(path) > MAX_IMAGE_BYTES:
        raise MediaError("limit", f"an image file of over {MAX_IMAGE_BYTES >> 20} MiB is not read")
    data = np.fromfile(path, np.uint8)
    try:
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None  # turned as EXIF says
    except cv2.error as error:
        raise MediaError("decode", f"the image does not decode ({error.err or error})") from error
    if picture is None:
        raise MediaError("open", "it is not an image that can be read (PNG, JPEG, WebP, BMP, TIFF)")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def decode_end(
    path: str, size: tuple[int, int], count: int, fps: float, fit: Fit, part: Part
) -> tuple[list[int], list[bytes]]:
    """([F, H, W, 3], uint8 RGB): what a player shows at the last frame's time and at steps of 1/fps before it."""
    begin = _last_time(path) - (count - 1) / fps - SLACK_S
    shown = _frames_from(path, size, begin, fit, part) or _frames_from(path, size, -math.inf, fit, part)
    if not shown:
        raise MediaError("decode", "no frame of the video decodes")
    end, picked = shown[-1][0], []
    for k in range(count):
        earlier = [picture for time, picture in shown if time <= end - k / fps + SLACK_S]
        if not earlier:
            break
        picked.append(earlier[-1])
    return _pack(picked[::-1])


def decode_span(
    path: str, size: tuple[int, int], start: int, stop: int, fps: float, fit: Fit
) -> tuple[list[int], list[bytes]]:
    """([stop - start, H, W, 3], uint8 RGB): what a player shows at k / fps."""
    origin = _first_time(path)  # of a stream or of a cut, it is not 0
    begin, end = origin + start / fps + SLACK_S, origin + (stop - 1) / fps + SLACK_S
    shown = _frames_from(path, size, begin, fit, end_s=end) or _frames_from(path, size, -math.inf, fit)[-1:]
    if not shown:
        raise MediaError("decode", "no frame of the video decodes")
    picked, at = [], 0
    for k in range(start, stop):
        while at + 1 < len(shown) and shown[at + 1][0] <= origin + k / fps + SLACK_S:
            at += 1
        picked.append(shown[at][1])
    return _pack(picked)


def fitted(picture: np.ndarray, width: int, height: int, fit: Fit, part: Part = None) -> np.ndarray:
    """Give a picture [h, w, 3] its size."""
    import cv2

    if fit == "cover" and part is not None:
        return _shown_through(picture, part, width, height)
    if fit == "cover":
        return cover(picture, width, height)
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_LANCZOS4)


def cover(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Scale [h, w, 3] so that it covers the size, and cut out the middle."""
    import cv2

    scale = max(width / picture.shape[1], height / picture.shape[0])
    w, h = max(width, round(picture.shape[1] * scale)), max(height, round(picture.shape[0] * scale))
    large = cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    top, left = (h - height) // 2, (w - width) // 2
    return large[top : top + height, left : left + width]


def _shown_through(picture: np.ndarray, part: tuple[int, int], width: int, height: int) -> np.ndarray:
    """Cut the middle with the proportions of `part` out of [h, w, 3], and give it the size."""
    import cv2

    h, w = picture.shape[:2]
    wide, tall = min(w, max(1, round(h * part[0] / part[1]))), min(h, max(1, round(w * part[1] / part[0])))
    top, left = (h - tall) // 2, (w - wide) // 2
    how = cv2.INTER_AREA if wide > width or tall > height else cv2.INTER_CUBIC
    return cv2.resize(picture[top : top + tall, left : left + wide], (width, height), interpolation=how)


def _first_time(path: str) -> float:
    """Seconds of the first frame."""
    with Video(path) as video:
        first = next(video.frames(), None)
        return float((first.pts or 0) * video.time_base) if first is not None else 0.0


def _last_time(path: str) -> float:
    """Seconds of the last frame, by the packets: nothing is decoded."""
    import av

    last = 0
    with Video(path) as video:
        try:
            for packet in video.container.demux(video.stream):
                last = max(last, packet.pts or 0)
                report_progress(None)
        except av.error.FFmpegError:
            pass  # the container ends here; what came before it stands
        return float(last * video.time_base)


def _frames_from(
    path: str, size: tuple[int, int], begin_s: float, fit: Fit, part: Part = None, *, end_s: float = math.inf
) -> list[tuple[float, np.ndarray]]:
    """(seconds, picture) of the frame that is on at `begin_s` and of all later ones up to `end_s`."""
    found: list[tuple[float, np.ndarray]] = []
    with Video(path) as video:
        if begin_s > 0:
            video.seek(int(begin_s / video.time_base))
        for frame in video.frames():
            report_progress(None)
            if frame.pts is None:
                continue
            if frame.width * frame.height > MAX_PIXELS:
                raise MediaError("limit", f"frames of {frame.width}x{frame.height} are over {MAX_PIXELS} pixels")
            time_s = float(frame.pts * video.time_base)
            if time_s > end_s and found:
                break
            if time_s <= begin_s:
                found.clear()
            found.append((time_s, fitted(_turned(frame, video), *size, fit, part)))
    return found


def _turned(frame: Any, video: Video) -> np.ndarray:
    """Turn the frame upright and make its pixels square."""
    import cv2

    forget_unusual_tags(frame)  # swscale refuses them
    orientation = orientation_of(frame)
    picture = np.ascontiguousarray(orientation.apply(frame.to_ndarray(format="rgb24")))
    sar = upright_sar(video.stream.sample_aspect_ratio, orientation)
    if sar != 1:
        picture = cv2.resize(picture, square_size(picture.shape[1], picture.shape[0], sar))
    return picture


def _pack(pictures: list[np.ndarray]) -> tuple[list[int], list[bytes]]:
    stacked = np.stack(pictures)
    return list(stacked.shape), [stacked.tobytes()]
