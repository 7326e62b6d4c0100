"""The ffmpeg command's facts of a file: its streams, each frame's facts, and pictures by the colours' formulas.

It shares no code with the project: another build of the decoders, another conversion of colours.
"""

import re
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

STREAM = re.compile(r"Stream #0:(\d+)\S*: Video: (.*)")
SIZE = re.compile(r"\b(\d{2,5})x(\d{2,5})\b")
FRAME = re.compile(r"\] n: *(\d+) .*?pts_time:(\S+) .*?fmt:(\S+) .*?s:(\d+)x(\d+) i:(.) iskey:(\d) type:(.)")
TAGS = re.compile(r"color_range:(\S+) color_space:(\S+) color_primaries:(\S+) color_trc:(\S+)")
DAMAGE = re.compile(r"error while decoding|concealing|corrupt|Invalid NAL|damaged", re.IGNORECASE)
DURATION = re.compile(r"Duration: (\d+):(\d+):([\d.]+)")
WEIGHTS = {  # of red and blue in luma: ITU-T H.273, table 4; unspecified is read as ffmpeg does
    "bt709": (0.2126, 0.0722), "bt470bg": (0.299, 0.114), "smpte170m": (0.299, 0.114), "unknown": (0.299, 0.114),
    "fcc": (0.30, 0.11), "smpte240m": (0.212, 0.087), "bt2020nc": (0.2627, 0.0593),
}  # fmt: skip


@dataclass(frozen=True)
class Stream:
    """A video stream: `index` among the file's video streams."""

    index: int
    is_default: bool
    is_cover: bool
    width: int
    height: int


@dataclass(frozen=True)
class FrameFacts:
    """A decoded frame. time_s: None without a timestamp. `matrix` and the like in ffmpeg's words."""

    time_s: float | None
    pixel_format: str
    width: int
    height: int
    is_interlaced: bool
    is_key: bool
    kind: str  # I, P, B or ?
    range: str
    matrix: str
    primaries: str
    transfer: str


@dataclass(frozen=True)
class Decoded:
    """Facts of one video stream. damage: lines of complaints by the decoder."""

    frames: tuple[FrameFacts, ...]
    damage: int


@cache
def executable() -> str:
    import imageio_ffmpeg

    return imageio_ffmpeg.get_ffmpeg_exe()


def _run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    one = ("-threads", "1")  # of the decoder: with more, damaged frames are patched up otherwise from run to run
    command = [executable(), "-hide_banner", "-nostdin", *one, *arguments]
    return subprocess.run(command, capture_output=True, check=False, timeout=300)


@cache
def describe(path: Path) -> tuple[list[Stream], float | None]:
    """Video streams of a file and its duration in seconds, None where the container names none."""
    text = _run("-i", str(path)).stderr.decode("utf-8", "replace")
    streams = []
    for index, match in enumerate(STREAM.finditer(text)):
        size = SIZE.search(match[2])
        width, height = map(int, size.groups()) if size else (0, 0)
        streams.append(Stream(index, "(default)" in match[2], "attached pic" in match[2], width, height))
    found = DURATION.search(text)
    seconds = int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3]) if found else None
    return streams, seconds


@cache
def decode(path: Path, stream: int) -> Decoded:
    """Facts of every frame of a file's video stream, by decoding all of it."""
    one = ("-map", f"0:v:{stream}", "-vf", "showinfo", "-fps_mode", "passthrough")
    done = _run("-i", str(path), *one, "-f", "null", "-")
    lines = done.stderr.decode("utf-8", "replace").splitlines()
    frames: list[FrameFacts] = []
    pending: tuple | None = None
    for line in lines:
        if match := FRAME.search(line):
            pending = match.groups()
        elif pending and (tags := TAGS.search(line)):
            _, time, pixels, width, height, scan, key, kind = pending
            seconds = float(time) if re.match(r"-?\d", time) else None
            frames.append(
                FrameFacts(seconds, pixels, int(width), int(height), scan in "TB", key == "1", kind, *tags.groups())
            )
            pending = None
    return Decoded(tuple(frames), sum(bool(DAMAGE.search(line)) for line in lines))


@cache
def main_stream(path: Path) -> int:
    """The stream a person would mean: the default one, then the larger one, among streams of more than one frame."""
    streams = [s for s in describe(path)[0] if not s.is_cover]
    if len(streams) < 2:
        return streams[0].index if streams else 0
    counts = {s.index: len(decode(path, s.index).frames) for s in streams}
    moving = [s for s in streams if counts[s.index] > 1] or streams
    return max(moving, key=lambda s: (s.is_default, s.width * s.height, -s.index)).index


def pictures(path: Path, stream: int, wanted: Collection[int]) -> dict[int, np.ndarray]:
    """Frames by number, upright: float32 RGB [H, W, 3], 0 to 255, by the matrix and the range of each frame's tags.

    Transfer and primaries are left as they are: code values are compared, not light.
    """
    facts = decode(path, stream).frames
    order = sorted(i for i in wanted if i < len(facts))
    if not order:
        return {}
    first = facts[order[0]]
    is_rgb = first.pixel_format.startswith(("rgb", "bgr", "gbr", "pal8", "argb", "abgr", "rgba"))
    depth = 10 if re.search(r"(10|12|16)(le|be)|p010", first.pixel_format) else 8
    layout = "rgb24" if is_rgb else ("yuv444p10le" if depth == 10 else "yuv444p")
    select = "+".join(f"eq(n\\,{i})" for i in order)
    done = _run(
        "-v", "error", "-i", str(path), "-map", f"0:v:{stream}", "-vf", f"select={select},format={layout}",
        "-fps_mode", "passthrough", "-f", "rawvideo", "-",
    )  # fmt: skip
    width, height = first.width, first.height
    kind = np.uint16 if depth == 10 and not is_rgb else np.uint8
    values = np.frombuffer(done.stdout, kind)
    if values.size != len(order) * width * height * 3:
        width, height = height, width  # turned by the display matrix
        if values.size != len(order) * width * height * 3:
            return {}
    if is_rgb:
        return dict(zip(order, values.reshape(-1, height, width, 3).astype(np.float32), strict=True))
    planes = values.reshape(len(order), 3, height, width).astype(np.float32) / (4 if depth == 10 else 1)
    return {i: _rgb(p, facts[i]) for i, p in zip(order, planes, strict=True)}


def _rgb(planes: np.ndarray, facts: FrameFacts) -> np.ndarray:
    """[3, H, W] in 8-bit code values -> RGB [H, W, 3], 0 to 255: ITU-T H.273, equations 8.3."""
    y, cb, cr = planes
    if facts.range == "pc" or facts.pixel_format.startswith("yuvj"):
        y, cb, cr = y / 255, (cb - 128) / 255, (cr - 128) / 255
    else:
        y, cb, cr = (y - 16) / 219, (cb - 128) / 224, (cr - 128) / 224
    kr, kb = WEIGHTS.get(facts.matrix, WEIGHTS["unknown"])
    red, blue = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return (np.stack([red, green, blue], -1) * 255).clip(0, 255)
