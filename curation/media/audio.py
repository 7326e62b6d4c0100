"""Carry a span of a source's sound into a clip, as AAC."""

from typing import Any

from curation.media.decode import Video

RATE_HZ = 48_000
LAYOUT = "stereo"
SEEK_MARGIN_S = 1.0  # codecs with priming samples need a run-up


class AudioTrack:
    """The sound track of a clip being written. Add it before the first packet is muxed."""

    def __init__(self, container: Any) -> None:
        self.container = container
        self.stream = container.add_stream("aac", rate=RATE_HZ, layout=LAYOUT)

    def copy(self, uri: str, start_s: float, end_s: float) -> None:
        """Encode the sound of `uri` in [start_s, end_s), container time, so that `start_s` is the clip's time 0."""
        import av

        resampler = av.AudioResampler(format="fltp", layout=LAYOUT, rate=RATE_HZ)
        with Video(uri) as source:
            audio = source.container.streams.audio[0]
            source.container.seek(max(0, int((start_s - SEEK_MARGIN_S) * 1e6)))
            for decoded in source.container.decode(audio):
                if decoded.time is not None and decoded.time >= end_s:
                    break
                for frame in resampler.resample(decoded):
                    self._write(_trim(frame, start_s, end_s))
        self._mux(self.stream.encode())

    def _write(self, frame: Any) -> None:
        if frame is not None:
            self._mux(self.stream.encode(frame))

    def _mux(self, packets: Any) -> None:
        for packet in packets:
            self.container.mux(packet)


def _trim(frame: Any, start_s: float, end_s: float) -> Any:
    """The part of a resampled frame inside the span, its clock moved to the clip's; None if there is none."""
    import av

    begin = round((frame.time - start_s) * RATE_HZ)
    first, last = max(0, -begin), min(frame.samples, round((end_s - start_s) * RATE_HZ) - begin)
    if first >= last:
        return None
    part = av.AudioFrame.from_ndarray(frame.to_ndarray()[:, first:last].copy(), format="fltp", layout=LAYOUT)
    part.sample_rate, part.pts, part.time_base = RATE_HZ, begin + first, frame.time_base
    return part
