"""The settings, noise levels and reduction that all distillations share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from reelwright.model.config import TimestepShift
from reelwright.model.sampling.guidance import Guidance
from reelwright.training.batch import of_strip
from reelwright.training.registry import STUDENT, AdapterPart, ObjectiveConfig, Passes

if TYPE_CHECKING:
    from torch import Tensor

    from reelwright.training.batch import Batch
    from reelwright.training.objectives.flow import Noised
    from reelwright.training.roles import Roles

POINTS = 50
"""Points of the distilled sampler, from which its steps are picked."""

STRIDE = 3
"""Points of a step of `rollout`, as of most steps when the sampler takes 16."""


class DistillationConfig(TimestepShift, ObjectiveConfig):
    """Settings of every distillation: who teaches, and how the clean frames are noised."""

    guidance: float = Field(4.0, ge=0, description="of the teacher: how far to lead away from the negative prompt")
    rule: Literal["cfg-zero", "cfg"] = Field("cfg-zero", description="of the teacher's guidance")
    negative: str = Field("", description="negative prompt of the teacher's guidance")
    start: str = Field("", description="LoRA run or file that the student begins as; empty: without effect")
    teacher: str = Field(
        "", description="LoRA run or file that teaches in one pass, without guidance; empty: the base with guidance"
    )
    condition_noise: float = Field(0.1, ge=0, le=1, description="largest t of a continuation's clean frames")

    @property
    def loss_is_of_clips(self) -> bool:
        """False: a loss says how far the student is from its teacher."""
        return False

    @property
    def teaching(self) -> Guidance:
        """The teacher's guidance: none where an adapter teaches."""
        return Guidance(1.0 if self.teacher else self.guidance, self.rule, self.negative)

    @property
    def adapters(self) -> tuple[AdapterPart, ...]:
        """The student, and a teacher that is an adapter."""
        taught = (AdapterPart("teacher", self.teacher, trained=False),) if self.teacher else ()
        return (AdapterPart(STUDENT, self.start), *taught)

    @property
    def teacher_passes(self) -> int:
        """Passes of the network that one answer of the teacher takes."""
        return 1 if self.teaching.is_off else 2

    @property
    def passes(self) -> Passes:
        """The teacher's."""
        return Passes(forward=self.teacher_passes)


class RolledConfig(DistillationConfig):
    """Settings of a distillation whose points may lie on the student's own path."""

    rollout: int = Field(
        0, ge=0, le=POINTS // STRIDE,
        description="steps of the student's own, of three points of the grid each, that lead to a point of the loss "
        "from a noised clip; 0: the noised clip itself",
    )  # fmt: skip


@dataclass(frozen=True)
class Grid:
    """The distilled sampler's noise levels from 1 to 0, and the one at which the phase of each of them ends.

    sigmas: float64 [51]. edges: float64 [50], the largest edge of a phase below each level: from an edge, the next one.
    """

    sigmas: Tensor
    edges: Tensor

    @classmethod
    def of(cls, shift: float, phases: int = POINTS) -> Grid:
        """Cut the grid into phases that begin where the sampler's steps begin."""
        from reelwright.model.sampling.schedules import distilled_points, distilled_sigmas

        sigmas, starts = distilled_sigmas(POINTS, shift), [*distilled_points(phases), POINTS]
        return cls(sigmas, sigmas[[next(edge for edge in starts if edge > n) for n in range(POINTS)]])

    def drawn(self, u: Tensor, by_span: float = 0.0) -> Tensor:
        """Return the point that each uniform draw falls on, int64.

        At the published shift of 12, 25 of the 50 points lie above 0.92, and 7 below 0.67. The last of 16 steps goes
        down by 0.51, and begins at a point that one sample in 50 shows.

        Args:
            u: draws in 0..1, [B].
            by_span: share of the probability that goes by the step below a point; the rest is the same for all points.
        """
        if not by_span:
            return (u.double() * POINTS).floor().long().clamp(max=POINTS - 1)
        import torch

        weights = (1 - by_span) / POINTS + by_span * -self.sigmas.diff()
        ends = weights.cumsum(0)[:-1].to(u.device)
        return torch.bucketize(u.double(), ends, right=True)

    def nearest(self, t: Tensor) -> Tensor:
        """Return the point nearest to each level t in 0..1, int64."""
        return (self.sigmas[:-1] - t.double()[:, None].cpu()).abs().argmin(1)


def noised_at(levels: Tensor, batch: Batch, config: DistillationConfig, patch: tuple[int, int, int]) -> Noised:
    """Mix a batch with its noise at levels [B] in 0..1; clean frames as in base training. x is of the batch's strip."""
    from dataclasses import replace

    from reelwright.training.objectives.flow import FlowConfig, add_noise

    noised = add_noise(batch, FlowConfig(condition_noise=config.condition_noise), t=levels.float(), patch=patch)
    return replace(noised, x=of_strip(noised.x, batch, patch))


def per_frame(values: Tensor, like: Tensor) -> Tensor:
    """Return numbers [B], from the CPU, in the shape and type that multiply latents [B, C, T, H, W]."""
    return values.to(like.device, like.dtype, non_blocking=True).view(-1, 1, 1, 1, 1)


def rolled(
    roles: Roles, batch: Batch, config: RolledConfig, grid: Grid, points: Tensor, patch: tuple[int, int, int]
) -> Noised:
    """Lead a batch to grid points [B] by the student's own steps, from noised clips; `target` stays the clips'.

    A guided path is curved: from the middle levels on it is not where a clip mixed with noise is, and there a student
    that has seen only such mixtures errs most.

    Args:
        roles: the student's is on.
        batch: its clips are noised `STRIDE` points per step higher, at most to level 1.
        config: how many steps, and how the clean frames are noised.
        grid: of the levels.
        points: where to, int64 [B].
        patch: latent frames, rows and columns of a token.
    """
    from dataclasses import replace

    import torch

    clean = batch.cond_frames
    at = (points - STRIDE * config.rollout).clamp(min=0)
    noised = noised_at(grid.sigmas[at], batch, config, patch)
    x, t = noised.x, noised.t.clone()
    with torch.no_grad():
        for _ in range(config.rollout):
            after = torch.minimum(at + STRIDE, points)
            moved = jump(x, roles.velocity(x, t, batch), grid.sigmas[at] - grid.sigmas[after], clean)
            x, at = moved, after
            t[:, clean:] = grid.sigmas[at].to(t)[:, None]
    return replace(noised, x=x, t=t)


def jump(x: Tensor, velocity: Tensor, span: Tensor, clean: int = 0) -> Tensor:
    """Go from latents [B, C, T, H, W] by spans [B] of noise level along a velocity; clean frames stay."""
    import torch

    moved = x + per_frame(span, x) * velocity
    return torch.cat((x[:, :, :clean], moved[:, :, clean:]), 2) if clean else moved
