import io

import av
import numpy as np
import pytest

from reelwright.annotate import annotate_clip, load
from tests.annotate.synth import encode, moved, texture


def technical(mp4: bytes) -> dict:
    columns, failures = annotate_clip(mp4, [load("technical")])
    assert not failures
    return columns


def test_facts_are_those_of_the_stream():
    frames = moved(texture(120, 180), np.arange(24), np.zeros(24), 72, 128)
    mp4 = encode(frames, g="6", sc_threshold="0")
    with av.open(io.BytesIO(mp4)) as container:
        size = sum(p.size for p in container.demux(video=0))
    columns = technical(mp4)
    assert columns["bits_per_pixel"] == pytest.approx(8 * size / (72 * 128 * 24))
    assert columns["keyframe_interval_s"] == pytest.approx(6 / 24)
    assert columns["has_audio"] is False
    assert technical(encode(frames, crf=40))["bits_per_pixel"] < columns["bits_per_pixel"]
