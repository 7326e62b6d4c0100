"""Decoded frames of one source, kept from its scan for the cut that follows in the same process.

A short source is then decoded once. Frames are handed out one time each and forgotten with that, so memory falls as the
cut goes on, and nobody sees a frame that the encoder has stamped with other times.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any


class KeptFrames:
    """All frames of a source in presentation order, or none of them where they are too large together."""

    def __init__(self, uri: str, most_bytes: int) -> None:
        """Keep nothing yet.

        Args:
            uri: of the source.
            most_bytes: of decoded pictures; a source with more of them is not kept.
        """
        self.uri, self.room = uri, most_bytes
        self._frames: deque[Any] = deque()

    def add(self, frame: Any) -> None:
        """Keep the next decoded `av.VideoFrame`, if there is room for it and was for all before it."""
        if self.room <= 0:
            return
        self.room -= sum(plane.buffer_size for plane in frame.planes)
        if self.room > 0:
            self._frames.append(frame)
        else:
            self._frames.clear()

    @property
    def are_all(self) -> bool:
        """Whether every frame was kept, and there is one."""
        return self.room > 0 and bool(self._frames)

    def frames(self) -> Iterator[Any]:
        """Yield the frames, once."""
        while self._frames:
            yield self._frames.popleft()


_kept: KeptFrames | None = None


def keep(frames: KeptFrames) -> None:
    """Keep frames for the next call of `take` in this process, in place of those of another source."""
    global _kept  # noqa: PLW0603 - one source per process
    _kept = frames


def forget() -> None:
    """Keep nothing any more."""
    global _kept  # noqa: PLW0603
    _kept = None


def take(uri: str) -> KeptFrames | None:
    """Return all frames of a source, if they were kept; nothing is kept after that."""
    global _kept
    frames, _kept = _kept, None
    return frames if frames is not None and frames.uri == uri and frames.are_all else None
