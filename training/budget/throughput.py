"""How fast a run goes: clips/s, tokens/s, model FLOP utilisation, and the share of time spent waiting for data."""

import time
from dataclasses import dataclass, field
from functools import partial

from reelwright.model.config import AttentionConfig, DiTConfig, LoRAConfig
from reelwright.model.flops import forward_flops, train_flops
from reelwright.model.lora.flops import lora_train_flops
from reelwright.training.batch import Batch
from reelwright.training.budget.devices import peak_flops
from reelwright.training.distributed.world import World
from reelwright.training.recipe import TrainRecipe


def step_flops(
    config: DiTConfig,
    lora: LoRAConfig | None,
    grid: tuple[int, int, int],
    *,
    batch: int,
    cond_frames: int,
    text_tokens: int,
    attention: AttentionConfig,
) -> int:
    """Forward and backward pass of the trained network; sizes as in `reelwright.model.flops`."""
    count = train_flops if lora is None else partial(lora_train_flops, lora=lora)
    return count(
        config, grid=grid, batch=batch, cond_frames=cond_frames, text_tokens=text_tokens, attention=attention
    )  # fmt: skip


def objective_flops(recipe: TrainRecipe, grid: tuple[int, int, int], attention: AttentionConfig, **sizes: int) -> int:
    """Count a micro-batch's operations under a recipe's objective: the trained pass, and its `passes` beside it.

    A teacher's adapter is not counted: about 1 % of its pass.
    """
    beside = recipe.objective.passes
    trained = step_flops(recipe.model, recipe.lora, grid, **sizes, attention=attention)
    forward = forward_flops(recipe.model, grid, **sizes, attention=attention) if beside.forward else 0
    return round((1 + beside.trained) * trained + beside.forward * forward)


def batch_flops(recipe: TrainRecipe, batch: Batch, attention: AttentionConfig) -> int:
    """Count the operations of a batch, a teacher's passes included, by the ranks that share it together."""
    num, _, frames, height, width = batch.latents.shape
    _, rows, columns = recipe.model.patch_size
    return objective_flops(
        recipe, (frames, height // rows, width // columns), attention,
        batch=num, cond_frames=batch.cond_frames, text_tokens=batch.text.keys_per_caption,
    )  # fmt: skip


@dataclass
class Meter:
    """Counts between two log lines, over all ranks. Validation, sampling and saving are not in its time."""

    config: DiTConfig
    world: World
    seconds: float = 0.0
    wait_s: float = 0.0
    clips: float = 0.0
    tokens: float = 0.0
    flops: float = 0.0
    _began: float = field(default_factory=time.perf_counter)

    def start_step(self) -> None:
        """Start timing a step."""
        self._began = time.perf_counter()

    def add(self, batch: Batch, flops: int) -> None:
        """Count a batch.

        Args:
            batch: the whole micro-batch, also where this rank computes a strip of it.
            flops: operations of its forward and backward pass, by all ranks that share it.
        """
        num, _, *grid = batch.latents.shape
        share = 1 / self.world.context_size  # ranks of a context group count the same batch
        self.clips += num * share
        self.tokens += num * self.config.tokens(*grid) * share
        self.wait_s += batch.wait_s
        self.flops += share * flops

    def end_step(self) -> None:
        """Add the time since `start_step`."""
        self.seconds += time.perf_counter() - self._began

    def read(self) -> dict[str, float]:
        """Figures since the last call; every rank must call it. `mfu` only where the device's peak is known."""
        clips, tokens, flops, wait_s = self.world.sum([self.clips, self.tokens, self.flops, self.wait_s])
        seconds = max(self.seconds, 1e-9)
        out = {
            "clips_per_s": clips / seconds,
            "tokens_per_s": tokens / seconds,
            "data_wait_share": wait_s / self.world.size / seconds,
        }
        peak = peak_flops(self.world.device)
        if peak:
            out["mfu"] = flops / seconds / (peak * self.world.size)
        self.seconds = self.wait_s = self.clips = self.tokens = self.flops = 0.0
        return out
