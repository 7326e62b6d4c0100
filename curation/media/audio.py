"""Carry a span of a source's sound into a clip, as AAC.

Sound never costs the picture: packets that do not decode are left out, and a note says so.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from reelwright.curation.media.decode import Video
from reelwright.curation.media.sandbox_child import report_progress
from reelwright.curation.media.streams import choose_sound

RATE_HZ = 48_000
LAYOUT = "stereo"
SEEK_MARGIN_S = 1.0  # codecs with priming samples need a run-up
DRIFT_S = 0.1  # sound continues where it stood if its times differ by less from its count: jitter would click
MAX_AHEAD_S = 60.0  # sound in a file lies this near its picture; sound further on is not looked for


@dataclass(frozen=True)
class Sound:
    """Sound of a clip.

    Attributes:
        parts: (place of the first sample in the clip, float32 [2, samples]) in order, at RATE_HZ.
        note: the fault of the sound, if any.
    """

    parts: list[tuple[int, np.ndarray]]
    note: str | None


class AudioTrack:
    """The sound track of a clip being written. Add it before the first packet is muxed."""

    def __init__(self, container: Any) -> None:
        self.container = container
        self.stream = container.add_stream("aac", rate=RATE_HZ, layout=LAYOUT)

    def write(self, sound: Sound) -> str | None:
        """Encode all of it; returns what went wrong, if anything."""
        import av

        try:
            for at, samples in sound.parts:
                frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=LAYOUT)
                frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, at, Fraction(1, RATE_HZ)
                self._mux(self.stream.encode(frame))
            self._mux(self.stream.encode())
        except (av.error.FFmpegError, ValueError) as error:
            return f"sound ends early: it cannot be encoded ({error})"
        return None

    def _mux(self, packets: Any) -> None:
        for packet in packets:
            self.container.mux(packet)


def read_sound(uri: str, start_s: float, end_s: float) -> Sound:
    """Read the sound of `uri` in [start_s, end_s), container time.

    It never fails for the content of the file: see `Sound.note`.
    """
    import av

    reader = _Reader(start_s, end_s)
    try:
        with Video(uri) as source:
            reader.read(source.container)
    except (av.error.FFmpegError, ValueError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        reader.trouble = reader.trouble or f"{type(error).__name__}: {error}"
    return Sound(reader.parts, reader.note)


class _Reader:
    """Decodes the packets of a span one by one, so that a damaged one costs itself alone."""

    def __init__(self, start_s: float, end_s: float) -> None:
        self.start_s, self.num_samples = start_s, max(0, round((end_s - start_s) * RATE_HZ))
        self.end_s = end_s
        self.parts: list[tuple[int, np.ndarray]] = []
        self.damaged = 0
        self.untimed = False  # whether there is sound of unknown time
        self.trouble: str | None = None
        self.resampler: Any = None
        self.shape: tuple[str, str, int] | None = None  # that the resampler was made for
        self.next_at: int | None = None  # place in the clip of the sample after the last

    @property
    def note(self) -> str | None:
        heard = "" if self.parts else "without sound: "
        if self.trouble:
            return f"{heard or 'sound may be cut short: '}it does not decode ({self.trouble})"
        if self.untimed and not self.parts:
            return f"{heard}it has no times"
        return f"{heard}{self.damaged} damaged packets of sound were left out" if self.damaged else None

    def read(self, container: Any) -> None:
        import av

        audio = choose_sound(container)
        if audio is None or audio.codec_context is None or audio.codec_context.codec is None:
            self.trouble = "no decoder for its codec"
            return
        with contextlib.suppress(av.error.FFmpegError):  # a file that cannot be seeked in is read from its start
            container.seek(max(0, int((self.start_s - SEEK_MARGIN_S) * 1e6)))
        for packet in self._packets(container, audio):
            report_progress(None)
            try:
                frames = packet.decode()
            except av.error.EOFError:
                return
            except (av.error.FFmpegError, ValueError):
                self.damaged += 1
                continue
            for frame in frames:
                if frame.time is not None and frame.time >= self.end_s:
                    return
                self._take(frame)

    def _packets(self, container: Any, audio: Any) -> Iterator[Any]:
        import av

        packets = container.demux(audio)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.error.EOFError):
                return
            except av.error.FFmpegError as error:
                self.trouble = str(error)
                return
            if packet.dts is not None and float(packet.dts * packet.time_base) > self.end_s + MAX_AHEAD_S:
                return
            if packet.size:
                yield packet

    def _take(self, frame: Any) -> None:
        """Resample a decoded frame; frames of another layout, rate or sample format than before get a new resampler."""
        import av

        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        try:
            if shape != self.shape:
                self._drain()
                self.shape, self.resampler = shape, av.AudioResampler(format="fltp", layout=LAYOUT, rate=RATE_HZ)
                self.next_at = None if frame.time is not None else self.next_at
            begins = None if frame.time is None else round((frame.time - self.start_s) * RATE_HZ)
            if begins is None and self.next_at is None:
                self.untimed = True
                return
            if self.next_at is None or (begins is not None and abs(begins - self.next_at) > DRIFT_S * RATE_HZ):
                if self.next_at is not None:
                    self._drain()
                    self.resampler = av.AudioResampler(format="fltp", layout=LAYOUT, rate=RATE_HZ)
                self.next_at = begins
            frame.pts = None  # places are counted here
            for part in self.resampler.resample(frame):
                self._place(part)
        except (av.error.FFmpegError, ValueError):
            self.damaged += 1
            self.shape = None

    def _drain(self) -> None:
        if self.resampler is not None:
            resampler, self.resampler = self.resampler, None
            for part in resampler.resample(None):
                self._place(part)

    def _place(self, part: Any) -> None:
        assert self.next_at is not None
        at, self.next_at = self.next_at, self.next_at + part.samples
        first, last = max(0, -at), min(part.samples, self.num_samples - at)
        taken = self.parts[-1][0] + self.parts[-1][1].shape[1] if self.parts else None
        if taken is not None:  # a clock that runs back must not lay sound over sound
            first = max(first, taken - at)
        if first < last:
            if taken is not None and at + first > taken:  # players hear the samples one after another
                self.parts.append((taken, np.zeros((2, at + first - taken), np.float32)))
            self.parts.append((at + first, np.ascontiguousarray(part.to_ndarray()[:, first:last])))
