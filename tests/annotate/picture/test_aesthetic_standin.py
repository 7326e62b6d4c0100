import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from reelwright.annotate import annotate_clip, load
from reelwright.annotate.picture.aesthetic_standin import _percentile, measures
from tests.annotate.synth import encode, texture

PICTURE = texture(256, 384)


def grey(picture):
    return np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


def toned(picture, gain, lift=0.0):
    return np.clip(gain * picture.astype(float) + lift, 0, 255).astype(np.uint8)


def on_a_plain_ground(y: float, x: float) -> np.ndarray:
    """A bright disc at (y, x), in shares of the frame."""
    frame = np.full((256, 384, 3), 90, np.uint8)
    cv2.circle(frame, (round(x * 384), round(y * 256)), 20, (250, 200, 60), -1, cv2.LINE_AA)
    return frame


WORSE = {
    "exposure": [toned(PICTURE, 0.2), toned(PICTURE, 0.3, 180)],
    "contrast": [toned(PICTURE, 0.3, 90), np.full_like(PICTURE, 128)],
    "colour": [grey(PICTURE)],
    "sharpness": [cv2.GaussianBlur(PICTURE, (0, 0), 3), cv2.blur(PICTURE, (31, 1))],  # out of focus; a fast pan
}


@pytest.mark.parametrize(("measure", "worse"), [(m, w) for m, worse in WORSE.items() for w in worse])
def test_each_measure_sees_what_it_is_for(measure, worse):
    before, after = measures(PICTURE), measures(worse)
    assert after[measure] < 0.8 * before[measure]
    assert all(0 <= value <= 1 for value in (*before.values(), *after.values()))


def test_sharpness_falls_with_blur_and_forgives_a_soft_ground():
    blurred = [cv2.GaussianBlur(PICTURE, (0, 0), sigma) for sigma in (1, 2, 4, 8)]
    found = [measures(p)["sharpness"] for p in (PICTURE, *blurred)]
    assert found == sorted(found, reverse=True)
    portrait = blurred[-1].copy()
    portrait[:, 128:256] = PICTURE[:, 128:256]
    assert measures(portrait)["sharpness"] > 0.9 * found[0]


def test_a_thing_on_a_third_is_composed_better_than_one_in_a_corner_and_than_many():
    third, corner = (measures(on_a_plain_ground(*at))["composition"] for at in ((1 / 3, 2 / 3), (0.09, 0.06)))
    assert third > corner + 0.2
    assert third > measures(PICTURE)["composition"] + 0.2


def test_exposure_is_mertens_formula():
    y = np.array([[0, 51, 128, 255]], np.uint8)
    frame = np.repeat(np.repeat(y, 64, axis=0).repeat(16, axis=1)[..., None], 3, axis=2)
    expected = np.mean([np.exp(-((v / 255 - 0.5) ** 2) / 0.08) for v in y[0]])
    assert measures(frame)["exposure"] == pytest.approx(expected, abs=1e-3)


def test_good_footage_scores_above_its_dark_pale_blurred_and_empty_versions():
    def score(picture):
        columns, failures = annotate_clip(encode([picture] * 6), [load("aesthetic_standin")])
        assert not failures
        return columns["aesthetic_standin_score"]

    best = score(PICTURE)
    for worse in (*WORSE["exposure"], *WORSE["contrast"], *WORSE["sharpness"], np.zeros_like(PICTURE)):
        assert score(worse) < 0.85 * best
    assert score(np.zeros_like(PICTURE)) < 0.15
    assert 0.4 < best < 1


def test_it_does_not_go_by_the_real_one_s_name():
    standin, real = load("aesthetic_standin"), load("aesthetics")
    assert not standin.columns.keys() & real.columns.keys()
    assert "NOT the LAION" in standin.columns["aesthetic_standin_score"].meaning
    assert standin.fingerprint != real.fingerprint
    assert standin.models == ()


@given(greys=arrays(np.uint8, st.integers(1, 300)), percent=st.sampled_from([1, 37, 50, 99]))
def test_a_percentile_of_counts_is_that_of_the_pixels_to_the_bit(greys, percent):
    below = np.cumsum(np.bincount(greys, minlength=256))
    assert _percentile(below, percent) == np.percentile(greys, percent)
