"""A transformer block and the final layer: adaLN-Zero per latent frame (Peebles and Xie, 2023)."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reelwright.model.attention import CrossAttention, Layout, SelfAttention
from reelwright.model.config import DiTConfig
from reelwright.model.lora.layers import LoRALinear
from reelwright.model.norms import LayerNorm
from reelwright.model.order import Pieces, gated, modulate, pieces_of
from reelwright.model.text.keys import TextKeys


class SwiGLU(nn.Module):
    """w2(silu(w1 x) · w3 x)."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.w1, self.w3 = nn.Linear(dim, width, bias=False), nn.Linear(dim, width, bias=False)
        self.w2 = nn.Linear(width, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it: x [..., C] -> [..., C]."""
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Modulation(nn.Sequential):
    """Timestep embeddings [B, T, E] -> vectors [B, T, parts · C] of each frame, in fp32: SiLU, then a linear."""

    def __init__(self, width: int, dim: int, parts: int) -> None:
        super().__init__(nn.SiLU(), nn.Linear(width, parts * dim))

    def forward(self, t: Tensor) -> Tensor:
        """Project timestep embeddings: t [B, T, E] -> [B, T, parts · C], fp32."""
        with no_autocast(t):
            return fp32_linear(self[1], F.silu(t.float()))


class Block(nn.Module):
    """Self-attention, cross-attention to text, FFN."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        dim = config.hidden_size
        self.adaLN_modulation = Modulation(config.adaln_tembed_dim, dim, 6)
        self.attn_norm, self.ffn_norm = LayerNorm(dim), LayerNorm(dim)
        self.attn = SelfAttention(dim, config.num_heads)
        self.pre_crs_attn_norm = LayerNorm(dim, affine=True)
        self.cross_attn = CrossAttention(dim, config.num_heads)
        self.ffn = SwiGLU(dim, config.ffn_width)

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        text: TextKeys | None,
        rope: Tensor,
        layout: Layout,
        cached: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Compute a block.

        Args:
            x: tokens, [B, N, C].
            modulation: `adaLN_modulation` of the timesteps, [B, T, 6 · C]. The caller computes it: it is fp32, and
                sharded as such, where the rest of a block may be bf16.
            text: states of the text at width C; None: no cross-attention, for tokens that only fill the cache.
            rope: rotations of the keys' positions.
            layout: where the tokens lie.
            cached: keys and values of earlier tokens.

        Returns:
            x, and without text the block's own keys and values, else None: an output has a gradient in a compiled
            block, and training would compute with its zeros.
        """
        pieces = pieces_of(layout)
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.chunk(6, dim=-1)
        attended, own = self.attn(modulate(self.attn_norm(x), shift1, scale1, pieces), rope, layout, cached)
        x = gated(x, attended, gate1, pieces)
        if text is not None:
            x = self._read(x, text, layout.cond_frames * layout.frame_tokens)
        x = gated(x, self.ffn(modulate(self.ffn_norm(x), shift2, scale2, pieces)), gate2, pieces)
        return x, own if text is None else None

    def _read(self, x: Tensor, text: TextKeys, clean: int) -> Tensor:
        """Noisy tokens attend to text; to condition tokens nothing is added."""
        noisy = x[:, clean:]
        read = self.cross_attn(self.pre_crs_attn_norm(noisy), text)
        return torch.cat((x[:, :clean], noisy + read), dim=1) if clean else x + read


class FinalLayer(nn.Module):
    """Tokens [B, N, hidden] -> patches [B, N, patch · channels], in fp32."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        rows, columns = config.patch_size[1:]
        self.norm_final = LayerNorm(config.hidden_size)
        self.adaLN_modulation = Modulation(config.adaln_tembed_dim, config.hidden_size, 2)
        self.linear = nn.Linear(config.hidden_size, rows * columns * config.out_channels)

    def forward(self, x: Tensor, t: Tensor, pieces: Pieces) -> Tensor:
        """Project tokens to patches.

        Args:
            x: tokens, [B, N, hidden].
            t: timestep embeddings, [B, T, E].
            pieces: views of the tokens by frame.

        Returns:
            Patches [B, N, patch · channels], fp32.
        """
        shift, scale = self.adaLN_modulation(t).chunk(2, dim=-1)
        with no_autocast(x):
            x = modulate(self.norm_final(x.float()), shift, scale, pieces)
            return fp32_linear(self.linear, x)


def no_autocast(x: Tensor) -> AbstractContextManager:
    """Switch autocast off within. Tensors without storage have no autocast to switch off."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


def fp32_linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """Apply a linear in fp32 whatever its weights' type, and so its adapters."""
    out = F.linear(x, layer.weight.float(), None if layer.bias is None else layer.bias.float())
    return layer.adapted(out, x) if isinstance(layer, LoRALinear) else out
