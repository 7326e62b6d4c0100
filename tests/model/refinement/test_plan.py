"""Padding, sizes and noise levels of refinement: the published sampler's numbers, and laws for any input."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reelwright.model.errors import ModelError
from reelwright.model.refinement.noise import noised_start, refinement_sigmas
from reelwright.model.refinement.padding import output_condition, output_frames, padding
from reelwright.model.refinement.plan import Refinement
from reelwright.model.refinement.sizes import Size, aspect_table, nearest_size, refined_size
from reelwright.model.sampling.schedules import Schedule, sigmas
from reelwright.model.sampling.solvers import euler

PUBLISHED = [  # condition, spatial only -> front, back, condition's and other latent frames, frames of the codec
    (0, False, 0, 6, 0, 48, 189),
    (1, False, 12, 7, 4, 48, 205),
    (13, False, 3, 0, 8, 40, 189),
    (0, True, 0, 3, 0, 24, 93),
    (1, True, 12, 4, 4, 24, 109),
    (13, True, 0, 0, 4, 20, 93),
]


@pytest.mark.parametrize(("condition", "spatial_only", "front", "back", "clean", "noisy", "encoded"), PUBLISHED)
def test_padding_of_93_frames_is_the_published_one(condition, spatial_only, front, back, clean, noisy, encoded):
    found = Refinement(spatial_only=spatial_only).plan(93, 480, 832, condition).padding
    assert (found.front, found.back, found.cond_latents, found.noise_latents) == (front, back, clean, noisy)
    assert found.encoded == encoded


@given(st.integers(1, 400), st.integers(0, 60), st.booleans(), st.sampled_from([1, 2, 4]))
def test_padded_videos_are_cut_back_to_themselves(frames, condition, spatial_only, multiple):
    condition = min(condition, frames - 1)
    out, given_frames = (
        output_frames(frames, spatial_only=spatial_only),
        output_condition(condition, spatial_only=spatial_only),
    )
    found = padding(out, given_frames, multiple=multiple)
    video = torch.arange(out).view(1, 1, out, 1, 1)
    padded = found.pad(video)
    assert padded.shape[2] == found.encoded == 4 * (found.latents - 1) + 1
    assert torch.equal(found.cut(padded), video)
    assert found.cond_latents % multiple == found.noise_latents % multiple == 0
    if condition:
        clean = 4 * (found.cond_latents - 1) + 1  # frames that the clean latents code: the condition and no other
        assert torch.equal(found.pad_condition(video[:, :, :given_frames]), padded[:, :, :clean])


def test_no_frame_is_lost_where_the_published_count_of_latents_is_too_small():
    assert padding(190).encoded == 4 * 51 + 1  # ceil4(ceil(190 / 4)) = 48 latent frames would decode to 189
    assert padding(188).latents == 48
    assert padding(186, multiple=1).latents == 48


def test_condition_that_leaves_no_frame_is_refused():
    with pytest.raises(ModelError, match="26 condition frames of 26"):
        padding(26, 26)


def test_a_picture_stays_one_frame_at_twice_the_rate():
    assert [output_condition(n) for n in (0, 1, 5, 13)] == [0, 1, 10, 26]
    assert [output_condition(n, timing="exact") for n in (0, 1, 5, 13)] == [0, 1, 9, 25]
    assert [output_condition(n, timing="exact", spatial_only=True) for n in (0, 1, 5, 13)] == [0, 1, 5, 13]


@given(st.integers(2, 100), st.integers(1, 60))
def test_with_exact_times_what_is_given_ends_with_the_first_stage_s_last_given_frame(frames, condition):
    condition = min(condition, frames - 1)
    plan = Refinement(timing="exact").plan(frames, 480, 832, condition)
    assert plan.positions[plan.padding.condition - 1] == condition - 1
    assert plan.positions[plan.padding.condition] > condition - 1


@pytest.mark.parametrize(
    ("height", "width", "side", "multiple", "size", "label"),
    [
        (480, 832, 627, 32, Size(480, 832), 0.58),
        (704, 1312, 960, 32, Size(704, 1312), 0.54),
        (736, 1248, 960, 32, Size(736, 1248), 0.59),
        (480, 832, 960, 64, Size(704, 1280), 0.55),
        (832, 480, 960, 64, Size(1280, 704), 1.82),
    ],
)
def test_sizes_that_are_known_of_the_published_tables(height, width, side, multiple, size, label):
    assert nearest_size(height, width, side, multiple) == size
    assert size.label == label


def test_refinement_takes_480p_to_the_size_in_whole_blocks():
    assert refined_size(480, 832) == Size(704, 1280)
    assert refined_size(64, 64, "128p", multiple=16) == Size(128, 128)
    assert refined_size(9, 9, "64x128") == Size(128, 64)


@pytest.mark.parametrize(("side", "multiple"), [(627, 32), (627, 64), (960, 32), (960, 64), (128, 16)])
def test_tables_have_whole_blocks_near_their_area_and_turn_with_the_picture(side, multiple):
    table = aspect_table(side, multiple)
    assert len({(s.height, s.width) for s in table}) == len(table)
    assert [(s.height, s.width) for s in table] == [(s.width, s.height) for s in reversed(table)]
    for size in table:
        if size.height == size.width:
            continue
        assert size.height % multiple == size.width % multiple == 0
        assert abs(size.height * size.width - side * side) <= multiple / 2 * min(size.height, size.width)


@pytest.mark.parametrize(
    ("to", "why"), [("720", "is no size"), ("100x64", "multiples of 64"), ("8p", "no size of 8×8 pixels")]
)
def test_sizes_that_are_none_are_refused(to, why):
    with pytest.raises(ModelError, match=why):
        refined_size(480, 832, to)


def test_noise_levels_are_the_published_ones():
    found = refinement_sigmas() * 1000
    torch.testing.assert_close(
        found, torch.tensor([500, 443.02, 343.47, 207.77, 11.87, 0], dtype=torch.float64), rtol=0, atol=0.005
    )
    assert torch.equal(refinement_sigmas(1.0), sigmas(50))
    assert len(refinement_sigmas(0.5, Schedule(steps=16, distilled=True))) == 2  # only 0: a distilled grid ends there
    for bad in (0.0, 1.5):
        with pytest.raises(ModelError, match="threshold"):
            refinement_sigmas(bad)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 1.0])
def test_a_refiner_that_knows_the_truth_ends_at_it(threshold):
    generator = torch.Generator().manual_seed(3)
    x0, up, noise = (torch.randn(2, 4, 3, 4, 4, dtype=torch.float64, generator=generator) for _ in range(3))
    start = noised_start(up, noise, threshold)
    x, levels = start, refinement_sigmas(threshold)
    for sigma, following in zip(levels[:-1], levels[1:], strict=True):
        x = x + (sigma - following) * (x0 - x) / sigma  # v = (x0 - x_t') / t'
    torch.testing.assert_close(x, x0, rtol=0, atol=1e-13)
    sampled = euler(lambda x, t: (x0 - x) / (t[0].double() / 1000), start, levels).latents  # in fp32, as sampled
    torch.testing.assert_close(sampled.double(), x0, rtol=0, atol=1e-5)


def test_plan_lists_all_that_a_refinement_needs():
    plan = Refinement().plan(93, 480, 832)
    assert (plan.size, plan.padding.frames, len(plan.sigmas)) == (Size(704, 1280), 186, 6)
    small = Refinement(to="64x32", side_multiple=16).plan(5, 16, 32)
    assert small.enlarge(torch.zeros(1, 3, 5, 16, 32)).shape == (1, 3, 10, 32, 64)
    assert plan.positions.shape == (186,)
