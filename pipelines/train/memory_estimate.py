"""`reel train RECIPE --plan`: memory per rank, whether it fits, settings that would make it fit, time per step."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from reelwright.pipelines.train.rollout_estimate import rollout_lines
from reelwright.training.budget.devices import Peak, peak_here, peak_of
from reelwright.training.budget.memory import MemoryEstimate, batch_size, even_batches, plan_memory
from reelwright.training.distributed.world import mesh_sizes
from reelwright.training.recipe import TrainRecipe

GIB = 1 << 30
DEFAULT_GIB = 80.0
DEFAULT_DEVICE = "H100"
MFU = 0.2
"""Measured by others at this size with FSDP2: NVIDIA's NeMo DFM (docs/performance-summary.md, NeMo Automodel) trains
Wan 2.1 14B on 37,440 tokens at 175.9 TFLOP/s per H100 on 8 GPUs and 228.9 on 64, 18 and 23 % of its peak. The
LongCat-Video report has 33 to 38 % on its own."""
HEADROOM = 0.9
"""Share of a GPU's memory that a plan may fill: the allocator's fragments need the rest."""
FEW_TOKENS = 8192
"""Of a micro-batch: with fewer, a GPU waits for its weights to arrive and to be read."""
NODE = 8
"""GPUs of a node."""


def print_plan(
    recipe: TrainRecipe,
    *,
    gpus: int = 1,
    gpu_memory_gb: float | None = None,
    peak_tflops: float | None = None,
    mfu: float | None = None,
    seconds: float | None = None,
    say: Callable[[str], None] = print,
) -> MemoryEstimate:
    """Print the plan for `gpus` ranks.

    Args:
        recipe: the run's.
        gpus: its ranks. Where they do not divide the recipe's micro-batches, it says so and plans with more of them.
        gpu_memory_gb: of one GPU, in GiB, as makers round it; None: of this machine's, else an H100's.
        peak_tflops: dense, of its matrix units; None: as above.
        mfu: to tell a step's time by; None: measured by others.
        seconds: of a step, to ask its MFU.
        say: prints a line.

    Raises:
        TrainError: a run of the recipe would not begin.
    """
    recipe.objective.refuse_recipe(recipe)
    memory, device = _memory(gpu_memory_gb)
    peak = Peak("", peak_tflops, "as given") if peak_tflops else _peak()
    warnings = list(_warnings(recipe, gpus))
    if (even := even_batches(recipe, gpus)) != recipe.data.batches_per_step:
        recipe = with_settings(recipe, {"data.batches_per_step": even})
    plan = plan_memory(recipe, ranks=gpus)
    verdict, times = _verdict(plan, memory, device), _time(plan, peak, mfu, seconds)
    updates = rollout_lines(recipe, gpus=gpus, peak=peak, mfu=mfu or MFU)
    for part in (_about(plan), _table(plan), verdict, times, updates, warnings):
        for line in (*part, ""):
            say(line.rstrip())
    return plan


def knobs(recipe: TrainRecipe, *, gpus: int, memory_gib: float) -> Iterator[tuple[str, MemoryEstimate]]:
    """Yield (settings, plan) of changes that make a recipe fit, from the cheapest to the dearest.

    Of numbers of GPUs that share a sample, the first: more of them exchange more for memory that is not needed.
    """
    room = memory_gib * GIB * HEADROOM
    shared = False
    for settings in _changes(recipe, gpus):
        if shared and "parallel.context" in settings:
            continue
        changed = with_settings(recipe, settings)
        plan = plan_memory(changed, ranks=gpus)
        if plan.total <= room:
            shared |= "parallel.context" in settings
            yield " ".join(f"--set {k}={_yaml(v)}" for k, v in settings.items()), plan


def _about(plan: MemoryEstimate) -> Iterator[str]:
    recipe, counts = plan.recipe, plan.counts
    replicate, shard, context = plan.layout
    trained = f"LoRA of {counts.trained / 1e6:,.1f} M" if recipe.lora else "all"
    yield f"network       {counts.all / 1e9:,.3f} B parameters, {recipe.model.depth} blocks; trained: {trained}"
    yield (
        f"micro-batch   {plan.batch} × {plan.bucket.key} (frames × height × width): "
        f"{plan.batch * plan.bucket.tokens(recipe.model.patch_size):,} tokens and "
        f"{plan.batch * recipe.text.tokens:,} of captions; the worst of the recipe"
    )
    yield f"ranks         {plan.ranks}: replicate {replicate} × shard {shard} × context {context}"
    micros = recipe.data.batches_per_step
    yield f"step          {micros} micro-batches, {plan.micro_batches} per rank; {plan.tokens:,} tokens at most"
    zero = f", ZeRO-{3 if recipe.parallel.reshard_after_forward else 2}" if plan.ranks > 1 else ""
    extra = ", compile (its savings are not in the plan)" if recipe.compute.compile else ""
    yield f"compute       {recipe.compute.precision}, checkpointing {recipe.compute.checkpointing}{zero}{extra}"


def _table(plan: MemoryEstimate) -> Iterator[str]:
    width = max(map(len, plan.bytes))
    for kind, size in plan.bytes.items():
        yield f"{kind:{width}}  {size / GIB:10.2f} GiB  {'█' * round(40 * size / plan.total)}"
    if plan.sampling:
        yield f"{'while sampling':{width}}  {plan.sampling / GIB:10.2f} GiB, decoding by tiles included"
    yield f"{'peak of a rank':{width}}  {plan.total / GIB:10.2f} GiB"


def _verdict(plan: MemoryEstimate, memory: float, device: str) -> Iterator[str]:
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


def _time(plan: MemoryEstimate, peak: Peak, mfu: float | None, seconds: float | None) -> Iterator[str]:
    recipe, used = plan.recipe, mfu or MFU
    batch = batch_size(plan.costly, recipe.data, recipe.model)
    yield f"costliest     {batch} × {plan.costly.key}: {plan.flops:.3e} FLOPs per step of such, forward and backward"
    step = plan.seconds(mfu=used, peak_flops=peak.flops)
    yield f"time          {step:,.2f} s per step at {used:.0%} MFU: {plan.tokens_of(plan.costly) / step:,.0f} tokens/s"
    yield f"              {recipe.steps:,} steps in {_duration(step * recipe.steps)} at most; other buckets cost less"
    yield f"peak          {peak}"
    if mfu is None:
        yield "MFU           others measured 18 to 23 % at this size with FSDP2 on H100 (NeMo DFM); --mfu sets another"
    if seconds is not None:
        yield f"MFU needed    {plan.mfu(seconds=seconds, peak_flops=peak.flops):.1%} for {seconds:g} s per step"
    if recipe.compute.checkpointing != "none":
        yield f"              checkpointing {recipe.compute.checkpointing}: up to a third more is computed"


def _warnings(recipe: TrainRecipe, gpus: int) -> Iterator[str]:
    """Yield warnings to read before that number of GPUs is reserved."""
    replicate, shard, context = mesh_sizes(recipe.parallel, gpus)
    batches = recipe.data.batches_per_step
    if (even := even_batches(recipe, gpus)) != batches:
        fits = sorted({n * context for n in range(1, batches + 1) if batches % n == 0})
        yield (
            f"warning       {replicate * shard} ranks take batches, and do not divide the {batches} of a step: "
            f"training refuses. Take {', '.join(map(str, fits))} GPUs, or data.batches_per_step={even}, as planned here"
        )
    if shard * context > NODE and (shard * context) % NODE == 0:
        inside = replicate * shard * context // NODE
        yield (
            f"hint          weights are gathered over {shard * context} GPUs, so between nodes: "
            f"--set parallel.replicate={inside} keeps that inside each node of {NODE} (HSDP), for more memory"
        )


def _changes(recipe: TrainRecipe, gpus: int) -> Iterator[dict[str, Any]]:
    """Yield settings to try, alone and then together."""
    forms = ("selective", "attention", "full")
    now = recipe.compute.checkpointing
    softer = forms[forms.index(now) + 1 :] if now in forms else forms
    yield from ({"compute.checkpointing": c} for c in softer)
    memory: dict[str, Any] = {"compute.checkpointing": "full"} if softer else {}
    sharded = _more_sharded(recipe, gpus)
    for form in (None, *softer):
        for setting in sharded:
            yield {"compute.checkpointing": form} | setting if form else dict(setting)
    memory |= sharded[-1] if sharded else {}
    context = 2
    while recipe.parallel.context < context <= gpus and gpus % context == 0 and recipe.model.num_heads % context == 0:
        yield memory | {"parallel.context": context}
        context *= 2
    for tokens in _smaller_batches(recipe):
        batches = recipe.data.batches_per_step * round(recipe.data.tokens_per_batch / tokens)
        yield memory | {"data.tokens_per_batch": tokens, "data.batches_per_step": batches}


def _more_sharded(recipe: TrainRecipe, gpus: int) -> list[dict[str, Any]]:
    """Return settings that leave more of weights and gradients on other ranks, each with the settings before it."""
    if gpus == 1:
        return []
    settings: dict[str, Any] = {}
    found = []
    if not recipe.parallel.reshard_after_forward:
        settings = {"parallel.reshard_after_forward": True}
        found.append(settings)
    if recipe.parallel.gradients == "whole":
        settings = settings | {"parallel.gradients": "sharded"}
        found.append(settings)
    return found


def _smaller_batches(recipe: TrainRecipe) -> Iterator[int]:
    """Yield a half, a quarter … of a micro-batch's tokens, as long as it fills a GPU and holds the longest sample."""
    from reelwright.training.data.buckets import buckets_of

    least = max(FEW_TOKENS, *(b.tokens(recipe.model.patch_size) for b in buckets_of(recipe.data)))
    tokens = recipe.data.tokens_per_batch // 2
    while tokens >= least:
        yield tokens
        tokens //= 2


def with_settings(recipe: TrainRecipe, settings: dict[str, Any]) -> TrainRecipe:
    """Set `section.key` values over a recipe."""
    changed = recipe.model_dump(mode="json")
    for name, value in settings.items():
        section, key = name.split(".")
        changed[section][key] = value
    if "parallel.context" in settings:
        changed["parallel"]["shard"] = 0  # fewer are left to shard over
    return TrainRecipe(**changed)


def _memory(given: float | None) -> tuple[float, str]:
    """(GiB, what it is of)."""
    import torch

    if given:
        return given, "as given"
    if torch.cuda.is_available():
        here = torch.device("cuda", 0)
        return round(torch.cuda.get_device_properties(here).total_memory / GIB, 1), torch.cuda.get_device_name(here)
    return DEFAULT_GIB, "an H100's, as no GPU is here"


def _peak() -> Peak:
    """Of this machine's GPU, if it is known, else an H100's."""
    import torch

    found = peak_here(torch.device("cuda", 0)) if torch.cuda.is_available() else None
    found = found or peak_of(DEFAULT_DEVICE)
    assert found is not None
    return found


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.1f} seconds"


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
