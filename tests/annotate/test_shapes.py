"""Ribbons, dots and clips of one frame: an annotator answers, or says in a sentence why there is nothing to measure."""

import numpy as np
import pyarrow as pa
import pytest

from reelwright.annotate import Annotator, annotate_clip, in_profile, load, stored_needs
from tests.annotate.synth import texture
from tests.footage import write

SHAPES = [(4096, 64), (64, 4096), (2000, 16), (2000, 2), (2, 2000), (400, 30), (16, 16), (2, 2)]


def measuring() -> list[Annotator]:
    """Those of the cpu profile that look at a clip itself."""
    loaded = [load(name) for name in in_profile("cpu")]
    return [a for a in loaded if isinstance(a, Annotator) and not stored_needs(a)]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
def test_odd_shapes_and_lengths_get_values_or_a_reason(tmp_path, shape):
    annotators, (width, height) = measuring(), shape
    assert {"motion", "camera_motion", "text", "blur"} <= {a.name for a in annotators}
    picture = texture(height + 8, width + 8)
    frames = [np.ascontiguousarray(picture[i : i + height, i : i + width]) for i in range(6)]
    for count in (1, 2, 6):
        mp4 = write(tmp_path / f"{count}.mp4", frames[:count]).read_bytes()
        columns, failures = annotate_clip(mp4, annotators)
        silent = {f.annotator for f in failures}
        assert silent <= {"motion", "camera_motion"}
        assert all("pixels across" in f.error for f in failures)
        assert not silent or max(shape) > 30 * min(shape)
        for annotator in annotators:
            if annotator.name not in silent:
                assert annotator.columns.keys() <= columns.keys()
                for name, column in annotator.columns.items():
                    pa.scalar(columns[name], column.type)
