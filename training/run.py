"""A training run put together: snapshot, schedule, loader; network, adapters, parallelism, first weights; the loop."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from reelwright.model.checkpoint import load_weights
from reelwright.model.dit import DiT
from reelwright.model.lora.adapters import init_lora
from reelwright.model.lora.files import adapter_names
from reelwright.training import checkpoints
from reelwright.training.adapter_starts import adapter_origins, fill_adapter, of_other_networks
from reelwright.training.adapters import adapt_all, base_state
from reelwright.training.batch import TASKS, Batch
from reelwright.training.budget.devices import peak_here
from reelwright.training.data.loader import Loader, Portion
from reelwright.training.data.mix_plan import lines
from reelwright.training.data.mix_rows import pinned
from reelwright.training.data.prepared import Clips, prepare
from reelwright.training.data.schedule import VERSION, Schedule
from reelwright.training.distributed.context import attention_kernel
from reelwright.training.distributed.parallel import compile_for, parallelize
from reelwright.training.distributed.world import World
from reelwright.training.errors import TrainError
from reelwright.training.lineage import describe, parent_of
from reelwright.training.loop import Hooks, Outcome, Trainer, micro_batches
from reelwright.training.origins import existing, identity_of, kept_origins
from reelwright.training.recipe import TrainRecipe
from reelwright.training.rehearsal import Rehearsal


def run(
    recipe: TrainRecipe,
    clips: Clips,
    folder: Path,
    world: World,
    *,
    resume_from: Path | None = None,
    hooks: Hooks = Hooks(),  # noqa: B008
) -> Outcome:
    """Train in `folder`, or resume there. Every rank calls it.

    Args:
        recipe: settings of the run.
        clips: the clips to train on.
        folder: of the run: log, samples, checkpoints.
        world: this rank and the others.
        resume_from: a checkpoint, or a run's folder, whose weights and optimizer state a new run starts with.
        hooks: calls while it trains.

    Raises:
        TrainError, ModelError, StoreError: one sentence with what to do.
    """
    micro_batches(recipe, world)
    schedule, samples = prepare(clips, recipe, folder, world, left_out=left_out_of(folder))
    loader = Loader(clips.store, clips.snapshot, schedule, recipe, samples=samples)
    snapshot_data, encoder = SnapshotData(loader, world), loader.encoder_fingerprint
    if world.is_first:
        _announce(schedule, recipe, hooks.say)
        if world.device.type == "cuda":
            hooks.say(f"dense attention by {attention_kernel(recipe, world)}")
            hooks.say(_mfu_line(world.device))
    resumed = checkpoints.find_checkpoint(resume_from) if resume_from else None
    model, parent = build(recipe, world)
    rehearsal = _rehearsal(recipe, schedule) if recipe.compute.compile else None
    origin = parent_of(resumed, checkpoints.read_metadata(resumed)) if resumed else None
    if origin and not recipe.lora:
        parent = origin  # with adapters, the parent is what they adapt
    metadata = describe(recipe, pinned(clips.store, clips.snapshot, recipe.data), clips.store, encoder, parent)
    if recipe.lora:
        metadata |= {"adapters": adapter_origins(recipe.objective.adapters, existing)}
        for line in of_other_networks(metadata["adapters"], parent) if world.is_first else []:
            hooks.say(f"note: {line}")
    if latest := checkpoints.Checkpoints(folder / "checkpoints", 1).latest():
        frozen = [part.name for part in recipe.objective.adapters if not part.trained]
        metadata |= kept_origins(checkpoints.read_metadata(latest), metadata, frozen=frozen, checkpoint=latest)
    origins = world.broadcast(recipe.objective.origins(hooks.scorer) if world.is_first else {})
    for line in recipe.objective.remarks(origins):
        if world.is_first:
            hooks.say(line)
    metadata |= origins
    metadata |= {"left_out": sorted(schedule.failed), "sampler": VERSION, "resumed_from": origin}
    trainer = Trainer(
        recipe=recipe, data=snapshot_data, model=model, world=world, folder=folder,
        metadata=metadata, resume_from=resumed, hooks=hooks, rehearsal=rehearsal,
    )  # fmt: skip
    return trainer.run()


def _rehearsal(recipe: TrainRecipe, schedule: Schedule) -> Rehearsal:
    """Return the shapes to come, each to be compiled once per role."""
    rehearsal = Rehearsal.of(recipe, schedule.shapes(), schedule.validation(recipe.validation.clips))
    roles = 1 + len(recipe.objective.adapters)  # a compiled block has a graph per role
    compile_for(roles * (len(rehearsal.training) + len(rehearsal.validation)))
    return rehearsal


def left_out_of(folder: Path) -> list[str] | None:
    """Return the clips that a run has left out so far; None before it begins.

    A resumed run leaves them out whatever was encoded since: else it would draw other samples.
    """
    latest = checkpoints.Checkpoints(folder / "checkpoints", 1).latest()
    return checkpoints.read_metadata(latest).get("left_out") if latest else None


@dataclass
class SnapshotData:
    """The loop's data, from a store."""

    loader: Loader
    world: World

    def batches(self, start_step: int) -> Iterator[Batch]:
        """Yield this rank's batches from a step on."""
        return iter(self.loader.of(Portion(
            self.world.data_rank, self.world.data_size, start_step, self.loader.recipe.steps,
            pin=self.world.device.type == "cuda",
        )))  # fmt: skip

    def validation(self) -> Sequence[Batch]:
        """Return the held-out batches."""
        return self.loader.validation(self.loader.recipe.validation.clips)


def build(recipe: TrainRecipe, world: World) -> tuple[DiT, dict[str, Any] | None]:
    """Return the network as a run begins with it, and where its weights come from (None: random).

    It is laid out before it has storage, so that no rank ever holds the whole of a sharded network.
    """
    with torch.device("meta"):
        model = DiT(recipe.model)
    if recipe.lora:
        adapt_all(model, recipe)
    parallelize(model, recipe.parallel, recipe.compute, world, regions=recipe.in_regions)
    model.to_empty(device=world.device)
    if recipe.lora:
        for part in recipe.objective.adapters:
            init_lora(model, name=part.name, seed=recipe.seed)
            if part.start:
                fill_adapter(model, part.name, existing(Path(part.start)))
    if not recipe.init:
        if recipe.lora:
            raise TrainError("a recipe with lora adapts weights that are there; say which with init: CHECKPOINT")
        model.init_weights(recipe.seed)
        return model, None
    return model, start_from(model, Path(recipe.init))


def start_from(model: DiT, path: Path) -> dict[str, Any]:
    """Load weights alone (averaged ones, where they were kept) and return their description.

    path: a training checkpoint, a run's folder (its newest checkpoint) or the beginning of its name, a published folder
    or one .safetensors file.
    """
    path = existing(path)
    try:
        found = checkpoints.find_checkpoint(path)
    except TrainError:
        load_weights(model, path)
        return _published_metadata(path)
    _load_checkpoint(model, found)
    return parent_of(found, checkpoints.read_metadata(found))


def _load_checkpoint(model: DiT, path: Path) -> None:
    saved = checkpoints.tensor_names(path)
    if adapter_names(saved):
        raise TrainError(f"init: {path} holds adapters; merge them first: reel checkpoint export {path} OUT, init: OUT")
    state = base_state(model)
    source = {name: f"ema.{name}" if f"ema.{name}" in saved else f"model.{name}" for name in state}
    checkpoints.load_tensors(path, {source[name]: tensor for name, tensor in state.items()})


def _published_metadata(path: Path) -> dict[str, Any]:
    """`reel checkpoint import` and `export` leave about.json, with the weights' hash and, of an export, its lineage."""
    note = (path if path.is_dir() else path.parent) / "about.json"
    said = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
    said.pop("recipe", None)  # for sampling; lineage has its fingerprint
    return {"path": str(path.absolute()), "kind": "weights", "identity": identity_of(path), **said}


def _tasks(recipe: TrainRecipe) -> str:
    weights = {task: getattr(recipe.tasks, task) for task in TASKS}
    return ", ".join(f"{task} {weight:g}" for task, weight in weights.items() if weight)


def _announce(schedule: Schedule, recipe: TrainRecipe, say: Callable[[str], None]) -> None:
    say(_plan_line(schedule, recipe))
    for line in lines(schedule.plan.facts.parts, schedule.plan.facts.train):
        say(line)
    if schedule.plan.facts.note:
        say(schedule.plan.facts.note)


def _mfu_line(device: torch.device) -> str:
    """Say which peak MFU divides by."""
    name, peak = torch.cuda.get_device_name(device), peak_here(device)
    return f"MFU is of {peak}" if peak else f"no MFU: the peak of {name!r} is not known (training/budget/devices.py)"


def _plan_line(schedule: Schedule, recipe: TrainRecipe) -> str:
    facts = schedule.facts()
    told = {"clips", "train", "held_out", "held_out_by"}
    rest = ", ".join(f"{value} {name}" for name, value in facts.items() if name not in told and value)
    more = f" ({rest})" if rest else ""
    return (
        f"{facts['clips']} clips: {facts['train']} to train on, {facts['held_out']} held out{more}; "
        f"{recipe.steps} steps of {recipe.data.batches_per_step} micro-batches; tasks by weight: {_tasks(recipe)}"
    )
