"""Memory that a forward and backward pass holds, found by running it on tensors without storage.

Two networks of few blocks are traced at their real width and size of batch, and the rest follows: every block holds the
same. So a change of the network, of its checkpointing, of context parallelism or of autocast is in the figure without a
formula to keep up.
"""

from dataclasses import dataclass
from functools import lru_cache

from reelwright.training.budget.live_bytes import LiveBytes
from reelwright.training.budget.traced import Shape, TracedRun, made_up_ranks
from reelwright.training.recipe import DataConfig, ParallelConfig, TrainRecipe

DEPTHS = (2, 3)
"""Blocks of the traced networks. One is too few to extrapolate from: with the second, gradients of captions are summed,
and with adapters the first block is given what asks for no gradient.
"""
DECIDING = {"model", "attention", "lora", "text", "objective", "compute"}
"""Sections of a recipe that activations follow from, beside `parallel.context`."""


@dataclass(frozen=True)
class Activations:
    """Bytes. peak: of all but gradients of parameters, at most; block: what each block adds to it.

    tail: what the last step of the backward pass holds beside gradients that are whole by then. growing: by how much a
    block's own gradients, which grow as its activations go, raise the peak.
    """

    peak: int
    block: int
    tail: int
    growing: int


def trace(recipe: TrainRecipe, shape: Shape, *, half: bool = False) -> Activations:
    """Trace a recipe's pass over a micro-batch, on the rank that has most of it.

    Args:
        recipe: the run; ranks that share samples count, ranks that share weights do not.
        shape: of the micro-batch.
        half: the blocks' weights are bf16 already, as FSDP gathers them; else autocast makes bf16 copies.
    """
    parts = {name: getattr(recipe, name) for name in DECIDING}
    context = {"context": recipe.parallel.context, "context_form": recipe.parallel.context_form}
    data = DataConfig().model_copy(update={"pair": recipe.data.pair})  # pairs have twice the latents
    alike = TrainRecipe().model_copy(update={**parts, "parallel": ParallelConfig.model_validate(context), "data": data})
    return _traced(alike.model_dump_json(), shape, half)


@lru_cache(maxsize=1024)
def _traced(settings: str, shape: Shape, half: bool) -> Activations:
    """Trace a recipe, given as JSON: a mix of snapshots is a dictionary, which no cache takes."""
    recipe = TrainRecipe.model_validate_json(settings)
    few, more = (_trace(recipe, depth, shape, half) for depth in DEPTHS)
    block = max(0, more[0] - few[0])
    return Activations(few[0] + (recipe.model.depth - DEPTHS[0]) * block, block, more[1], few[2] - few[0])


def _trace(recipe: TrainRecipe, depth: int, shape: Shape, half: bool) -> tuple[int, int, int]:
    """`measure` of a network of this depth."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    shallow = recipe.model_copy(update={"model": recipe.model.model_copy(update={"depth": depth})})
    with made_up_ranks(recipe.parallel, recipe.parallel.context) as world, FakeTensorMode():
        return measure(TracedRun(shallow, world, shape, sharded=False, half=half))


def measure(run: TracedRun) -> tuple[int, int, int]:
    """(peak, tail, peak with gradients) of one micro-batch."""
    with LiveBytes() as live:
        run.micro_batch()
    line = live.timeline(apart=[p.grad for p in run.model.parameters() if p.grad is not None])
    whole = line[-1][1]
    late = [rest + grads - whole for rest, grads in line if grads >= 0.6 * whole]
    return max(rest for rest, _ in line), max(0, *late, 0), max(rest + grads for rest, grads in line)
