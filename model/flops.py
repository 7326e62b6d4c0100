"""Floating-point operations of the network: matrix products and attention, a multiply-add as two.

Element-wise work, norms, RoPE and the choice of blocks are left out, as in every MFU. Of sparse attention the kept
pairs count. The share that a CDF keeps follows from the scores and is not known beforehand, so a CDF counts as dense.
"""

import math

from reelwright.kernels.blocks import BlockGrid
from reelwright.model.config import AttentionConfig, DiTConfig

Grid = tuple[int, int, int]
"""Tokens along time, rows, columns."""
DENSE = AttentionConfig()


def forward_flops(
    config: DiTConfig, grid: Grid, *, batch: int, cond_frames: int, text_tokens: int, attention: AttentionConfig = DENSE
) -> int:
    """One forward pass over `batch` samples of `grid` tokens, of which the first `cond_frames` frames are condition.

    Without KV cache. text_tokens: keys per caption, in the mean: its tokens, and one for padding that is attended to,
    however much it is (`PackedText.keys_per_caption`). attention: as it is after its `dense_steps`.
    """
    inputs = _input_flops(config, grid, text_tokens)
    blocks = config.depth * _block_flops(config, grid, cond_frames, text_tokens, attention)
    return batch * (inputs + _embedding_flops(config, grid, text_tokens) + blocks + _final_flops(config, grid))


def train_flops(
    config: DiTConfig,
    grid: Grid,
    *,
    batch: int,
    cond_frames: int,
    text_tokens: int,
    attention: AttentionConfig = DENSE,
    recompute: bool = False,
) -> int:
    """Forward and backward pass: each product once forward, twice backward, but for gradients of the network's inputs.

    recompute: the blocks are computed again in the backward pass (full activation checkpointing). MFU leaves that out.
    """
    sizes = {"batch": batch, "cond_frames": cond_frames, "text_tokens": text_tokens}
    whole = 3 * forward_flops(config, grid, **sizes, attention=attention)
    again = config.depth * _block_flops(config, grid, cond_frames, text_tokens, attention) if recompute else 0
    return whole - batch * (_input_flops(config, grid, text_tokens) - again)


def _block_flops(config: DiTConfig, grid: Grid, cond_frames: int, text_tokens: int, attention: AttentionConfig) -> int:
    """Count a sample's FLOPs in one block."""
    dim, (frames, rows, columns) = config.hidden_size, grid
    tokens, noisy = frames * rows * columns, (frames - cond_frames) * rows * columns
    modulation = _linear(frames, config.adaln_tembed_dim, 6 * dim)
    own, read = attention_flops(config, grid, cond_frames, text_tokens, attention)
    self_attention = _linear(tokens, dim, 4 * dim) + own
    cross_attention = _linear(noisy, dim, 2 * dim) + _linear(text_tokens, dim, 2 * dim) + read
    return modulation + self_attention + cross_attention + _linear(tokens, dim, 3 * config.ffn_width)


def attention_flops(
    config: DiTConfig, grid: Grid, cond_frames: int, text_tokens: int, attention: AttentionConfig
) -> tuple[int, int]:
    """Self- and cross-attention of one block and sample, without the layers around them."""
    dim, frame = config.hidden_size, grid[1] * grid[2]
    clean, tokens = cond_frames * frame, grid[0] * frame
    of_clean, of_noisy = _kept_shares(grid, cond_frames, attention)
    own = round(of_clean * _attention(clean, clean, dim) + of_noisy * _attention(tokens - clean, tokens, dim))
    return own, _attention(tokens - clean, text_tokens, dim)


def _kept_shares(grid: Grid, cond_frames: int, attention: AttentionConfig) -> tuple[float, float]:
    """Return the computed shares of condition and of noisy queries' pairs; blocks at an edge count as whole ones."""
    if attention.form == "dense" or attention.cdf is not None or grid[0] < attention.min_frames:
        return 1, 1
    keys = attention.key_block or attention.block
    clean_blocks = BlockGrid((cond_frames, *grid[1:]), keys).count
    blocks = BlockGrid(grid, keys, cond_frames).count
    of_clean = 1 if cond_frames < attention.min_frames else _share(clean_blocks, attention.keep)
    return of_clean, _share(blocks, attention.keep)


def _share(blocks: int, keep: float) -> float:
    """Return the share of key blocks that is kept, their number rounded as by `kernels.TopR`: up, at least one."""
    return max(1, math.ceil(blocks * keep - 1e-6)) / blocks


def _input_flops(config: DiTConfig, grid: Grid, text_tokens: int) -> int:
    """Count the FLOPs of the layers that see latents, sinusoids and text states, none of which needs a gradient."""
    frames, rows, columns = grid
    patch = config.in_channels * config.patch_size[1] * config.patch_size[2]
    timesteps = _linear(frames, config.frequency_embedding_size, config.adaln_tembed_dim)
    text = _linear(text_tokens, config.caption_channels, config.hidden_size)
    return _linear(frames * rows * columns, patch, config.hidden_size) + timesteps + text


def _embedding_flops(config: DiTConfig, grid: Grid, text_tokens: int) -> int:
    """Count the FLOPs of the second layers of the timestep's and the text's MLP."""
    timesteps = _linear(grid[0], config.adaln_tembed_dim, config.adaln_tembed_dim)
    return timesteps + _linear(text_tokens, config.hidden_size, config.hidden_size)


def _final_flops(config: DiTConfig, grid: Grid) -> int:
    frames, rows, columns = grid
    patch = config.out_channels * config.patch_size[1] * config.patch_size[2]
    modulation = _linear(frames, config.adaln_tembed_dim, 2 * config.hidden_size)
    return modulation + _linear(frames * rows * columns, config.hidden_size, patch)


def _linear(tokens: int, inside: int, out: int) -> int:
    return 2 * tokens * inside * out


def _attention(queries: int, keys: int, dim: int) -> int:
    """Scores and weighted sum over all heads."""
    return 4 * queries * keys * dim
