"""Footage for the tiny policy: squares of named colours on a textured ground; half move against their words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reelwright.model.codec import load_codec
from reelwright.model.config import CodecConfig
from reelwright.model.text import load_text_encoder, pack_text
from reelwright.training.batch import Batch
from reelwright.training.data.encode import encode_frames
from reelwright.training.recipe import TrainRecipe
from reelwright.training.rewards.caption_attributes_standin import COLOURS

SIDE, FRAMES, FPS = 64, 9, 8
LATENT = (16, 3, 8, 8)
COLOURED = ("red", "green", "blue", "yellow", "orange", "purple", "cyan", "pink")
PROMPTS = tuple(f"a {colour} square stands still" for colour in COLOURED)
CLIPS_PER_PROMPT = 12


def clip(prompt: str, number: int) -> np.ndarray:
    """Draw a clip of a prompt, uint8 [F, H, W, 3]; the same for the same number."""
    random = np.random.default_rng([PROMPTS.index(prompt), number])
    words = prompt.split()
    ground = random.normal(120, 12, (SIDE // 4, SIDE // 4)).repeat(4, 0).repeat(4, 1)
    frames = np.repeat(ground[None, :, :, None], FRAMES, 0).repeat(3, 3)
    size, place = random.integers(16, 26), random.uniform(4, 34, 2)
    moved = random.choice([-1, 1], 2) * random.uniform(1.5, 2.5, 2) * (number % 2)
    tint = np.array(COLOURS[words[1]]) * random.uniform(0.7, 1.0) + random.uniform(0, 40)
    for f in range(FRAMES):
        top, left = np.clip(place + f * moved, 0, SIDE - size).astype(int)
        frames[f, top : top + size, left : left + size] = tint
    return frames.clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Squares:
    """The loop's data. latents: [prompts, clips, C, T, h, w]. states: of the prompts, then of the empty one."""

    latents: Tensor
    states: list[Tensor]
    recipe: TrainRecipe
    samples: int
    of_data: bool  # draws a clip's latents; else every prompt comes as often

    @classmethod
    def of(cls, recipe: TrainRecipe, samples: int, *, of_data: bool) -> "Squares":
        codec, encoder = load_codec(CodecConfig()), load_text_encoder(recipe.text)
        made = [encode_frames(clip(prompt, i), codec) for prompt in PROMPTS for i in range(CLIPS_PER_PROMPT)]
        latents = torch.stack(made).view(len(PROMPTS), CLIPS_PER_PROMPT, *LATENT)
        return cls(latents, encoder.encode([*PROMPTS, ""]), recipe, samples, of_data)

    def batches(self, start_step: int) -> Iterator[Batch]:
        for step in range(start_step, self.recipe.steps):
            yield self._batch(step, np.random.default_rng([self.recipe.seed, step]))

    def _batch(self, step: int, random: np.random.Generator) -> Batch:
        drawn = random.integers(len(PROMPTS), size=self.samples)
        prompts = drawn if self.of_data else np.arange(self.samples) % len(PROMPTS)
        dropped = random.random(self.samples) < self.recipe.data.caption_dropout
        states = [self.states[-1 if gone else p] for p, gone in zip(prompts, dropped, strict=True)]
        return Batch(
            self.latents[prompts, random.integers(CLIPS_PER_PROMPT, size=self.samples)],
            pack_text(states, self.recipe.model.text_tokens), "t2v", 0,
            seeds=random.integers(2**62, size=self.samples).tolist(), clip_ids=[""] * self.samples,
            samples_in_step=self.samples, step=step, micro=0, captions=tuple(PROMPTS[p] for p in prompts),
        )  # fmt: skip

    def validation(self) -> Sequence[Batch]:
        return []
