"""Phased consistency distillation (report 3.4; Wang et al. 2024, PCM, arXiv 2405.18407) on the sampler's own grid.

The distilled sampler's 50 shifted points σ_0 = 1 > … > σ_50 = 0 are cut into phases at the points where its steps begin
(16: points 0 3 6 9 12 15 18 21 25 28 …). Within a phase all points of a path shall lead to the phase's end e, so that
one step of Euler per phase does:

    (1) x_n = (1 - σ_n) x0 + σ_n ε, of a clip
    (2) Φ(x, σ) = x + (σ - e) v(x, σ), the jump to the phase's end; Φ(x, e) = x
    (3) x̂ = x_n + (σ_n - σ_n+1) v̂(x_n, σ_n), one step of Euler by the teacher's velocity v̂
    (4) target = Φ(x̂, σ_n+1) by the student without gradient; where σ_n+1 = e, x̂ itself
    (5) d = Φ(x_n, σ_n) - target; L = mean over noisy frames of √(d² + c²) - c

v̂ is the base's guided velocity, or, in one pass, that of an adapter that has learned it (`teacher`). In eq. 5, d grows
with σ_n - e, which differs 100 times between the first phase and the last; `per_span` divides it by that, so that it is
an error of velocities. PCM takes its edges from the low-noise end and the sampler counts from the top: edges here are
the sampler's own function. With `rollout` x_n lies on the student's own path, not at the mixture of eq. 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from reelwright.training.batch import shift_of
from reelwright.training.objectives.base import Stateless, reduced
from reelwright.training.objectives.distilling.distillation import (
    POINTS,
    Grid,
    RolledConfig,
    jump,
    noised_at,
    per_frame,
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
class ConsistencyConfig(RolledConfig):
    """Phased consistency: a LoRA learns to jump to the end of each of the sampler's steps (report 3.4)."""

    kind: Literal["consistency"] = Field("consistency", description="name of the objective")
    phases: int = Field(16, ge=1, le=POINTS, description="steps that the student will sample in")
    huber: float = Field(1e-3, gt=0, description="c of the pseudo-Huber loss: errors below it count as squares")
    per_span: bool = Field(True, description="errors of velocities, that of a jump over its length; false: of jumps")
    by_span: float = Field(
        0.0, ge=0, le=1, description="share of points that are drawn by the step below them; the rest: all alike"
    )

    @property
    def passes(self) -> Passes:
        """The teacher's, the student's that lead to the point, and the one at the next point."""
        return Passes(forward=self.teacher_passes + self.rollout + 1)

    def build(self, model: nn.Module, recipe: TrainRecipe, world: World) -> Consistency:
        """Build the objective; the negative prompt is encoded here, if the teacher has one."""
        return Consistency(self, model, recipe, world)


@dataclass(frozen=True)
class Places:
    """Where samples stand on the grid, float64 [B] each: a level, the next one, and the end of the phase."""

    here: Tensor
    after: Tensor
    end: Tensor

    @classmethod
    def of(cls, grid: Grid, points: Tensor) -> Places:
        """Look up points int64 [B]."""
        return cls(grid.sigmas[points], grid.sigmas[points + 1], grid.edges[points])


class Consistency(Stateless):
    """The objective of a run; see `reelwright.training.objectives.base.Objective`.

    Its target is the student of the moment, as in PCM: no average follows the weights.
    """

    def __init__(self, config: ConsistencyConfig, model: nn.Module, recipe: TrainRecipe, world: World) -> None:
        from reelwright.training.objectives.distilling.teacher import make_teacher
        from reelwright.training.roles import Roles

        self.config, self.recipe = config, recipe
        self.roles = Roles(model, {part.name: part.name for part in config.adapters})
        self.teacher = make_teacher(config, self.roles, recipe, world)

    def loss(self, batch: Batch, *, t: Tensor | None = None) -> Loss:
        """Return the consistency loss, eq. 5; t [B] is rounded to the grid."""
        import torch

        places, noised = self._placed(batch, t)
        x, clean = noised.x, batch.cond_frames
        with torch.no_grad():
            taught = self.teacher(x, noised.t, batch)
            after = jump(x, taught, places.here - places.after, clean)
            t_after = noised.t.clone()
            t_after[:, clean:] = places.after.to(t_after)[:, None]
            target = jump(after, self.roles.velocity(after, t_after, batch), places.after - places.end, clean)
        span = places.here - places.end
        error = jump(x, self.roles.velocity(x, noised.t, batch), span, clean) - target
        if self.config.per_span:
            error = error / per_frame(span, error)
        return reduced(pseudo_huber(error, self.config.huber), batch, noised.t[:, -1])

    def flops(self, batch: Batch, attention: AttentionConfig) -> int:
        """Count the FLOPs of a batch: the student's passes, its target's and the teacher's."""
        from reelwright.training.budget.throughput import batch_flops

        return batch_flops(self.recipe, batch, attention)

    def _placed(self, batch: Batch, t: Tensor | None) -> tuple[Places, Noised]:
        from reelwright.training.batch import draw

        patch = self.recipe.model.patch_size
        grid = Grid.of(shift_of(batch, self.config, patch), self.config.phases)
        if t is not None:
            places = Places.of(grid, grid.nearest(t))
            return places, noised_at(places.here, batch, self.config, patch)
        points = grid.drawn((batch.draws or draw(batch.seeds, batch.latents.shape)).u, self.config.by_span)
        return Places.of(grid, points), rolled(self.roles, batch, self.config, grid, points, patch)


def pseudo_huber(error: Tensor, c: float) -> Tensor:
    """Return √(d² + c²) - c, without the cancellation that small errors have there in fp32: d² / (√(d² + c²) + c)."""
    square = error.square()
    return square / ((square + c * c).sqrt() + c)
