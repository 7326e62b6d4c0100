"""GRPO for flow matching (report, 3.3 and A.1; Flow-GRPO, arXiv 2505.05470): a policy learns by rewards of its videos.

A rollout goes by Euler's steps but for one stochastic step, drawn from the first few; a group shares the way up to it.
Per prompt, G samples x'_i with advantages A_i (`training.rl.advantages`), in the terms of `model.sampling.sde`:

    (1) r_i = p_θ(x'_i | x) / p_old(x'_i | x), of densities that are means over the numbers of a sample
    (2) L = -λ_π (1/G) Σ_i min(r_i A_i, clip(r_i, 1 ± clip) A_i) + β λ_KL KL(p_θ, p_ref), to be minimised
    (3) exact weights: λ_π = (3/2) / κ, λ_KL = λ_π², κ as in `model.sampling.sde`. Then on the policy ∂L/∂v =
        -(3/2) (1/G) Σ A_i ε_i + β (9/4) (v - v_ref), each divided by the numbers of a sample, at every step

x, t and the prompt are the same for all of a group, so one forward and one backward pass per prompt serve its G samples
and the KL. v is guided as in the rollout, with gradients through both predictions and none through CFG-zero*'s fit.
p_ref is the network without adapters, asked outside of any graph.

p_old is what the rollout stored: its mean at the stochastic step, computed at the shape of the trained pass. There is
one update per rollout, so r is 1, exactly in fp32. A ratio to the update's own first forward pass would be 1 whatever
is wrong. In bf16 r hardly tells: ln r = κ mean(ε (v_θ - v_old)) - (κ²/2) mean (v_θ - v_old)², and κ is 0.013 to 0.037
at shift 12, so that even another network, with v_θ - v_old of RMS 1, has r within 1e-3 of 1. `velocity_off` in the log
is that RMS itself: 0 in fp32, the rounding of one pass in bf16. As r is a geometric mean over numbers, a clip range is
small (1e-3); the report has none.

Where the report is off, and this is not: its Algorithm 1 adds -λ r A and -L_KL and then descends; eqs 23, 26 to 38 have
the sign of u = ε - x0; λ of eq. 36 is right only where the noise is not cut at τ, and infinite at t = 1 (`weighting:
report`); steps are counted from pure noise here, in Algorithm 1 from both ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from reelwright.training.objectives.base import Loss, Stateless
from reelwright.training.registry import Passes, register
from reelwright.training.rl.config import RolloutConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from reelwright.model.config import AttentionConfig
    from reelwright.model.sampling.sde import StochasticStep
    from reelwright.training.batch import Batch
    from reelwright.training.distributed.world import World
    from reelwright.training.recipe import TrainRecipe
    from reelwright.training.rl.batch import RolloutBatch, StepBatch
    from reelwright.training.rl.paths import Made


@register
class GrpoConfig(RolloutConfig):
    """GRPO: a LoRA learns from several rewards of its own videos (report 3.3)."""

    kind: Literal["grpo"] = Field("grpo", description="name of the objective")
    weighting: Literal["exact", "report", "none"] = Field(
        "exact", description="of the loss over steps: exact: equal gradients at every step; report: its eq. 36"
    )
    clip: float = Field(0.0, ge=0, description="range of the ratio around 1, such as 0.001; 0: any ratio, as published")
    beta: float = Field(3e-4, ge=0, description="weight of the divergence from the network without the adapter")

    @property
    def passes(self) -> Passes:
        """The rollout's and the reference's, and the second half of the trained pass under guidance."""
        calls = self.shared_calls + (1 if self.beta else 0)
        return Passes(forward=self.guided_passes * calls, trained=self.guided_passes - 1)

    def build(self, model: nn.Module, recipe: TrainRecipe, world: World) -> Grpo:
        """Build the objective; the negative prompt is encoded here."""
        return Grpo(self, model, recipe, world)

    def data(self, inner: Any, objective: Any, recipe: Any, world: Any, hooks: Any) -> Any:
        """Return rollouts of the snapshot's batches."""
        from reelwright.training.rl.rollouts import make_rollouts

        return make_rollouts(inner, objective, self, recipe, world, hooks.scorer)


class Grpo(Stateless):
    """The objective of a run; see `reelwright.training.objectives.base.Objective`."""

    def __init__(self, config: GrpoConfig, model: nn.Module, recipe: TrainRecipe, world: World) -> None:
        from reelwright.model.sampling.sde import NoiseSize
        from reelwright.training.rl.meters import Meters
        from reelwright.training.rl.paths import Paths
        from reelwright.training.rl.velocity import guided_velocity
        from reelwright.training.rl.watch import Watch
        from reelwright.training.roles import Roles

        self.config, self.recipe, self.world = config, recipe, world
        self.patch = recipe.model.patch_size
        self.roles = Roles(model)
        self.velocity = guided_velocity(config, self.roles, recipe, world)
        self.paths = Paths(config, self.velocity, self.patch, world)
        self.noise = NoiseSize(config.noise, config.noise_cap)
        self.meters, self.watch = Meters(world), Watch(config)

    # --- rollouts ----------------------------------------------------------------------------------------------------

    def roll(self, batch: Batch) -> Made:
        """Make a group per sample of a batch."""
        return self.paths.parting(batch)

    def micro_batches(self, batch: Batch, made: Made, advantages: Tensor) -> list[RolloutBatch]:
        """Return the stochastic steps of a micro-batch's groups."""
        import torch

        from reelwright.training.rl.batch import StepBatch

        parted = made.parted
        assert parted is not None
        step, second = parted.step, torch.full((len(batch.seeds),), parted.second, dtype=torch.float64)
        return [
            StepBatch.of(
                batch, latents=parted.x, draws=None, ready=None, t=step.t, following=step.following, second=second,
                mean=parted.mean, after=parted.after, advantages=advantages,
            )
        ]  # fmt: skip

    # --- the loss ----------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch, *, t: Tensor | None = None) -> Loss:
        """Return the loss of groups, eq. 2; of clips at levels t, how far the network has drifted from the data."""
        from reelwright.training.objectives.flow import drift_loss
        from reelwright.training.rl.batch import StepBatch

        if t is not None:
            return drift_loss(self.roles, batch, self.config, t, patch=self.patch)
        if isinstance(batch, StepBatch):
            return self._policy_loss(batch)
        if batch.step < 0:
            self.paths.rehearse(batch)
        return self._policy_loss(self._made_up(batch))

    def _policy_loss(self, batch: StepBatch) -> Loss:
        import torch

        from reelwright.model.sampling.sde import StochasticStep
        from reelwright.training.batch import of_strip
        from reelwright.training.rl.reduction import total_of

        config, step = self.config, StochasticStep.of(batch.t, batch.following, self.noise)
        x, old = of_strip(batch.latents, batch, self.patch), of_strip(batch.mean, batch, self.patch)
        after = of_strip(batch.after, batch, self.patch)
        reference = self._reference(x, step, batch) if config.beta else None
        mean = self._mean(x, step, batch)
        policy, divergence = (w.to(mean) for w in step.weights(config.weighting, batch.second))
        new_log, old_log = (step.log_prob(self._square(after - of[:, None], batch)) for of in (mean, old))
        ratio = (new_log - old_log.detach()).exp()  # [B, G]
        gained = ratio * batch.advantages
        if config.clip:
            gained = gained.minimum(ratio.clamp(1 - config.clip, 1 + config.clip) * batch.advantages)
        per_prompt = -policy * gained.mean(1)
        kl = torch.zeros_like(per_prompt)
        if reference is not None:
            kl = step.kl(self._square(mean - reference, batch))
            per_prompt = per_prompt + config.beta * divergence * kl
        outside = (ratio - 1).abs() > config.clip if config.clip else torch.zeros_like(ratio)
        off = self._square(mean.detach() - old, batch).sqrt() / step.gain.to(mean)
        self.meters.add(batch, ratio=ratio, kl=kl, clipped=outside, velocity_off=off)
        self.meters.add_largest(batch, ratio_off=(ratio - 1).abs())
        return Loss(total_of(per_prompt, batch, self.world), per_prompt.detach(), batch.t.float())

    def _mean(self, x: Tensor, step: StochasticStep, batch: Batch) -> Tensor:
        """Return μ of the role that is on, eq. 1 of `model.sampling.sde`, of this rank's strip."""
        from reelwright.training.rl.velocity import levels_of

        return step.mean(x, self.velocity(x, levels_of(step.t, batch), batch))

    def _reference(self, x: Tensor, step: StochasticStep, batch: Batch) -> Tensor:
        import torch

        from reelwright.training.roles import BASE

        with torch.no_grad(), self.roles.playing(BASE):
            return self._mean(x, step, batch)

    def _square(self, away: Tensor, batch: Batch) -> Tensor:
        """Return the mean square over the noisy frames of whole samples, of [B, C, T, …] or [B, G, C, T, …]."""
        from reelwright.training.rl.reduction import mean_of

        return mean_of(away.square(), batch, self.velocity.group)

    def _made_up(self, batch: Batch) -> StepBatch:
        """Make up groups of a micro-batch's shape: where a step is planned, or compiled for."""
        import torch

        from reelwright.training.rl.batch import StepBatch

        count, latents = len(batch.seeds), batch.latents
        groups = latents[:, None].expand(-1, self.config.group, *[-1] * (latents.ndim - 1))
        level = torch.full((count,), 0.9, dtype=torch.float64, device=latents.device)
        return StepBatch.of(
            batch, t=level, following=level - 0.1, second=level, mean=latents, after=groups.clone(),
            advantages=torch.ones(count, self.config.group, device=latents.device),
        )  # fmt: skip

    # --- state and figures --------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Return what is remembered of the rollouts."""
        return self.watch.tensors()

    def metrics(self) -> dict[str, float]:
        """Return the figures since the last call: means of ratio, KL and clipped share, and the rollouts'.

        `velocity_off`: RMS of v_θ - v_old at the stochastic step, in the mean. `ratio_off`: the largest |r - 1|.
        """
        return self.meters.read()

    def flops(self, batch: Batch, attention: AttentionConfig) -> int:
        """Count the FLOPs of a micro-batch: its rollout, the reference and the trained pass."""
        from reelwright.training.budget.throughput import batch_flops

        return batch_flops(self.recipe, batch, attention)
