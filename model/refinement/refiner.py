"""Coarse to fine: a video of the first stage, enlarged and half drowned in noise, is sampled again at the larger size.

Source: LongCat-Video technical report, section 3.4.1, and the published sampler. A long video is refined in windows
that overlap, each a continuation of the refined frames before it, so frames that are out never change.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reelwright.model.errors import ModelError
from reelwright.model.refinement.noise import noised_start
from reelwright.model.refinement.plan import Refinement, RefinementPlan
from reelwright.model.sampling.generator import Condition, Generator
from reelwright.model.sampling.settings import Settings

WINDOW, OVERLAP = 93, 13  # frames of the first stage
LEAST_OVERLAP = 5  # of windows: one frame would count as a picture, which no frame rate doubles


@dataclass(frozen=True)
class FirstStage:
    """A video that is refined. It is read as it is needed.

    read: frames start to stop, [B, 3, stop - start, h, w] in -1..1. frames: in all. given: of its first frames, those
    that were not made but given. condition: the given ones at the refined size and the output's rate, [B, 3, n, H, W].
    """

    read: Callable[[int, int], Tensor]
    frames: int
    given: int = 0
    condition: Tensor | None = None


class Refiner:
    """Refines with a generator's network, codec and text encoder.

    The network must carry the refinement's adapters and attention meanwhile: `model.lora.swap.only_adapters`,
    `model.sparse.attending_by`. Noise comes from each sample's own seed, so a refined video can be made again; the
    published sampler's cannot.
    """

    def __init__(
        self, generator: Generator, how: Refinement | None = None, *, bf16_t: bool = False, offload: bool = False
    ) -> None:
        self.generator, self.how = generator, how or Refinement()
        self.settings = Settings.of(guidance=1.0, bf16_t=bf16_t, offload=offload)

    def stream(
        self,
        first: FirstStage,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        window: int = WINDOW,
        overlap: int = OVERLAP,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Iterator[Tensor]:
        """Yield the refined frames, window after window, [B, 3, n, H, W] in -1..1 on the CPU.

        Args:
            first: the video.
            prompts: one per sample, for all windows; empty ones for a long video, as published.
            seeds: one per sample.
            window: frames of the first stage that are refined at a time.
            overlap: frames of the first stage that a window shares with the one before.
            on_step: called after each step of the solver, with the steps done and all.

        Raises:
            ModelError: sizes or counts do not go together.
        """
        parts = windows(first.frames, window, overlap)
        noise = [noise_of(seed) for seed in seeds]
        condition, given, done = first.condition, first.given, 0
        for start, stop in parts:
            coarse = first.read(start, stop)
            plan = self.how.plan(stop - start, coarse.shape[3], coarse.shape[4], given)

            def tick(steps: int = len(plan.sigmas) - 1) -> None:
                nonlocal done
                done += 1
                if on_step is not None:
                    on_step(done, steps * len(parts))

            refined = self.refine(coarse, prompts, plan, noise, condition, tick)
            if self.how.frames_past and stop < first.frames:  # the next window knows what comes there
                refined = refined[:, :, : -self.how.frames_past]
            shown = plan.padding.condition if start else 0
            yield refined[:, :, shown:]
            given = min(overlap, stop - start)
            condition = refined[:, :, -self.how.output_condition(given) :]

    @torch.no_grad()
    def refine(
        self,
        coarse: Tensor,
        prompts: Sequence[str],
        plan: RefinementPlan,
        generators: Sequence[torch.Generator],
        condition: Tensor | None = None,
        on_step: Callable[[], None] | None = None,
    ) -> Tensor:
        """Refine one window; return [B, 3, F', H, W] on the CPU, whose first frames are the condition, unchanged.

        Args:
            coarse: frames of the first stage, [B, 3, F, h, w] in -1..1.
            prompts: one per sample.
            plan: of this window.
            generators: on the CPU, one per sample: of the noise.
            condition: refined or given first frames, [B, 3, plan.padding.condition, H, W].
            on_step: called after each step of the solver.
        """
        _check(coarse, prompts, plan, condition)
        made = self._condition(prompts, plan, condition)
        device = next(self.generator.model.parameters()).device
        # One sample at a time: an enlarged video of 186 frames at 720p has 2 GB.
        latents = [self._encode(plan.padding.pad(plan.enlarge(one))) for one in coarse.split(1)]
        upsampled = torch.cat(latents)[:, :, plan.padding.cond_latents :].to(device)
        noise = torch.stack([torch.randn(upsampled.shape[1:], generator=g) for g in generators]).to(device)
        solution = self.generator.solver(
            self.generator.predictor(made, self.settings),
            noised_start(upsampled, noise, plan.how.threshold),
            plan.sigmas,
            generators=generators,
            on_step=on_step,
        )
        whole = solution.latents if made.latents is None else torch.cat([made.latents, solution.latents], 2)
        video = torch.cat([plan.padding.cut(self.generator.codec.decode(one).cpu()) for one in whole.split(1)])
        if condition is not None:
            video[:, :, : plan.padding.condition] = condition.cpu()
        return video

    def _condition(self, prompts: Sequence[str], plan: RefinementPlan, frames: Tensor | None) -> Condition:
        """Encode prompts and clean frames, these apart from the rest and with their own copies in front."""
        made = self.generator.encode_condition(prompts, self.settings)
        if frames is None:
            return made
        weight = next(self.generator.model.parameters())
        latents = [self._encode(plan.padding.pad_condition(one)) for one in frames.split(1)]
        clean = torch.cat(latents).to(weight.device)
        cache = self.generator.model.cache(clean.to(weight.dtype), offload=self.settings.memory.offload)
        return Condition(made.texts, frames, clean, cache)

    def _encode(self, video: Tensor) -> Tensor:
        return self.generator.codec.encode(video)


def windows(frames: int, window: int = WINDOW, overlap: int = OVERLAP) -> list[tuple[int, int]]:
    """Return (start, stop) of the windows of a video: 93 frames each, 80 apart; the last one has the rest.

    Raises:
        ModelError: windows do not move on, or share too little to continue one another.
    """
    if frames < 1:
        raise ModelError("a video of no frames cannot be refined")
    if frames <= window:
        return [(0, frames)]
    if not LEAST_OVERLAP <= overlap < window:
        raise ModelError(
            f"windows of {window} frames that share {overlap} cannot be refined one after the other; "
            f"they must share {LEAST_OVERLAP} to {window - 1}"
        )
    starts = range(0, frames - overlap, window - overlap)
    return [(start, min(start + window, frames)) for start in starts]


def noise_of(seed: int) -> torch.Generator:
    """Return the generator of a sample's refinement noise: other numbers than the first stage's from the same seed."""
    derived = int.from_bytes(hashlib.sha256(f"refinement {seed}".encode()).digest()[:7], "big")
    return torch.Generator("cpu").manual_seed(derived)


def _check(coarse: Tensor, prompts: Sequence[str], plan: RefinementPlan, condition: Tensor | None) -> None:
    found = [] if condition is None else list(condition.shape)
    want = [len(prompts), 3, plan.padding.condition, plan.size.height, plan.size.width]
    if found != (want if plan.padding.condition else []):
        raise ModelError(f"condition frames of a refinement are {found or 'none'}; expected {want}")
    if len(coarse) != len(prompts) or coarse.shape[2] != plan.frames:
        raise ModelError(
            f"a video of {coarse.shape[2]} frames for {len(coarse)} prompts; {plan.frames} frames for {len(prompts)} "
            "are planned"
        )
