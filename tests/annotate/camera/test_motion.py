import numpy as np
import pytest

from annotate.camera.motion import common_motion, measure
from tests.annotate.test_camera_motion import shot, straight


def test_the_border_decides_against_a_larger_crowd():
    """60 points of a subject in the middle move together; 40 around it do not."""
    rng = np.random.default_rng(0)
    inner = rng.uniform(-30, 30, (60, 2)) @ (1, 1j)
    outer = 60 * np.exp(1j * rng.uniform(0, 2 * np.pi, 40)) + rng.normal(0, 4, 40)
    p = np.concatenate([inner, outer])
    q = p + np.where(np.arange(100) < 60, 3 + 1j, 0)
    weight = np.where(np.arange(100) < 60, 1 / 60, 3 / 40) / 4
    motion, follows = common_motion(p, q, weight, rng, (1 + 0j, 0j))
    assert abs(motion[0] - 1) < 1e-3
    assert abs(motion[1]) < 0.05
    assert follows[60:].all()
    assert not follows[:60].any()


def test_a_similarity_is_found_exactly():
    rng = np.random.default_rng(1)
    p = rng.uniform(-100, 100, (80, 2)) @ (1, 1j)
    a, b = 1.01 * np.exp(0.02j), 2.5 - 1j
    motion, follows = common_motion(p, a * p + b, np.full(80, 1 / 80), rng, (1 + 0j, 0j))
    assert follows.all()
    np.testing.assert_allclose(motion, (a, b), atol=1e-9)


@pytest.mark.parametrize("pixels", [0.3, 3, 20])
def test_slow_and_fast_shifts_are_measured(pixels):
    steps = measure(shot(straight(6, right=5 * pixels / 144)))
    np.testing.assert_allclose(steps.motion[:, 0], pixels, rtol=0.03, atol=0.02)
    np.testing.assert_allclose(steps.motion[:, 1:], 0, atol=0.05)
    assert steps.agreed.min() > 0.7  # what leaves the frame agrees with nothing


def test_a_cut_is_not_measured():
    other = np.random.default_rng(0).permutation(shot(straight(1))[0].reshape(-1)).reshape(1, 144, 256)
    steps = measure(np.concatenate([shot(straight(3)), other]))
    assert np.isfinite(steps.motion[:2]).all()
    assert np.isnan(steps.motion[2]).all()
