"""A critic: an adapter that an objective trains by an optimizer of its own, several times per step of the student."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from reelwright.model.lora.adapters import lora_parameters
from reelwright.training.batch import Batch
from reelwright.training.distributed.context import share_again
from reelwright.training.distributed.parallel import accumulate, autocast
from reelwright.training.distributed.world import World
from reelwright.training.objectives.base import Loss
from reelwright.training.optim import clip_gradients, learning_rate, make_optimizer, optimizer_tensors, set_rate
from reelwright.training.recipe import OptimConfig, TrainRecipe
from reelwright.training.roles import Roles


class Critic:
    """Weights and optimizer of a critic.

    Its weights ask for gradients only while it is trained: so the trainer takes them for frozen, and a checkpoint has
    them among the objective's tensors, not in the network that is exported.
    """

    def __init__(self, role: str, roles: Roles, recipe: TrainRecipe, optim: OptimConfig, world: World) -> None:
        """Take an adapter of the role's name; optim: rate, decay, clipping of the critic."""
        self.role, self.roles, self.recipe, self.optim, self.world = role, roles, recipe, optim, world
        mine = {id(parameter) for parameter in lora_parameters(roles.model, role)}
        self.parameters = {name: p for name, p in roles.model.named_parameters() if id(p) in mine}
        self.optimizer = make_optimizer(self.parameters, optim)

    def step(self, batches: Sequence[Batch], loss: Callable[[Batch], Loss]) -> None:
        """Take one optimizer step; every rank calls it with as many micro-batches. A bad gradient changes nothing."""
        if not batches:
            return
        self.gradients(batches, loss)
        set_rate(self.optimizer, learning_rate(self._steps_done(), self.optim))
        if clip_gradients(self.parameters, self.optim.clip_norm) < float("inf"):
            self.optimizer.step()
        self.forget()

    def gradients(self, batches: Sequence[Batch], loss: Callable[[Batch], Loss]) -> None:
        """Accumulate gradients.

        Args:
            batches: micro-batches of a step, on this rank's strip where it has one.
            loss: of a micro-batch, with the critic's role on.
        """
        model, parallel = self.roles.model, self.recipe.parallel
        self._ask(True)
        with self.roles.playing(self.role):
            for i, batch in enumerate(batches):
                share_again(model, batch, self.recipe.model.patch_size)
                accumulate(model, parallel, last=i == len(batches) - 1)
                with autocast(self.recipe.compute, self.world.device):
                    part = loss(batch).total
                part.backward()

    def forget(self) -> None:
        """Let gradients go."""
        self.optimizer.zero_grad(set_to_none=True)
        self._ask(False)

    def tensors(self) -> dict[str, Tensor]:
        """Return weights and AdamW's state, to be saved or filled in place."""
        mine = {name.replace(f".lora.{self.role}.", "."): p for name, p in self.parameters.items()}
        weights = {f"{self.role}.{name}": parameter.detach() for name, parameter in mine.items()}
        state = optimizer_tensors(self.optimizer, mine)
        return weights | {f"{self.role}.{name}": tensor for name, tensor in state.items()}

    def _steps_done(self) -> int:
        """Return the optimizer's steps so far, which AdamW keeps and a checkpoint has."""
        states = (self.optimizer.state[p] for p in self.parameters.values())
        return next((int(state["step"]) for state in states if "step" in state), 0)

    def _ask(self, gradients: bool) -> None:
        for parameter in self.parameters.values():
            parameter.requires_grad_(gradients)
