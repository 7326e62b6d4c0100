"""The contract of a use: how samples become examples, and examples a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from reelwright.annotate.backends.videos.form import ShownVideo, VideoForm
from reelwright.training.tuning.samples import Item
from reelwright.training.tuning.videos import Seen, VideoFacts

if TYPE_CHECKING:
    from torch import Tensor, nn

E = TypeVar("E")


@dataclass(frozen=True, eq=False)
class Row:
    """A text about a video, as token ids.

    labels: as many, IGNORED where nothing is learnt. soft: place of a token -> shares of the ids that stand there, in
    place of its label.
    """

    ids: list[int]
    video: ShownVideo
    labels: list[int] = field(default_factory=list)
    soft: dict[int, dict[int, float]] = field(default_factory=dict)


class TuneObjective(ABC, Generic[E]):
    """One use of tuning."""

    form: VideoForm

    @abstractmethod
    def lengths(self, item: Item, facts: Sequence[VideoFacts]) -> list[int]:
        """Return the tokens of each text of a sample, by its videos' facts alone."""

    @abstractmethod
    def example(self, item: Item, seen: Sequence[Seen]) -> E:
        """Return what the network is given of a sample, of its videos' sampled frames."""

    @abstractmethod
    def weight(self, example: E) -> float:
        """Return how much an example counts in the mean over a step."""

    @abstractmethod
    def loss(self, network: nn.Module, examples: Sequence[E], device: Any) -> Tensor:
        """Return the loss summed over what `weight` counts."""


def padded(rows: Sequence[Row], pad: int, device: Any) -> dict[str, Any]:
    """Return texts as `input_ids` and `attention_mask`, [B, L], filled up on the right."""
    import torch

    longest = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [pad] * (longest - len(row.ids)) for row in rows])
    mask = torch.tensor([[1] * len(row.ids) + [0] * (longest - len(row.ids)) for row in rows])
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def model_inputs(form: VideoForm, rows: Sequence[Row], pad: int, device: Any) -> dict[str, Any]:
    """Return all inputs of a model for texts with one video each."""
    import torch

    inputs = padded(rows, pad, device)
    for name, value in form.inputs(inputs["input_ids"], [row.video for row in rows]).items():
        inputs[name] = value.to(device) if torch.is_tensor(value) else value
    return inputs
