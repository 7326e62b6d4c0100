import numpy as np
import pytest

from reelwright.annotate.motion.camera import dataset
from reelwright.annotate.motion.camera.dataset import borrowed, make_example, make_examples, restore, save
from reelwright.annotate.motion.camera.features import FEATURES, camera_path, features
from reelwright.annotate.motion.camera.paths import FAMILIES, draw_shot
from reelwright.annotate.motion.camera.sources import Source
from tests.annotate.motion.test_camera_motion import SCENE

SOURCES = [Source("scene", SCENE[None])]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_measured_path_is_the_drawn_one(family):
    """With subjects, grain, compression and all; the step's median error in shorter sides."""
    example = make_example(SOURCES, family, np.random.default_rng(0))
    camera = camera_path(example.steps, example.times_s, example.size)
    drawn = np.diff(example.truth, axis=0) * (1, 1, camera.reach, camera.reach)
    assert np.median(np.abs(np.diff(camera.path, axis=0) - drawn)) < 0.003
    values = features(camera, example.steps)
    assert values.shape == (len(FEATURES),)
    assert np.isfinite(values).all()


def test_a_borrowed_path_has_its_lenders_errors_only():
    lender = make_example(SOURCES, "pan", np.random.default_rng(1))
    for example in borrowed([lender], 7, seed=0)[1:2]:
        camera = camera_path(example.steps, example.times_s, example.size)
        drawn = np.diff(example.truth, axis=0) * (1, 1, camera.reach, camera.reach)
        assert np.median(np.abs(np.diff(camera.path, axis=0) - drawn)) < 0.003


def test_the_same_seed_makes_the_same_clips_and_they_keep(monkeypatch):
    monkeypatch.setattr(dataset, "ENCODED", 0)  # x264's output differs now and then
    first, again = (make_examples(SOURCES, 2, seed=4) for _ in range(2))
    for a, b, kept in zip(first, again, restore(save(first)), strict=True):
        for other in (b, kept):
            np.testing.assert_array_equal(a.steps.motion, other.steps.motion)
            assert (a.family, a.source, tuple(a.size)) == (other.family, other.source, tuple(other.size))


@pytest.mark.parametrize("family", FAMILIES)
def test_paths_do_what_their_family_says(family):
    for seed in range(20):
        shot = draw_shot(family, np.random.default_rng(seed))
        path = shot.path * (1, 1, 0.55, 0.55)
        net = np.sort(abs(path[-1] - path[0]))
        assert np.isfinite(path).all()
        assert len(path) >= 8
        if family in ("pan", "tilt", "zoom", "roll"):
            assert abs(path[-1] - path[0]).argmax() == ("pan", "tilt", "zoom", "roll").index(family)
            assert net[-1] > 3 * net[-2]
        if family == "static":
            assert np.ptp(path, axis=0).max() < 0.01
