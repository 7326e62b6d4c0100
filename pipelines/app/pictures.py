"""Still pictures of clips for the grid, kept in memory: a page of sixty players would load sixty videos."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from reelwright.curation.media.frames import Frames, read
from reelwright.curation.store import Store

HEIGHT, QUALITY = 180, 80
KEEP_BYTES = 64 << 20


@dataclass(frozen=True)
class First(Frames):
    """The first frame, with which playing begins, so that nothing jumps."""

    def indices(self, num_frames: int, fps: float) -> list[int]:
        """Return the first frame alone."""
        return [0]


class Pictures:
    """JPEG of each clip's first frame.

    Args:
        store: to read clips from.
        read_whole: returns a video by its id; default: a clip's.
    """

    def __init__(self, store: Store, read_whole: Callable[[str], bytes] | None = None) -> None:
        self._store, self._read = store, read_whole or self._clip
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def get(self, clip_id: str) -> bytes:
        """Return a clip's picture. Raises StoreError without media, MediaError where it does not decode."""
        from reelwright.curation.media.sheets import to_jpeg

        with self._lock:
            if clip_id in self._kept:
                self._kept.move_to_end(clip_id)
                return self._kept[clip_id]
        _, (frames,) = read(self._read(clip_id), [First(count=1, height=HEIGHT, color="rgb")])
        made = to_jpeg(frames[0], QUALITY)
        with self._lock:
            if clip_id not in self._kept:
                self._kept[clip_id] = made
                self._bytes += len(made)
            while self._bytes > KEEP_BYTES:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return made

    def _clip(self, clip_id: str) -> bytes:
        clip = self._store.open_media(clip_id)
        return clip.read(0, clip.size)
