"""DiffusionNFT (Zheng et al. 2025, arXiv 2509.16117): a policy learns on the forward process, by scores of its videos.

Rollouts need no density of a step, so no stochastic one: they go by Euler's steps. Of a finished video x0 with
advantage A, at a level t and with new noise ε, v = x0 - ε:

    (1) x_t = (1 - t) x0 + t ε
    (2) ρ = ½ + ½ clip(A / Z, -1, 1): how good the video is, 0 to 1; Z is `advantage_clip`
    (3) v⁺ = (1 - b) v_old + b v_θ, v⁻ = (1 + b) v_old - b v_θ: the policy led towards θ, and away from it
    (4) L = (Z / b) [ρ d(v⁺) + (1 - ρ) d(v⁻)] + β |v_θ - v_ref|², means over the numbers of a sample
    (5) d(u) = |x̂0 - x0|² / stop(mean |x̂0 - x0|), x̂0 = x_t + t u: in place of a weight over t
    (6) old ← η old + (1 - η) θ after each step, η = min(`old_rate` · step, `old_most`); videos are made by old

A good video pulls v_θ to its own velocity, a bad one pushes it away from there. Eqs 4 to 6 follow the published code,
which divides by b, uses d, and lets η rise from 0; the paper's eq. 3 has the two distances alone. v_ref is the network
without adapters. The policy samples without guidance, as in the paper; with `guidance` above 1 the rollouts and all
velocities above are guided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from reelwright.training.objectives.base import Loss
from reelwright.training.registry import STUDENT, AdapterPart, Passes, register
from reelwright.training.rl.config import RolloutConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from reelwright.model.config import AttentionConfig
    from reelwright.training.batch import Batch
    from reelwright.training.distributed.world import World
    from reelwright.training.recipe import TrainRecipe
    from reelwright.training.rl.batch import MadeBatch, RolloutBatch
    from reelwright.training.rl.paths import Made

OLD = "old"
"""The adapter that samples, and its role."""


@register
class NftConfig(RolloutConfig):
    """DiffusionNFT: a LoRA learns from several rewards of its own videos, without densities (arXiv 2509.16117)."""

    kind: Literal["nft"] = Field("nft", description="name of the objective")
    guidance: float = Field(1.0, ge=1, description="scale of rollouts and of the trained pass; 1: none, as published")
    solver: Literal["euler", "critical"] = Field(
        "euler", description="euler: each video begins with a noise of its own; critical: groups part as for grpo"
    )
    mixing: float = Field(1.0, gt=0, description="b of eq. 3: how far the two led policies lie from the sampling one")
    beta: float = Field(1e-4, ge=0, description="weight of the distance from the network without the adapter")
    old_rate: float = Field(0.001, ge=0, description="by which η of eq. 6 rises per step")
    old_most: float = Field(0.5, ge=0, lt=1, description="largest η of eq. 6; 0: the policy samples as it is")

    @model_validator(mode="after")
    def _check_clip(self) -> NftConfig:
        if not self.advantage_clip:
            raise ValueError("advantage_clip must be above 0: nft turns advantages into numbers of 0 to 1 by it")
        return self

    @property
    def adapters(self) -> tuple[AdapterPart, ...]:
        """The policy that is trained, and the one that samples."""
        return (AdapterPart(STUDENT), AdapterPart(OLD, trained=False))

    @property
    def micro_batches(self) -> int:
        """One for each video of a group: each has its own noise and level, so nothing is shared."""
        return self.group

    @property
    def rollout_calls(self) -> float:
        """Guided predictions of one sample per group: videos whose ways never part share nothing."""
        return self.group * self.steps if self.solver == "euler" else self.shared_calls

    @property
    def passes(self) -> Passes:
        """The rollout's, the old policy's and the reference's; a trained pass per video."""
        beside = self.group * (1 + bool(self.beta))
        forward = self.guided_passes * (self.rollout_calls + beside)
        return Passes(forward=forward, trained=self.guided_passes * self.group - 1)

    def build(self, model: nn.Module, recipe: TrainRecipe, world: World) -> Nft:
        """Build the objective."""
        return Nft(self, model, recipe, world)

    def data(self, inner: Any, objective: Any, recipe: Any, world: Any, hooks: Any) -> Any:
        """Return rollouts of the snapshot's batches."""
        from reelwright.training.rl.rollouts import make_rollouts

        return make_rollouts(inner, objective, self, recipe, world, hooks.scorer)


class Nft:
    """The objective of a run; see `reelwright.training.objectives.base.Objective`."""

    def __init__(self, config: NftConfig, model: nn.Module, recipe: TrainRecipe, world: World) -> None:
        from reelwright.training.rl.meters import Meters
        from reelwright.training.rl.paths import Paths
        from reelwright.training.rl.velocity import guided_velocity
        from reelwright.training.rl.watch import Watch
        from reelwright.training.roles import Roles

        self.config, self.recipe, self.world = config, recipe, world
        self.patch = recipe.model.patch_size
        self.roles = Roles(model, {OLD: OLD})
        self.velocity = guided_velocity(config, self.roles, recipe, world)
        self.paths = Paths(config, self.velocity, self.patch, world)
        self.meters, self.watch = Meters(world), Watch(config)

    # --- rollouts ----------------------------------------------------------------------------------------------------

    def roll(self, batch: Batch) -> Made:
        """Make a group per sample of a batch, by the policy that samples."""
        with self.roles.playing(OLD):
            return self.paths.apart(batch) if self.config.solver == "euler" else self.paths.parting(batch)

    def micro_batches(self, batch: Batch, made: Made, advantages: Tensor) -> list[RolloutBatch]:
        """Return the videos of a micro-batch's groups, one of each group at a time."""
        from reelwright.training.rl.batch import MadeBatch
        from reelwright.training.rl.streams import number

        return [
            MadeBatch.of(
                batch, latents=made.latents[:, i], seeds=[number(seed, "video", i) for seed in batch.seeds],
                samples_in_step=batch.samples_in_step * self.config.group, draws=None, ready=None,
                advantages=advantages[:, i],
            )
            for i in range(self.config.group)
        ]  # fmt: skip

    # --- the loss ----------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch, *, t: Tensor | None = None) -> Loss:
        """Return the loss of videos, eq. 4; of clips at levels t, how far the network has drifted from the data."""
        from reelwright.training.objectives.flow import drift_loss
        from reelwright.training.rl.batch import MadeBatch

        if t is not None:
            return drift_loss(self.roles, batch, self.config, t, patch=self.patch)
        if isinstance(batch, MadeBatch):
            return self._policy_loss(batch)
        if batch.step < 0:
            self.paths.rehearse(batch)
        zeros = batch.latents.new_zeros(len(batch.seeds))
        return self._policy_loss(MadeBatch.of(batch, advantages=zeros))

    def _policy_loss(self, batch: MadeBatch) -> Loss:
        import torch

        from reelwright.training.batch import of_strip
        from reelwright.training.objectives.distilling.distillation import per_frame
        from reelwright.training.rl.reduction import mean_of, total_of
        from reelwright.training.rl.velocity import levels_of
        from reelwright.training.roles import BASE

        config, group = self.config, self.velocity.group
        x, t = self._noised(batch)
        levels = levels_of(t, batch)
        with torch.no_grad():
            with self.roles.playing(OLD):
                old = self.velocity(x, levels, batch)
            with self.roles.playing(BASE):
                reference = self.velocity(x, levels, batch) if config.beta else None
        v = self.velocity(x, levels, batch)
        made, at = of_strip(batch.latents.float(), batch, self.patch), per_frame(t, x)

        def distance(led: Tensor) -> Tensor:
            away = x + at * led - made
            size = mean_of(away.detach().abs(), batch, group).clamp_min(1e-5)
            return mean_of(away.square(), batch, group) / size

        worth = 0.5 + 0.5 * (batch.advantages / config.advantage_clip).clamp(-1, 1)
        towards = distance((1 - config.mixing) * old + config.mixing * v)
        away = distance((1 + config.mixing) * old - config.mixing * v)
        per_sample = config.advantage_clip / config.mixing * (worth * towards + (1 - worth) * away)
        moved = torch.zeros_like(per_sample) if reference is None else mean_of((v - reference).square(), batch, group)
        per_sample = per_sample + config.beta * moved
        self.meters.add(
            batch, worth=worth, moved=moved, moved_in_step=mean_of((v - old).detach().square(), batch, group)
        )
        return Loss(total_of(per_sample, batch, self.world), per_sample.detach(), t.float())

    def _noised(self, batch: MadeBatch) -> tuple[Tensor, Tensor]:
        """Return x_t of eq. 1, of this rank's strip and with clean frames as they are, and t [B]."""
        from reelwright.model.sampling.schedules import shifted
        from reelwright.training.batch import draw, of_strip, shift_of
        from reelwright.training.objectives.distilling.distillation import per_frame

        draws = batch.draws or draw(batch.seeds, batch.latents.shape)
        t = shifted(draws.u, shift_of(batch, self.config, self.patch))
        made = batch.latents.float()
        at = per_frame(t, made)
        x = (1 - at) * made + at * draws.noise.to(made)
        x[:, :, : batch.cond_frames] = made[:, :, : batch.cond_frames]
        return of_strip(x, batch, self.patch), t

    # --- the policy that samples -------------------------------------------------------------------------------------

    def after_step(self, step: int) -> None:
        """Let the policy that samples follow the one that is trained, eq. 6."""
        import torch

        kept = min(self.config.old_rate * step, self.config.old_most)
        with torch.no_grad():
            for (_, old), (_, new) in zip(self._named(OLD), self._named(STUDENT), strict=True):
                old.lerp_(new.detach(), 1 - kept)

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights of the policy that samples, and what is remembered of the rollouts."""
        return self.watch.tensors() | {f"{OLD}.{name}": parameter.detach() for name, parameter in self._named(OLD)}

    def _named(self, adapter: str) -> list[tuple[str, Tensor]]:
        """Return an adapter's parameters by name without the adapter's."""
        part = f".lora.{adapter}."
        named = self.roles.model.named_parameters()
        return [(name.replace(part, "."), parameter) for name, parameter in named if part in name]

    # --- figures -----------------------------------------------------------------------------------------------------

    def metrics(self) -> dict[str, float]:
        """Return how good videos were (`worth`), how far v moved from the base, and the rollouts' figures."""
        return self.meters.read()

    def flops(self, batch: Batch, attention: AttentionConfig) -> int:
        """Count the FLOPs of a micro-batch, with its part of its group's rollout."""
        from reelwright.training.budget.throughput import batch_flops

        return batch_flops(self.recipe, batch, attention) // self.config.micro_batches
