import cv2
import numpy as np
import pyarrow as pa
import pytest

from reelwright.annotate import annotate_clip, load
from reelwright.annotate.sets.duplicates.hashes import distance, padded
from tests.annotate.synth import encode, moved, noisy, texture

FRAMES = moved(texture(260, 420), 3 * np.arange(24), np.zeros(24), 180, 320)
COPY, OTHER = 4, 20  # bits: the threshold of near_duplicates; chance is 32


def hashes(frames, **options) -> list[int]:
    columns, failures = annotate_clip(encode(frames, **options), [load("frame_hash")])
    assert not failures
    return columns["frame_hash"]


def bits(a, b) -> float:
    """Distance of two clips."""
    both = padded(np.array([*a, *b], np.int64).view(np.uint64), np.array([len(a), len(b)]))
    return float(distance(both[:1], both[1:])[0])


@pytest.fixture(scope="module")
def original():
    return hashes(FRAMES)


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f,
        lambda f: cv2.resize(f, (160, 90), interpolation=cv2.INTER_AREA),
        lambda f: cv2.resize(f, (640, 360), interpolation=cv2.INTER_CUBIC),
        lambda f: cv2.resize(f, (240, 180), interpolation=cv2.INTER_AREA),  # other pixels' shape
        lambda f: np.clip(f.astype(int) + 20, 0, 255).astype(np.uint8),
        lambda f: np.clip(0.8 * f.astype(float) + 10, 0, 255).astype(np.uint8),
        lambda f: cv2.GaussianBlur(f, (0, 0), 2),
        lambda f: np.repeat(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2),
    ],
    ids=["codec", "half", "double", "squeezed", "brighter", "paler", "blurred", "grey"],
)
def test_a_copy_keeps_its_hashes(original, change):
    assert bits(original, hashes([change(f) for f in FRAMES], crf=33)) <= COPY


def test_noise_and_a_trimmed_end_are_a_copy_too(original):
    assert bits(original, hashes(noisy(FRAMES, sigma=8), crf=30)) <= COPY
    slow = moved(texture(260, 420), 0.5 * np.arange(48), np.zeros(48), 180, 320)
    assert bits(hashes(slow), hashes(slow[:40])) <= COPY


@pytest.mark.parametrize("seed", range(1, 6))
def test_another_picture_is_far(original, seed):
    assert bits(original, hashes([texture(180, 320, seed=seed)] * 8)) > OTHER


def test_mirrored_turned_and_reversed_are_not_the_same(original):
    assert bits(original, hashes([f[:, ::-1] for f in FRAMES])) > OTHER
    assert bits(original, hashes([np.rot90(f, 2) for f in FRAMES])) > OTHER
    assert bits(original, hashes(FRAMES[::-1])) > COPY


@pytest.mark.parametrize("level", [0, 16, 128, 255])
def test_a_flat_frame_has_the_hash_of_nothing(level):
    flat = [np.full((90, 160, 3), level, np.uint8)] * 6
    assert hashes(flat) == [0, 0, 0, 0]
    assert hashes(noisy(flat, sigma=3)) == [0, 0, 0, 0]


def test_every_frame_of_a_short_clip_has_one_and_the_column_holds_them(original):
    assert len(hashes(FRAMES[:2])) == 2
    assert len(original) == 4
    column = load("frame_hash").columns["frame_hash"].type
    assert pa.array([original], column).to_pylist() == [original]
