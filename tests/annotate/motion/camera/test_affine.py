import numpy as np

from reelwright.annotate.motion.camera.affine import affine_part


def test_the_camera_fit_finds_an_affine_motion_under_a_third_of_outliers():
    y, x = np.mgrid[-1:1:18j, -1:1:32j]
    truth = np.stack([1 + 0.5 * x - 0.2 * y, -0.5 + 0.2 * x + 0.5 * y], axis=-1)
    flow = truth.copy()
    flow[4:14, 5:24] += [6, -4]
    seen = np.ones(x.shape, bool)
    np.testing.assert_allclose(affine_part(flow, seen), truth, atol=0.05)


def test_nothing_seen_is_no_motion():
    flow = np.ones((18, 32, 2), np.float32)
    seen = np.zeros((18, 32), bool)
    seen[0, :5] = True
    assert not affine_part(flow, seen).any()
