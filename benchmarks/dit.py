"""Cost of the DiT over a plain transformer of its shape: `python -m benchmarks.dit`.

Forward and backward pass on the CPU, in turns in one run, of our network of 25 M parameters and of a pre-norm
transformer on scaled_dot_product_attention with the same width, depth, heads, FFN, text, tokens and matrix products,
but without modulation, RoPE, norms of q and k, and per-frame timesteps. Prints `name value` lines; `dit.ratio` is the
median over pairs of neighbouring passes, `dit.cpu_ratio` the same of CPU time, which other load disturbs less.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reelwright.model.config import DiTConfig
from reelwright.model.dit import DiT

CONFIG = DiTConfig(hidden_size=384, depth=9, num_heads=6, caption_channels=512, adaln_tembed_dim=128, text_tokens=64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=8, help="latent frames")
    parser.add_argument("--size", type=int, default=32, help="latent rows and columns")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--cond-frames", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bf16", action="store_true", help="both under bf16 autocast")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    x = torch.randn(options.batch, CONFIG.in_channels, options.frames, options.size, options.size)
    text = torch.randn(options.batch, CONFIG.text_tokens, CONFIG.caption_channels)
    mask = torch.ones(options.batch, CONFIG.text_tokens, dtype=torch.bool)
    t = torch.full((options.batch,), 500.0)
    ours, plain = DiT(CONFIG).init_weights(0), PlainTransformer(CONFIG)
    stir(ours)
    passes = {
        "plain": step(plain, lambda: plain(x, text), options.bf16),
        "ours": step(ours, lambda: ours(x, t, text, mask, cond_frames=options.cond_frames), options.bf16),
    }
    times = alternate(passes, options.repeats)
    print(f"dit.parameters {parameters(ours)}\nplain.parameters {parameters(plain)}")
    print(f"dit.tokens {options.batch * CONFIG.tokens(options.frames, options.size, options.size)}")
    for clock, label in enumerate(("", "cpu_")):
        seconds = {name: [pair[clock] for pair in pairs] for name, pairs in times.items()}
        ratios = [a / b for a, b in zip(seconds["ours"], seconds["plain"], strict=True)]
        print(f"dit.{label}seconds {statistics.median(seconds['ours']):.4f}")
        print(f"plain.{label}seconds {statistics.median(seconds['plain']):.4f}")
        print(f"dit.{label}ratio {statistics.median(ratios):.3f}")
        print(f"dit.{label}ratio_of_quickest {min(seconds['ours']) / min(seconds['plain']):.3f}")


def alternate(
    passes: dict[str, Callable[[], None]], repeats: int, warm_up: int = 2
) -> dict[str, list[tuple[float, float]]]:
    """(seconds, CPU seconds) of each pass, one after the other, the order changing every time."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in passes}
    for i in range(warm_up + repeats):
        for name in sorted(passes, reverse=bool(i % 2)):
            began, began_cpu = time.perf_counter(), time.process_time()
            passes[name]()
            if i >= warm_up:
                times[name].append((time.perf_counter() - began, time.process_time() - began_cpu))
    return times


def step(model: nn.Module, forward: Callable[[], Tensor], bf16: bool) -> Callable[[], None]:
    """A forward and backward pass that makes new gradients."""

    def run() -> None:
        model.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = forward().float().square().mean()
        loss.backward()

    return run


def stir(model: nn.Module) -> None:
    """Random weights where a new network has zeros, so that nothing multiplies by them."""
    with torch.no_grad():
        for weight in model.parameters():
            if not weight.any():
                weight.normal_(std=0.02)


def parameters(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


class PlainTransformer(nn.Module):
    """Pre-norm, self-attention, cross-attention, SwiGLU: the plain form of such a block."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.patch, dim = config.patch_size[1:], config.hidden_size
        area = self.patch[0] * self.patch[1]
        self.embed = nn.Linear(config.in_channels * area, dim)
        self.text = nn.Sequential(nn.Linear(config.caption_channels, dim), nn.GELU("tanh"), nn.Linear(dim, dim))
        self.blocks = nn.ModuleList(PlainBlock(dim, config.num_heads, config.ffn_width) for _ in range(config.depth))
        self.norm, self.out = nn.LayerNorm(dim), nn.Linear(dim, config.out_channels * area)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """x [B, C, T, H, W], text [B, L, D] -> [B, C, T, H, W]."""
        b, c, t, h, w = x.shape
        high, wide = self.patch
        x = x.view(b, c, t, h // high, high, w // wide, wide).permute(0, 2, 3, 5, 1, 4, 6).flatten(4).flatten(1, 3)
        x, text = self.embed(x), self.text(text)
        for block in self.blocks:
            x = block(x, text)
        x = self.out(self.norm(x)).view(b, t, h // high, w // wide, high, wide, -1)
        return x.permute(0, 6, 1, 2, 4, 3, 5).reshape(b, -1, t, h, w)


class PlainBlock(nn.Module):
    def __init__(self, dim: int, heads: int, width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.qkv, self.self_out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.q, self.kv, self.cross_out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.gate, self.up = nn.Linear(dim, width, bias=False), nn.Linear(dim, width, bias=False)
        self.down = nn.Linear(width, dim, bias=False)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """x [B, N, C], text [B, L, C]."""
        q, k, v = self._split(self.qkv(self.norms[0](x)), 3)
        x = x + self.self_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        (q,), (k, v) = self._split(self.q(self.norms[1](x)), 1), self._split(self.kv(text), 2)
        x = x + self.cross_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        y = self.norms[2](x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))

    def _split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """[B, N, parts · C] -> parts of [B, heads, N, D]."""
        return x.unflatten(-1, (parts, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


if __name__ == "__main__":
    main()
