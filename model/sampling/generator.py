"""Videos from prompts: text, image and continuation, long and interactive, all by one way through the network.

Initial frames, where there are any, come first: their latents are the condition, and they are returned as they were
given. A long video is made in segments, each the continuation of the last frames of the one before.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reelwright.model.cache import KVCache
from reelwright.model.codec import Codec, latent_size
from reelwright.model.dit import DiT
from reelwright.model.errors import ModelError
from reelwright.model.sampling.guidance import without_first
from reelwright.model.sampling.settings import Settings, Shape
from reelwright.model.sampling.solvers import Predict, Solution, Solver, euler
from reelwright.model.text import PackedText, TextEncoder, pack_text

OnStep = Callable[[int, int], None]
"""(steps done, steps in all)"""


@dataclass(frozen=True)
class TextStates:
    """Encoded texts of one pass. states: of copies · B texts. copies: texts per sample."""

    states: PackedText
    copies: int


@dataclass(frozen=True)
class Condition:
    """All that samples are made from besides noise.

    texts: per pass; the prompts and, under guidance, the negative prompt in the same or in a second pass. frames:
    initial pixel frames [B, 3, F, H, W], if any; latents: their latents [B, C, T, h, w]; cache: their keys and values.
    """

    texts: tuple[TextStates, ...]
    frames: Tensor | None = None
    latents: Tensor | None = None
    cache: KVCache | None = None

    @property
    def continues_video(self) -> bool:
        """Whether new frames follow a video's, not those of an image or none."""
        return self.frames is not None and self.frames.shape[2] > 1


class Generator:
    """A network with its codec and text encoder. Videos are float32 [B, 3, F, H, W] in -1..1 on the CPU.

    A video takes three steps, each of which may be called alone: `encode_condition`, `sample_latents`, `decode`. Noise
    comes from a CPU generator of each sample's own seed: a sample does not depend on its batch or the device.
    """

    def __init__(self, model: DiT, codec: Codec, text_encoder: TextEncoder, *, solver: Solver = euler) -> None:
        self.model = model
        self.codec = codec
        self.text_encoder = text_encoder
        self.solver = solver

    def text(
        self, prompts: Sequence[str], seeds: Sequence[int], settings: Settings, on_step: OnStep | None = None
    ) -> Tensor:
        """Make videos from text; with `shape.frames` 1, images."""
        return self.interactive([prompts], seeds, settings, on_step=on_step)

    def image(
        self,
        prompts: Sequence[str],
        images: Tensor,
        seeds: Sequence[int],
        settings: Settings,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Make videos from images. images: [B, 3, H, W] in -1..1, the first frames."""
        return self.interactive([prompts], seeds, settings, initial=images.unsqueeze(2), on_step=on_step)

    def continuation(
        self,
        prompts: Sequence[str],
        videos: Tensor,
        seeds: Sequence[int],
        settings: Settings,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Continue the last `shape.overlap` frames of videos [B, 3, F, H, W]; those frames begin the result."""
        initial = _last(videos, settings.shape.overlap)
        return self.interactive([prompts], seeds, settings, initial=initial, on_step=on_step)

    def long(
        self,
        prompts: Sequence[str],
        segments: int,
        seeds: Sequence[int],
        settings: Settings,
        *,
        initial: Tensor | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Make videos of frames + (segments - 1) · (frames - overlap) frames. initial: first frames [B, 3, F, H, W]."""
        return self.interactive([prompts] * segments, seeds, settings, initial=initial, on_step=on_step)

    def interactive(
        self,
        prompts: Sequence[Sequence[str]],
        seeds: Sequence[int],
        settings: Settings,
        *,
        initial: Tensor | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Make long videos with prompts of their own for every segment. prompts: [segments][B]."""
        parts = self.stream(prompts, seeds, settings, initial=initial, on_step=on_step, segments=len(prompts))
        return torch.cat(list(parts), 2)

    def stream(
        self,
        prompts: Iterable[Sequence[str]],
        seeds: Sequence[int],
        settings: Settings,
        *,
        initial: Tensor | None = None,
        on_step: OnStep | None = None,
        segments: int = 1,
    ) -> Iterator[Tensor]:
        """Yield the new frames of segment after segment; asks for the next prompts when the last frames are out.

        Joined along the frames, the parts are the video: the frames that a segment continues are not yielded again, so
        they cannot drift.

        Args:
            prompts: of each segment, one per video.
            seeds: one per video.
            settings: size, schedule, guidance, memory.
            initial: frames [B, 3, F, H, W] in -1..1 that the first segment begins with; they are yielded first.
            on_step: called after each step of the solver.
            segments: how many rows of prompts there will be, for `on_step`'s total.
        """
        noise = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        first = _steps(settings, initial)
        later = _steps(_continuing(settings), after=settings.shape.overlap)
        tick = _ticker(on_step, first + (segments - 1) * later)
        shape, shown = settings.shape, 0
        for texts in prompts:
            self._check(settings, texts, noise, initial)
            condition = self.encode_condition(texts, settings, initial, noise)
            solution = self.sample_latents(condition, settings, noise, on_step=tick)
            video = self.decode(solution.latents, condition)
            yield video[:, :, shown:]
            initial = _last(video, shape.overlap) if shape.overlap < shape.frames else video
            shown = initial.shape[2]
            initial = _cut_to_levels(initial) if settings.parity.cut_levels else initial
            settings = _continuing(settings)

    @torch.no_grad()
    def encode_condition(
        self,
        prompts: Sequence[str],
        settings: Settings,
        initial: Tensor | None = None,
        generators: Sequence[torch.Generator] = (),
    ) -> Condition:
        """Encode prompts and initial frames.

        Args:
            prompts: one per sample.
            settings: guidance decides which texts are encoded, memory how they are passed.
            initial: pixel frames [B, 3, F, H, W] in -1..1, F = 4k + 1.
            generators: on the CPU, one per sample; drawn from where condition latents are not the posterior's mode.
        """
        rounds = [list(prompts)]
        if not settings.guidance.is_off:
            rounds.append([settings.guidance.negative] * len(prompts))
        if settings.memory.batched:
            rounds = [[text for texts in rounds for text in texts]]
        texts = tuple(self._encode_texts(r, copies=len(r) // len(prompts)) for r in rounds)
        if initial is None:
            return Condition(texts)
        weight = next(self.model.parameters())
        drawn = settings.parity.posterior
        latents = (self.codec.sample(initial, generators) if drawn else self.codec.encode(initial)).to(weight.device)
        cache = None
        if settings.memory.cache and not _fits_condition(settings, latents):
            cache = self.model.cache(latents.to(weight.dtype), offload=settings.memory.offload)
        return Condition(texts, initial, latents, cache)

    @torch.no_grad()
    def sample_latents(
        self,
        condition: Condition,
        settings: Settings,
        generators: Sequence[torch.Generator],
        *,
        solver: Solver | None = None,
        on_step: Callable[[], None] | None = None,
    ) -> Solution:
        """Sample the latents of the new frames, [B, C, T, h, w].

        Args:
            condition: texts and initial frames.
            settings: as `condition` was encoded with.
            generators: on the CPU, one per sample, for the first noise and the noise that a stochastic solver adds.
            solver: in place of the generator's own.
            on_step: called after each step.
        """
        frames, rows, columns = settings.shape.latent
        if condition.latents is not None:
            frames -= condition.latents.shape[2]
        shape = (self.codec.channels, frames, rows, columns)
        device = next(self.model.parameters()).device
        noise = torch.stack([torch.randn(shape, generator=g) for g in generators]).to(device)
        continues = condition.continues_video
        if continues and settings.parity.bf16_noise:
            noise = noise.bfloat16().float()
        solve, sigmas = solver or self.solver, settings.schedule.sigmas(continues=continues)
        predict = without_first(self.predictor(condition, settings), sigmas, settings.guidance)
        return solve(predict, noise, sigmas, generators=generators, on_step=on_step)

    def decode(self, latents: Tensor, condition: Condition) -> Tensor:
        """Return the video of new frames after the initial ones, which stay as they were given.

        Args:
            latents: of the new frames, [B, C, T, h, w].
            condition: the condition that they were sampled from.
        """
        if condition.latents is not None:
            latents = torch.cat([condition.latents, latents], 2)
        video = self.codec.decode(latents).cpu()
        if condition.frames is not None:
            video[:, :, : condition.frames.shape[2]] = condition.frames.cpu()
        return video

    def predictor(self, condition: Condition, settings: Settings) -> Predict:
        """Return the guided prediction for the new frames; gradients flow through it where they are enabled."""
        guidance, bf16_t = settings.guidance, settings.schedule.bf16_t
        fits_all = _fits_condition(settings, condition.latents)
        passes = [self._pass(texts, condition, whole=fits_all) for texts in condition.texts]
        clean = condition.latents.shape[2] if fits_all and condition.latents is not None else 0

        def predict(x: Tensor, t: Tensor) -> Tensor:
            t = t.bfloat16().float() if bf16_t else t
            if guidance.is_off:
                return passes[0](x, t)[:, :, clean:]
            if settings.memory.batched:
                with_prompt, without = passes[0](x.repeat(2, 1, 1, 1, 1), t.repeat(2)).chunk(2)
            else:
                with_prompt, without = (one(x, t) for one in passes)
            return guidance(with_prompt, without)[:, :, clean:]

        return predict

    def _encode_texts(self, texts: Sequence[str], copies: int) -> TextStates:
        weight = next(self.model.parameters())
        states = pack_text(self.text_encoder.encode(texts), self.model.config.text_tokens)
        return TextStates(states.to(weight.device, weight.dtype), copies)

    def _pass(self, texts: TextStates, condition: Condition, *, whole: bool = False) -> Predict:
        """Return the network's prediction for the new frames of x, which has the samples `texts.copies` times over.

        whole: for the condition's too, which come first.
        """
        dtype, states = next(self.model.parameters()).dtype, texts.states
        if condition.latents is None:
            return lambda x, t: self.model(x.to(dtype), t, states).float()
        if condition.cache is not None:
            cache = condition.cache.expand(texts.copies)
            return lambda x, t: self.model(x.to(dtype), t, states, cache=cache).float()
        clean = condition.latents.repeat(texts.copies, 1, 1, 1, 1).to(dtype)
        count = clean.shape[2]

        def predict(x: Tensor, t: Tensor) -> Tensor:
            joined = torch.cat([clean, x.to(dtype)], 2)
            return self.model(joined, t, states, cond_frames=count)[:, :, 0 if whole else count :].float()

        return predict

    def _check(
        self, settings: Settings, prompts: Sequence[str], noise: Sequence[torch.Generator], initial: Tensor | None
    ) -> None:
        """Raise ModelError for settings, prompts, seeds and initial frames that do not go together."""
        settings.check(self.model.config.patch_size)
        if not prompts or len(prompts) != len(noise):
            raise ModelError(f"{len(prompts)} prompts with {len(noise)} seeds: one seed per prompt is needed")
        if self.text_encoder.dim != self.model.config.caption_channels:
            raise ModelError(
                f"the text encoder's states have {self.text_encoder.dim} channels, the network takes "
                f"{self.model.config.caption_channels}; give the encoder that it was trained with"
            )
        if initial is not None:
            _check_initial(initial, settings.shape, len(prompts))


def _continuing(settings: Settings) -> Settings:
    """Return the settings of the segments after the first."""
    later = settings.schedule.later_shift
    return settings if later is None else settings.changed(shift=later)


def _steps(settings: Settings, initial: Tensor | None = None, *, after: int = 0) -> int:
    """Count the steps of a segment that begins with initial frames, or with `after` of the one before."""
    given = after if initial is None else initial.shape[2]
    return len(settings.schedule.sigmas(continues=given > 1)) - 1


def _fits_condition(settings: Settings, latents: Tensor | None) -> bool:
    """Whether guidance is fitted over the condition too, as published without a cache: of an image's one latent."""
    return settings.parity.fit_condition and latents is not None and latents.shape[2] == 1


def _cut_to_levels(video: Tensor) -> Tensor:
    """Cut values in -1..1 down to whole levels of 0..255."""
    return ((video + 1) * 127.5).floor().clamp(0, 255) / 127.5 - 1


def _check_initial(initial: Tensor, shape: Shape, count: int) -> None:
    frames = initial.shape[2]
    if len(initial) != count or initial.shape[1] != 3 or initial.shape[3:] != (shape.height, shape.width):
        want = [count, 3, "F", shape.height, shape.width]
        raise ModelError(f"initial frames are {list(initial.shape)}; expected [{', '.join(map(str, want))}]")
    latent_size(frames, *initial.shape[3:])
    if frames >= shape.frames:
        raise ModelError(
            f"a segment of {shape.frames} frames that begins with {frames} initial ones has no room for new ones; "
            f"ask for more frames, or for a smaller overlap"
        )


def _last(video: Tensor, frames: int) -> Tensor:
    """Return the last `frames` frames. Raises ModelError for a shorter video."""
    if video.shape[2] < frames:
        raise ModelError(f"a video of {video.shape[2]} frames is too short to continue: {frames} are needed")
    return video[:, :, video.shape[2] - frames :]


def _ticker(on_step: OnStep | None, total: int) -> Callable[[], None]:
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if on_step is not None:
            on_step(done, max(done, total))

    return tick
