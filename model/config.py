"""Sizes and choices of a model's parts."""

import math
from typing import Literal

from pydantic import BaseModel, Field, model_validator

STRIDE = (4, 8, 8)
"""Pixels of a latent position: frames (after the first, which stands alone), rows, columns."""


Timing = Literal["published", "exact"]
"""Where refinement's up-sampler puts its frames in time; see `reelwright.model.refinement.upsample`."""


class Part(BaseModel, frozen=True, extra="forbid"):
    """A section of a configuration."""


class TimestepShift(Part):
    """Shift of timesteps towards noise, which grows with the tokens of a video."""

    shift_at_reference: float = Field(12.0, gt=0, description="timestep shift at `reference_tokens` noise tokens")
    reference_tokens: int = Field(37440, ge=1, description="480×832×93, whose published shift is 12")

    def timestep_shift(self, noise_tokens: int) -> float:
        """Return the shift s, which grows with the square root of the noisy tokens and is at least 1.

        The square root is how the signal-to-noise ratio of a mean over pixels grows with their number (Esser et al.,
        2024, eq. 23). Its size is fixed by one point: 480p × 93 has the published sampler's 12.
        """
        return max(1.0, self.shift_at_reference * math.sqrt(noise_tokens / self.reference_tokens))


class DiTConfig(Part):
    """A LongCat-Video-class transformer; the names are those of the published config.json, the defaults its values."""

    in_channels: int = Field(16, ge=1, description="latent channels")
    out_channels: int = Field(16, ge=1, description="predicted channels")
    hidden_size: int = Field(4096, ge=8, description="width of the tokens' states")
    depth: int = Field(48, ge=1, description="blocks")
    num_heads: int = Field(32, ge=1, description="attention heads")
    caption_channels: int = Field(4096, ge=1, description="width of the text encoder's states")
    mlp_ratio: int = Field(4, ge=1, description="of the feed-forward layers, times hidden_size")
    adaln_tembed_dim: int = Field(512, ge=1, description="width of the timestep embedding")
    frequency_embedding_size: int = Field(256, ge=2, description="sinusoids of the timestep")
    patch_size: tuple[int, int, int] = Field((1, 2, 2), description="latent frames, rows, columns of a token")
    text_tokens: int = Field(512, ge=1, description="captions are padded or cut to this many tokens")
    text_tokens_zero_pad: bool = Field(True, description="padding is zeroed and attended to; else masked out")

    @model_validator(mode="after")
    def _check(self) -> "DiTConfig":
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of num_heads {self.num_heads}")
        if self.head_dim % 2 or self.head_dim < 6:
            raise ValueError(f"hidden_size / num_heads is {self.head_dim}; a head dim must be even and at least 6")
        if self.patch_size[0] != 1:
            raise ValueError("patch_size[0] must be 1: timesteps and conditioning are per latent frame")
        return self

    @property
    def head_dim(self) -> int:
        """Width of an attention head."""
        return self.hidden_size // self.num_heads

    @property
    def ffn_width(self) -> int:
        """int(2/3 · mlp_ratio · hidden), rounded up to a multiple of 256: 11008 for 4096."""
        return -(-int(2 * self.mlp_ratio * self.hidden_size / 3) // 256) * 256

    def tokens(self, frames: int, height: int, width: int) -> int:
        """Tokens of a latent grid (latent frames, rows, columns)."""
        _, rows, columns = self.patch_size
        return frames * (height // rows) * (width // columns)


class AttentionConfig(Part):
    """The self-attention that a network computes by; the weights are the same."""

    form: Literal["dense", "sparse"] = "dense"
    block: tuple[int, int, int] = Field((4, 4, 4), description="frames, rows, columns of tokens in a block of queries")
    key_block: tuple[int, int, int] | None = Field(
        None, description="of keys, where it differs: a multiple or a part of `block`"
    )
    keep: float = Field(1 / 16, ge=0, le=1, description="share of key blocks kept, rounded up")
    cdf: float | None = Field(None, ge=0, le=1, description="instead of `keep`: blocks until their softmax reaches it")
    min_frames: int = Field(2, ge=1, description="latent frames from which it is sparse: single images are dense")
    dense_steps: int = Field(0, ge=0, description="training steps that are dense before it becomes sparse")

    @model_validator(mode="after")
    def _check(self) -> "AttentionConfig":
        of_q, of_k = self.block, self.key_block or self.block
        if min(*of_q, *of_k) < 1:
            raise ValueError(f"attention blocks {of_q} and {of_k}: sizes are positive")
        if any(a % b for a, b in zip(of_q, of_k, strict=True)) and any(b % a for a, b in zip(of_q, of_k, strict=True)):
            raise ValueError(f"attention blocks {of_q} and {of_k}: one must be a multiple of the other on every axis")
        return self


LONGCAT_VIDEO = DiTConfig()
"""The published network: 13.581 B parameters."""


class CodecConfig(Part):
    """The codec, which turns video into latents and back."""

    kind: Literal["dct", "wan"] = Field("dct", description="dct: a stand-in without weights; wan: Wan 2.1's VAE")
    path: str = Field("", description="folder or hub id of the VAE (kind wan)")
    revision: str | None = Field(None, description="commit or tag on the hub; null: the newest")
    tile: int = Field(0, ge=0, description="pixels of a spatial tile; 0: whole frames")
    dtype: Literal["fp32", "bf16"] = "fp32"


class TextConfig(Part):
    """The text encoder, which turns captions into states."""

    kind: Literal["hashing", "umt5"] = Field("hashing", description="hashing: the stand-in that needs no weights")
    path: str = Field("", description="folder or hub id with the encoder and its tokenizer (kind umt5)")
    revision: str | None = Field(None, description="commit or tag on the hub; null: the newest")
    dim: int = Field(64, ge=1, description="width of the states (kind hashing)")
    tokens: int = Field(512, ge=1, description="tokens a caption is cut to")
    dtype: Literal["fp32", "bf16"] = "fp32"


class LoRAConfig(Part):
    """Low-rank adapters on linears whose name matches a pattern."""

    rank: int = Field(128, ge=1)
    alpha: float = Field(64, gt=0)
    targets: tuple[str, ...] = Field(
        ("*.qkv", "*.proj", "*.q_linear", "*.kv_linear", "*.ffn.w?"), description="glob patterns of module names"
    )
