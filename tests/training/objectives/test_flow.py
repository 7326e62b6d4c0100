"""The flow-matching loss against what is known of it in closed form."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reelwright.model.sampling.schedules import shifted
from reelwright.model.sampling.solvers import TIMESTEPS
from reelwright.model.text import pack_text
from reelwright.training.batch import Strip, shift_of
from reelwright.training.objectives.flow import T_SCALE, FlowConfig, add_noise, flow_loss, loss_weight
from tests.training.batches import make_batch

CONFIG = FlowConfig()
KINDS = [("t2i", 0, 1), ("t2v", 0, 3), ("i2v", 1, 3), ("continuation", 2, 4)]


def exact(batch, scale=1.0):
    """A network that knows x0: from x_t = (1 - t) x0 + t ε follows x0 - ε = (x0 - x_t) / t."""

    def predict(x, t, text, *, cond_frames, origin):
        rows = slice(origin[1] * 2, origin[1] * 2 + x.shape[3])
        level = (t / T_SCALE).clamp_min(1e-12)[:, None, :, None, None]
        return scale * (batch.latents[..., rows, :] - x) / level

    return predict


@pytest.mark.parametrize(("task", "cond_frames", "frames"), KINDS)
def test_an_exact_predictor_has_no_loss_and_its_negative_has(task, cond_frames, frames):
    batch = make_batch(task=task, cond_frames=cond_frames, frames=frames)
    assert flow_loss(exact(batch), batch, CONFIG).total < 1e-8
    wrong = flow_loss(exact(batch, scale=-1), batch, CONFIG)
    assert (wrong.per_sample > 4).all()  # E |2 (x0 - ε)|² = 8


def test_the_loss_sees_noisy_frames_only():
    batch = make_batch(task="i2v", cond_frames=1)

    def spoiled(x, *args, **options):
        out = exact(batch)(x, *args, **options)
        out[:, :, :1] = 1e6
        return out

    assert flow_loss(spoiled, batch, CONFIG).total < 1e-8


def test_clean_frames_are_clean_in_i2v_and_each_noised_by_itself_in_continuation():
    image = make_batch(task="i2v", cond_frames=1)
    noised = add_noise(image, CONFIG)
    assert torch.equal(noised.x[:, :, :1], image.latents[:, :, :1])
    assert (noised.t[:, 0] == 0).all()
    clip = make_batch(64, task="continuation", cond_frames=2)
    levels = add_noise(clip, CONFIG).t
    condition = levels[:, :2]
    assert condition.min() >= 0
    assert condition.max() <= CONFIG.condition_noise
    assert condition.std() > 0.02
    assert (condition[:, 0] != condition[:, 1]).all()
    assert (levels[:, 2:] == levels[:, -1:]).all()


@given(u=st.floats(0, 1), shift=st.floats(1, 50))
def test_shift_is_a_bijection_towards_noise(u, shift):
    t = shifted(torch.tensor(u, dtype=torch.float64), shift).item()
    assert -1e-12 <= u - 1e-12 <= t <= 1 + 1e-12
    assert t / (shift - (shift - 1) * t) == pytest.approx(u, abs=1e-9)  # the inverse in closed form


def test_shift_follows_the_noise_tokens():
    assert CONFIG.timestep_shift(37440) == 12  # the published sampler's, at 480×832×93
    assert CONFIG.timestep_shift(37440 // 4) == pytest.approx(6)
    assert CONFIG.timestep_shift(1) == 1
    batch = make_batch(256, frames=3, side=8)
    shift = FlowConfig(reference_tokens=48).timestep_shift(3 * 4 * 4)
    t = add_noise(batch, FlowConfig(reference_tokens=48)).t[:, -1]
    assert shift == 12
    median = shifted(torch.tensor(0.5), shift).item()
    assert t.median().item() == pytest.approx(median, abs=0.03)


def test_a_batch_s_shift_is_that_of_its_noisy_tokens():
    """Of 4 frames, of which one is clean, in 8 x 24 latents: 3 x 4 x 6 tokens of 2 x 4."""
    batch = make_batch(task="i2v", cond_frames=1, frames=4)
    batch = replace(batch, latents=torch.zeros(2, 16, 4, 8, 24))
    config = FlowConfig(reference_tokens=48)
    assert shift_of(batch, config, (1, 2, 4)) == config.timestep_shift(3 * 4 * 6) > 1


@given(mean=st.floats(-1, 1), std=st.floats(0.4, 2))
def test_weights_are_the_logit_normal_density_and_average_to_one(mean, std):
    config = FlowConfig(logit_mean=mean, logit_std=std)
    # With u = sigmoid(z), du = u (1 - u) dz: the integral over u is smooth in z.
    z = torch.linspace(mean - 8 * std, mean + 8 * std, 4001, dtype=torch.float64)
    z = z[(z.abs() < 11)]  # where u stays off the edges
    u = torch.sigmoid(z)
    assert torch.trapezoid(loss_weight(u, config) * u * (1 - u), z).item() == pytest.approx(1, abs=1e-3)
    at_mode = loss_weight(torch.sigmoid(torch.tensor(mean)), config).item()
    middle = 1 / (1 + math.exp(-mean))
    assert at_mode == pytest.approx(1 / (std * math.sqrt(2 * math.pi) * middle * (1 - middle)), rel=1e-4)


@pytest.mark.parametrize("shift", [1.0, 3.7, 12.0, 26.0])
@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-0.5, 0.6), (1.0, 1.5)])
def test_weight_at_the_level_follows_the_density_of_the_shifted_draw_and_averages_to_one(shift, mean, std):
    config = FlowConfig(weight_at="level", logit_mean=mean, logit_std=std)
    u = (torch.arange(1_000_000, dtype=torch.float64) + 0.5) / 1_000_000
    weight, at_draw = loss_weight(u, config, shift), FlowConfig(logit_mean=mean, logit_std=std)
    assert weight.mean().item() == pytest.approx(1, abs=2e-4)
    density = loss_weight(shifted(u, shift), at_draw)
    torch.testing.assert_close(weight / weight[0], density / density[0])


def test_the_weight_at_the_level_gives_low_noise_its_share():
    """Shares of the loss below t = 0.25, 0.5, 0.75 at the shift of 480p × 93, counted over uniform draws."""
    u = (torch.arange(1_000_000, dtype=torch.float64) + 0.5) / 1_000_000
    levels = shifted(u, 12.0)
    for weight_at, shares in (("draw", [0.00017, 0.0065, 0.083]), ("level", [0.033, 0.186, 0.544])):
        weight = loss_weight(u, FlowConfig(weight_at=weight_at), 12.0)
        found = [(weight[levels < t].sum() / weight.sum()).item() for t in (0.25, 0.5, 0.75)]
        assert found == pytest.approx(shares, rel=0.05, abs=2e-5), weight_at


def test_uniform_weighting_is_one():
    assert (loss_weight(torch.rand(8), FlowConfig(weighting="uniform")) == 1).all()


def test_a_sample_s_loss_depends_on_its_seed_alone():
    whole = make_batch(4, seed=5)
    zero = lambda x, *a, **k: torch.zeros_like(x)  # noqa: E731
    together = flow_loss(zero, whole, CONFIG)
    for i in range(4):
        alone = make_batch(4, seed=5)
        for name in ("latents", "seeds"):
            setattr(alone, name, getattr(alone, name)[i : i + 1])
        alone.text = pack_text(alone.text.unpacked()[i : i + 1], 4)
        one = flow_loss(zero, alone, CONFIG)
        assert one.t == together.t[i]
        assert one.per_sample.item() == pytest.approx(together.per_sample[i].item(), rel=1e-6)


def test_strips_of_rows_add_up_to_the_whole():
    batch = make_batch(2, frames=3, side=10)
    half = lambda x, *a, **k: 0.5 * x  # noqa: E731
    whole = flow_loss(half, batch, CONFIG)
    parts = [flow_loss(half, replace(batch, strip=Strip(first, rows)), CONFIG) for first, rows in ((0, 2), (2, 3))]
    assert sum(p.total for p in parts).item() == pytest.approx(whole.total.item(), rel=1e-6)
    assert flow_loss(exact(batch), replace(batch, strip=Strip(2, 3)), CONFIG).total < 1e-8


def test_given_levels_are_taken_without_weight():
    batch = make_batch(2)
    t = torch.tensor([0.25, 0.75])
    noised = add_noise(batch, CONFIG, t=t)
    assert torch.equal(noised.t[:, -1], t)
    assert (noised.weight == 1).all()


def test_the_total_is_a_share_of_the_whole_step():
    zero = lambda x, *a, **k: torch.zeros_like(x)  # noqa: E731
    alone, shared = make_batch(2), make_batch(2, samples_in_step=10)
    assert flow_loss(zero, shared, CONFIG).total * 5 == pytest.approx(flow_loss(zero, alone, CONFIG).total)


def test_the_network_is_told_levels_in_thousandths_as_when_it_samples():
    seen = []
    batch = make_batch(2, task="i2v", cond_frames=1, frames=3)
    told = lambda x, t, *a, **k: (seen.append(t), torch.zeros_like(x))[1]  # noqa: E731
    flow_loss(told, batch, CONFIG, t=torch.tensor([0.25, 0.75]))
    assert seen[0].tolist() == [[0, 250, 250], [0, 750, 750]]
    assert T_SCALE == TIMESTEPS
