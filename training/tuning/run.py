"""One run of `reel tune`: samples, plan, training, measures on held-out samples, and what it writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelwright.errors import first_line
from reelwright.training.distributed.world import World
from reelwright.training.errors import TrainError
from reelwright.training.tuning import rows
from reelwright.training.tuning.base import Base, add_adapters, load_base, save_adapter, save_merged
from reelwright.training.tuning.conversations import read_conversations
from reelwright.training.tuning.engine import TuneOutcome, Tuner
from reelwright.training.tuning.feed import Feed
from reelwright.training.tuning.lineage import describe_run
from reelwright.training.tuning.plan import Plan, left_out_rows, make_plan
from reelwright.training.tuning.recipe import CaptionerRecipe, JudgeRecipe, RewardRecipe, TuneRecipe
from reelwright.training.tuning.samples import Item, LeftOut, Sample
from reelwright.training.tuning.sharding import shard, whole
from reelwright.training.tuning.uses import Use, use_of
from reelwright.training.tuning.videos import Videos

if TYPE_CHECKING:
    from reelwright.curation.store import Store

RESULT, ADAPTER, MODEL, LEFT_OUT = "result.json", "adapter", "model", "left_out.jsonl"


@dataclass(frozen=True)
class TuneJob:
    """A run. use: captioner, judge or reward. folder: of the run. store: of clips and ratings, where SQL is used."""

    use: str
    recipe: TuneRecipe
    folder: Path
    store: Store | None = None


def run_tuning(job: TuneJob, world: World, say: Callable[[str], None] = print) -> TuneOutcome:
    """Train, measure and write; a run that was stopped resumes, and a finished one only measures and writes again.

    Raises:
        TrainError: there is nothing to train on, or the model or the folder does not fit.
    """
    recipe = job.recipe
    tell = say if world.is_first else _nothing
    base = load_base(recipe.base)
    use = use_of(job.use, recipe, base)
    videos = Videos(recipe.sampling, recipe.jpeg_quality, job.store)
    feed: Feed[Any] = Feed(use.objective, videos, recipe.data.workers)
    try:
        plan = planned(job, use, videos)
        videos.close()  # sandboxes of the threads that looked; those of the feed start when they are needed
        for line in plan.lines():
            tell(line)
        use.tuned_on = sorted({v.name for item in plan.train for v in item.videos if v.kind == "generation"})
        use.learnt = sorted({item.dimension for item in plan.train if isinstance(item, Sample) and item.dimension})
        told = describe_run(job.use, recipe, plan, job.store, use.words)
        if world.is_first:
            _write_plan(job.folder, plan)
        network = _network(use, base, recipe, world)
        tuner: Tuner[Any] = Tuner(
            recipe=recipe, network=network, objective=use.objective, feed=feed, items=plan.train, world=world,
            folder=job.folder, metadata=told, blank=use.blank, say=say,
        )  # fmt: skip
        outcome = tuner.run()
        if outcome.finished:
            held, measured = plan.held_out[: recipe.measured], {}
            if held:
                measured = {"loss": tuner.loss_of(held), **use.measure(network, feed, held, world, job.folder)}
            weights = whole(tuner.parameters)
            if world.is_first:
                _write_weights(job, use, weights, measured)
                _write_result(job.folder, told, outcome, measured)
                _tell(measured, job.folder, say)
        return outcome
    finally:
        feed.close()


def planned(job: TuneJob, use: Use, videos: Videos) -> Plan:
    """Read a run's samples and plan them. Raises TrainError."""
    found = list(read_items(job))
    known = rows.known_facts(job.store, found) if job.store is not None else {}
    return make_plan(found, use.objective, videos, known, job.recipe.data, job.recipe.seed)


def read_items(job: TuneJob) -> Sequence[Item | LeftOut]:
    """Return all samples that a recipe names, and the lines that are none.

    Raises:
        TrainError: SQL without a store, or files of conversations for a use that learns no answers of its own.
    """
    recipe, data = job.recipe, job.recipe.data
    found: list[Item | LeftOut] = []
    if not data.sql and not data.jsonl:
        raise TrainError("the recipe names no samples; set data.sql (with --store), or data.jsonl")
    if data.sql:
        if job.store is None:
            raise TrainError("data.sql is about a store, and none was named; add --store FOLDER")
        if isinstance(recipe, CaptionerRecipe):
            found += rows.captions(job.store, data.sql)
        elif isinstance(recipe, JudgeRecipe):
            found += rows.scores(job.store, data.sql, recipe)
        elif isinstance(recipe, RewardRecipe):
            found += rows.choices(job.store, data.sql, recipe)
    for name in data.jsonl:
        if isinstance(recipe, RewardRecipe):
            raise TrainError("data.jsonl holds conversations, and a reward learns pairs; set data.sql")
        path = Path(name).expanduser()
        found += read_conversations(path, Path(data.videos).expanduser() if data.videos else path.parent)
    return found


def _network(use: Use, base: Base, recipe: TuneRecipe, world: World) -> Any:
    add_adapters(base.model, recipe.lora, recipe.seed)
    if recipe.compute.checkpointing:
        base.model.gradient_checkpointing_enable({"use_reentrant": False})
    network = use.network()
    network.to(world.device)
    return shard(network, world)


def _write_plan(folder: Path, plan: Plan) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row) + "\n" for row in left_out_rows(plan.left_out)]
    (folder / LEFT_OUT).write_text("".join(lines), encoding="utf-8")


def _write_weights(job: TuneJob, use: Use, weights: dict[str, Any], measured: dict[str, Any]) -> None:
    """Write the adapter and, unless the recipe does without, the model."""
    recipe, folder, own = job.recipe, job.folder, use.vlm_weights(weights)
    save_adapter(folder / ADAPTER, own, recipe.base, recipe.lora)
    use.write(folder / ADAPTER, weights, measured)
    if recipe.merge:
        save_merged(folder / MODEL, own, recipe.base, recipe.lora)
        use.write(folder / MODEL, weights, measured)


def _write_result(folder: Path, told: dict[str, Any], outcome: TuneOutcome, measured: dict[str, Any]) -> None:
    result = {**told, "steps": outcome.step, "left_out_while_training": outcome.left_out, "measured": measured}
    part = folder / f"{RESULT}.part"
    part.write_text(json.dumps(result, indent=1), encoding="utf-8")
    part.replace(folder / RESULT)


def _tell(measured: dict[str, Any], folder: Path, say: Callable[[str], None]) -> None:
    for name, value in measured.items():
        if isinstance(value, int | float):
            say(f"held out      {name} {value:.4g}")
    say(f"result        {folder / RESULT}")


def _nothing(_: str) -> None:
    pass


def read_result(folder: Path) -> dict[str, Any]:
    """Return a finished run's result. Raises TrainError where there is none."""
    try:
        return json.loads((folder / RESULT).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise TrainError(f"{folder} holds no finished run of `reel tune` ({first_line(error)}); name one") from error
