"""The contract of a text encoder."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from reelwright.model.errors import ModelError


class TextEncoder(ABC):
    """Captions to one state a token."""

    fingerprint: str  # of everything that decides the states
    dim: int  # of a state
    tokens: int  # longest that a caption becomes
    device: torch.device  # that it computes on

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> list[Tensor]:
        """Return float32 [L_i, dim] for each text, on the encoder's device.

        1 <= L_i <= tokens: the empty text has states too.
        """


def pad_text(states: Sequence[Tensor], tokens: int) -> tuple[Tensor, Tensor]:
    """(text [B, tokens, D] padded with zeros, mask [B, tokens] bool: True where a token is). Longer ones are cut."""
    if not states or any(s.ndim != 2 or s.shape[1] != states[0].shape[1] for s in states):
        raise ModelError(f"text states must be [L, D] with one D, got {[list(s.shape) for s in states]}")
    text = states[0].new_zeros(len(states), tokens, states[0].shape[1])
    mask = torch.zeros(len(states), tokens, dtype=torch.bool, device=text.device)
    for row, state in enumerate(states):
        length = min(tokens, len(state))
        text[row, :length], mask[row, :length] = state[:length], True
    return text, mask
