"""`reel train`: one run per recipe and snapshot (or snapshots of `data.mix`), here, under torchrun, or on Ray Train.

A run lives in OUT/<recipe>-<snapshot>-<hash>: the same command again resumes it, or says that it is done.
"""

import hashlib
import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from reelwright.curation.records.runs import Run, recorded_run
from reelwright.curation.store import Store
from reelwright.errors import UserError
from reelwright.training.mix import label
from reelwright.training.recipe import TrainRecipe

if TYPE_CHECKING:
    from reelwright.training.data.fresh import FreshSamples
    from reelwright.training.distributed.world import World
    from reelwright.training.loop import Outcome

Say = Callable[[str], None]
CLAIM = "run.lock"
REFINEMENT = "refinement"
"""Kind of the objective whose network samples nothing from noise."""


@dataclass(frozen=True)
class Job:
    """The definition of a run; it travels to workers as JSON."""

    recipe: TrainRecipe
    name: str
    snapshot: str  # empty where the recipe's data.mix names several
    store: str
    out: str
    path: str = "RECIPE"  # where the recipe was read from, for messages
    resume_from: str = ""  # a checkpoint whose weights and optimizer state the run begins with

    @property
    def folder(self) -> Path:
        """The same recipe (of what decides the weights) on the same snapshot has the same folder."""
        return Path(self.out).absolute() / f"{self.name}-{label(self.snapshot, self.recipe.data.mix)}-{self.digest[:8]}"

    @property
    def digest(self) -> str:
        """Hash of the recipe, of the snapshots' content and of what the run begins with."""
        from reelwright.training.data.mix_rows import content_hash, pinned

        content = content_hash(pinned(Store.open(self.store), self.snapshot, self.recipe.data), self.recipe.data.mix)
        begins = f" {self.resume_from}" if self.resume_from else ""
        return hashlib.sha256(f"{self.recipe.fingerprint} {content}{begins}".encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return the job as JSON."""
        return {**vars(self), "recipe": self.recipe.model_dump(mode="json")}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Job":
        """Read a job that `to_json` made."""
        return cls(**{**data, "recipe": TrainRecipe.model_validate(data["recipe"])})


def run_here(job: Job, *, say: Say = print) -> int:
    """Train in this process, or as the rank that torchrun made it; returns an exit code."""
    from reelwright.training.distributed import world as worlds

    with worlds.started(job.recipe.parallel) as world:
        folder = job.folder
        with _claimed(folder, world) as problem:
            if problem:
                if world.is_first:
                    raise UserError(problem)
                return 1
            if finished_step(folder, job.recipe.steps) is not None:
                if world.is_first:
                    _keep_losses(job, folder, say)
                    say(already(folder))
                return 0
            outcome = _recorded(job, folder, world, say)
    if world.is_first:
        say(ending(job, folder, outcome.step, outcome.finished))
    return 0 if outcome.finished else exit_code(outcome.signal)


def _keep_losses(job: Job, folder: Path, say: Say) -> None:
    """Take into the store what a finished run could not write there."""
    from reelwright.pipelines.train.clip_losses import ClipLossRows

    if job.recipe.log.clip_loss_bands:
        ClipLossRows(Store.open(job.store), folder, job.digest[:16], say)(saved_step(folder) or 0)


def finished_step(folder: Path, steps: int) -> int | None:
    """Return the last step of a run that has done `steps`; None if it has not, or has not begun."""
    step = saved_step(folder)
    return step if step is not None and step >= steps else None


def saved_step(folder: Path) -> int | None:
    """Return the step of a run's newest checkpoint; None where there is none."""
    from reelwright.training.checkpoints import Checkpoints, read_metadata

    latest = Checkpoints(folder / "checkpoints", 1).latest()
    return read_metadata(latest)["step"] if latest else None


def already(folder: Path) -> str:
    """Say that a run is finished."""
    return f"this recipe has been trained on this snapshot: {folder} is finished, nothing to do"


def ending(job: Job, folder: Path, step: int, finished: bool) -> str:
    """Return the lines that a person reads at the end of a run."""
    if not finished:
        return f"stopped after step {step} of {job.recipe.steps}, and saved; the same command goes on from there"
    return "\n".join([
        f"finished {step} steps: {folder}",
        f"where it comes from:  reel lineage {folder}",
        f"see what it makes:    {generate_command(str(folder), job.recipe)}",
    ])  # fmt: skip


def generate_command(weights: str, recipe: TrainRecipe) -> str:
    """Return a command that shows what weights make: `reel generate` at the size that was trained, as it is printed.

    An expert of refinement gets `reel refine`, since it samples nothing from noise.
    """
    from reelwright.training.sample_shape import sample_shape

    if recipe.objective.kind == REFINEMENT:
        return f"reel refine VIDEO.mp4 {shlex.quote(weights)} --to {recipe.data.sizes[-1]} --out x.mp4"
    _, _, frames = sample_shape(recipe)
    what = "--frames 1 --out x.png" if frames == 1 else "--out x.mp4"
    return f'reel generate {shlex.quote(weights)} --prompt "a red ball" {what}'


def train(job: Job, folder: Path, world: "World", say: Say = print) -> "Outcome":
    """Train; every process of a run calls this, however it was started."""
    from reelwright.pipelines.train.clip_losses import ClipLossRows
    from reelwright.pipelines.train.reward_actors import scorer_of
    from reelwright.pipelines.train.samples import SampleWriter
    from reelwright.training.data.prepared import Clips
    from reelwright.training.loop import Hooks
    from reelwright.training.run import run

    recipe = job.recipe
    writer = SampleWriter(recipe, folder, world, say) if recipe.samples.every and recipe.samples.prompts else None
    if world.is_first:
        (folder / "recipe.yaml").write_text(as_yaml(recipe), encoding="utf-8")
    store = Store.open(job.store)
    losses = ClipLossRows(store, folder, job.digest[:16], say) if recipe.log.clip_loss_bands else None
    with _fresh_samples(job, store, world) as samples, scorer_of(recipe, world, say) as scorer:
        return run(
            recipe,
            Clips(store, job.snapshot, samples, job.path),
            folder,
            world,
            resume_from=Path(job.resume_from) if job.resume_from else None,
            hooks=Hooks(sample=writer, say=say, scorer=scorer, saved=losses),
        )


@contextmanager
def _fresh_samples(job: Job, store: Store, world: "World") -> "Iterator[FreshSamples | None]":
    """Load the encoders of whatever the recipe does not have precomputed; None: all is in the store."""
    recipe = job.recipe
    latents, states = recipe.data.encode.stored
    if latents and states:
        yield None
        return
    from reelwright.curation.media.errors import MediaError
    from reelwright.model.codec import load_codec
    from reelwright.model.text import load_text_encoder
    from reelwright.training.data.fresh import FreshSamples, stored_media
    from reelwright.training.data.pairs import pair_maker
    from reelwright.training.data.sandbox_decoder import SandboxDecoder

    codec = None if latents else load_codec(recipe.codec, device=str(world.device))
    text = None if states else load_text_encoder(recipe.text, device=str(world.device))
    decode = SandboxDecoder(recipe.data.fps, recipe.data.rates)
    try:
        media = stored_media(store, *(recipe.data.mix or [job.snapshot]))
        dtype = recipe.data.store_dtype
        yield FreshSamples(
            media, codec, text, decode, store_dtype=dtype, unreadable=MediaError, pairs=pair_maker(recipe)
        )
    finally:
        decode.close()


def as_yaml(recipe: TrainRecipe) -> str:
    """Return the recipe with every default spelt out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _recorded(job: Job, folder: Path, world: "World", say: Say) -> "Outcome":
    """Train, and leave a row in the store's `runs`."""
    with recorded_training(job, folder, say) as run:
        run.is_recorded = world.is_first
        if world.is_first:
            run.tell(lambda: {"what": "train", "done": saved_step(folder) or 0, "total": job.recipe.steps})
        outcome = train(job, folder, world, say)
        run.counts["steps"] = outcome.step
        run.state = "finished" if outcome.finished else "interrupted"
    return outcome


@contextmanager
def recorded_training(job: Job, folder: Path, say: Say) -> Iterator[Run]:
    """Record a training in the store's `runs`; the block fills in `counts["steps"]` and `state`."""
    clock = time.monotonic()
    with recorded_run(job.store, "train", as_yaml(job.recipe), say=say, state_on_error="failed") as run:
        mix = job.recipe.data.mix
        run.counts = {"steps": None, "snapshot": label(job.snapshot, mix), "folder": str(folder)}
        run.counts |= {"snapshots": sorted(mix)} if mix else {}
        try:
            yield run
        finally:
            run.stage_seconds = {"train": time.monotonic() - clock}


@contextmanager
def _claimed(folder: Path, world: "World") -> Iterator[str]:
    """Rank 0 holds the folder for the whole run; all ranks get the reason why it cannot, or ""."""
    if not world.is_first:
        yield world.broadcast("")
        return
    try:
        with claim(folder):
            world.broadcast("")
            yield ""
    except RunFolderBusy as taken:
        world.broadcast(str(taken))
        yield str(taken)


class RunFolderBusy(UserError):
    """A run that another process is at."""


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Hold a run's folder: two processes never train in one.

    The lock goes with its process, however that ends. A stop request to the last run is forgotten. A run that fails
    before its first line in the log leaves no folder.
    """
    from reelwright.training.logs import FILE

    there = folder.is_dir()
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        try:
            yield
        except BaseException:
            if not there and not (folder / FILE).exists():
                shutil.rmtree(folder, ignore_errors=True)
            raise


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    import fcntl

    from reelwright.training.stopping import REQUEST

    with (folder / CLAIM).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise RunFolderBusy(f"{folder} is being trained already, by {file.read() or 'another process'}") from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}")
        file.flush()
        (folder / REQUEST).unlink(missing_ok=True)
        yield


def exit_code(number: int) -> int:
    """Of a run that this signal has stopped."""
    from reelwright.training.stopping import EXIT_CODES

    return {int(k): v for k, v in EXIT_CODES.items()}.get(number, 0)
