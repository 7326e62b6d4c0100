import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from reelwright.annotate import annotate_clip, load
from reelwright.annotate.picture.texture import LEVELS, OFFSETS, cooccurrence
from tests.annotate.synth import encode, noisy

feature = pytest.importorskip("skimage.feature", reason="the oracle is scikit-image: pip install scikit-image")


@given(frame=arrays(np.uint8, st.tuples(st.integers(2, 20), st.integers(2, 20)), elements=st.integers(0, LEVELS - 1)))
@settings(max_examples=60, deadline=None)
def test_the_matrix_equals_scikit_images(frame):
    for down, right in OFFSETS:
        angle = np.arctan2(down, right)
        expect = feature.graycomatrix(frame, [1], [angle], levels=LEVELS, symmetric=True, normed=True)[..., 0, 0]
        np.testing.assert_allclose(cooccurrence(frame, down, right), expect, atol=1e-12)


@given(frame=arrays(np.uint8, (16, 24), elements=st.integers(0, 255)))
@settings(max_examples=30, deadline=None)
def test_the_statistics_equal_scikit_images(frame):
    angles = [np.arctan2(down, right) for down, right in OFFSETS]
    matrix = feature.graycomatrix(frame // (256 // LEVELS), [1], angles, levels=LEVELS, symmetric=True, normed=True)
    columns = load("texture")(frame[None])
    for name in ("contrast", "energy", "homogeneity"):
        assert columns[f"glcm_{name}"] == pytest.approx(feature.graycoprops(matrix, name).mean(), rel=1e-9)


def test_noise_is_rougher_than_a_flat_wall():
    flat = [np.full((90, 160, 3), 120, np.uint8)] * 4
    smooth, rough = (annotate_clip(encode(c), [load("texture")])[0] for c in (flat, noisy(flat, 40)))
    assert smooth["glcm_contrast"] < rough["glcm_contrast"]
    assert smooth["glcm_energy"] > rough["glcm_energy"]
    assert smooth["glcm_homogeneity"] > rough["glcm_homogeneity"]
