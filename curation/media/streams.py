"""Which of a file's video streams is the footage: not a cover, not a thumbnail, not a silent program."""

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

PEEK_PACKETS = 4096
PEEK_BYTES = 16 << 20
ENOUGH = 2  # packets that tell footage from a thumbnail
FEW = 10  # a track of pictures with this many times fewer of them than another track is one of previews
SINGLE_PICTURES = frozenset({"mjpeg", "png", "bmp", "gif", "webp", "tiff", "jpeg2000", "jpegxl", "ljpeg"})
COVERS = frozenset({"attached_pic", "timed_thumbnails"})
PARTS = frozenset({"still_image", "dependent"})  # of another picture, or not moving: the last choice


@dataclass(frozen=True)
class Chosen:
    """The video stream that is curated, and the others: one short phrase per stream, for the source's note."""

    stream: Any
    others: tuple[str, ...]


def choose_stream(container: Any, reopen: Callable[[], Any]) -> Chosen | None:
    """Return the stream of an open container that holds its footage; None where there is none.

    A stream with a moving picture goes before one without, then one with the default flag, then the largest picture,
    then the first. reopen: gives another container over the same file, to look at packets where the container does not
    say how many there are; it is asked only of files with several streams to choose from. The choice depends on the
    file's bytes alone, so that every decode of a file is of the same stream.
    """
    streams = [s for s in container.streams.video if not COVERS & dispositions(s)]
    if not streams:
        return None
    if len(streams) == 1:
        return Chosen(streams[0], _described([s for s in container.streams.video if s is not streams[0]], {}))
    counts = _frame_counts(container, streams, reopen)
    most = max(counts.values())

    def moves(stream: Any) -> bool:
        few = _codec(stream) in SINGLE_PICTURES and FEW * counts[stream.index] < most
        return counts[stream.index] >= min(ENOUGH, most) and not few

    def rank(stream: Any) -> tuple[bool, bool, bool, bool, int, int]:
        context, flags = stream.codec_context, dispositions(stream)
        width, height = (context.width, context.height) if context is not None else (0, 0)
        can_decode = context is not None and context.codec is not None and width > 0 and height > 0
        return (can_decode, moves(stream), not PARTS & flags, "default" in flags, width * height, -stream.index)

    best = max(streams, key=rank)
    return Chosen(best, _described([s for s in container.streams.video if s is not best], counts))


def choose_sound(container: Any) -> Any:
    """Return the sound that belongs to the footage; None where there is none.

    That is the first stream with the default flag that has a decoder, else the first one that has.
    """
    streams = list(container.streams.audio)
    known = [s for s in streams if s.codec_context is not None and s.codec_context.codec is not None]
    return next((s for s in known if "default" in dispositions(s)), next(iter(known or streams), None))


def dispositions(stream: Any) -> set[str]:
    """Return the names of a stream's flags, as far as this PyAV knows them."""
    with contextlib.suppress(Exception):
        return {flag.name for flag in stream.disposition}
    return set()


def _frame_counts(container: Any, streams: Sequence[Any], reopen: Callable[[], Any]) -> dict[int, int]:
    """Return frames by index of stream: by an mp4's tables, else by packets at the file's beginning, up to a bound."""
    said = {s.index: s.frames for s in streams}
    if "mp4" in container.format.name and all(said.values()):  # other containers write arbitrary values here
        return said
    return _peek(reopen, [s.index for s in streams])


def _peek(reopen: Callable[[], Any], indices: Sequence[int]) -> dict[int, int]:
    import av

    seen: Counter[int] = Counter(dict.fromkeys(indices, 0))
    packets = num_bytes = 0
    with contextlib.suppress(av.error.FFmpegError, ValueError), reopen() as container:
        for packet in container.demux([s for s in container.streams.video if s.index in seen]):
            if packet.size:
                seen[packet.stream_index] += 1
            packets, num_bytes = packets + 1, num_bytes + packet.size
            told_apart = min(seen[i] for i in indices) >= ENOUGH
            if told_apart or packets >= PEEK_PACKETS or num_bytes >= PEEK_BYTES:
                break
    return dict(seen)


def _described(streams: Sequence[Any], counts: dict[int, int]) -> tuple[str, ...]:
    return tuple(f"stream {s.index} ({_about(s, counts)})" for s in streams)


def _about(stream: Any, counts: dict[int, int]) -> str:
    context = stream.codec_context
    size = f" {context.width}x{context.height}" if context is not None and context.width else ""
    kind = "cover picture" if COVERS & dispositions(stream) else _codec(stream) or "unknown codec"
    return kind + size + (", no frames" if counts.get(stream.index) == 0 else "")


def _codec(stream: Any) -> str:
    context = stream.codec_context
    return context.name if context is not None else ""
