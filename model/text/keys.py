"""Text as cross-attention reads it: rows that keys and values are computed of, and where each of them is a key.

The published network pads a caption to `text_tokens` states, zeroes the padding after its text MLP, and attends to it.
All n zeros of a caption have the same key and the same value, so that their share of the attention is that of one key
with n times the weight: a score s that occurs n times counts as one of s + log n. So packed captions have one zero row
for the whole batch, and weights in place of padding.
"""

import sys
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from reelwright.model.text.packed import PackedText

PADDING_KEYS = 2
"""Keys that share the weight of a caption's padding, see `_padding_bias`."""
ALIGNED = 16
"""Keys per caption are a multiple of it: the unit that GPU kernels read an additive mask in."""


class TextKeys(NamedTuple):
    """Text of a batch for the blocks of a network.

    Args:
        rows: [R, C], states that keys and values are computed of. Of packed text the last is zero: the padding.
        key_index: int64 [R], which of the B · L keys each row is; all other keys are the last row too. None: the rows
            are the keys, in order.
        bias: added to the scores, [B, 1, 1, L], or bool, true where a key is attended to. None: all are, alike.
    """

    rows: Tensor
    key_index: Tensor | None
    bias: Tensor | None

    def keys_of(self, rows: Tensor, batch: int) -> Tensor:
        """Arrange values computed per row, [R, heads, D], as keys [B, heads, L, D]."""
        if self.key_index is not None and self.bias is not None:
            # Not a gather: its backward pass would add up the padding's gradients one by one, in the rows' type.
            padding = rows[-1:].expand(batch * self.bias.shape[-1], *rows.shape[1:])
            rows = padding.index_copy(0, self.key_index, rows)
        return rows.unflatten(0, (batch, -1)).transpose(1, 2)


def padded_keys(states: Tensor, mask: Tensor | None, *, zero_pad: bool) -> TextKeys:
    """Return text that is padded already as keys, padding included.

    Args:
        states: [B, L, C], after the text MLP.
        mask: [B, L], true where a token is; None: everywhere.
        zero_pad: zero the padding and attend to it; else mask it out.
    """
    if mask is None:
        return TextKeys(states.flatten(0, 1), None, None)
    if zero_pad:
        return TextKeys((states * mask[..., None].to(states.dtype)).flatten(0, 1), None, None)
    return TextKeys(states.flatten(0, 1), None, mask.bool()[:, None, None, :])


def packed_keys(states: Tensor, text: PackedText, *, padded_to: int) -> TextKeys:
    """Return packed text as keys.

    Args:
        states: [S, C], `text.states` after the text MLP.
        text: the captions, for their lengths.
        padded_to: tokens that each caption counts as, by zeros that are attended to; 0: padding is masked out.
    """
    lengths, device = text.lengths, states.device
    keys = -(-(text.longest + PADDING_KEYS) // ALIGNED) * ALIGNED
    at = torch.arange(keys, device=device)
    bias = torch.where(at < lengths[:, None], 0.0, -torch.inf)
    if padded_to:
        for i, part in enumerate(_padding_bias(padded_to - lengths)):
            bias = torch.where(at == lengths[:, None] + i, part[:, None], bias)
    first = torch.arange(len(lengths), device=device) * keys - (lengths.cumsum(0) - lengths)
    key_index = torch.arange(len(states), device=device) + first.repeat_interleave(lengths, output_size=len(states))
    # The padding's own place is the very last key. So no size is ever 1, of which a compiler would make a graph apart:
    # the empty prompt has one token, and a long video is alone in its micro-batch.
    key_index = F.pad(key_index, (0, 1), value=len(lengths) * keys - 1)
    found = TextKeys(F.pad(states, (0, 0, 0, 1)), key_index, bias[:, None, None, :])
    _mark_lengths(found)
    return found


def _padding_bias(count: Tensor) -> tuple[Tensor, Tensor]:
    """Return the terms for the scores of two keys, fp32 [B], with which they weigh as much as `count` [B] equal keys.

    Two, as autocast rounds a mask to bf16, which would change the weight of one by up to 1.6 %. The first is the
    logarithm rounded down to a bf16 number, and stays exact; the second is the small rest, whose rounding changes the
    sum by 2.5e-4 at most (up to 512 tokens).
    """
    first = _down_to_bf16(count.float().log())
    rest = (count.float() - first.exp()).clamp_min(0).log()
    return first, rest


def _down_to_bf16(x: Tensor) -> Tensor:
    """Cut fp32 numbers >= 0 (or -inf) to the 16 bits that bf16 has of them."""
    return (x.view(torch.int32) & -0x10000).view(torch.float32)


def _mark_lengths(keys: TextKeys) -> None:
    """Let compiled blocks take captions of any length in one graph, whatever else is fixed in it.

    Where nothing is compiled, the compiler is not there: to import it takes seconds.
    """
    if torch.compiler.is_compiling() or "torch._dynamo" not in sys.modules:
        return
    mark = torch._dynamo.maybe_mark_dynamic
    mark(keys.rows, 0)
    mark(keys.key_index, 0)
    mark(keys.bias, 3)
