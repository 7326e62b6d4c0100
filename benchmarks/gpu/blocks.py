"""The blocks, by weight: their figures, time boxes and needs."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from benchmarks.gpu.bench import Bench

FIRST_S = 540
"""Seconds in which the first four blocks must be done on one H100."""


@dataclass(frozen=True)
class Block:
    """A block of measurements.

    Attributes:
        name: of the block, and of the function `run` of its module.
        says: the figures it measures.
        seconds: its time box, with the start of its process.
        needs: modules beside torch and triton; without them it is left out.
    """

    name: str
    says: str
    seconds: int
    module: str
    needs: tuple[str, ...] = ()

    @property
    def run(self) -> Callable[[Bench], None]:
        """Return the function that measures, loaded when it is first used."""
        return import_module(f"benchmarks.gpu.{self.module}").run


BLOCKS = (
    Block("kernels", "the block-sparse kernels are right: types, tiles, grids, 150 k tokens", 130, "correctness"),
    Block("sparse", "block-sparse attention against dense, FlexAttention and others' kernels", 150, "sparse"),
    Block("train", "one DiT block, steps of 1.8 B parameters: MFU, memory against plan", 160, "train", ("pydantic",)),
    Block("tune", "tiles of the kernels, for kernels/triton/tuned.json", 100, "tune"),
    Block("sample", "sampling at 480p × 93: steps per second, VAE decode", 150, "sample", ("pydantic",)),
    Block(
        "shard", "FSDP2 on one rank in bf16, checkpoint in the background, resume", 120, "shard",
        ("pydantic", "safetensors"),
    ),
    Block("curate", "shots, text, video codecs on the GPU; frames against the CPU's", 150, "curate", ("av", "numpy")),
)  # fmt: skip


def named(names: list[str]) -> list[Block]:
    """Return blocks by name, in the order of weight. ValueError for a name that is none."""
    known = {block.name: block for block in BLOCKS}
    wrong = sorted(set(names) - set(known))
    if wrong:
        raise ValueError(f"--blocks {' '.join(wrong)}: there are {', '.join(known)}")
    return [block for block in BLOCKS if not names or block.name in names]
