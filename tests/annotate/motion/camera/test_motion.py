import numpy as np
import pytest

from reelwright.annotate.motion.camera.candidates import Points, candidates, likeliest
from reelwright.annotate.motion.camera.motion import measure
from tests.annotate.motion.test_camera_motion import shot, straight


def test_the_border_decides_against_a_larger_crowd():
    """60 points of a subject in the middle move together; 40 around it do not."""
    rng = np.random.default_rng(0)
    inner = rng.uniform(-30, 30, (60, 2)) @ (1, 1j)
    outer = 60 * np.exp(1j * rng.uniform(0, 2 * np.pi, 40)) + rng.normal(0, 4, 40)
    p = np.concatenate([inner, outer])
    q = p + np.where(np.arange(100) < 60, 3 + 1j, 0)
    weight = np.where(np.arange(100) < 60, 1 / 60, 3 / 40) / 4
    (motion, share), (other, less), *_ = candidates([Points(p, q, weight, 0.75)], rng)[0]
    np.testing.assert_allclose(motion, (1, 0), atol=0.05)
    assert share == pytest.approx(0.75, abs=0.01)
    np.testing.assert_allclose(other, (1, 3 + 1j), atol=0.05)
    assert less == pytest.approx(0.25, abs=0.01)


def test_a_subject_that_out_numbers_the_background_for_a_while_is_not_followed():
    """Ten steps of a pan; in the fourth to sixth, more points follow a subject that stands in the picture."""
    pan, subject = (1 + 0j, -4 + 0j), (1 + 0j, 1 + 0j)
    steps = [[(pan, 0.6), (subject, 0.3)]] * 10
    steps[3:6] = [[(subject, 0.5), (pan, 0.4)]] * 3
    steps[7] = []
    chosen = likeliest(steps, np.full(10, 0.1), (144, 256))
    assert chosen == [pan] * 7 + [None] + [pan] * 2


def test_a_similarity_is_found_exactly():
    rng = np.random.default_rng(1)
    p = rng.uniform(-100, 100, (80, 2)) @ (1, 1j)
    a, b = 1.01 * np.exp(0.02j), 2.5 - 1j
    (motion, share), *_ = candidates([Points(p, a * p + b, np.full(80, 1 / 80), 0.75)], rng)[0]
    assert share == pytest.approx(1)
    np.testing.assert_allclose(motion, (a, b), atol=1e-9)


@pytest.mark.parametrize("pixels", [0.3, 3, 20])
def test_slow_and_fast_shifts_are_measured(pixels):
    steps = measure(shot(straight(6, right=5 * pixels / 144)), np.arange(6) / 10)
    np.testing.assert_allclose(steps.motion[:, 0], pixels, rtol=0.03, atol=0.02)
    np.testing.assert_allclose(steps.motion[:, 1:], 0, atol=0.05)
    assert steps.agreed.min() > 0.7  # what leaves the frame agrees with nothing


def test_a_cut_is_not_measured():
    other = np.random.default_rng(0).permutation(shot(straight(1))[0].reshape(-1)).reshape(1, 144, 256)
    steps = measure(np.concatenate([shot(straight(3)), other]), np.arange(4) / 10)
    assert np.isfinite(steps.motion[:2]).all()
    assert np.isnan(steps.motion[2]).all()
