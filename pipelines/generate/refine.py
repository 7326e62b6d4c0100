"""Coarse to fine: the second stage of `reel generate --refine` and of `reel refine`."""

from collections.abc import Generator as Yields
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reelwright.errors import UserError
from reelwright.model.config import AttentionConfig
from reelwright.model.lora.swap import only_adapters
from reelwright.model.refinement.plan import Refinement
from reelwright.model.refinement.refiner import FirstStage, Refiner
from reelwright.model.sampling.generator import Generator, OnStep
from reelwright.model.sparse import attending_by
from reelwright.pipelines.generate.loras import LoRA, sha256
from reelwright.versions import versions

ADAPTER = "refinement"
TILE_PX = 256
SPARSE = AttentionConfig(form="sparse")  # 15 of 16 key blocks left out, as published
PUBLISHED = Refinement()


@dataclass(frozen=True)
class SecondStage:
    """How a video is refined.

    lora: of refinement; None where the network is refinement's own, which samples no first stage. prompts: per video;
    empty, as published for long videos. tile: of the VAE, pixels. window, overlap: frames of the first stage. offload:
    keys and values of given frames lie in the host's memory.
    """

    lora: LoRA | None
    how: Refinement = PUBLISHED
    attention: AttentionConfig = SPARSE
    tile: int = TILE_PX
    window: int = 93
    overlap: int = 13
    bf16_t: bool = False
    offload: bool = False

    @property
    def about(self) -> dict[str, Any]:
        """Facts for the record of the refined file."""
        facts = asdict(self.how)
        schedule = facts.pop("schedule")
        facts |= {"steps_of": {name: schedule[name] for name in ("steps", "shift")}}
        sparse = self.attention.form == "sparse"
        attention = self.attention.model_dump(mode="json") if sparse else "dense"
        return {**facts, "attention": attention, "window": self.window, "overlap": self.overlap, "tile": self.tile}


def refined_parts(
    generator: Generator,
    stage: SecondStage,
    first: FirstStage,
    prompts: Sequence[str],
    seeds: Sequence[int],
    on_step: OnStep | None = None,
) -> Yields[Tensor, None, None]:
    """Yield refined frames window by window, [B, 3, n, H, W]; network and codec are as before when it ends."""
    refiner = Refiner(generator, stage.how, bf16_t=stage.bf16_t, offload=stage.offload)
    windows = {"window": stage.window, "overlap": stage.overlap}
    with refining(generator, stage):
        yield from refiner.stream(first, prompts, seeds, **windows, on_step=on_step)


@contextmanager
def refining(generator: Generator, stage: SecondStage) -> Iterator[None]:
    """Let a generator refine: refinement's adapters alone, its attention, and a VAE that works by tiles.

    Without a LoRA of refinement's the network is refinement's own, and no adapter is on.
    """
    weights = {ADAPTER: stage.lora.weight} if stage.lora else {}
    with ExitStack() as stack:
        stack.enter_context(only_adapters(generator.model, weights))
        stack.enter_context(attending_by(generator.model, stage.attention))
        stack.enter_context(generator.codec.tiled(stage.tile))
        yield
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def check_video(frames: int) -> None:
    """Raise UserError for a picture, which has nothing to refine between frames. frames: at the rate of the network."""
    if frames < 2:
        raise UserError(
            f"a video of {frames} frame{'s' * (frames != 1)} at the rate that is refined has nothing between frames; "
            "5 or more are refined"
        )


def recorded_versions() -> dict[str, str]:
    """Return the versions that a generated file records."""
    return {name: version for name, version in versions().items() if name in ("reelwright", "torch", "python")}


def about_beginning(file: Path, frames: int) -> dict[str, Any]:
    """Return what a record says of the file that a video begins with. frames: of the first stage, that it gave."""
    return {"file": str(file.absolute()), "sha256": sha256(file), "frames": frames}


def about_refined(about: Mapping[str, Any], stage: SecondStage, prompt: str) -> dict[str, Any]:
    """Return what a refined file's record says besides the network's `about`: how, and the LoRA among the others."""
    loras = [*about["loras"], *([{**stage.lora.about, "stage": "refinement"}] if stage.lora else [])]
    return {"refined": {"prompt": prompt, **stage.about}, "loras": loras}
