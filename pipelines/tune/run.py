"""`reel tune`: a recipe and a store, or files, become a tuned model."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelwright.curation.store import Store
from reelwright.pipelines.tune.intervals import add_intervals
from reelwright.training.tuning.recipe import CaptionerRecipe, JudgeRecipe, TuneRecipe


@dataclass(frozen=True)
class TuneRequest:
    """A run as it was asked for. store: its address; empty where the recipe reads files alone. folder: of the run."""

    use: str
    recipe: TuneRecipe
    store: str
    folder: Path


def tune_here(request: TuneRequest, say: Callable[[str], None]) -> int:
    """Tune in this process, or as one of torchrun's; return the exit code: 0, or that of the signal that stopped it."""
    from reelwright.training.distributed.world import started
    from reelwright.training.recipe import ParallelConfig
    from reelwright.training.stopping import EXIT_CODES
    from reelwright.training.tuning.run import MODEL, TuneJob, run_tuning

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the feed has threads of its own
    store = Store.open(request.store) if request.store else None
    job = TuneJob(request.use, request.recipe, request.folder, store)
    with started(ParallelConfig(), device=request.recipe.compute.device or None) as world:
        outcome = run_tuning(job, world, say)
        if not world.is_first:
            return 0
    if not outcome.finished:
        say(f"stopped at step {outcome.step} of {request.recipe.steps}; the same command goes on")
        return EXIT_CODES.get(outcome.signal, 0)  # type: ignore[call-overload]
    for name, one in add_intervals(request.use, request.folder).items():
        say(f"held out      {name} {one.value:.3f}, 95 % within {one.low:.3f} … {one.high:.3f}")
    if request.recipe.merge:
        say(f"model         {request.folder / MODEL}")
        say(*next_commands(request))
    return 0


def plan_here(request: TuneRequest, say: Callable[[str], None]) -> None:
    """Print which samples would be trained on, and which are left out."""
    from reelwright.training.tuning.base import load_base
    from reelwright.training.tuning.run import TuneJob, planned
    from reelwright.training.tuning.uses import use_of
    from reelwright.training.tuning.videos import Videos

    store = Store.open(request.store) if request.store else None
    recipe = request.recipe
    videos = Videos(recipe.sampling, recipe.jpeg_quality, store)
    try:
        use = use_of(request.use, recipe, load_base(recipe.base))
        for line in planned(TuneJob(request.use, recipe, request.folder, store), use, videos).lines():
            say(line)
    finally:
        videos.close()


def caption_parameters(run: Path, device: str) -> dict[str, Any]:
    """Return parameters of the annotator `caption` that show and ask a tuned captioner as its recipe did.

    Raises:
        TrainError: the run is not finished, or of another use.
    """
    from reelwright.training.errors import TrainError
    from reelwright.training.tuning.run import MODEL, read_result

    told = read_result(run)
    if told["use"] != "captioner" or not (run / MODEL).is_dir():
        raise TrainError(f"{run} holds no captioner's folder {MODEL}; name a run of `reel tune captioner`, with merge")
    recipe = CaptionerRecipe.model_validate(told["recipe"])
    chat: dict[str, Any] = {
        "model": str((run / MODEL).absolute()), "backend": "transformers", "send": "video",
        "max_tokens": recipe.max_new_tokens,
    }  # fmt: skip
    if recipe.jpeg_quality:
        chat["jpeg_quality"] = recipe.jpeg_quality
    if device not in ("", "auto"):
        chat["device"] = device
    return {"chat": chat, "prompt": recipe.prompt, "sampling": recipe.model_dump(mode="json")["sampling"]}


def next_commands(request: TuneRequest) -> list[str]:
    """Return what one does with the model of a use."""
    model = request.folder / "model"
    if request.use == "captioner":
        chosen = json.dumps(caption_parameters(request.folder, ""))
        return [f"caption by it reel annotate --store STORE --only caption --set 'parameters.caption={chosen}'"]
    if request.use == "reward":
        dimension = request.recipe.dimensions[0]  # type: ignore[attr-defined]
        return [f"reward it     rewards: {{{dimension}: {{kind: tuned, parameters: {{checkpoint: {model}}}}}}}"]
    return [f"judge by it   reel evaluate --judge FILE, with: judge: {json.dumps(judge_parameters(request))}"]


def judge_parameters(request: TuneRequest) -> dict[str, Any]:
    """Return parameters of the reward `judge` that ask a tuned judge as its recipe did."""
    assert isinstance(request.recipe, JudgeRecipe)
    told = request.recipe.model_dump(mode="json")
    chat: dict[str, Any] = {"model": str(request.folder / "model"), "backend": "transformers", "send": "video"}
    if request.recipe.jpeg_quality:
        chat["jpeg_quality"] = told["jpeg_quality"]
    if request.recipe.compute.device == "cpu":
        chat["device"] = "cpu"
    return {"chat": chat, **{name: told[name] for name in ("prompt", "sampling", "lowest", "highest")}}
