"""CFG distillation (report 3.4): a student without guidance learns the velocity that its teacher has with guidance.

    (1) x_t = (1 - t) x0 + t ε of a clip, t one of the distilled sampler's 50 points (or between them)
    (2) v̂ = s u + g (c - s u), s = <c, u> / |u|² over a sample's noisy frames: CFG-zero*, arXiv 2503.18886; c is the
        frozen base's velocity with the caption, u with the negative prompt, g = 4
    (3) L = mean over noisy frames of |v_student(x_t, t, caption) - v̂|²

The student is the LoRA, the teacher the base without it. Rate, iterations and guidance are the report's; the law of t
and the loss are not published. Training pairs lie on the points at which the student will be asked, since flow matching
at other levels blurs a sampler of few steps. With `rollout` x_t lies on the student's own path: a few of its steps lead
there from a clip noised higher.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from reelwright.training.batch import shift_of
from reelwright.training.objectives.base import Stateless, reduced
from reelwright.training.objectives.distilling.distillation import (
    Grid,
    RolledConfig,
    noised_at,
    rolled,
)
from reelwright.training.registry import Passes, register

if TYPE_CHECKING:
    from torch import Tensor, nn

    from reelwright.model.config import AttentionConfig
    from reelwright.training.batch import Batch
    from reelwright.training.distributed.world import World
    from reelwright.training.objectives.base import Loss
    from reelwright.training.objectives.flow import Noised
    from reelwright.training.recipe import TrainRecipe


@register
class CfgDistillationConfig(RolledConfig):
    """CFG distillation: a LoRA without guidance learns the guided velocity (report 3.4)."""

    kind: Literal["cfg_distillation"] = Field("cfg_distillation", description="name of the objective")
    levels: Literal["grid", "continuous"] = Field(
        "grid", description="noise levels: the distilled sampler's 50 points, or any, shifted as they are"
    )
    by_span: float = Field(
        0.0, ge=0, le=1, description="share of grid levels that are drawn by the step below them; the rest: all alike"
    )

    @model_validator(mode="after")
    def _check(self) -> CfgDistillationConfig:
        if self.rollout and self.levels != "grid":
            raise ValueError("rollout goes along the grid: set levels: grid, or rollout: 0")
        return self

    @property
    def passes(self) -> Passes:
        """The teacher's, and the student's that lead to the point."""
        return Passes(forward=self.teacher_passes + self.rollout)

    def build(self, model: nn.Module, recipe: TrainRecipe, world: World) -> CfgDistillation:
        """Build the objective; the negative prompt is encoded here."""
        return CfgDistillation(self, model, recipe, world)


class CfgDistillation(Stateless):
    """The objective of a run; see `reelwright.training.objectives.base.Objective`."""

    def __init__(self, config: CfgDistillationConfig, model: nn.Module, recipe: TrainRecipe, world: World) -> None:
        from reelwright.training.objectives.distilling.teacher import make_teacher
        from reelwright.training.roles import Roles

        self.config, self.recipe = config, recipe
        self.roles = Roles(model, {part.name: part.name for part in config.adapters})
        self.teacher = make_teacher(config, self.roles, recipe, world)

    def loss(self, batch: Batch, *, t: Tensor | None = None) -> Loss:
        """Return the mean squared error between student and guided teacher, eq. 3."""
        patch = self.recipe.model.patch_size
        noised = self._noised(batch) if t is None else noised_at(t, batch, self.config, patch)
        target = self.teacher(noised.x, noised.t, batch)
        predicted = self.roles.velocity(noised.x, noised.t, batch)
        return reduced((predicted - target).square(), batch, noised.t[:, -1])

    def flops(self, batch: Batch, attention: AttentionConfig) -> int:
        """Count the FLOPs of a batch: the student's passes and the teacher's."""
        from reelwright.training.budget.throughput import batch_flops

        return batch_flops(self.recipe, batch, attention)

    def _noised(self, batch: Batch) -> Noised:
        from reelwright.model.sampling.schedules import shifted
        from reelwright.training.batch import draw

        patch, u = self.recipe.model.patch_size, (batch.draws or draw(batch.seeds, batch.latents.shape)).u
        shift = shift_of(batch, self.config, patch)
        if self.config.levels == "continuous":
            return noised_at(shifted(u, shift), batch, self.config, patch)
        grid = Grid.of(shift)
        return rolled(self.roles, batch, self.config, grid, grid.drawn(u, self.config.by_span), patch)
