"""The pictures of a clip as a decoder gives them, taken from its encoder: x264 makes them anyway, to predict from.

x264 writes them into memory that only this process sees, so annotators need not decode what was encoded a moment ago.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reelwright.curation.media.colour import LIMITED
from reelwright.curation.media.filters import linked

if TYPE_CHECKING:
    from av import VideoFrame


@dataclass(frozen=True, eq=False)
class CodedPictures:
    """Pictures of one clip, uint8 [T, H·W·3/2] in 4:2:0, in the order in which they are shown.

    matrix: of the clip's colours, a number of H.273.
    """

    pictures: np.ndarray
    width: int
    height: int
    matrix: int

    def __len__(self) -> int:
        return len(self.pictures)

    def frames(self, times: Mapping[int, int]) -> Iterator[VideoFrame]:
        """Yield frames that are views of the pictures. times: number of a picture -> its presentation time."""
        import av

        source = f"video_size={self.width}x{self.height}:pix_fmt=yuv420p:time_base=1/1:pixel_aspect=1/1"
        tags = f":colorspace={self.matrix}:range={LIMITED}"
        # as decoders of H.264 say of the chroma's place: scaling to RGB goes by it
        graph = linked([("buffer", source + tags), ("setparams", "chroma_location=left"), ("buffersink", "")])
        for index, pts in times.items():
            frame = av.VideoFrame.from_dlpack(_planes(self.pictures[index], self.width, self.height), format="yuv420p")
            frame.colorspace, frame.color_range, frame.pts = self.matrix, LIMITED, pts
            graph.vpush(frame)
            yield graph.vpull()


@dataclass(frozen=True, eq=False)
class CodedClip:
    """A clip's file, and its pictures."""

    mp4: bytes
    pictures: CodedPictures


class PictureDump:
    """Where x264 writes the pictures of a clip as it codes them."""

    def __init__(self, width: int, height: int) -> None:
        """Make room. Raises OSError where no file can be made in memory, as Linux does."""
        self.width, self.height = width, height
        self._file = os.fdopen(os.memfd_create("reel-coded"), "r+b", buffering=0)

    def close(self) -> None:
        """Free what was not taken."""
        self._file.close()

    @property
    def parameter(self) -> str:
        """Return what x264 is told."""
        return f"dump-yuv=/proc/self/fd/{self._file.fileno()}"

    def taken(self, count: int, matrix: int) -> CodedPictures | None:
        """Return the pictures; None where they are not all there. They are freed with what is returned.

        Args:
            count: how many they must be.
            matrix: of the clip's colours.
        """
        status, size = os.fstat(self._file.fileno()), count * picture_bytes(self.width, self.height)
        if status.st_size != size or status.st_blocks * 512 < size:  # x264 passes over errors, which leave holes
            return None
        # swscale reads some bytes past the end of a row: there must be memory past the last one
        os.ftruncate(self._file.fileno(), size + mmap.PAGESIZE)
        mapped = np.frombuffer(mmap.mmap(self._file.fileno(), size + mmap.PAGESIZE), np.uint8)
        return CodedPictures(mapped[:size].reshape(count, -1), self.width, self.height, matrix)


def dump_of(width: int, height: int, count: int, room_bytes: int) -> PictureDump | None:
    """Return where the pictures of a clip go; None where they are larger than the room, or the system cannot do it."""
    if count * picture_bytes(width, height) > room_bytes:
        return None
    with contextlib.suppress(OSError, AttributeError):
        return PictureDump(width, height)
    return None


def picture_bytes(width: int, height: int) -> int:
    """Return the size of one picture. width, height: even."""
    return width * height * 3 // 2


def _planes(picture: np.ndarray, width: int, height: int) -> list[np.ndarray]:
    luma, chroma = width * height, width * height // 4
    y, u, v = picture[:luma], picture[luma : luma + chroma], picture[luma + chroma :]
    return [y.reshape(height, width), u.reshape(height // 2, width // 2), v.reshape(height // 2, width // 2)]
