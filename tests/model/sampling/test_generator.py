"""Generation with a tiny random network, the DCT codec and hashed words."""

from dataclasses import dataclass

import pytest
import torch

from benchmarks.dct_codec import moving
from reelwright.model.codec import load_codec
from reelwright.model.config import CodecConfig, DiTConfig, TextConfig
from reelwright.model.dit import DiT
from reelwright.model.errors import ModelError
from reelwright.model.sampling.generator import Generator
from reelwright.model.sampling.guidance import Guidance
from reelwright.model.sampling.schedules import Schedule
from reelwright.model.sampling.settings import Memory, Settings, Shape
from reelwright.model.sampling.solvers import Solution, timesteps
from reelwright.model.text import load_text_encoder, pad_text

PROMPTS = ["a dog on the beach", "two cats in the sun, asleep"]
SEEDS = [3, 4]
QUICK = Settings.of(width=48, height=32, frames=9, overlap=5, steps=3, shift=3.0)


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.set_num_threads(1)  # so small a network only waits for a second
    config = DiTConfig(
        hidden_size=48, depth=2, num_heads=2, caption_channels=16, adaln_tembed_dim=32, frequency_embedding_size=32,
        text_tokens=24,
    )  # fmt: skip
    model = DiT(config).init_weights(0).eval()
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():  # zeros would leave out the network's inside
            if "adaLN" in name or name.startswith("final_layer"):
                weight.copy_(0.1 * torch.randn(weight.shape, generator=noise))
    return Generator(model, load_codec(CodecConfig()), load_text_encoder(TextConfig(dim=16)))


@pytest.fixture(scope="module")
def film() -> torch.Tensor:
    """[2, 3, 9, 32, 48]: two films."""
    from skimage import data

    return torch.stack([moving(p, (32, 48), 2.0) for p in (data.astronaut(), data.coffee())])


def close(a: torch.Tensor, b: torch.Tensor, atol: float = 1e-4) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


def test_text_to_video(generator: Generator) -> None:
    seen: list[tuple[int, int]] = []
    video = generator.text(PROMPTS, SEEDS, QUICK, lambda done, total: seen.append((done, total)))
    assert video.shape == (2, 3, 9, 32, 48)
    assert video.abs().max() <= 1
    assert video.std() > 0.01
    assert seen == [(1, 3), (2, 3), (3, 3)]
    close(generator.text(PROMPTS, SEEDS, QUICK), video, 0)


def test_a_sample_does_not_hang_on_its_batch(generator: Generator) -> None:
    both = generator.text(PROMPTS, SEEDS, QUICK)
    for i in range(2):
        close(generator.text(PROMPTS[i : i + 1], SEEDS[i : i + 1], QUICK)[0], both[i])
    assert (both[0] - both[1]).abs().max() > 0.1


@pytest.mark.parametrize("change", [{"seed": 9}, {"prompt": "rain"}, {"negative": "blurred"}, {"guidance": 2.0}])
def test_what_is_asked_for_counts(generator: Generator, change: dict) -> None:
    seeds = [change.pop("seed", SEEDS[0])]
    prompts = [change.pop("prompt", PROMPTS[0])]
    before = generator.text(PROMPTS[:1], SEEDS[:1], QUICK)
    assert (generator.text(prompts, seeds, QUICK.changed(**change)) - before).abs().max() > 1e-4


@pytest.mark.parametrize("cond", ["image", "video"])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_cache_and_passes_change_nothing(generator: Generator, film: torch.Tensor, cond: str, guidance: float) -> None:
    settings = QUICK.changed(guidance=guidance)
    made = []
    for cache, batched in ((True, True), (False, True), (True, False), (False, False)):
        how = settings.changed(cache=cache, batched=batched)
        if cond == "image":
            made.append(generator.image(PROMPTS, film[:, :, 0], SEEDS, how))
        else:
            made.append(generator.continuation(PROMPTS, film, SEEDS, how))
    for other in made[1:]:
        close(other, made[0])


@pytest.mark.parametrize("batched", [True, False])
def test_prompts_without_padding_guide_as_padded_ones_do(generator: Generator, batched: bool) -> None:
    """The empty prompt is one token: nearly all that the published network reads of it is padding."""
    settings, model = QUICK.changed(batched=batched, negative=""), generator.model
    x, t = torch.randn(2, 16, 3, 4, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([700.0, 700.0])
    with torch.no_grad():
        found = generator.predictor(generator.encode_condition(PROMPTS, settings), settings)(x, t)
        padded = [
            model(x, t, *pad_text(generator.text_encoder.encode(texts), model.config.text_tokens))
            for texts in (PROMPTS, ["", ""])
        ]
    torch.testing.assert_close(found, settings.guidance(*padded), rtol=1e-5, atol=1e-5)


def test_image_to_video_begins_with_the_image(generator: Generator, film: torch.Tensor) -> None:
    video = generator.image(PROMPTS, film[:, :, 0], SEEDS, QUICK)
    assert video.shape == (2, 3, 9, 32, 48)
    close(video[:, :, 0], film[:, :, 0], 0)
    other = generator.image(PROMPTS, film[:, :, 8], SEEDS, QUICK)
    assert (video[:, :, 1:] - other[:, :, 1:]).abs().max() > 1e-3  # the new frames know the image


def test_continuation_begins_with_the_last_frames(generator: Generator, film: torch.Tensor) -> None:
    video = generator.continuation(PROMPTS, film, SEEDS, QUICK)
    assert video.shape[2] == 9
    close(video[:, :, :5], film[:, :, 4:], 0)


def test_a_long_video_keeps_what_it_has_shown(generator: Generator) -> None:
    one, three = (generator.long(PROMPTS, n, SEEDS, QUICK) for n in (1, 3))
    assert three.shape[2] == 9 + 2 * 4
    close(three[:, :, :9], one, 0)
    two = generator.long(PROMPTS, 2, SEEDS, QUICK)
    close(three[:, :, :13], two, 0)


def test_segments_are_continuations_of_one_another(generator: Generator) -> None:
    """Each segment is what `continuation` makes of the last one's end, with the noise that follows."""
    seen: list[torch.Tensor] = []

    class Spy(Generator):
        def encode_condition(self, prompts, settings, initial=None, generators=()):
            seen.append(initial)
            return super().encode_condition(prompts, settings, initial, generators)

    spy = Spy(generator.model, generator.codec, generator.text_encoder)
    video = spy.long(PROMPTS, 3, SEEDS, QUICK)
    assert seen[0] is None
    close(seen[1], video[:, :, 4:9], 0)
    close(seen[2], video[:, :, 8:13], 0)


def test_a_segment_that_continues_one_samples_with_its_own_shift(generator: Generator) -> None:
    """It has fewer noisy tokens, and was trained with their shift."""
    seen: list[float] = []

    class Spy(Generator):
        def sample_latents(self, condition, settings, *args, **options):
            seen.append(settings.schedule.shift)
            return super().sample_latents(condition, settings, *args, **options)

    spy = Spy(generator.model, generator.codec, generator.text_encoder)
    video = spy.long(PROMPTS, 3, SEEDS, QUICK.changed(shift=3.0, later_shift=2.0))
    assert seen == [3.0, 2.0, 2.0]
    same = spy.long(PROMPTS, 2, SEEDS, QUICK.changed(shift=3.0))
    assert seen[3:] == [3.0, 3.0]
    close(video[:, :, :9], same[:, :, :9], 0)
    assert (video[:, :, 9:13] - same[:, :, 9:13]).abs().max() > 1e-4


def test_interactive_asks_for_a_prompt_when_the_last_frames_are_out(generator: Generator) -> None:
    asked: list[int] = []
    made: list[torch.Tensor] = []

    def prompts():
        for i in range(3):
            asked.append(len(made))
            yield [f"scene {i}"]

    for part in generator.stream(prompts(), [5], QUICK):
        made.append(part)
    assert asked == [0, 1, 2]
    assert [p.shape[2] for p in made] == [9, 4, 4]
    whole = generator.interactive([[f"scene {i}"] for i in range(3)], [5], QUICK)
    close(torch.cat(made, 2), whole, 0)
    other = generator.interactive([["scene 0"], ["rain"], ["scene 2"]], [5], QUICK)
    close(other[:, :, :9], whole[:, :, :9], 0)
    assert (other[:, :, 9:] - whole[:, :, 9:]).abs().max() > 1e-4


def test_a_single_frame_is_an_image(generator: Generator) -> None:
    assert generator.text(PROMPTS, SEEDS, QUICK.changed(frames=1)).shape == (2, 3, 1, 32, 48)


def test_bf16_weights_make_about_the_same_video(generator: Generator) -> None:
    import copy

    half = Generator(copy.deepcopy(generator.model).bfloat16(), generator.codec, generator.text_encoder)
    a, b = (g.text(PROMPTS, SEEDS, QUICK.changed(guidance=1.0)) for g in (generator, half))
    assert b.dtype == torch.float32
    assert torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] > 0.99


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"width": 40}, "multiple of 16"),
        ({"frames": 8}, r"4k \+ 1"),
        ({"overlap": 9}, "no room"),
        ({"overlap": 4}, r"4k \+ 1"),
        ({"overlap": 13}, "too short"),
        ({"steps": 0}, "at least one"),
    ],
)
def test_what_does_not_fit_is_one_sentence(generator: Generator, film: torch.Tensor, change: dict, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        generator.continuation(PROMPTS, film, SEEDS, QUICK.changed(**change))


def test_a_text_encoder_of_another_width_is_refused(generator: Generator) -> None:
    other = Generator(generator.model, generator.codec, load_text_encoder(TextConfig(dim=8)))
    with pytest.raises(ModelError, match="8 channels"):
        other.text(PROMPTS, SEEDS, QUICK)
    with pytest.raises(ModelError, match="2 prompts with 1 seeds"):
        generator.text(PROMPTS, SEEDS[:1], QUICK)


def test_three_steps_make_the_video(generator: Generator, film: torch.Tensor) -> None:
    noise = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    initial = film[:, :, 4:]
    condition = generator.encode_condition(PROMPTS, QUICK, initial)
    latents = generator.sample_latents(condition, QUICK, noise).latents
    assert latents.shape == (2, 16, 1, 4, 6)
    close(generator.decode(latents, condition), generator.continuation(PROMPTS, film, SEEDS, QUICK), 0)


@dataclass(frozen=True)
class Drift:
    """Stochastic steps: as much noise as each step takes away comes back, from each sample's own generator."""

    amount: float = 0.3

    def __call__(self, predict, noise, sigmas, *, generators=(), on_step=None):
        x, log_probs = noise.float(), []
        for sigma, following in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
            mean = x + (sigma - following) * predict(x, timesteps(sigma, x)).float()
            spread = self.amount * following
            fresh = torch.stack([torch.randn(mean.shape[1:], generator=g) for g in generators]).to(x.device)
            x = mean + spread * fresh
            log_probs.append(-0.5 * fresh.square().flatten(1).mean(1))
            on_step()
        return Solution(x, torch.stack(log_probs, 1))


def test_a_stochastic_solver_from_outside_samples(generator: Generator) -> None:
    def solved(seeds: list[int], prompts: list[str], solver: Drift) -> Solution:
        condition = generator.encode_condition(prompts, QUICK)
        noise = [torch.Generator().manual_seed(seed) for seed in seeds]
        return generator.sample_latents(condition, QUICK, noise, solver=solver, on_step=lambda: None)

    both = solved(SEEDS, PROMPTS, Drift())
    assert both.log_probs.shape == (2, 3)
    alone = solved(SEEDS[1:], PROMPTS[1:], Drift())
    close(alone.latents[0], both.latents[1])  # its draws do not depend on the batch
    close(alone.log_probs[0], both.log_probs[1], 0)
    ode = generator.sample_latents(
        generator.encode_condition(PROMPTS, QUICK), QUICK, [torch.Generator().manual_seed(s) for s in SEEDS]
    )
    assert ode.log_probs is None
    close(solved(SEEDS, PROMPTS, Drift(0)).latents, ode.latents, 1e-6)
    assert (both.latents - ode.latents).abs().max() > 0.01
    own = Generator(generator.model, generator.codec, generator.text_encoder, solver=Drift())
    video = own.text(PROMPTS, SEEDS, QUICK)
    close(video, generator.decode(both.latents, generator.encode_condition(PROMPTS, QUICK)), 0)


def test_gradients_flow_through_the_predictor(generator: Generator) -> None:
    condition = generator.encode_condition(PROMPTS, QUICK)
    predict = generator.predictor(condition, QUICK)
    x = torch.randn(2, 16, 3, 4, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    predict(x, torch.tensor([500.0, 500.0])).square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().max() > 0


def test_settings_by_name_and_in_groups_are_the_same() -> None:
    settings = Settings.of(width=48, guidance=2.0, distilled=True, batched=False)
    assert settings == Settings(Shape(width=48), Schedule(distilled=True), Guidance(scale=2.0), Memory(batched=False))
    assert Settings.of(**settings.flat()) == settings
    with pytest.raises(TypeError, match="'widht' is not a setting of sampling; settings are width"):
        Settings.of(widht=4)


def test_by_default_a_video_is_sampled_as_published() -> None:
    flat = Settings().flat()
    published = {"width": 832, "height": 480, "frames": 93, "overlap": 13, "steps": 50, "guidance": 4.0, "shift": 12.0}
    assert published.items() <= flat.items()
    on = {name for name, value in flat.items() if value is True}
    assert on == {"enhance_hf", "cache", "batched"}, "where ours differs from the published sampler, ours is on"


@pytest.mark.parametrize(("width", "height"), [(824, 480), (832, 488), (0, 480), (832, 0), (480, 840)])
def test_a_size_that_is_no_whole_number_of_tokens_is_refused(width: int, height: int) -> None:
    with pytest.raises(ModelError, match="the width must be a multiple of 16, the height of 16"):
        Shape(width=width, height=height).check((1, 2, 2))
    Shape(width=16, height=496).check((1, 2, 2))
