"""Distribution matching distillation to few steps (DMD2: Yin et al. 2024, arXiv 2405.14867), as LoRAs on one base.

The student samples in `steps` steps of the distilled sampler, by Euler without new noise, σ_0 = 1 > … > σ_K = 0:

    (1) x_0 = ε; x_k+1 = x_k + (σ_k - σ_k+1) v_student(x_k, σ_k): its own path, without gradient up to a step k
    (2) G = x_k + σ_k v_student(x_k, σ_k), what it believes the clip to be
    (3) y = (1 - t) G + t ε', at a level t of its own and with new noise
    (4) δ = (x̂0_critic(y) - x̂0_teacher(y)) / mean |G - x̂0_teacher(y)|, x̂0 = y + t v; the teacher is guided
    (5) L_dmd = mean over noisy frames of ½ |G - stop(G - δ)|², whose gradient is δ: from the student's distribution to
        the teacher's
    (6) L_anchor = mean of |v_student(x_k, σ_k) - (r_k+1 - x_k) / (σ_k - σ_k+1)|², where the reference, the student that
        this one began as, of more steps, goes from x_k to r_k+1 in `anchor_steps` of its own
    (7) L = L_dmd + anchor L_anchor

    (8) critic: flow matching on the student's clips, |v_critic(y) - (G - ε')|², `critic_steps` times per step

Held-out clips are measured without the critic, which moves: by eq. 6 over all steps k, with noise that never changes,
so that the figure compares between steps. Validation's bands are parts of the path, the first one its last steps.
Without a reference it is the mean of |G - x̂0_teacher(y)|², how far the teacher would move what the student makes.

Eq. 5 matches distributions and leaves open which clip a noise becomes; eq. 6 (progressive distillation, Salimans and Ho
2022) keeps the path of the model that is distilled, so that a prompt and seed show the same clip in 4 steps as in 50.

Why DMD2 and not rCM: rCM's tangent is a derivative along the path, by JVP, which flash and block-sparse kernels do not
have, or by differences of two bf16 outputs, where rounding is as large as the difference. Eqs 1 to 8 need forward and
backward passes alone. DMD2's adversarial term is left out: it needs a head on the teacher's features.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from reelwright.training.batch import of_strip, shift_of
from reelwright.training.objectives.base import reduced
from reelwright.training.objectives.distilling.distillation import (
    POINTS,
    DistillationConfig,
    Grid,
    jump,
    noised_at,
    per_frame,
)
from reelwright.training.registry import STUDENT, AdapterPart, Passes, register

if TYPE_CHECKING:
    from torch import Tensor, nn

    from reelwright.model.config import AttentionConfig
    from reelwright.training.batch import Batch, Draws
    from reelwright.training.distributed.world import World
    from reelwright.training.objectives.base import Loss
    from reelwright.training.recipe import TrainRecipe

CRITIC, REFERENCE = "critic", "reference"


@register
class DmdConfig(DistillationConfig):
    """DMD2: a LoRA samples in a few steps; a critic, a LoRA too, follows what it makes."""

    kind: Literal["dmd"] = Field("dmd", description="name of the objective")
    steps: int = Field(4, ge=1, le=POINTS, description="steps that the student will sample in")
    critic_steps: int = Field(5, ge=1, description="critic's updates per step of the student")
    critic_lr: float = Field(1e-5, gt=0, description="learning rate of the critic")
    renoise: tuple[float, float] = Field((0.02, 0.98), description="range of t before the shift, eq. 3")
    match: float = Field(1.0, ge=0, description="weight of the distribution's loss, eq. 5")
    anchor: float = Field(0.25, ge=0, description="weight of the reference's path, eq. 6; needs `start`")
    anchor_steps: int = Field(4, ge=1, description="steps of the reference, without guidance, for one of the student's")

    @model_validator(mode="after")
    def _check(self) -> DmdConfig:
        low, high = self.renoise
        if not 0 < low < high < 1:
            raise ValueError(f"renoise {list(self.renoise)} must be two levels between 0 and 1, the lower one first")
        if self.steps * self.anchor_steps > POINTS:
            raise ValueError(
                f"steps {self.steps} times anchor_steps {self.anchor_steps} must be at most {POINTS}, the points of "
                "the sampler; lower one of them"
            )
        if self.anchor and not self.start:
            raise ValueError(
                "anchor holds the student to the one that it begins as: name it with start, or set anchor: 0"
            )
        return self

    @property
    def adapters(self) -> tuple[AdapterPart, ...]:
        """Student, critic, and reference or teacher where there is one."""
        held = (AdapterPart(REFERENCE, self.start, trained=False),) if self.anchor else ()
        return (*super().adapters, AdapterPart(CRITIC), *held)

    @property
    def passes(self) -> Passes:
        """In the mean over k: path and reference of the student's step; paths and training of the critic's steps."""
        path = (self.steps - 1) / 2
        own = path + 1 + self.teacher_passes + (self.anchor_steps if self.anchor else 0)
        return Passes(forward=own + self.critic_steps * (path + 1), trained=self.critic_steps)

    def build(self, model: nn.Module, recipe: TrainRecipe, world: World) -> Dmd:
        """Build the objective; the negative prompt is encoded here."""
        return Dmd(self, model, recipe, world)


class Dmd:
    """The objective of a run; see `reelwright.training.objectives.base.Objective`.

    It owns the critic and its optimizer: the critic is trained in `after_step`, on the micro-batches of the step, which
    are kept for it. Which step k is trained follows from the number of the step: all ranks make as many passes.
    """

    def __init__(self, config: DmdConfig, model: nn.Module, recipe: TrainRecipe, world: World) -> None:
        from reelwright.training.objectives.distilling.critic import Critic
        from reelwright.training.objectives.distilling.teacher import make_teacher
        from reelwright.training.roles import Roles

        self.config, self.recipe, self.group = config, recipe, world.context_group
        self.patch = recipe.model.patch_size
        self.roles = Roles(model, {part.name: part.name for part in config.adapters})
        self.teacher = make_teacher(config, self.roles, recipe, world)
        optim = recipe.optim.model_copy(update={"lr": config.critic_lr})
        self.critic = Critic(CRITIC, self.roles, recipe, optim, world)
        self.kept: list[Batch] = []

    def loss(self, batch: Batch, *, t: Tensor | None = None) -> Loss:
        """Return the student's loss, eq. 7; t [B] is the level of eq. 3 in place of the drawn one.

        Without gradients and with t it is the error of held-out clips.
        """
        import torch

        if t is not None and not torch.is_grad_enabled():
            return self._held_out(batch, t)
        if t is None and torch.is_grad_enabled():
            self._keep(batch)
            if batch.step < 0:  # a rehearsal: the critic's graphs are compiled too
                self.critic.gradients([batch], partial(self._critic_loss, update=1))
                self.critic.forget()
        sigmas, k = self._sigmas(batch), self._step_of(batch.step, 0)
        x, levels = self._path(batch, sigmas, k, salt=0)
        goal = self._reference(batch, x, levels, sigmas, k) if self.config.anchor else None
        velocity = self.roles.velocity(x, levels, batch)
        made = jump(x, velocity, _each(sigmas[k], x), batch.cond_frames)
        delta, drawn = self._difference(batch, made.detach(), levels, t)
        error = 0.5 * self.config.match * (made - (made - delta).detach()).square()
        if goal is not None:
            error = error + self.config.anchor * (velocity - goal).square()
        return reduced(error, batch, drawn)

    def after_step(self, step: int) -> None:
        """Train the critic on clips of the student that step `step` has made."""
        for update in range(1, self.config.critic_steps + 1):
            self.critic.step(self.kept, partial(self._critic_loss, update=update))
        self.kept = []

    def tensors(self) -> dict[str, Tensor]:
        """Return the critic's weights and its optimizer's state."""
        return self.critic.tensors()

    def metrics(self) -> dict[str, float]:
        """Return no figures beside the loss."""
        return {}

    def flops(self, batch: Batch, attention: AttentionConfig) -> int:
        """Count the FLOPs of a batch: the student's passes, the teacher's, the reference's and the critic's."""
        from reelwright.training.budget.throughput import batch_flops

        return batch_flops(self.recipe, batch, attention)

    # --- the student -------------------------------------------------------------------------------------------------

    def _keep(self, batch: Batch) -> None:
        """Keep a step's micro-batches; one of a step that was given up, or of a rehearsal, goes."""
        self.kept = [one for one in self.kept if one.step == batch.step and one.micro != batch.micro] + [batch]

    def _sigmas(self, batch: Batch) -> Tensor:
        from reelwright.model.sampling.schedules import distilled_sigmas

        return distilled_sigmas(self.config.steps, shift_of(batch, self.config, self.patch))

    def _step_of(self, step: int, update: int) -> int:
        """Return the step k of the path that is trained: the same on all ranks, and for all samples of a step."""
        return _hashed(f"{self.recipe.seed} {step} {update}") % self.config.steps

    def _path(self, batch: Batch, sigmas: Tensor, k: int, *, salt: int) -> tuple[Tensor, Tensor]:
        """Return x_k of the student's own path, eq. 1, and its levels [B, T]; clean frames as in base training."""
        import torch

        given = batch if not salt else _reseeded(batch, salt)
        noised = noised_at(torch.ones(len(batch.seeds)), given, self.config, self.patch)
        x, levels = noised.x, noised.t
        with torch.no_grad():
            for i in range(k):
                velocity = self.roles.velocity(x, levels, batch)
                x = jump(x, velocity, _each(sigmas[i] - sigmas[i + 1], x), batch.cond_frames)
                levels = _at(levels, sigmas[i + 1], batch.cond_frames)
        return x, levels

    def _reference(self, batch: Batch, x: Tensor, levels: Tensor, sigmas: Tensor, k: int) -> Tensor:
        """Return the mean velocity at which the reference goes from σ_k to σ_k+1, eq. 6."""
        import torch

        way = self._finer(batch, k)
        place, clean = x, batch.cond_frames
        with torch.no_grad(), self.roles.playing(REFERENCE):
            for here, after in itertools.pairwise(way):
                velocity = self.roles.velocity(place, _at(levels, here, clean), batch)
                place = jump(place, velocity, _each(here - after, x), clean)
        return (place - x) / per_frame(_each(sigmas[k] - sigmas[k + 1], x), x)

    def _finer(self, batch: Batch, k: int) -> list[Tensor]:
        """Return the levels at which the reference's own steps begin, from σ_k to σ_k+1."""
        from reelwright.model.sampling.schedules import distilled_points

        grid, parts = Grid.of(shift_of(batch, self.config, self.patch)).sigmas, self.config.anchor_steps
        starts = [*distilled_points(self.config.steps * parts), POINTS]
        return [grid[start] for start in starts[k * parts : (k + 1) * parts + 1]]

    def _difference(self, batch: Batch, made: Tensor, levels: Tensor, t: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return δ of eq. 4 and the levels of eq. 3 [B]."""
        import torch
        import torch.distributed as dist

        y, at, drawn, _ = self._renoised(batch, made, levels, t, salt=1)
        with torch.no_grad():
            with self.roles.playing(CRITIC):
                fake = self.roles.velocity(y, at, batch)
            taught = self.teacher(y, at, batch)
            noisy = slice(batch.cond_frames, None)
            scale = per_frame(drawn, y)
            away = (made - (y + scale * taught))[:, :, noisy].abs().flatten(1).sum(1)
            if self.group is not None:
                dist.all_reduce(away, group=self.group)
            mean = away / batch.latents[0, :, noisy].numel()
            return scale * (fake - taught) / mean.clamp_min(1e-6).view(-1, 1, 1, 1, 1), drawn

    def _renoised(
        self, batch: Batch, made: Tensor, levels: Tensor, t: Tensor | None, *, salt: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mix clips of the student with new noise, eq. 3: y, its levels [B, T], t [B], and the noise of the strip."""
        from reelwright.model.sampling.schedules import shifted

        draws = _fresh(batch, salt)
        low, high = self.config.renoise
        if t is None:
            t = shifted(low + (high - low) * draws.u, shift_of(batch, self.config, self.patch))
        noise = of_strip(draws.noise.to(made.device), batch, self.patch)
        clean = batch.cond_frames
        at = levels.clone()
        at[:, clean:] = t.to(at)[:, None]
        y = made.clone()
        y[:, :, clean:] = ((1 - per_frame(t, made)) * made + per_frame(t, made) * noise)[:, :, clean:]
        return y, at, t, noise

    # --- held-out clips ----------------------------------------------------------------------------------------------

    def _held_out(self, batch: Batch, t: Tensor) -> Loss:
        """Return the error of the student's steps that t's band stands for; all ranks make as many passes."""
        import torch

        sigmas, steps = self._sigmas(batch), self._steps_of_band(float(t[0]))
        error = torch.zeros((), device=batch.latents.device)
        for k in steps:
            x, levels = self._path(batch, sigmas, k, salt=0)
            velocity = self.roles.velocity(x, levels, batch)
            if self.config.anchor:
                off = velocity - self._reference(batch, x, levels, sigmas, k)
            else:
                made = jump(x, velocity, _each(sigmas[k], x), batch.cond_frames)
                y, at, drawn, _ = self._renoised(batch, made, levels, t, salt=1)
                off = made - (y + per_frame(drawn, y) * self.teacher(y, at, batch))
            error = error + off.square() / len(steps)
        return reduced(error, batch, t)

    def _steps_of_band(self, t: float) -> list[int]:
        """Return the steps k of the band that t is in: all bands have all steps, the first one the last."""
        last, bands = self.config.steps - 1, self.recipe.validation.bands
        band = min(int(t * bands), bands - 1)
        found = [k for k in range(last + 1) if (last - k) * bands // (last + 1) == band]
        return found or [last - band * (last + 1) // bands]

    # --- the critic --------------------------------------------------------------------------------------------------

    def _critic_loss(self, batch: Batch, update: int) -> Loss:
        """Return the flow-matching loss of the critic on what the student makes, eq. 8."""
        import torch

        salt, k = 2 * update, self._step_of(batch.step, update)
        with torch.no_grad(), self.roles.playing(STUDENT):
            sigmas = self._sigmas(batch)
            x, levels = self._path(batch, sigmas, k, salt=salt)
            made = jump(x, self.roles.velocity(x, levels, batch), _each(sigmas[k], x), batch.cond_frames)
            y, at, drawn, noise = self._renoised(batch, made, levels, None, salt=salt + 1)
        return reduced((self.roles.velocity(y, at, batch) - (made - noise)).square(), batch, drawn)


def _each(span: Tensor, x: Tensor) -> Tensor:
    return span.expand(len(x))


def _at(levels: Tensor, sigma: Tensor, clean: int) -> Tensor:
    """Return levels [B, T] with the noisy frames at sigma."""
    out = levels.clone()
    out[:, clean:] = sigma.to(out)
    return out


def _seeds(batch: Batch, salt: int) -> list[int]:
    """Return a seed per sample, other ones for each salt."""
    return [_hashed(f"{seed} {salt}") for seed in batch.seeds]


def _hashed(text: str) -> int:
    """Return 63 bits that follow from a text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def _fresh(batch: Batch, salt: int) -> Draws:
    """Draw random numbers beside the batch's own; where a step is planned without storage, any stand for them."""
    from torch._guards import active_fake_mode

    from reelwright.training.batch import draw

    if batch.draws is not None and active_fake_mode() is not None:
        return batch.draws
    return draw(_seeds(batch, salt), batch.latents.shape)


def _reseeded(batch: Batch, salt: int) -> Batch:
    return replace(batch, seeds=_seeds(batch, salt), draws=None)
