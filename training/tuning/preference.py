"""Learning preferences: a score per dimension, so that the better of two videos has the higher one.

Rao and Kupper's model (1967) of paired comparisons with ties, as VideoAlign trains: with d = s(first) − s(second),

    P(first is better)  = σ(d − ln k)
    P(second is better) = σ(−d − ln k)
    P(same)             = (k² − 1) · σ(d − ln k) · σ(−d − ln k)

which add up to 1 for every d and k > 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from reelwright.annotate.backends.videos.form import VideoForm
from reelwright.annotate.backends.videos.patches import LUMA
from reelwright.training.tuning.objective import Row, TuneObjective, model_inputs
from reelwright.training.tuning.samples import Item, Pair, Turn
from reelwright.training.tuning.template import Template
from reelwright.training.tuning.videos import Seen, VideoFacts

if TYPE_CHECKING:
    from reelwright.training.tuning.recipe import RewardRecipe


class Scorer(nn.Module):
    """A vision-language model with a linear head that reads the state of each text's last token, in float32."""

    def __init__(self, vlm: Any, dimensions: int) -> None:
        """Take the model; the head begins at 0, where every two videos are the same."""
        super().__init__()
        self.vlm = vlm
        self.head = nn.Linear(vlm.config.get_text_config().hidden_size, dimensions)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, **inputs: Any) -> Tensor:
        """Return scores, float32 [B, dimensions]."""
        states = self.vlm.model(**inputs, use_cache=False).last_hidden_state
        last = inputs["attention_mask"].sum(1) - 1
        read = states[torch.arange(len(states), device=states.device), last]
        with torch.autocast(states.device.type, enabled=False):
            return self.head(read.float())


@dataclass(frozen=True, eq=False)
class PairExample:
    """Two texts, and choices by dimension: 1, 0, −1, or NaN where nobody chose."""

    first: Row
    second: Row
    choices: list[float]


class Preferences(TuneObjective[PairExample]):
    """Learns people's choices between two videos of one prompt."""

    def __init__(self, template: Template, form: VideoForm, recipe: RewardRecipe) -> None:
        """Take the model's template and form, and the recipe's dimensions, question and ties."""
        self.template, self.form, self.recipe = template, form, recipe
        self.pad = template.tokenizer.pad_token_id or 0

    def lengths(self, item: Item, facts: Sequence[VideoFacts]) -> list[int]:
        """See `TuneObjective.lengths`."""
        assert isinstance(item, Pair)
        tokens = [self.form.tokens(one.num_frames, one.height, one.width) for one in facts]
        return [len(self.ids(item.prompt, count)) for count in tokens]

    def example(self, item: Item, seen: Sequence[Seen]) -> PairExample:
        """See `TuneObjective.example`."""
        assert isinstance(item, Pair)
        first, second = (self.row(item.prompt, one.frames, one.seconds_per_frame) for one in seen)
        choices = [float(item.choices.get(name, math.nan)) for name in self.recipe.dimensions]
        return PairExample(first, second, choices)

    def row(self, prompt: str, frames: np.ndarray, seconds_per_frame: float) -> Row:
        """Return the text about a video, frames uint8 [T, H, W, 3]; grey where the recipe says so."""
        video = self.form.shown(greyed(frames) if self.recipe.grey else frames, seconds_per_frame)
        return Row(self.ids(prompt, video.tokens), video)

    def ids(self, prompt: str, video_tokens: int) -> list[int]:
        """Return the tokens of the question about a video of `prompt`."""
        text = self.recipe.question.replace("{prompt}", self.template.tamed(prompt))
        return self.template.question_ids((Turn("user", text),), video_tokens)

    def weight(self, example: PairExample) -> float:
        """Return the choices that were made."""
        return float(sum(not math.isnan(one) for one in example.choices))

    def loss(self, network: nn.Module, examples: Sequence[PairExample], device: Any) -> Tensor:
        """Return the negative log-likelihood of all choices."""
        rows = [row for one in examples for row in (one.first, one.second)]
        most = self.form.most or len(rows)
        scores = torch.cat([self.scores(network, rows[i : i + most], device) for i in range(0, len(rows), most)])
        choices = torch.tensor([one.choices for one in examples], device=device)
        return tie_loss(scores[::2] - scores[1::2], choices, self.recipe.tie)

    def scores(self, network: nn.Module, rows: Sequence[Row], device: Any) -> Tensor:
        """Return the scores of videos, float32 [N, dimensions]."""
        return network(**model_inputs(self.form, rows, self.pad, device))


def tie_loss(differences: Tensor, choices: Tensor, k: float) -> Tensor:
    """Return −log P summed over choices, by Rao and Kupper's model.

    Args:
        differences: of the scores, first minus second, [B, dimensions].
        choices: 1, 0 or −1; NaN counts nothing.
        k: factor within which two strengths look the same, above 1.
    """
    wins, loses = logsigmoid(differences - math.log(k)), logsigmoid(-differences - math.log(k))
    tie = wins + loses + math.log(k * k - 1)
    chosen = torch.where(choices == 0, tie, torch.where(choices > 0, wins, loses))
    return -torch.where(choices.isnan(), torch.zeros_like(chosen), chosen).sum()


def greyed(frames: np.ndarray) -> np.ndarray:
    """Return frames, uint8 [T, H, W, 3], with their luma (BT.601) in all channels."""
    luma = (frames.astype(np.uint32) * np.array(LUMA, np.uint32)).sum(-1, keepdims=True)
    return np.broadcast_to(((luma + 500) // 1000).astype(np.uint8), frames.shape)
