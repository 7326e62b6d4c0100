"""Degradations: the same from the same seed, within their ranges, and none that was not asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from reelwright.training.data.degrade import _Walk, degrade, reduced
from reelwright.training.pair_config import PairConfig

NONE = dict.fromkeys(("blur", "resize", "noise", "jpeg", "video"))
STEPS = ["blur", "resize", "noise", "jpeg", "video"]


def frames(count: int = 5) -> np.ndarray:
    y, x = np.mgrid[:32, :48]
    pictures = [128 + 90 * np.sin((x + t) / 2.5) * np.cos(y / 3) for t in range(count)]
    return np.repeat(np.stack(pictures)[..., None], 3, -1).astype(np.uint8)


def only(step: str, **settings) -> PairConfig:
    return PairConfig.model_validate({**NONE, step: {"chance": 1, **settings}})


def test_nothing_happens_where_nothing_is_asked_for():
    clip = frames()
    assert np.array_equal(degrade(clip, PairConfig.model_validate(NONE), 3), clip)
    never = PairConfig.model_validate({step: {"chance": 0} for step in STEPS})
    assert np.array_equal(degrade(clip, never, 3), clip)


@pytest.mark.parametrize("step", STEPS)
def test_each_degradation_changes_the_picture_and_follows_from_the_seed(step):
    clip, before = frames(), frames()
    config = only(step)
    found = degrade(clip, config, 7)
    assert found.shape == clip.shape
    assert found.dtype == np.uint8
    assert not np.array_equal(found, clip)
    assert np.array_equal(clip, before)
    assert np.array_equal(found, degrade(clip, config, 7))
    assert any(not np.array_equal(found, degrade(clip, config, seed)) for seed in (8, 9, 10))


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**63 - 1))
def test_a_step_that_is_switched_off_changes_no_other(seed):
    """Noise is drawn by its own generator: with blur of no effect before it, it is the same noise."""
    grey = np.full((2, 16, 16, 3), 128, np.uint8)
    both = PairConfig.model_validate({**NONE, "blur": {"chance": 0.5}, "noise": {"chance": 1}})
    assert np.array_equal(degrade(grey, both, seed), degrade(grey, only("noise"), seed))


def test_noise_has_the_strength_that_is_asked_for():
    grey = np.full((8, 64, 64, 3), 128, np.uint8)
    found = degrade(grey, only("noise", sigma=(6, 6), grey=0), 1).astype(float) - 128
    assert found.std() == pytest.approx(6, rel=0.02)
    of_all = degrade(grey, only("noise", sigma=(6, 6), grey=1), 1)
    assert (of_all[..., 0] == of_all[..., 2]).all()


@pytest.mark.parametrize(("step", "weak", "strong"), [
    ("blur", {"sigma": (0.3, 0.3)}, {"sigma": (2, 2)}),
    ("resize", {"factor": (0.9, 0.9)}, {"factor": (0.25, 0.25)}),
    ("jpeg", {"quality": (95, 95)}, {"quality": (10, 10)}),
    ("video", {"bits_per_pixel": (3, 3)}, {"bits_per_pixel": (0.02, 0.02)}),
])  # fmt: skip
def test_stronger_settings_do_more(step, weak, strong):
    clip = frames().astype(float)
    little, much = (np.abs(degrade(frames(), only(step, **s), 2).astype(float) - clip).mean() for s in (weak, strong))
    assert much > 1.5 * little


@pytest.mark.parametrize("sigma", [0, 0.6, 0.8, 1.5])
def test_blur_spreads_an_edge_by_the_sigma_that_is_asked_for(sigma):
    """Differences across a blurred step are the blur itself, and its variance is sigma², below a pixel too."""
    edge = np.repeat(np.where(np.arange(40) < 20, 0, 200)[None, :, None], 40, 0).repeat(3, -1).astype(np.uint8)
    found = degrade(np.stack([edge, edge.swapaxes(0, 1)]), only("blur", sigma=(sigma, sigma)), 1).astype(float)
    for profile in (found[0, 20, :, 0], found[1, :, 20, 0]):
        across = np.diff(profile)
        assert (across * (np.arange(39) - 19.0) ** 2).sum() / across.sum() == pytest.approx(sigma**2, abs=0.05)


def test_resizing_treats_both_sides_alike():
    """Of a picture with rows and columns swapped it makes the same one, swapped."""
    clip = frames(8)
    config = only("resize", factor=(0.3, 0.6)).model_copy(update={"walk": 0.5})
    swapped = degrade(np.ascontiguousarray(clip.swapaxes(1, 2)), config, 5).swapaxes(1, 2)
    np.testing.assert_allclose(degrade(clip, config, 5).astype(int), swapped.astype(int), rtol=0, atol=1)


@pytest.mark.parametrize("step", STEPS)
def test_no_degradation_changes_colours_with_one_another(step):
    plain = np.broadcast_to(np.uint8([190, 120, 50]), (4, 32, 48, 3)).copy()
    found = degrade(plain, only(step), 3).mean((0, 1, 2))
    np.testing.assert_allclose(found, [190, 120, 50], rtol=0, atol=4)


@pytest.mark.parametrize(("step", "strengths"), [
    ("blur", {"sigma": (0.3, 3)}), ("resize", {"factor": (0.2, 1)}), ("noise", {"sigma": (1, 20)}),
    ("jpeg", {"quality": (5, 95)}),
])  # fmt: skip
def test_strengths_walk_over_the_frames_where_that_is_asked_for(step, strengths):
    """From the first frame's, which is the constant one; and another step draws what it drew before."""
    still = np.repeat(frames(1), 12, 0)
    config = only(step, **strengths)
    moving = config.model_copy(update={"walk": 0.3})
    constant, walking = (degrade(still, one, 3).astype(float) for one in (config, moving))
    assert np.array_equal(walking[0], constant[0])
    harm = np.abs(walking - still).mean((1, 2, 3))
    assert harm.std() > 10 * np.abs(constant - still).mean((1, 2, 3)).std()
    assert np.array_equal(walking, degrade(still, moving, 3))


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 9))
def test_a_walk_stays_in_its_range_and_moves_by_its_share(share, start, seed):
    found = np.array(_Walk(seed, share, 50).over("blur", 1 + 2 * start, 1, 3))
    assert found.min() >= 1
    assert found.max() <= 3
    assert np.abs(np.diff(found)).max() <= 2 * share + 1e-12
    assert found[0] == 1 + 2 * start


def test_frames_are_dropped_and_not_blended():
    clip = np.stack([np.full((8, 8, 3), 10 * t, np.uint8) for t in range(9)])
    found = reduced(clip, height=4, width=6, times=2)
    assert found.shape == (5, 4, 6, 3)
    assert [int(f.min()) for f in found] == [int(f.max()) for f in found] == [0, 20, 40, 60, 80]


def test_single_pictures_are_not_compressed_as_video():
    assert np.array_equal(degrade(frames(1), only("video"), 4), frames(1))


@pytest.mark.parametrize("setting", [
    {"blur": {"sigma": (2, 1)}}, {"resize": {"factor": (0, 1)}}, {"jpeg": {"quality": (0, 50)}},
    {"video": {"bits_per_pixel": (0, 1)}}, {"video": {"codecs": ["av1"]}},
    {"codec_trip": False, "base": {"path": "x"}},
])  # fmt: skip
def test_impossible_strengths_are_refused(setting):
    with pytest.raises(ValidationError):
        PairConfig.model_validate(setting)
