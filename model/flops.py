"""Floating-point operations of the network: matrix products and attention, a multiply-add as two.

What element-wise work, norms and RoPE cost is left out, as in every MFU. Attention is counted as computed densely, so a
sparse kernel's saving shows as a higher figure.
"""

from model.config import DiTConfig

Grid = tuple[int, int, int]
"""Tokens along time, rows, columns."""


def forward_flops(config: DiTConfig, grid: Grid, *, batch: int, cond_frames: int, text_tokens: int) -> int:
    """One forward pass over `batch` samples of `grid` tokens, of which the first `cond_frames` frames are condition.

    Without KV cache. text_tokens: of a caption, padding included, since padding is computed too.
    """
    inputs = _input_flops(config, grid, text_tokens)
    blocks = config.depth * _block_flops(config, grid, cond_frames, text_tokens)
    return batch * (inputs + _embedding_flops(config, grid, text_tokens) + blocks + _final_flops(config, grid))


def train_flops(
    config: DiTConfig, grid: Grid, *, batch: int, cond_frames: int, text_tokens: int, recompute: bool = False
) -> int:
    """Forward and backward pass: each product once forward, twice backward, but for gradients of the network's inputs.

    recompute: the blocks are computed anew in the backward pass (full activation checkpointing). MFU leaves that out.
    """
    whole = 3 * forward_flops(config, grid, batch=batch, cond_frames=cond_frames, text_tokens=text_tokens)
    again = config.depth * _block_flops(config, grid, cond_frames, text_tokens) if recompute else 0
    return whole - batch * (_input_flops(config, grid, text_tokens) - again)


def _block_flops(config: DiTConfig, grid: Grid, cond_frames: int, text_tokens: int) -> int:
    """A sample's part of one block."""
    dim, (frames, rows, columns) = config.hidden_size, grid
    tokens, clean = frames * rows * columns, cond_frames * rows * columns
    noisy = tokens - clean
    modulation = _linear(frames, config.adaln_tembed_dim, 6 * dim)
    self_attention = _linear(tokens, dim, 4 * dim) + _attention(clean, clean, dim) + _attention(noisy, tokens, dim)
    cross_attention = _linear(noisy, dim, 2 * dim) + _linear(text_tokens, dim, 2 * dim)
    cross_attention += _attention(noisy, text_tokens, dim)
    return modulation + self_attention + cross_attention + _linear(tokens, dim, 3 * config.ffn_width)


def _input_flops(config: DiTConfig, grid: Grid, text_tokens: int) -> int:
    """The layers that see latents, sinusoids and text states, none of which asks for a gradient."""
    frames, rows, columns = grid
    patch = config.in_channels * config.patch_size[1] * config.patch_size[2]
    timesteps = _linear(frames, config.frequency_embedding_size, config.adaln_tembed_dim)
    text = _linear(text_tokens, config.caption_channels, config.hidden_size)
    return _linear(frames * rows * columns, patch, config.hidden_size) + timesteps + text


def _embedding_flops(config: DiTConfig, grid: Grid, text_tokens: int) -> int:
    """The second layers of the timestep's and the text's MLP."""
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
