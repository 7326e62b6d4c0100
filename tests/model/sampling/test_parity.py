"""What the published sampler does besides: its tail of steps, its guidance's support, its condition latents."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reelwright.model import dit
from reelwright.model.cache import to_host
from reelwright.model.codec import load_codec
from reelwright.model.config import CodecConfig
from reelwright.model.sampling.generator import Generator
from reelwright.model.sampling.guidance import Guidance, cfg_zero, without_first
from reelwright.model.sampling.schedules import Schedule, sigmas, with_tail
from reelwright.model.sampling.solvers import Solution, euler
from tests.model.published import save_vae
from tests.model.sampling.test_generator import PROMPTS, QUICK, SEEDS, close, film, generator

__all__ = ["film", "generator"]  # fixtures


def test_the_tail_of_the_published_schedule() -> None:
    levels = Schedule().sigmas(continues=True)
    assert len(levels) == 56 + 1
    torch.testing.assert_close(levels[:46], sigmas(50)[:46])
    assert float(levels[45]) * 1000 == pytest.approx(519.17, abs=0.005)
    torch.testing.assert_close(levels[46:] * 1000, torch.arange(500, -1, -50, dtype=torch.float64))
    torch.testing.assert_close(Schedule().sigmas(), sigmas(50))


def test_a_distilled_network_and_who_wants_none_have_no_tail() -> None:
    for schedule in (Schedule(steps=16, distilled=True), Schedule(enhance_hf=False)):
        torch.testing.assert_close(schedule.sigmas(continues=True), schedule.sigmas())


@given(steps=st.integers(1, 80), shift=st.floats(0.5, 20))
def test_a_tail_falls_and_is_never_coarser_at_the_end(steps: int, shift: float) -> None:
    levels = sigmas(steps, shift)
    longer = with_tail(levels)
    assert (longer.diff() < 0).all()
    assert len(longer) >= len(levels)
    assert (longer <= 0.5).sum() >= (levels <= 0.5).sum()
    torch.testing.assert_close(longer[longer > 0.5], levels[levels > 0.5])


def test_a_continued_video_alone_is_sampled_with_the_tail(generator: Generator, film: torch.Tensor) -> None:
    seen: list[int] = []

    def spy(predict, noise, levels, **how) -> Solution:
        seen.append(len(levels) - 1)
        return euler(predict, noise, levels, **how)

    one = Generator(generator.model, generator.codec, generator.text_encoder, solver=spy)
    settings = QUICK.changed(steps=10, shift=12.0)
    ticks: list[tuple[int, int]] = []
    one.text(PROMPTS, SEEDS, settings)
    one.image(PROMPTS, film[:, :, 0], SEEDS, settings)
    one.continuation(PROMPTS, film, SEEDS, settings)
    one.long(PROMPTS, 3, SEEDS, settings, on_step=lambda done, total: ticks.append((done, total)))
    tail = len(with_tail(sigmas(10))) - 1
    assert tail > 10
    assert seen == [10, 10, tail, 10, tail, tail]
    assert ticks[-1] == (10 + 2 * tail, 10 + 2 * tail)
    assert all(total == 10 + 2 * tail for _, total in ticks)


def test_a_scale_of_one_alone_is_no_guidance() -> None:
    assert [Guidance(scale=scale).is_off for scale in (0.0, 1.0, 1.5, 2.0, 4.0)] == [False, True, False, False, False]


def test_zero_init_leaves_out_the_first_steps() -> None:
    asked: list[float] = []

    def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        asked.append(float(t[0]))
        return torch.ones_like(x)

    levels = sigmas(50)
    noise = torch.zeros(1, 2)
    for share, left in ((0.04, 48), (0.0, 50), (1.0, 0)):
        asked.clear()
        found = euler(without_first(predict, levels, Guidance(zero_init=share)), noise, levels).latents
        assert len(asked) == left
        expected = float(levels[50 - left]) if left else 0.0  # Euler along a constant velocity
        torch.testing.assert_close(found, torch.full_like(noise, expected), atol=1e-6, rtol=0)
    asked.clear()
    euler(without_first(predict, levels, Guidance(scale=1, zero_init=0.5)), noise, levels)
    assert len(asked) == 50, "without guidance nothing is left out"


@pytest.mark.parametrize("batched", [True, False])
def test_published_guidance_of_an_image_is_fitted_over_the_image_too(
    generator: Generator, film: torch.Tensor, batched: bool
) -> None:
    settings = QUICK.changed(fit_condition=True, batched=batched, negative="rain")
    condition = generator.encode_condition(PROMPTS, settings, film[:, :, :1])
    assert condition.cache is None
    x, t = torch.randn(2, 16, 2, 4, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([700.0, 700.0])
    with torch.no_grad():
        found = generator.predictor(condition, settings)(x, t)
        whole = torch.cat([condition.latents, x], 2)
        both = []
        for texts in (PROMPTS, ["rain", "rain"]):
            states = generator.encode_condition(texts, settings.changed(guidance=1.0)).texts[0].states
            both.append(generator.model(whole, t, states, cond_frames=1))
    close(both[0][:, :, :1], both[1][:, :, :1])  # the image reads no text
    close(found, cfg_zero(*both, 4.0)[:, :, 1:])
    ours = generator.predictor(condition, QUICK.changed(batched=batched, negative="rain"))(x, t)
    assert (found - ours).abs().max() > 1e-4
    video = generator.encode_condition(PROMPTS, settings, film[:, :, :5])
    assert video.cache is not None, "with a cache the published sampler fits over the new frames alone"


def test_frames_that_are_gone_on_from_are_cut_to_levels(generator: Generator) -> None:
    seen: list[torch.Tensor] = []

    class Spy(Generator):
        def encode_condition(self, prompts, settings, initial=None, generators=()):
            seen.append(initial)
            return super().encode_condition(prompts, settings, initial, generators)

    spy = Spy(generator.model, generator.codec, generator.text_encoder)
    video = spy.long(PROMPTS, 2, SEEDS, QUICK.changed(cut_levels=True))
    levels = (seen[1] + 1) * 127.5
    close(levels, levels.round(), 1e-3)
    loss = (video[:, :, 4:9] - seen[1]) * 127.5
    assert loss.min() > -1e-3
    assert loss.max() < 1 + 1e-3


def test_a_cache_in_the_host_s_memory_changes_nothing(
    generator: Generator, film: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU all memory is the host's, so what goes there is counted: keys and values of each block, once."""
    moved: list[int] = []
    monkeypatch.setattr(dit, "to_host", lambda pair: (moved.append(len(pair)), to_host(pair))[1])
    plain = generator.continuation(PROMPTS, film, SEEDS, QUICK.changed(offload=False))
    assert not moved
    close(generator.continuation(PROMPTS, film, SEEDS, QUICK.changed(offload=True)), plain, 0)
    assert moved == [2] * len(generator.model.blocks)


def test_noise_of_a_continuation_may_be_rounded(generator: Generator, film: torch.Tensor) -> None:
    begun: list[torch.Tensor] = []

    def spy(predict, noise, levels, **how) -> Solution:
        begun.append(noise)
        return euler(predict, noise, levels, **how)

    one = Generator(generator.model, generator.codec, generator.text_encoder, solver=spy)
    one.text(PROMPTS, SEEDS, QUICK.changed(bf16_noise=True))
    one.continuation(PROMPTS, film, SEEDS, QUICK.changed(bf16_noise=True))
    rounded = [torch.equal(noise, noise.bfloat16().float()) for noise in begun]
    assert rounded == [False, True]


def test_latents_of_a_posterior_are_drawn_from_each_sample_s_seed(tmp_path: Path, film: torch.Tensor) -> None:
    codec = load_codec(CodecConfig(kind="wan", path=str(save_vae(tmp_path))))
    video = film[:, :, :1]

    def draw(*seeds: int) -> torch.Tensor:
        return codec.sample(video[: len(seeds)], [torch.Generator().manual_seed(s) for s in seeds])

    both, mode = draw(3, 4), codec.encode(video)
    close(draw(3, 4), both, 0)
    close(draw(3)[0], both[0], 1e-5)
    deviation = codec.vae.encode(video).latent_dist.std / codec.std  # type: ignore[attr-defined]
    noise = [torch.randn(mode.shape[1:], generator=torch.Generator().manual_seed(s)) for s in (3, 4)]
    close(both, mode + deviation * torch.stack(noise))
    assert (both - mode).abs().max() > 1e-3


def test_a_codec_without_a_posterior_has_its_one_latent(film: torch.Tensor) -> None:
    codec = load_codec(CodecConfig())
    close(codec.sample(film, [torch.Generator(), torch.Generator()]), codec.encode(film), 0)


def test_progress_counts_later_segments_by_their_own_shift(generator: Generator) -> None:
    """A tail keeps the levels above 0.5, and how many these are follows from the shift."""
    settings = QUICK.changed(steps=8, shift=12.0, later_shift=2.0)
    later = len(with_tail(sigmas(8, 2.0))) - 1
    assert later < len(with_tail(sigmas(8, 12.0))) - 1
    ticks: list[tuple[int, int]] = []
    generator.long(PROMPTS, 3, SEEDS, settings, on_step=lambda done, total: ticks.append((done, total)))
    assert ticks == [(done, 8 + 2 * later) for done in range(1, 8 + 2 * later + 1)]
