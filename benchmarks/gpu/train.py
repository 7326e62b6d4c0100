"""Block 3: one block of the 13.6 B network, and training steps of 1.8 B parameters, at 480p × 93 frames in bf16.

MFU divides by the device's dense bf16 peak, which each row says; recomputation is not counted as useful. Compiling is
`torch.compile` of each block, the form that training uses.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.machine import peak_tflops
from benchmarks.gpu.report import Figure
from benchmarks.gpu.training import BUCKET, MODEL, choose, measure
from reelwright.model.attention import Layout
from reelwright.model.blocks import Block
from reelwright.model.config import DiTConfig
from reelwright.model.flops import DENSE, train_flops
from reelwright.model.rope import rotation
from reelwright.model.text.keys import padded_keys
from reelwright.training.data.buckets import Bucket
from reelwright.training.distributed.world import World
from reelwright.training.recipe import ParallelConfig

TOY = DiTConfig(hidden_size=48, depth=2, num_heads=2, in_channels=4, out_channels=4, caption_channels=8,
                adaln_tembed_dim=16, text_tokens=4)  # fmt: skip
TOY_BUCKET = Bucket(frames=5, height=32, width=32)


def run(bench: Bench) -> None:
    config, grid = (TOY, (2, 2, 2)) if bench.toy else (DiTConfig(), (24, 30, 52))
    block = OneBlock(config, grid, bench.device)
    for compiled in (False, True):
        if bench.toy and compiled:
            continue  # Inductor's compiler takes longer than the whole dry run
        forward = torch.compile(block.block, dynamic=False) if compiled else block.block
        name = f"one block, width {config.hidden_size}, {grid}, {'compiled' if compiled else 'eager'}"
        bench.attempt(name, partial(block.figures, bench, forward), needs_s=20 if compiled else 5)
    del block, forward
    world = World.alone(bench.device)
    model, bucket = (TOY, TOY_BUCKET) if bench.toy else (MODEL, BUCKET)
    for compiled in (False,) if bench.toy else (False, True):
        name = f"step of {'a toy' if bench.toy else '1.8 B'}, {'compiled' if compiled else 'eager'}"
        bench.attempt(name, partial(_step, world, model, bucket, compiled, bench.toy), needs_s=30)


class OneBlock:
    """A transformer block with the tensors that a network would give it."""

    def __init__(self, config: DiTConfig, grid: tuple[int, int, int], device: torch.device) -> None:
        torch.manual_seed(0)
        self.config, self.grid, self.device = config, grid, device
        self.block: nn.Module = Block(config).to(device)
        self.layout = Layout(*grid)
        tokens, width = grid[0] * grid[1] * grid[2], config.hidden_size
        half = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.x = torch.randn(1, tokens, width, device=device, dtype=half, requires_grad=True)
        self.modulation = torch.randn(1, grid[0], 6 * width, device=device, requires_grad=True)
        text = torch.randn(1, config.text_tokens, width, device=device, dtype=half)
        self.text = padded_keys(text, None, zero_pad=True)
        self.rope = rotation(config.head_dim, grid, (0, 0, 0), device)

    def figures(self, bench: Bench, forward: Callable[..., tuple[Tensor, object]]) -> dict[str, Figure]:
        """Time forward, and both passes; MFU of both."""
        used = [p for n, p in self.block.named_parameters() if "adaLN" not in n]
        leaves = [self.x, self.modulation, *used]

        def output() -> Tensor:
            with torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False, enabled=not bench.toy):
                return forward(self.x, self.modulation, self.text, self.rope, self.layout)[0]

        grad = torch.randn_like(self.x)
        with torch.no_grad():
            alone = bench.milliseconds(output)
        both = bench.milliseconds(lambda: torch.autograd.grad(output(), leaves, grad))
        one = self.config.model_copy(update={"depth": 1})
        two = self.config.model_copy(update={"depth": 2})
        sizes = {"grid": self.grid, "batch": 1, "cond_frames": 0, "text_tokens": self.config.text_tokens}
        work = train_flops(two, **sizes, attention=DENSE) - train_flops(one, **sizes, attention=DENSE)
        peak, tera = peak_tflops(), work / both / 1e9
        return {"forward_ms": alone, "f+b_ms": both, "tflops": tera, "peak_tflops": peak,
                "mfu": tera / peak if peak else None}  # fmt: skip


def _step(world: World, model: DiTConfig, bucket: Bucket, compiled: bool, toy: bool) -> dict[str, Figure]:
    recipe = choose(model, ParallelConfig(), world, "none" if toy else "auto", compiled)
    found = measure(recipe, world, bucket, 1 if toy else 4, warm_up=1 if toy else 3)
    return {"checkpointing": recipe.compute.checkpointing, "mfu": None, **found}
