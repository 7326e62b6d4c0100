"""CFG distillation (report 3.4): a student without guidance learns the velocity that its teacher has with guidance.

    (1) x_t = (1 - t) x0 + t ε of a clip, t one of the distilled sampler's 50 points (or between them)
    (2) v̂ = s u + g (c - s u), s = <c, u> / |u|² over a sample's noisy frames: CFG-zero*, arXiv 2503.18886; c is the
        frozen base's velocity with the caption, u with the negative prompt, g = 4
    (3) L = mean over noisy frames of |v_student(x_t, t, caption) - v̂|²

The student is the LoRA, the teacher the base without it. Rate, iterations and guidance are the report's; the law of t
and the loss are not published. Training pairs lie on the points at which the student will be asked, since flow matching
at other levels blurs a sampler of few steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from reelwright.training.batch import shift_of
from reelwright.training.objectives.base import Stateless, reduced
from reelwright.training.objectives.distilling.distillation import (
    DistillationConfig,
    Grid,
    noised_at,
)
from reelwright.training.registry import register

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from reelwright.model.config import AttentionConfig
    from reelwright.training.batch import Batch
    from reelwright.training.distributed.world import World
    from reelwright.training.objectives.base import Loss
    from reelwright.training.recipe import TrainRecipe


@register
class CfgDistillationConfig(DistillationConfig):
    """CFG distillation: a LoRA without guidance learns the guided velocity (report 3.4)."""

    kind: Literal["cfg_distillation"] = Field("cfg_distillation", description="name of the objective")
    levels: Literal["grid", "continuous"] = Field(
        "grid", description="noise levels: the distilled sampler's 50 points, or any, shifted as they are"
    )
    by_span: float = Field(
        0.0, ge=0, le=1, description="share of grid levels that are drawn by the step below them; the rest: all alike"
    )

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
        levels = self._levels(batch) if t is None else t
        noised = noised_at(levels, batch, self.config, patch)
        target = self.teacher(noised.x, noised.t, batch)
        predicted = self.roles.velocity(noised.x, noised.t, batch)
        return reduced((predicted - target).square(), batch, noised.t[:, -1])

    def flops(self, batch: Batch, attention: AttentionConfig) -> int:
        """Count the FLOPs of a batch: the student's passes and the teacher's."""
        from reelwright.training.budget.throughput import batch_flops

        return batch_flops(self.recipe, batch, attention)

    def _levels(self, batch: Batch) -> torch.Tensor:
        from reelwright.model.sampling.schedules import shifted
        from reelwright.training.batch import draw

        u = (batch.draws or draw(batch.seeds, batch.latents.shape)).u
        shift = shift_of(batch, self.config, self.recipe.model.patch_size)
        if self.config.levels == "continuous":
            return shifted(u, shift)
        grid = Grid.of(shift)
        return grid.sigmas[grid.drawn(u, self.config.by_span)]
