"""Write generated video: H.264 in mp4, or a PNG, with how it was made as JSON in the file itself."""

import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelwright.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

CRF, PRESET = "16", "medium"
BT709 = 1  # the code of BT.709 as matrix, primaries and transfer (ITU-T H.273)
LIMITED = 1
PNG = b"\x89PNG\r\n\x1a\n"
_COPY_AGAIN = "copy it again from where it was made, or make it again"


class DamagedFileError(UserError):
    """A video or picture, or what it says of itself, cannot be read."""


def write_video(path: Path | str, video: "Tensor", fps: float, about: Mapping[str, Any] | None = None) -> Path:
    """Write one video, [3, F, H, W] in -1..1; `about` goes into its comment tag. Width and height must be even."""
    with VideoWriter(Path(path), fps) as writer:
        writer.write(video)
        return writer.finish(about or {})


def write_image(path: Path | str, image: "Tensor", about: Mapping[str, Any] | None = None) -> Path:
    """Write one picture, [3, H, W] in -1..1, as PNG; `about` goes into its text chunk "comment"."""
    import cv2

    path = Path(path)
    picture = to_frames(image.unsqueeze(1))[0]
    data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
    text = b"comment\0\0\0\0\0" + _said(about or {}).encode()
    chunk = struct.pack(">I", len(text)) + b"iTXt" + text + struct.pack(">I", zlib.crc32(b"iTXt" + text))
    end = len(data) - 12  # the IEND chunk
    draft = _draft(path)
    try:
        draft.write_bytes(data[:end] + chunk + data[end:])
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise _cannot_write(path, error) from error
    return path


def to_frames(video: "Tensor") -> "np.ndarray":
    """[3, F, H, W] in -1..1 to uint8 [F, H, W, 3]."""
    return ((video.float() + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 3, 0).contiguous().cpu().numpy()


class VideoWriter:
    """An mp4 that grows by parts and appears under its name when it is finished."""

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self.rate, self.num_frames = path, Fraction(fps).limit_denominator(1001), 0
        self._begun, self._whole = _draft(path), _draft(path).with_suffix(".whole")
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, *exc: object) -> None:
        if self._container is not None:
            with suppress(OSError):  # what went wrong is known
                self._container.close()
            self._container = None
        self._begun.unlink(missing_ok=True)
        self._whole.unlink(missing_ok=True)

    def write(self, video: "Tensor") -> None:
        """Append frames, [3, F, H, W] in -1..1."""
        import av

        with self._writing():
            for picture in to_frames(video):
                if self._container is None:
                    self._open(*picture.shape[1::-1])
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                self._container.mux(self._stream.encode(_to_yuv(frame)))
                self.num_frames += 1

    def finish(self, about: Mapping[str, Any]) -> Path:
        """Close, tag and name the file. The tag is known at the end only, so packets are copied once."""
        if self._container is None:
            raise UserError(f"{self.path}: a video of no frames cannot be written")
        with self._writing():
            self._container.mux(self._stream.encode())
            self._container.close()
            self._container = None
            self._tag(about)
            self._whole.replace(self.path)
        return self.path

    def _tag(self, about: Mapping[str, Any]) -> None:
        import av

        options = {"movflags": "+faststart", "fflags": "+bitexact"}
        with (
            av.open(str(self._begun), format="mp4") as source,
            av.open(str(self._whole), "w", format="mp4", container_options=options) as out,
        ):
            out.metadata["comment"] = _said(about)
            stream = out.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # FFmpeg's errors of files are OSErrors
            raise _cannot_write(self.path, error) from error

    def _open(self, width: int, height: int) -> None:
        import av

        if width % 2 or height % 2:
            raise UserError(f"{width}x{height} cannot be H.264: width and height must be even")
        self._container = av.open(str(self._begun), "w", format="mp4")
        # The same bytes every time: with mbtree, x264 on AVX-512 gave other bytes from run to run.
        options = {"crf": CRF, "preset": PRESET, "x264-params": "mbtree=0"}
        self._stream = self._container.add_stream("libx264", rate=self.rate, options=options)
        context = self._stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.color_range, context.colorspace = LIMITED, BT709
        context.color_primaries = context.color_trc = BT709


def read_about(path: Path) -> dict[str, Any]:
    """Read the facts that `write_video` or `write_image` put into a file.

    Raises:
        DamagedFileError: the file, or what it says, cannot be read.
        UserError: the file says nothing.
    """
    is_picture = path.suffix.lower() == ".png"
    try:
        said = _png_text(path.read_bytes()) if is_picture else _mp4_comment(path)
    except KeyError:
        raise UserError(f"{path}: it does not say how it was made") from None
    except (OSError, ValueError, IndexError, struct.error):
        what = f"it cannot be opened as {'a PNG' if is_picture else 'an MP4'}"
        raise DamagedFileError(f"{path}: damaged: {what}; {_COPY_AGAIN}") from None
    try:
        return json.loads(said)
    except ValueError:
        if "reelwright" not in said:  # somebody else's comment
            raise UserError(f"{path}: it does not say how it was made") from None
        why = "what it says of how it was made cannot be read"
        raise DamagedFileError(f"{path}: damaged: {why}; {_COPY_AGAIN}") from None


def _mp4_comment(path: Path) -> str:
    """Return the comment of an MP4. KeyError: it has none."""
    import av

    from reelwright.curation.media.protection import boxes

    with av.open(str(path), format="mp4") as container:
        found = container.metadata.get("comment")
    if found is None:
        size = path.stat().st_size
        with path.open("rb") as file:
            if any(end > size for _, _, end in boxes(file, 0, size)):
                raise ValueError("cut off")  # FFmpeg reads what is left
        raise KeyError("comment")
    return found


def _png_text(data: bytes) -> str:
    """Return the first text of a PNG. KeyError: it has none."""
    if not data.startswith(PNG):
        raise ValueError("not a PNG")
    at = len(PNG)
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        if data[at + 4 : at + 8] == b"iTXt":
            return data[at + 8 : at + 8 + size].split(b"\0\0\0\0\0", 1)[1].decode()
        at += size + 12
    if at > len(data):
        raise ValueError("cut off")
    raise KeyError("comment")


def _to_yuv(frame: Any) -> Any:
    from av.video.reformatter import Colorspace

    return frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)


def _said(about: Mapping[str, Any]) -> str:
    """Facts as JSON. Bytes of a file's name that are not UTF-8 are lone surrogates here; JSON escapes them."""
    return json.dumps(about, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _cannot_write(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot write {path}: {error.strerror or error}; choose a folder that you can write to")
