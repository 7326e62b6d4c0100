"""Real video files made in milliseconds: numbered frames of drifting texture, in the shapes that footage comes in.

Every frame carries its number as a row of dark and bright blocks (`stamp`), so that a test can ask which frame it sees,
in any size, orientation or codec, besides how close it is.
"""

import functools
import struct
import subprocess
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.annotate.synth import texture

BITS = 10
TICK = Fraction(1, 90_000)
QUARTER_TURNS = {  # degrees clockwise that a player turns -> display matrix, 16.16 and 2.30 fixed point
    90: (0, 1, 0, -1, 0, 0),
    180: (-1, 0, 0, 0, -1, 0),
    270: (0, -1, 0, 1, 0, 0),
}
MIRRORED = (-1, 0, 0, 0, 1, 0)
MIRRORED_AND_TURNED = (0, 1, 0, 1, 0, 0)


def ffmpeg(*arguments: str) -> None:
    """Run the ffmpeg binary that comes with imageio-ffmpeg."""
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-y", *arguments]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


# --- pictures --------------------------------------------------------------------------------------------------------


@functools.cache
def frames(count: int, width: int = 160, height: int = 96, *, seed: int = 0, first: int = 0) -> list[np.ndarray]:
    """uint8 [H, W, 3]: one shot, numbered from `first`."""
    picture = texture(height + 80, width + 80, seed)
    steps = 40 + 36 * np.sin(np.arange(count) / 30 + seed)
    shot = []
    for number, step in enumerate(steps, first):
        y, x = int(step), int(76 - step)
        shot.append(stamp(picture[y : y + height, x : x + width].copy(), number))
    return shot


def shots(lengths: Sequence[int], width: int = 160, height: int = 96, *, seed: int = 0) -> list[np.ndarray]:
    """Several shots with hard cuts between them, numbered through."""
    out: list[np.ndarray] = []
    for i, length in enumerate(lengths):
        shot = frames(length, width, height, seed=100 * seed + i, first=len(out))
        shift = (i % 3 - 1) * 45  # neighbours differ in brightness too: a cut without doubt
        out += [stamp(np.clip(f.astype(np.int16) + shift, 0, 255).astype(np.uint8), len(out) + n)
                for n, f in enumerate(shot)]  # fmt: skip
    return out


def stamp(picture: np.ndarray, number: int) -> np.ndarray:
    """Write `number` over the middle of a picture, in place: BITS blocks of Gray code: one changes at a time."""
    number ^= number >> 1
    height, width = picture.shape[:2]
    top, bottom = round(0.4 * height), round(0.6 * height)
    for bit in range(BITS):
        left, right = round(width * (bit + 1) / (BITS + 2)), round(width * (bit + 2) / (BITS + 2))
        picture[top:bottom, left:right] = 210 if number >> (BITS - 1 - bit) & 1 else 40
    return picture


def number_of(luma: np.ndarray) -> int:
    """The number in an upright frame, [H, W] of any size."""
    height, width = luma.shape
    row = luma[round(0.46 * height) : round(0.54 * height) + 1].mean(axis=0)
    middles = [round(width * (bit + 1.5) / (BITS + 2)) for bit in range(BITS)]
    number = 0
    for middle in middles:
        number = number << 1 | (number & 1 ^ int(row[middle] > 125))
    return number


def luma_of(source: Path | bytes | str, *, size: tuple[int, int] | None = None) -> list[np.ndarray]:
    """Every frame's luma, uint8 [H, W] in limited range, by decoding from first to last."""
    import io

    with av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source)) as file:
        return [gray(f, size) for f in file.decode(video=0)]


def gray(frame: Any, size: tuple[int, int] | None = None) -> np.ndarray:
    """A decoded frame's luma, uint8 [H, W]."""
    width, height = size or (frame.width, frame.height)
    return frame.reformat(width, height, "gray", interpolation="AREA").to_ndarray()


def times_of(source: bytes | Path) -> list[float]:
    """Presentation time of every frame, seconds from the first."""
    import io

    with av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source)) as file:
        times = [f.time for f in file.decode(video=0)]
    return [t - times[0] for t in times]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """dB between two pictures of one size."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


# --- files -----------------------------------------------------------------------------------------------------------


def write(
    path: Path,
    pictures: Iterable[np.ndarray],
    *,
    fps: Fraction | int = 25,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    pts: Sequence[int] | None = None,
    sar: Fraction | None = None,
    sound: np.ndarray | None = None,
    format: str | None = None,
    comment: str = "",
    **options: str,
) -> Path:
    """Encode pictures to `path`. pts: times in 1/90000 s, for a variable rate. sound: float32 [samples], 48 kHz."""
    defaults = {"crf": "14", "preset": "ultrafast", "g": "25"} if codec == "libx264" else {}
    with av.open(str(path), "w", format=format, container_options={"fflags": "+bitexact"}) as file:
        if comment:
            file.metadata["comment"] = comment
        stream = file.add_stream(codec, rate=fps, options=defaults | options)
        track = file.add_stream("aac", rate=48_000, layout="mono") if sound is not None else None
        stream.codec_context.thread_count = 1
        stream.pix_fmt = pix_fmt
        for number, picture in enumerate(pictures):
            if not number:
                stream.height, stream.width = picture.shape[:2]
                stream.codec_context.sample_aspect_ratio = sar or Fraction(1)
                if pts is not None:
                    stream.codec_context.time_base = stream.time_base = TICK
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            if pts is not None:
                frame.pts, frame.time_base = pts[number], TICK
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
        if track is not None:
            heard = av.AudioFrame.from_ndarray(sound[None].astype(np.float32), format="fltp", layout="mono")
            heard.sample_rate, heard.pts, heard.time_base = 48_000, 0, Fraction(1, 48_000)
            file.mux(track.encode(heard))
            file.mux(track.encode())
    return path


def clicks(times_s: Sequence[float], duration_s: float) -> np.ndarray:
    """float32 [samples] at 48 kHz: silence with a short burst at each time."""
    sound = np.zeros(round(48_000 * duration_s), np.float32)
    burst = (0.8 * np.sin(2 * np.pi * 2_000 * np.arange(480) / 48_000)).astype(np.float32)
    for at in times_s:
        start = round(48_000 * at)
        sound[start : start + 480] = burst[: len(sound) - start]
    return sound


def click_times(mp4: bytes) -> list[float]:
    """When bursts begin in a clip's sound, seconds of the container's clock."""
    import io

    with av.open(io.BytesIO(mp4)) as file:
        parts, begins = [], None
        for frame in file.decode(audio=0):
            begins = frame.time if begins is None else begins
            parts.append(frame.to_ndarray().reshape(-1, frame.samples)[0])
            rate = frame.sample_rate
    loud = np.flatnonzero(np.abs(np.concatenate(parts)) > 0.2)
    firsts = loud[np.flatnonzero(np.diff(loud, prepend=-(10**9)) > 0.1 * rate)]
    return [begins + int(i) / rate for i in firsts]


def set_display_matrix(path: Path, abuvcd: tuple[int, ...]) -> Path:
    """Write a matrix into the first track's header (ISO/IEC 14496-12, 8.3.2, version 0)."""
    a, b, u, c, d, v = (value * 65536 for value in abuvcd)
    matrix = (a, b, u, c, d, v, 0, 0, 0x40000000)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(data)
    return path


def write_packed_avi(path: Path, pictures: Sequence[np.ndarray]) -> Path:
    """DivX's packed bitstream: a P and the B before it in one AVI chunk, an empty one after; timestamps lie."""
    height, width = pictures[0].shape[:2]
    encoder = av.CodecContext.create("mpeg4", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
    encoder.options = {"bf": "1", "qscale": "2", "g": "12", "flags": "+qscale+bitexact", "b_strategy": "0"}
    encoder.bit_rate = 4_000_000
    coded: list[bytes] = []
    for number, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, 25)
        coded += [bytes(p) for p in encoder.encode(frame)]
    coded += [bytes(p) for p in encoder.encode(None)]
    mark = b"\x00\x00\x01\xb2DivX503b1393p\x00"
    chunks, i = [], 0
    while i < len(coded):
        if i + 1 < len(coded) and _vop_type(coded[i]) == 1 and _vop_type(coded[i + 1]) == 2:
            chunks += [coded[i] + coded[i + 1], b"\x00\x00\x01\xb6\x50\x00\x00"]  # then a VOP that is not coded
            i += 2
        else:
            chunks.append(coded[i])
            i += 1
    extra = bytes(encoder.extradata or b"")
    chunks[0] = extra + mark + chunks[0] if extra not in chunks[0] else chunks[0].replace(extra, extra + mark, 1)
    path.write_bytes(_avi(chunks, width, height, 25))
    return path


def _vop_type(data: bytes) -> int:
    return data[data.index(b"\x00\x00\x01\xb6") + 4] >> 6


def _avi(chunks: Sequence[bytes], width: int, height: int, fps: int) -> bytes:
    """A one-stream AVI file with an index (Microsoft's AVI RIFF reference)."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return name + struct.pack("<I", len(data)) + data + b"\x00" * (len(data) % 2)

    biggest = max(map(len, chunks))
    main = struct.pack("<14I", 10**6 // fps, 0, 0, 0x10, len(chunks), 0, 1, biggest, width, height, 0, 0, 0, 0)
    head = b"vidsDX50" + struct.pack(
        "<IHHIIIIIIiI4h", 0, 0, 0, 0, 1, fps, 0, len(chunks), biggest, -1, 0, 0, 0, width, height
    )
    shape = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, b"DX50", width * height * 3, 0, 0, 0, 0)
    stream = chunk(b"LIST", b"strl" + chunk(b"strh", head) + chunk(b"strf", shape))
    header = chunk(b"LIST", b"hdrl" + chunk(b"avih", main) + stream)
    movie, index, at = b"movi", b"", 4
    for i, data in enumerate(chunks):
        index += struct.pack("<4sIII", b"00dc", 0x10 if i == 0 else 0, at, len(data))
        part = chunk(b"00dc", data)
        movie, at = movie + part, at + len(part)
    body = b"AVI " + header + chunk(b"LIST", movie) + chunk(b"idx1", index)
    return chunk(b"RIFF", body)


# --- a small set for the pipeline ------------------------------------------------------------------------------------


def footage(folder: Path, count: int = 4, *, lengths: Sequence[int] = (50, 50), seed: int = 0) -> list[Path]:
    """`count` good files of several shots each, each its own content."""
    folder.mkdir(parents=True, exist_ok=True)
    return [write(folder / f"film{i:02d}.mp4", shots(lengths, seed=seed + i)) for i in range(count)]


HOSTILE: dict[str, Callable[[Path, Path], None]] = {
    # name of a file -> writes it, given a good video beside it
    "empty.mp4": lambda path, good: path.write_bytes(b""),
    "text.mp4": lambda path, good: path.write_text("Day 3. Wind from the west.\n" * 40),
    "cut off.mp4": lambda path, good: path.write_bytes(good.read_bytes()[:2000]),
    "hls.mp4": lambda path, good: path.write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nfile://{good}\n#EXT-X-ENDLIST\n"
    ),
    "concat.mp4": lambda path, good: path.write_text(f"ffconcat version 1.0\nfile '{good}'\n"),
    "session.mp4": lambda path, good: path.write_text(
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\n"
        "t=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    ),
    "dash.mp4": lambda path, good: path.write_text(
        f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet '
        f'mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>file://{good}</BaseURL>'
        f"</Representation></AdaptationSet></Period></MPD>"
    ),
}  # fmt: skip
