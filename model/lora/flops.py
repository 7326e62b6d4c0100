"""Floating-point operations of a training step of LoRA.

Frozen weights have no gradients, and layers before the first adapter have no gradient at all.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from reelwright.model.config import AttentionConfig, DiTConfig, LoRAConfig
from reelwright.model.flops import DENSE, Grid, attention_flops
from reelwright.model.lora.adapters import FUSED


@dataclass(frozen=True)
class Product:
    """A linear layer at work on `rows` vectors of a stream, or attention.

    The stream is "x" (tokens), "t" (timesteps) or "text". Attention's FLOPs are `attention`.
    """

    name: str
    stream: str
    rows: int = 0
    inside: int = 0
    out: int = 0
    attention: int = 0

    @property
    def forward(self) -> int:
        """FLOPs of its forward pass."""
        return self.attention or 2 * self.rows * self.inside * self.out


def lora_train_flops(
    config: DiTConfig,
    lora: LoRAConfig,
    grid: Grid,
    *,
    batch: int,
    cond_frames: int,
    text_tokens: int,
    attention: AttentionConfig = DENSE,
) -> int:
    """Forward and backward pass of a network that trains adapters alone; sizes as in `reelwright.model.flops`."""
    live = {"x": False, "t": False, "text": False}  # which streams ask for a gradient so far
    total = 0
    for one in products(config, grid, cond_frames, text_tokens, attention):
        asked = live[one.stream]
        adapted = not one.attention and any(fnmatchcase(one.name, pattern) for pattern in lora.targets)
        total += one.forward + _backward(one, asked) + (_adapter(one, lora.rank, asked) if adapted else 0)
        into = one.stream if "embedder" in one.name else "x"  # modulation and text come into the tokens
        live[into] = live[into] or asked or adapted
    return batch * total


def products(
    config: DiTConfig, grid: Grid, cond_frames: int, text_tokens: int, attention: AttentionConfig = DENSE
) -> Iterator[Product]:
    """Yield the products of a sample, in the order of the forward pass."""
    dim, width, (frames, rows, columns) = config.hidden_size, config.adaln_tembed_dim, grid
    tokens, noisy = frames * rows * columns, (frames - cond_frames) * rows * columns
    patch = config.patch_size[1] * config.patch_size[2]
    own, read = attention_flops(config, grid, cond_frames, text_tokens, attention)
    yield Product("t_embedder.mlp.0", "t", frames, config.frequency_embedding_size, width)
    yield Product("t_embedder.mlp.2", "t", frames, width, width)
    yield Product("y_embedder.y_proj.0", "text", text_tokens, config.caption_channels, dim)
    yield Product("y_embedder.y_proj.2", "text", text_tokens, dim, dim)
    yield Product("x_embedder.proj (a convolution)", "x", tokens, config.in_channels * patch, dim)
    for i in range(config.depth):
        block = f"blocks.{i}"
        yield Product(f"{block}.adaLN_modulation.1", "t", frames, width, 6 * dim)
        yield Product(f"{block}.attn.qkv", "x", tokens, dim, 3 * dim)
        yield Product(f"{block}.attn", "x", attention=own)
        yield Product(f"{block}.attn.proj", "x", tokens, dim, dim)
        yield Product(f"{block}.cross_attn.q_linear", "x", noisy, dim, dim)
        yield Product(f"{block}.cross_attn.kv_linear", "text", text_tokens, dim, 2 * dim)
        yield Product(f"{block}.cross_attn", "x", attention=read)
        yield Product(f"{block}.cross_attn.proj", "x", noisy, dim, dim)
        yield Product(f"{block}.ffn.w1", "x", tokens, dim, config.ffn_width)
        yield Product(f"{block}.ffn.w3", "x", tokens, dim, config.ffn_width)
        yield Product(f"{block}.ffn.w2", "x", tokens, config.ffn_width, dim)
    yield Product("final_layer.adaLN_modulation.1", "t", frames, width, 2 * dim)
    yield Product("final_layer.linear", "x", tokens, dim, config.out_channels * patch)


def _backward(one: Product, live: bool) -> int:
    """Count a frozen product's backward FLOPs: the input's gradient if `live`; both inputs' for attention."""
    return (2 if one.attention else 1) * one.forward if live else 0


def _adapter(one: Product, rank: int, live: bool) -> int:
    """Forward and backward. A fused layer's `down` makes the rank of each of its projections."""
    fused = FUSED.get(one.name.rpartition(".")[2], 1)
    down, up = 2 * one.rows * one.inside * fused * rank, 2 * one.rows * rank * one.out
    return (3 if live else 2) * down + 3 * up
