"""Sigmas, guidance and solvers against closed forms."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reelwright.model.errors import ModelError
from reelwright.model.sampling.guidance import cfg, cfg_zero
from reelwright.model.sampling.schedules import distilled_sigmas, sigmas
from reelwright.model.sampling.solvers import Solution, denoise, euler, timesteps

STD = 0.5


def _best(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The best prediction E[x0 - ε | x] where the data is N(0, STD²)."""
    sigma = (t / 1000).view(-1, 1)
    variance = (1 - sigma) ** 2 * STD**2 + sigma**2
    return x * ((1 - sigma) * STD**2 - sigma) / variance


def test_sigmas_are_a_shifted_line_and_end_at_zero() -> None:
    levels = sigmas(50)
    plain = torch.linspace(1, 0.001, 50, dtype=torch.float64)
    torch.testing.assert_close(levels[:-1], 12 * plain / (1 + 11 * plain))
    assert len(levels) == 51
    assert levels[0] == 1
    assert levels[-1] == 0


def test_distilled_sigmas_are_16_of_the_50_points_from_the_top() -> None:
    levels = distilled_sigmas()
    points = [1000, 940, 880, 820, 760, 700, 640, 580, 500, 440, 380, 320, 260, 200, 140, 80]
    plain = torch.tensor(points, dtype=torch.float64) / 1000
    torch.testing.assert_close(levels[:-1], 12 * plain / (1 + 11 * plain))
    assert levels[-1] == 0
    torch.testing.assert_close(distilled_sigmas(50, 1.0)[:-1].flip(0), torch.arange(1, 51, dtype=torch.float64) / 50)


@given(steps=st.integers(1, 60), shift=st.floats(0.5, 20))
def test_sigmas_fall(steps: int, shift: float) -> None:
    for levels in (sigmas(steps, shift), distilled_sigmas(min(steps, 50), shift)):
        assert (levels.diff() < 0).all()


@pytest.mark.parametrize("make", [sigmas, distilled_sigmas])
def test_no_steps_are_refused(make) -> None:
    with pytest.raises(ModelError, match="0"):
        make(0)


def test_a_perfect_predictor_arrives_at_the_data() -> None:
    """Euler along straight paths is exact in any number of steps; the wrong sign would run away."""
    torch.manual_seed(0)
    data, noise = torch.randn(2, 4, 3, 2, 2), torch.randn(2, 4, 3, 2, 2)
    for steps in (1, 7):
        torch.testing.assert_close(denoise(lambda x, t: data - noise, noise, sigmas(steps)), data)


def test_euler_follows_a_gaussian_s_exact_flow() -> None:
    """Data N(0, s²): the best prediction is linear in x, and the flow carries noise z to s z."""
    noise = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(denoise(_best, noise, sigmas(2000, 1.0)), STD * noise, rtol=5e-3, atol=1e-3)


def test_a_solver_of_second_order_from_outside_needs_fewer_steps() -> None:
    """Heun's steps on the Gaussian's flow, beside Euler's."""

    def heun(predict, noise, sigmas, *, generators=(), on_step=None):
        x = noise
        for sigma, following in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
            v = predict(x, timesteps(sigma, x))
            ahead = predict(x + (sigma - following) * v, timesteps(following, x))
            x = x + (sigma - following) * (v + ahead) / 2
        return Solution(x)

    noise = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    errors = [(denoise(_best, noise, sigmas(40, 1.0), solver=s) - STD * noise).abs().max() for s in (heun, euler)]
    assert errors[0] < errors[1] / 4


def test_t_is_a_thousand_sigma_for_each_sample() -> None:
    seen = []
    denoise(lambda x, t: (seen.append(t), torch.zeros_like(x))[1], torch.zeros(3, 2), sigmas(4))
    torch.testing.assert_close(torch.stack(seen), sigmas(4)[:-1, None].expand(4, 3).float() * 1000)


def test_cfg_zero_fits_the_unconditional_prediction_for_each_sample() -> None:
    torch.manual_seed(0)
    cond, uncond = torch.randn(2, 4, 3, 2, 2), torch.randn(2, 4, 3, 2, 2)
    guided = cfg_zero(cond, uncond, 4.0)
    for i in range(2):
        fit = (cond[i] * uncond[i]).sum() / uncond[i].square().sum()
        torch.testing.assert_close(guided[i], uncond[i] * fit + 4 * (cond[i] - uncond[i] * fit))
        torch.testing.assert_close(cfg_zero(cond[i : i + 1], uncond[i : i + 1], 4.0)[0], guided[i])
    torch.testing.assert_close(cfg_zero(cond, cond * 3, 4.0), cond)  # a multiple says nothing
    torch.testing.assert_close(cfg_zero(cond, torch.zeros_like(cond), 4.0), 4 * cond)


def test_guidance_of_one_is_none() -> None:
    torch.manual_seed(0)
    cond, uncond = torch.randn(2, 3), torch.randn(2, 3)
    torch.testing.assert_close(cfg(cond, uncond, 1.0), cond)
    torch.testing.assert_close(cfg_zero(cond, uncond, 1.0), cond)
    torch.testing.assert_close(cfg(cond, uncond, 0.0), uncond)
