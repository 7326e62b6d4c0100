"""Video from prompts: text, image and continuation, long and interactive, all by one way through the network.

Frames that are given come first; their latents are the condition, and they are returned as they were given. A long
video is made in segments, each the continuation of the last frames of the one before.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reelwright.model.cache import KVCache
from reelwright.model.codec import Codec, latent_size
from reelwright.model.codec.base import STRIDE
from reelwright.model.dit import DiT
from reelwright.model.errors import ModelError
from reelwright.model.sampling.schedules import SHIFT, Predict, Rule, cfg, cfg_zero, denoise, distilled_sigmas, sigmas
from reelwright.model.text import TextEncoder, pad_text

OnStep = Callable[[int, int], None]  # (steps done, steps in all)


@dataclass(frozen=True)
class Settings:
    """How to sample; the defaults are the published ones."""

    width: int = 832
    height: int = 480
    frames: int = 93  # pixel frames of a segment, those that are given included
    overlap: int = 13  # pixel frames of a segment that the next one continues
    steps: int = 50
    shift: float = SHIFT
    guidance: float = 4.0  # 1: none, and half of the work
    rule: Rule = "cfg-zero"
    negative: str = ""
    distilled: bool = False  # sigmas of a distilled network, which wants 16 steps and guidance 1
    cache: bool = True  # keys and values of the condition are computed once
    bf16_t: bool = False  # t is rounded to bf16 before its sinusoid, as the published bf16 network does
    batched: bool = True  # with and without the prompt in one pass: faster, twice the memory

    def check(self, patch: tuple[int, int, int]) -> None:
        """Raises ModelError for a size that does not divide. patch: the network's."""
        down, across = STRIDE[1] * patch[1], STRIDE[2] * patch[2]
        if self.height % down or self.width % across or not self.height or not self.width:
            raise ModelError(
                f"{self.width} wide × {self.height} high does not fit: the width must be a multiple of {across}, "
                f"the height of {down}"
            )
        latent_size(self.frames, self.height, self.width)
        self.levels()

    def levels(self) -> Tensor:
        """Noise levels from 1 to 0, [steps + 1]."""
        return (distilled_sigmas if self.distilled else sigmas)(self.steps, self.shift)


class Generator:
    """A network with its codec and text encoder. Videos are float32 [B, 3, F, H, W] in -1..1 on the CPU, one a prompt.

    Noise comes from a CPU generator of each sample's own seed: a sample does not depend on its batch or the device.
    """

    def __init__(self, model: DiT, codec: Codec, text_encoder: TextEncoder) -> None:
        self.model, self.codec, self.text_encoder = model, codec, text_encoder

    def text(
        self, prompts: Sequence[str], seeds: Sequence[int], settings: Settings, on_step: OnStep | None = None
    ) -> Tensor:
        """Text to video; `settings.frames` 1 makes images."""
        return self.interactive([prompts], seeds, settings, on_step=on_step)

    def image(
        self,
        prompts: Sequence[str],
        images: Tensor,
        seeds: Sequence[int],
        settings: Settings,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Image to video. images: [B, 3, H, W] in -1..1, the first frames."""
        return self.interactive([prompts], seeds, settings, given=images.unsqueeze(2), on_step=on_step)

    def continuation(
        self,
        prompts: Sequence[str],
        videos: Tensor,
        seeds: Sequence[int],
        settings: Settings,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Go on from the last `settings.overlap` frames of videos [B, 3, F, H, W]; those frames begin the result."""
        return self.interactive([prompts], seeds, settings, given=_last(videos, settings.overlap), on_step=on_step)

    def long(
        self,
        prompts: Sequence[str],
        segments: int,
        seeds: Sequence[int],
        settings: Settings,
        *,
        given: Tensor | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """frames + (segments - 1) · (frames - overlap) frames. given: [B, 3, F, H, W] to begin with, if any."""
        return self.interactive([prompts] * segments, seeds, settings, given=given, on_step=on_step)

    def interactive(
        self,
        prompts: Sequence[Sequence[str]],
        seeds: Sequence[int],
        settings: Settings,
        *,
        given: Tensor | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """A long video whose every segment has prompts of its own. prompts: [segments][B]."""
        parts = self.stream(prompts, seeds, settings, given=given, on_step=on_step, segments=len(prompts))
        return torch.cat(list(parts), 2)

    def stream(
        self,
        prompts: Iterable[Sequence[str]],
        seeds: Sequence[int],
        settings: Settings,
        *,
        given: Tensor | None = None,
        on_step: OnStep | None = None,
        segments: int = 1,
    ) -> Iterator[Tensor]:
        """The new frames of segment after segment; the next prompts are asked for when the last frames are out.

        given: [B, 3, F, H, W], the frames that the first segment begins with; they come first. Joined along the frames,
        all that is yielded is the video: what a segment shows of the one before is not yielded again, so it cannot
        drift. segments: how many prompts there will be, for `on_step`'s total.
        """
        noise = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        tick = _ticker(on_step, settings.steps * segments)
        shown = 0
        for texts in prompts:
            self._check(settings, texts, noise, given)
            video = self._segment(texts, noise, given, settings, tick)
            yield video[:, :, shown:]
            given = _last(video, settings.overlap) if settings.overlap < settings.frames else video
            shown = given.shape[2]

    @torch.no_grad()
    def _segment(
        self,
        prompts: Sequence[str],
        noise: Sequence[torch.Generator],
        given: Tensor | None,
        settings: Settings,
        tick: Callable[[], None],
    ) -> Tensor:
        frames, rows, columns = latent_size(settings.frames, settings.height, settings.width)
        weight = next(self.model.parameters())
        condition = None
        if given is not None:
            condition = self.codec.encode(given).to(weight.device)
            frames -= condition.shape[2]
        shape = (self.codec.channels, frames, rows, columns)
        start = torch.stack([torch.randn(shape, generator=g) for g in noise]).to(weight.device)
        predict = self._predictor(prompts, condition, settings)
        latents = denoise(predict, start, settings.levels(), on_step=tick)
        if condition is not None:
            latents = torch.cat([condition, latents], 2)
        video = self.codec.decode(latents).cpu()
        if given is not None:
            video[:, :, : given.shape[2]] = given.cpu()
        return video

    def _predictor(self, prompts: Sequence[str], condition: Tensor | None, settings: Settings) -> Predict:
        """Guided prediction for the noisy frames of x."""
        count, rounds = len(prompts), [list(prompts)]
        if settings.guidance != 1:
            rounds.append([settings.negative] * count)
        if settings.batched:
            rounds = [[text for texts in rounds for text in texts]]
        cache = self._cache(condition) if condition is not None and settings.cache else None
        passes = [self._single(texts, condition, cache, copies=len(texts) // count) for texts in rounds]
        rule = cfg_zero if settings.rule == "cfg-zero" else cfg

        def predict(x: Tensor, t: Tensor) -> Tensor:
            t = t.bfloat16().float() if settings.bf16_t else t
            if settings.guidance == 1:
                return passes[0](x, t)
            if settings.batched:
                with_prompt, without = passes[0](x.repeat(2, 1, 1, 1, 1), t.repeat(2)).chunk(2)
            else:
                with_prompt, without = (one(x, t) for one in passes)
            return rule(with_prompt, without, settings.guidance)

        return predict

    def _cache(self, condition: Tensor) -> KVCache:
        return self.model.cache(condition.to(next(self.model.parameters()).dtype))

    def _single(
        self, texts: Sequence[str], condition: Tensor | None, cache: KVCache | None, copies: int
    ) -> Predict:
        """The network's prediction for the noisy frames of x, after its condition frames, if any.

        x has the samples `copies` times over, each time with other texts.
        """
        weight = next(self.model.parameters())
        states, mask = pad_text(self.text_encoder.encode(texts), self.model.config.text_tokens)
        states, mask = states.to(weight.device, weight.dtype), mask.to(weight.device)
        if condition is None:
            return lambda x, t: self.model(x.to(weight.dtype), t, states, mask).float()
        if cache is not None:
            whole_cache = cache.expand(copies)
            return lambda x, t: self.model(x.to(weight.dtype), t, states, mask, cache=whole_cache).float()
        clean, count = condition.repeat(copies, 1, 1, 1, 1).to(weight.dtype), condition.shape[2]

        def predict(x: Tensor, t: Tensor) -> Tensor:
            whole = torch.cat([clean, x.to(weight.dtype)], 2)
            return self.model(whole, t, states, mask, cond_frames=count)[:, :, count:].float()

        return predict

    def _check(
        self, settings: Settings, prompts: Sequence[str], noise: Sequence[torch.Generator], given: Tensor | None
    ) -> None:
        """Raises ModelError for what does not go together."""
        settings.check(self.model.config.patch_size)
        if not prompts or len(prompts) != len(noise):
            raise ModelError(f"{len(prompts)} prompts with {len(noise)} seeds: one seed a prompt is needed")
        if self.text_encoder.dim != self.model.config.caption_channels:
            raise ModelError(
                f"the text encoder's states have {self.text_encoder.dim} channels, the network takes "
                f"{self.model.config.caption_channels}; give the encoder that it was trained with"
            )
        if given is not None:
            _check_given(given, settings, len(prompts))


def _check_given(given: Tensor, settings: Settings, count: int) -> None:
    frames = given.shape[2]
    if len(given) != count or given.shape[1] != 3 or given.shape[3:] != (settings.height, settings.width):
        want = [count, 3, "F", settings.height, settings.width]
        raise ModelError(f"frames to begin with are {list(given.shape)}; expected [{', '.join(map(str, want))}]")
    latent_size(frames, *given.shape[3:])
    if frames >= settings.frames:
        raise ModelError(
            f"a segment of {settings.frames} frames that begins with {frames} given ones has no room for new ones; "
            f"ask for more frames, or for a smaller overlap"
        )


def _last(video: Tensor, frames: int) -> Tensor:
    """The last `frames` frames. Raises ModelError for a shorter video."""
    if video.shape[2] < frames:
        raise ModelError(f"a video of {video.shape[2]} frames is too short to go on from: {frames} are needed")
    return video[:, :, video.shape[2] - frames :]


def _ticker(on_step: OnStep | None, total: int) -> Callable[[], None]:
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if on_step is not None:
            on_step(done, max(done, total))

    return tick
