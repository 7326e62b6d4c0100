"""`reel train RECIPE --plan`: what each rank holds, whether it fits, which knob to turn, and how long a step takes."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from reelwright.training.budget.memory import MemoryPlan, batch_size, plan_memory
from reelwright.training.recipe import TrainRecipe

GIB = 1 << 30
DEFAULT_GIB = 80.0
DEFAULT_TFLOPS = 989.5
"""Dense bf16 of an H100 SXM, from its data sheet."""
MFU = 0.35
"""Between the report's 33 and 38 %."""
HEADROOM = 0.92
"""Share of a GPU's memory that a plan may fill: the allocator's fragments need the rest."""


def print_plan(
    recipe: TrainRecipe,
    *,
    gpus: int = 1,
    gpu_memory_gb: float | None = None,
    peak_tflops: float | None = None,
    mfu: float | None = None,
    seconds: float | None = None,
    say: Callable[[str], None] = print,
) -> MemoryPlan:
    """Print the memory estimate for `gpus` ranks.

    Args:
        recipe: the recipe.
        gpus: number of ranks.
        gpu_memory_gb: memory of one GPU, in GiB, as makers round it; this machine's if None, else an H100's.
        peak_tflops: dense, of its matrix units; as above if None.
        mfu: assumed utilization, to estimate the time of a step.
        seconds: measured time of a step, to compute its MFU.
        say: prints a line.
    """
    memory, tflops, device = _device(gpu_memory_gb, peak_tflops)
    plan = plan_memory(recipe, ranks=gpus)
    verdict, times = _verdict(plan, memory, device), _time(plan, tflops, mfu or MFU, seconds)
    for part in (_about(plan), _table(plan), verdict, times):
        for line in (*part, ""):
            say(line.rstrip())
    return plan


def knobs(recipe: TrainRecipe, *, gpus: int, memory_gib: float) -> Iterator[tuple[str, MemoryPlan]]:
    """Yield (settings, plan) of changes that make a recipe fit, from the cheapest to the dearest."""
    room = memory_gib * GIB * HEADROOM
    for settings in _changes(recipe, gpus):
        changed = _with(recipe, settings)
        plan = plan_memory(changed, ranks=gpus)
        if plan.total <= room:
            yield " ".join(f"--set {k}={_yaml(v)}" for k, v in settings.items()), plan


def _about(plan: MemoryPlan) -> Iterator[str]:
    recipe, counts = plan.recipe, plan.counts
    replicate, shard, context = plan.layout
    trained = f"LoRA of {counts.trained / 1e6:,.1f} M" if recipe.lora else "all"
    yield f"network       {counts.all / 1e9:,.3f} B parameters, {recipe.model.depth} blocks; trained: {trained}"
    yield (
        f"micro-batch   {plan.batch} × {plan.bucket.key} (frames × height × width): "
        f"{plan.batch * plan.bucket.tokens(recipe.model.patch_size):,} tokens; the largest of the recipe"
    )
    yield f"ranks         {plan.ranks}: replicate {replicate} × shard {shard} × context {context}"
    micros = recipe.data.batches_per_step
    yield f"step          {micros} micro-batches, {plan.micro_batches} a rank; {plan.tokens:,} tokens at most"
    zero = f", ZeRO-{3 if recipe.parallel.reshard_after_forward else 2}" if plan.ranks > 1 else ""
    extra = ", compile (its savings are not in the plan)" if recipe.compute.compile else ""
    yield f"compute       {recipe.compute.precision}, checkpointing {recipe.compute.checkpointing}{zero}{extra}"


def _table(plan: MemoryPlan) -> Iterator[str]:
    width = max(map(len, plan.bytes))
    for kind, size in plan.bytes.items():
        yield f"{kind:{width}}  {size / GIB:10.2f} GiB  {'█' * round(40 * size / plan.total)}"
    if plan.sampling:
        yield f"{'while sampling':{width}}  {plan.sampling / GIB:10.2f} GiB, and what decoding holds"
    yield f"{'peak of a rank':{width}}  {plan.total / GIB:10.2f} GiB"


def _verdict(plan: MemoryPlan, memory: float, device: str) -> Iterator[str]:
    share = plan.total / (memory * GIB)
    if share <= HEADROOM:
        yield f"fits          {share:.0%} of {memory:g} GiB ({device})"
        return
    word = "tight        " if share <= 1 else "does not fit "
    yield f"{word} {share:.1%} of {memory:g} GiB ({device}); above {HEADROOM:.0%} the allocator runs out"
    found = list(islice(knobs(plan.recipe, gpus=plan.ranks, memory_gib=memory), 3))
    for settings, other in found:
        yield f"  would fit   {settings}: {other.total / GIB:.1f} GiB"
    if not found:
        yield "  would fit   nothing tried; take more GPUs, or LoRA"


def _time(plan: MemoryPlan, tflops: float, mfu: float, seconds: float | None) -> Iterator[str]:
    peak, recipe = tflops * 1e12, plan.recipe
    batch = batch_size(plan.costly, recipe.data, recipe.model)
    yield f"costliest     {batch} × {plan.costly.key}: {plan.flops:.3e} FLOPs a step of such, forward and backward"
    step = plan.seconds(mfu=mfu, peak_flops=peak)
    yield (
        f"time          {step:,.2f} s a step at {mfu:.0%} MFU of {tflops:g} TFLOP/s a GPU: "
        f"{plan.tokens_of(plan.costly) / step:,.0f} tokens/s"
    )
    yield f"              {recipe.steps:,} steps in {_duration(step * recipe.steps)} at most; other buckets cost less"
    if seconds is not None:
        yield f"MFU needed    {plan.mfu(seconds=seconds, peak_flops=peak):.1%} for {seconds:g} s a step"
    if recipe.compute.checkpointing != "none":
        yield f"              checkpointing {recipe.compute.checkpointing}: up to a third more is computed"


def _changes(recipe: TrainRecipe, gpus: int) -> Iterator[dict[str, Any]]:
    """Yield settings to try, alone and then together."""
    softer = [c for c in ("selective", "full") if c != recipe.compute.checkpointing]
    if recipe.compute.checkpointing == "full":
        softer = []
    yield from ({"compute.checkpointing": c} for c in softer)
    memory: dict[str, Any] = {"compute.checkpointing": "full"} if softer else {}
    if gpus > 1 and not recipe.parallel.reshard_after_forward:
        memory |= {"parallel.reshard_after_forward": True}
        yield dict(memory)
    if gpus > 1 and recipe.parallel.gradients == "whole":
        memory |= {"parallel.gradients": "sharded"}
        yield dict(memory)
    one = _smallest_batch(recipe)
    if recipe.data.tokens_per_batch > one:
        memory |= {"data.tokens_per_batch": one}
        yield dict(memory)
    context = 2
    while recipe.parallel.context < context <= gpus and gpus % context == 0 and recipe.model.num_heads % context == 0:
        yield memory | {"parallel.context": context}
        context *= 2


def _smallest_batch(recipe: TrainRecipe) -> int:
    from reelwright.training.data.buckets import buckets_of

    return max(b.tokens(recipe.model.patch_size) for b in buckets_of(recipe.data))


def _with(recipe: TrainRecipe, settings: dict[str, Any]) -> TrainRecipe:
    changed = recipe.model_dump(mode="json")
    for name, value in settings.items():
        section, key = name.split(".")
        changed[section][key] = value
    if "parallel.context" in settings:
        changed["parallel"]["shard"] = 0  # fewer are left to shard over
    return TrainRecipe(**changed)


def _device(memory: float | None, tflops: float | None) -> tuple[float, float, str]:
    """(GiB, TFLOP/s, what it is)."""
    import torch

    from reelwright.training.budget.throughput import peak_flops

    if torch.cuda.is_available():
        here = torch.device("cuda", 0)
        name, size = torch.cuda.get_device_name(here), torch.cuda.get_device_properties(here).total_memory / GIB
        return memory or round(size, 1), tflops or (peak_flops(here) or DEFAULT_TFLOPS * 1e12) / 1e12, name
    return memory or DEFAULT_GIB, tflops or DEFAULT_TFLOPS, "as given" if memory else "an H100's, as no GPU is here"


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.1f} seconds"


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
