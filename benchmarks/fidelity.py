"""How near clips are to their sources: first and last frame of each, and how many there are. Part of
`benchmarks.quality`.

A clip of an interlaced source is deinterlaced, so its frames are compared with the source's after the same filter over
the same frames; their difference from the woven frames, which comb where something moves, is a figure of its own.
One source frame and one clip are in memory at a time.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import av.filter
import numpy as np

from reelwright.curation.media.decode import Video, orientation_of
from reelwright.curation.store import Store


@dataclass
class Distances:
    """PSNR of 4:2:0 in dB, of frames by name."""

    db: list[float] = field(default_factory=list)
    worst: float = 99.0
    worst_at: str = ""

    def add(self, db: float, name: str) -> None:
        self.db.append(db)
        if db < self.worst:
            self.worst, self.worst_at = db, name


def clip_fidelity(store: Store) -> dict[str, Any]:
    """PSNR of each clip's first and last frame against the source's, in dB; counts of frames."""
    sources = {s["md5"]: s for s in store.read("sources", filter="state = 'ok'").to_pylist()}
    clips: dict[str, list[dict[str, Any]]] = {}
    for clip in store.read("clips").to_pylist():
        clips.setdefault(clip["source_md5"], []).append(clip)
    shown, woven, wrong = Distances(), Distances(), 0
    for md5, mine in clips.items():
        name = Path(sources[md5]["uri"]).name
        for clip, pairs, count, interlaced in _compared(store, sources[md5], mine):
            wrong += count != clip["end_frame"] - clip["start_frame"] or count != clip["num_frames"]
            for index, as_decoded, as_filtered, ours in pairs:
                shown.add(_psnr(as_filtered, ours, clip), f"{name} frame {index}")
                if interlaced:
                    woven.add(_psnr(as_decoded, ours, clip), f"{name} frame {index}")
    figures = {
        "clip_psnr_worst_db": round(shown.worst, 2),
        "clip_psnr_worst_at": shown.worst_at,
        "clip_psnr_mean_db": round(float(np.mean(shown.db)), 2) if shown.db else 0.0,
    }
    if woven.db:
        figures["clip_psnr_interlaced_against_woven_worst_db"] = round(woven.worst, 2)
    return figures | {"clip_frame_counts_wrong": wrong, "clips": len(shown.db) // 2}


Pair = tuple[int, np.ndarray, np.ndarray, Any]  # frame number; the source's frame, and filtered; the clip's


def _compared(
    store: Store, source: dict[str, Any], clips: list[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], list[Pair], int, bool]]:
    """(clip, its first and last frame beside the source's, frames in it, whether it was interlaced), in order."""
    waiting = sorted(clips, key=lambda c: c["start_frame"])[::-1]
    with Video(source["uri"]) as video:
        frames = enumerate(video.frames())
        while waiting:
            clip = waiting.pop()
            first, last, count = _ends(store, clip["clip_id"])
            theirs = _Span(video, (source["width"], source["height"]))
            for index, frame in frames:
                if index >= clip["start_frame"]:
                    theirs.add(frame, index, is_end=index in (clip["start_frame"], clip["end_frame"] - 1))
                if index == clip["end_frame"] - 1:
                    break
            pairs = theirs.ends()
            yield clip, [(*pairs[0], first), (*pairs[-1], last)], count, theirs.interlaced


def _ends(store: Store, clip_id: str) -> tuple[Any, Any, int]:
    """First and last frame of a clip, and how many it has."""
    ((_, mp4),) = store.read_media([clip_id])
    first = last = None
    count = 0
    with av.open(io.BytesIO(mp4)) as file:
        for last in file.decode(video=0):
            first, count = last if first is None else first, count + 1
    return first, last, count


class _Span:
    """The source's frames of one clip: their ends as decoded, and as the clip's filter leaves them."""

    def __init__(self, video: Video, size: tuple[int, int]) -> None:
        self.video, self.size = video, size
        self.interlaced, self.graph = False, None
        self.decoded: list[tuple[int, np.ndarray]] = []
        self.filtered: list[Any] = []

    def add(self, frame: Any, index: int, *, is_end: bool) -> None:
        if not self.decoded:
            self.interlaced = bool(frame.interlaced_frame)
            self.graph = self._deinterlacer(frame) if self.interlaced else None
        if is_end:
            self.decoded.append((index, self._upright(frame)))
        if self.graph is not None:
            frame.pts = index
            self.graph.vpush(frame)
            self._pull()

    def ends(self) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """(number, decoded, filtered) of the first and the last; one and the same where there is one."""
        if self.graph is None:
            return [(index, picture, picture) for index, picture in self.decoded]
        self.graph.vpush(None)
        self._pull()
        first, last = self._upright(self.filtered[0]), self._upright(self.filtered[-1])
        return [(*self.decoded[0], first), (*self.decoded[-1], last)]

    def _pull(self) -> None:
        assert self.graph is not None
        while True:
            try:
                frame = self.graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            self.filtered[1:] = [frame]  # the first and the newest

    def _deinterlacer(self, first: Any) -> Any:
        """As `encode.py` has it."""
        graph = av.filter.Graph()
        source = graph.add_buffer(self.video.stream, first.width, first.height, first.format)
        bwdif, sink = graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink")
        source.link_to(bwdif)
        bwdif.link_to(sink)
        graph.configure()
        return graph

    def _upright(self, frame: Any) -> np.ndarray:
        """uint8 RGB [H, W, 3] in the source's size, which a stream may change half-way."""
        orientation = orientation_of(frame)
        width, height = orientation.size(*self.size)
        return orientation.apply(frame.reformat(width, height, "rgb24", interpolation="AREA").to_ndarray())


def _psnr(source: np.ndarray, clip_frame: Any, clip: dict[str, Any]) -> float:
    x, y, w, h = (clip[f"crop_{side}"] for side in "xywh")
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(source[y : y + h, x : x + w]), format="rgb24")
    want = picture.reformat(clip["width"], clip["height"], "yuv420p", interpolation="LANCZOS").to_ndarray()
    got = clip_frame.reformat(format="rgb24").reformat(format="yuv420p").to_ndarray()
    error = np.mean((want.astype(np.float32) - got) ** 2)
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))
