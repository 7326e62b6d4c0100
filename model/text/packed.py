"""Captions of a batch, one after another without padding."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from reelwright.model.errors import ModelError


class PackedText(NamedTuple):
    """Text states of a batch's captions, without padding.

    A named tuple, so that FSDP and torch.compile see the tensors in it.

    Args:
        states: [S, D], the tokens of one caption after another, in any floating type.
        lengths: int64 [B], tokens of each caption, at least one; their sum is S.
        longest: the largest of the lengths, which the host has to know.
    """

    states: Tensor
    lengths: Tensor
    longest: int

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "PackedText":
        """Return it on a device; the states in `dtype`, if one is given. A copy from pinned memory does not wait."""
        return PackedText(
            self.states.to(device, dtype, non_blocking=True), self.lengths.to(device, non_blocking=True), self.longest
        )

    def pin_memory(self) -> "PackedText":
        """Return it in memory that a GPU copies from while it computes."""
        return PackedText(self.states.pin_memory(), self.lengths.pin_memory(), self.longest)

    def unpacked(self) -> tuple[Tensor, ...]:
        """Return the states of each caption, views [L_i, D]. Waits for the device that the lengths are on."""
        return self.states.split(self.lengths.tolist())

    @property
    def keys_per_caption(self) -> int:
        """Return the keys that a caption needs in the mean, rounded: its tokens, and one that stands for padding."""
        return round(self.states.shape[0] / self.lengths.shape[0]) + 1


def pack_text(states: Sequence[Tensor], tokens: int) -> PackedText:
    """Pack the states of captions.

    Args:
        states: [L_i, D] for each caption, L_i >= 1, all of one type and on one device.
        tokens: longest that a caption may be; of longer ones the first tokens are taken.

    Raises:
        ModelError: there is no caption, one has no token, or their shapes do not go together.
    """
    if not states or any(s.ndim != 2 or not len(s) or s.shape[1] != states[0].shape[1] for s in states):
        raise ModelError(f"text states must be [L, D], L >= 1, with one D, got {[list(s.shape) for s in states]}")
    kept = [state[:tokens] for state in states]
    lengths = [len(state) for state in kept]
    return PackedText(torch.cat(kept), torch.tensor(lengths), max(lengths))
