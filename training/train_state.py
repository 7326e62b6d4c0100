"""The state of a run as a checkpoint holds it, from weights to the step; how it is saved and resumed."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from reelwright.training import checkpoints
from reelwright.training.adapters import trainable_state
from reelwright.training.batch import Batch
from reelwright.training.checkpoints import Checkpoints
from reelwright.training.distributed.world import World
from reelwright.training.ema import Ema
from reelwright.training.errors import TrainError
from reelwright.training.guard import Guard
from reelwright.training.objectives.base import Objective
from reelwright.training.optim import make_optimizer, optimizer_tensors
from reelwright.training.recipe import TrainRecipe

OBJECTIVE = "objective."
"""Prefix of an objective's tensors in a checkpoint, beside `model.`, `ema.` and `optim.`."""

B = TypeVar("B", bound=Batch)


@dataclass(kw_only=True)
class TrainState(Generic[B]):
    """Everything that a checkpoint holds of a run. A new part of the state is a field here, its tensors in `tensors`.

    recipe: settings of the run. model: on its device, parallelized, with the weights it starts from. checkpoints: of
    the run. metadata: goes into every checkpoint.json.
    """

    recipe: TrainRecipe
    model: nn.Module
    world: World
    checkpoints: Checkpoints
    metadata: Mapping[str, Any]

    step: int = field(init=False, default=0)  # optimizer steps done
    saved_at: int | None = field(init=False, default=None)  # the step of the newest checkpoint
    metrics: dict[str, float] = field(init=False, default_factory=dict)  # of the last validation

    def __post_init__(self) -> None:
        recipe = self.recipe
        self.parameters = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        self.objective: Objective[B] = recipe.objective.build(self.model, recipe, self.world)
        self.optimizer = make_optimizer(self.parameters, recipe.optim)
        self.ema = Ema(self.parameters, recipe.optim.ema) if recipe.optim.ema else None
        self.guard = Guard(recipe.guard)

    @property
    def finished(self) -> bool:
        """Whether the recipe's steps are done."""
        return self.step >= self.recipe.steps

    def averaged(self) -> AbstractContextManager[None]:
        """Give the model the averaged weights, where they are kept, for the length of a `with`."""
        return self.ema.swapped_in() if self.ema else nullcontext()

    def tensors(self) -> dict[str, Tensor]:
        """Return the run's state by name: trained weights, their averages, AdamW's state, the objective's."""
        weights = {f"model.{name}": tensor for name, tensor in trainable_state(self.model).items()}
        averages = self.ema.tensors() if self.ema else {}
        own = {f"{OBJECTIVE}{name}": tensor for name, tensor in self.objective.tensors().items()}
        return weights | averages | optimizer_tensors(self.optimizer, self.parameters) | own

    def save(self) -> None:
        """Save a checkpoint in the background. All ranks call it together."""
        world = {"ranks": self.world.size, "data": self.world.data_size, "context": self.world.context_size}
        state = {"world": world, "guard": self.guard.state(), "metrics": self.metrics, "finished": self.finished}
        self.saved_at = self.step
        self.checkpoints.save(self.step, self.tensors(), {**self.metadata, **state})

    def resume(self, resume_from: Path | None) -> str | None:
        """Go on from the newest checkpoint of this run; a run that has none takes the state of another.

        Args:
            resume_from: a checkpoint of another run, None: a run without a checkpoint begins with the model's weights.

        Returns:
            A line that says from where the run resumes, None if it begins at step 0 with the model's weights.

        Raises:
            TrainError: the checkpoint is of another recipe or snapshot, or `resume_from` of the recipe's last step.
        """
        latest = self.checkpoints.latest()
        if latest is None:
            return self._begin(resume_from) if resume_from else None
        saved = checkpoints.read_metadata(latest)
        if _made_from(saved) != _made_from(self.metadata):
            raise TrainError(
                f"{latest} is of another recipe or snapshot, or of a version that drew samples in another order; give "
                "this run another folder (--out)"
            )
        self.recipe.objective.refuse_changed(saved, self.metadata, latest)
        checkpoints.load_tensors(latest, self.tensors())
        self.step = self.saved_at = saved["step"]
        self.guard.load(saved["guard"])
        self.metrics = saved["metrics"]
        return f"resuming from step {self.step} of {self.recipe.steps} ({latest})"

    def _begin(self, resume_from: Path) -> str:
        """Take the state of another run. Averages and targets that it lacks begin here."""
        step = checkpoints.read_metadata(resume_from)["step"]
        if step >= self.recipe.steps:
            raise TrainError(
                f"{resume_from} is at step {step}, but the recipe ends at {self.recipe.steps}; raise steps, or "
                "take its weights alone with init"
            )
        self.recipe.objective.refuse_state(checkpoints.read_metadata(resume_from), self.metadata, resume_from)
        wanted, saved = self.tensors(), checkpoints.tensor_names(resume_from)
        lacking = [kind for kind in ("ema.", OBJECTIVE) if not any(name.startswith(kind) for name in saved)]
        found = {name: tensor for name, tensor in wanted.items() if not name.startswith(tuple(lacking))}
        checkpoints.load_tensors(resume_from, found)
        if self.ema and "ema." in lacking:
            self.ema = Ema(self.parameters, self.recipe.optim.ema)
        self.step = step
        return f"resuming from step {self.step} of {resume_from}, by this run's recipe"


def _made_from(metadata: Mapping[str, Any]) -> tuple[str, str, int | None]:
    return metadata["recipe_fingerprint"], metadata["snapshot"]["content_hash"], metadata.get("sampler")
