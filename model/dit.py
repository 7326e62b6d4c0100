"""The diffusion transformer: a LongCat-Video-class network, at any size, in plain PyTorch.

Weights carry the published names. The network predicts x0 - noise. Source: LongCat-Video technical report
(arXiv 2510.22200), and the published weights' layout.
"""

import math

import torch
from torch import Tensor, nn

from reelwright.kernels import put_back, put_in_order
from reelwright.model.attention import Layout, arranged
from reelwright.model.blocks import Block, FinalLayer
from reelwright.model.cache import KVCache, to_host
from reelwright.model.config import DiTConfig
from reelwright.model.embed import PatchEmbed, TextEmbed, TimestepEmbed
from reelwright.model.errors import ModelError
from reelwright.model.first_weights import fill_uniform
from reelwright.model.order import pieces_of
from reelwright.model.rope import Origin, rotation
from reelwright.model.text.keys import TextKeys, packed_keys, padded_keys
from reelwright.model.text.packed import PackedText


class DiT(nn.Module):
    """Latents, timesteps and text in; x0 - noise out."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        self.x_embedder = PatchEmbed(config.in_channels, config.hidden_size, config.patch_size)
        self.t_embedder = TimestepEmbed(config.frequency_embedding_size, config.adaln_tembed_dim)
        self.y_embedder = TextEmbed(config.caption_channels, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.final_layer = FinalLayer(config)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        text: Tensor | PackedText,
        text_mask: Tensor | None = None,
        *,
        cond_frames: int = 0,
        cache: KVCache | None = None,
        origin: Origin = (0, 0, 0),
    ) -> Tensor:
        """Predict x0 - noise, [B, C, T, H, W].

        Args:
            x: latents [B, C, T, H, W].
            t: timesteps in 0..1000, [B], or [B, T] of each latent frame.
            text: B captions, which count as padded to the config's `text_tokens`; or padded already, [B, L, D], as the
                published network takes them: the same output, slower.
            text_mask: of padded text, [B, L], true where a token is.
            cond_frames: the first latent frames are clean: they see only one another, read no text, and with t [B] are
                given 0.
            cache: of the clean frames; x then holds the noisy ones alone.
            origin: place of x's tokens on the whole token grid, for RoPE, where a rank holds a part.

        Raises:
            ModelError: shapes do not go together.
        """
        grid = self._grid(x)
        self._check(x, text, grid, cond_frames)
        _check_companions(x, t, text, text_mask)
        if cache is not None:
            self._check_cache(cache, grid, x.shape[0], cond_frames)
        read = self._read(text, text_mask)
        times = self.t_embedder(_per_frame(t, grid[0], cond_frames))
        layout = self._layout(grid, cond_frames, cache)
        tokens, _ = self._run(x, times, read, layout, origin, cache)
        patches = self.final_layer(tokens, times, pieces_of(layout))
        return self._unpatch(patches if layout.block is None else put_back(patches, layout.grids[0], dim=1), grid)

    def cache(self, latents: Tensor, *, origin: Origin = (0, 0, 0), offload: bool = False) -> KVCache:
        """Keys and values of clean latents [B, C, T, H, W], at t = 0, without text. offload: in the host's memory."""
        grid = self._grid(latents)
        times = self.t_embedder(torch.zeros(latents.shape[0], grid[0], device=latents.device))
        layout = self._layout(grid)
        _, layers = self._run(latents, times, None, layout, origin, offload=offload)
        return KVCache(layers, grid[0], layout.block)

    @torch.no_grad()
    def init_weights(self, seed: int = 0) -> "DiT":
        """Set all weights, on any device, from `seed` alone: Xavier, and zeros where adaLN-Zero wants the identity.

        A rank makes the numbers of its own shards, whatever the layout: 13.6 B of them take a core two minutes.
        """
        for name, weight in self.named_parameters():
            if "adaLN_modulation" in name or name.startswith("final_layer.linear") or name.endswith("bias"):
                weight.zero_()
            elif weight.ndim == 1:
                weight.fill_(1.0)
            else:
                inside, out = weight[0].numel(), weight.shape[0]
                bound = math.sqrt(6 / (inside + out))
                fill_uniform(weight, bound, f"{seed}/{name}")
        return self

    def _run(
        self,
        x: Tensor,
        times: Tensor,
        text: TextKeys | None,
        layout: Layout,
        origin: Origin,
        cache: KVCache | None = None,
        *,
        offload: bool = False,
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Run the blocks over tokens [B, N, hidden] in the layout's order; without text, return keys and values too."""
        rope = rotation(self.config.head_dim, (layout.frames, layout.rows, layout.columns), origin, x.device)
        tokens = self.x_embedder(x.to(self.x_embedder.proj.weight.dtype))
        if layout.block is not None:
            queries, keys = layout.grids
            tokens, rope = put_in_order(tokens, queries, dim=1), rope[keys.order(rope.device)]
        cache, layers = cache and cache.ordered(layout), []
        for i, block in enumerate(self.blocks):
            vectors, cached = block.adaLN_modulation(times), cache.layer(i, tokens.device) if cache else None
            tokens, own = block(tokens, vectors, text, rope, layout, cached)
            if own is not None:
                layers.append(to_host(own) if offload else own)
        return tokens, layers

    def _layout(self, grid: tuple[int, int, int], cond_frames: int = 0, cache: KVCache | None = None) -> Layout:
        """Return the layout of tokens of `grid` after the tokens of a cache, in the order that the attention wants."""
        cached = cache.frames if cache else 0
        return arranged(self, Layout(grid[0] + cached, grid[1], grid[2], cond_frames, cached))

    def _read(self, text: Tensor | PackedText, mask: Tensor | None) -> TextKeys:
        """Text at the network's width. Padding is zeroed and attended to, or masked, as the config says."""
        zero_pad = self.config.text_tokens_zero_pad
        if isinstance(text, PackedText):
            padded_to = self.config.text_tokens if zero_pad else 0
            return packed_keys(self.y_embedder(text.states), text, padded_to=padded_to)
        return padded_keys(self.y_embedder(text), mask, zero_pad=zero_pad)

    def _unpatch(self, patches: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """[B, T, rows · columns, (row, column, channel)] -> [B, C, T, H, W]."""
        frames, rows, columns = grid
        _, high, wide = self.config.patch_size
        x = patches.view(-1, frames, rows, columns, high, wide, self.config.out_channels)
        return x.permute(0, 6, 1, 2, 4, 3, 5).reshape(-1, x.shape[-1], frames, rows * high, columns * wide)

    def _grid(self, x: Tensor) -> tuple[int, int, int]:
        """Token grid of latents. ModelError where they are not [B, C, T, H, W] of whole patches."""
        _, high, wide = self.config.patch_size
        channels = self.config.in_channels
        if x.ndim != 5 or x.shape[1] != channels or x.shape[3] % high or x.shape[4] % wide or not x.numel():
            raise ModelError(
                f"latents of shape {tuple(x.shape)} do not fit: [B, {channels}, T, H, W] with H a multiple of {high} "
                f"and W of {wide} is needed"
            )
        return x.shape[2], x.shape[3] // high, x.shape[4] // wide

    def _check(self, x: Tensor, text: Tensor | PackedText, grid: tuple[int, int, int], cond_frames: int) -> None:
        width = self.config.caption_channels
        if isinstance(text, PackedText):
            self._check_packed(text, x.shape[0])
        elif text.ndim != 3 or text.shape[-1] != width or text.shape[0] != x.shape[0] or not text.shape[1]:
            raise ModelError(
                f"text states of shape {tuple(text.shape)} do not fit: [{x.shape[0]}, L, {width}] is needed"
            )
        if not 0 <= cond_frames < grid[0]:
            raise ModelError(f"{cond_frames} condition frames of {grid[0]} latent frames; it takes 0 to {grid[0] - 1}")

    def _check_packed(self, text: PackedText, batch: int) -> None:
        width, most = self.config.caption_channels, self.config.text_tokens
        found, count = tuple(text.states.shape), len(text.lengths)
        if len(found) != 2 or found[1] != width or count != batch or found[0] < batch or text.longest > most:
            raise ModelError(
                f"{count} captions with states of shape {found}, the longest of {text.longest} tokens, do not fit: "
                f"{batch} captions of width {width} with 1 to {most} tokens each are needed"
            )

    def _check_cache(self, cache: KVCache, grid: tuple[int, int, int], batch: int, cond_frames: int) -> None:
        if cond_frames:
            raise ModelError(f"with a cache, x holds the noisy frames alone: cond_frames must be 0, not {cond_frames}")
        found = (len(cache.layers), cache.batch, cache.layers[0][0].shape[2])
        needed = (len(self.blocks), batch, cache.frames * grid[1] * grid[2])
        if found != needed:
            raise ModelError(
                f"the cache is of (blocks, samples, tokens) {found} and {needed} are needed: it must be made by this "
                "network, from latents of the same batch, height and width"
            )


def _check_companions(x: Tensor, t: Tensor, text: Tensor | PackedText, mask: Tensor | None) -> None:
    batch, frames = x.shape[0], x.shape[2]
    if t.shape not in ((batch,), (batch, frames)):
        raise ModelError(f"timesteps of shape {tuple(t.shape)} do not fit: [{batch}] or [{batch}, {frames}] is needed")
    if isinstance(text, PackedText):
        if mask is not None:
            raise ModelError("packed text has no padding: text_mask must not be given beside it")
    elif mask is not None and mask.shape != text.shape[:2]:
        raise ModelError(f"a text mask of shape {tuple(mask.shape)} does not fit: {list(text.shape[:2])} is needed")


def _per_frame(t: Tensor, frames: int, cond_frames: int) -> Tensor:
    """Expand t [B] or [B, T] to [B, T]; t [B] is the noisy frames', and condition frames are at 0."""
    if t.ndim == 1:
        t = t[:, None].expand(-1, frames)
        if cond_frames:
            t = torch.cat((torch.zeros_like(t[:, :cond_frames]), t[:, cond_frames:]), dim=1)
    return t
