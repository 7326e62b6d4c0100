"""From noise to finished latents, group by group, with whatever a group shares computed once.

A group has one prompt and one first noise. Its samples are one until the stochastic step, and so is the network's call
at that step, whose output does not depend on the noise that is added. From there each sample goes its own way:

    calls of a group = (k + 1) + G (N - 1 - k) in place of G N, for N steps and the stochastic one at k from 0

That call is made for all prompts of a micro-batch at once, at the shape of the trained pass: then both compute the same
bits in fp32, and the ratio of the policies is 1 (batches of other sizes may round differently).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reelwright.model.sampling.schedules import sigmas
from reelwright.model.sampling.sde import NoiseSize, StochasticStep
from reelwright.model.text import PackedText, pack_text
from reelwright.training.batch import Batch, of_strip, shift_of
from reelwright.training.distributed.context import joined, share_by
from reelwright.training.distributed.world import World
from reelwright.training.rl.config import RolloutConfig
from reelwright.training.rl.streams import critical_step, first_noise, step_noise
from reelwright.training.rl.velocity import GuidedVelocity, levels_of

Patch = tuple[int, int, int]


@dataclass(frozen=True)
class Parted:
    """Groups at their stochastic step, whole in space, clean frames included.

    critical: int64 [B]. step: of B groups. x, mean: [B, C, T, H, W]. after: [B, G, C, T, H, W]. second: level of the
    sampler's second step.
    """

    critical: Tensor
    step: StochasticStep
    x: Tensor
    mean: Tensor
    after: Tensor
    second: float


@dataclass(frozen=True)
class Made:
    """Finished latents. latents: [B, G, C, T, H, W], whole. parted: None where each sample began by itself."""

    latents: Tensor
    parted: Parted | None

    def cpu(self) -> Made:
        """Return it on the CPU."""
        if self.parted is None:
            return Made(self.latents.cpu(), None)
        own = {name: getattr(self.parted, name).cpu() for name in ("x", "mean", "after")}
        return Made(self.latents.cpu(), replace(self.parted, **own))


class Paths:
    """The ways of a micro-batch's groups through the network, without gradients.

    calls: guided predictions of one sample since the beginning, and alone: as many as there would be without sharing.
    """

    def __init__(self, config: RolloutConfig, velocity: GuidedVelocity, patch: Patch, world: World) -> None:
        self.config, self.velocity, self.patch, self.world = config, velocity, patch, world
        self.noise = NoiseSize(config.noise, config.noise_cap)
        self.calls, self.alone = 0, 0

    @torch.no_grad()
    def parting(self, batch: Batch) -> Made:
        """Make groups that share their noise up to a stochastic step.

        All ranks call it together, as a sharded network needs them all: one whose groups take fewer passes than
        another's makes some for nothing.
        """
        batch, levels = self._begun(batch)
        critical = torch.tensor([critical_step(seed, self.config.critical) for seed in batch.seeds])
        own = (critical + 1).repeat_interleave(self.config.group)
        idle = self._lacking(int(critical.max()) + 1, own)
        noise = first_noise(batch.seeds, batch.latents.shape[1:])
        x = self._with_clean(self._part(noise, batch), batch)
        for k in range(int(critical.max())):
            going = (critical > k).nonzero().flatten()
            x[going] = self._euler(x[going], levels, k, batch, going.tolist())
        step = StochasticStep.of(levels[critical], levels[critical + 1], self.noise)
        v = self._predict(x, step.t, batch, list(range(len(x))))
        mean = self._with_clean(step.mean(x, v), batch)
        drawn = self._part(step_noise(batch.seeds, self.config.group, noise.shape[1:]), batch)
        after = self._with_clean(step.after(mean[:, None], drawn), batch)
        made = self._finished(after.flatten(0, 1), own, levels, batch)
        self._idle(idle, after[:, 0], batch)
        whole = [self._whole(each, batch) for each in (x, mean, after, made.view_as(after))]
        parted = Parted(critical, step, whole[0], whole[1], whole[2], float(levels[1]))
        return Made(whole[3], parted)

    @torch.no_grad()
    def apart(self, batch: Batch) -> Made:
        """Make groups whose samples each begin with a noise of their own, by Euler's steps. See `parting` for ranks."""
        batch, levels = self._begun(batch)
        shape, group = batch.latents.shape, self.config.group
        own = torch.zeros(shape[0] * group, dtype=torch.int64)
        idle = self._lacking(0, own)
        noise = torch.stack([first_noise(batch.seeds, shape[1:], i) for i in range(group)], 1)
        x = self._with_clean(self._part(noise, batch), batch)
        made = self._finished(x.flatten(0, 1), own, levels, batch)
        self._idle(idle, x[:, 0], batch)
        return Made(self._whole(made.view_as(x), batch), None)

    @torch.no_grad()
    def rehearse(self, batch: Batch) -> None:
        """Make passes of the shapes that rollouts of such a batch take, so that compiled blocks know them."""
        everything = len(batch.seeds) * self.config.group
        for samples in dict.fromkeys([*range(1, len(batch.seeds) + 1), self.config.videos_at_once or everything]):
            prompts = [i % len(batch.seeds) for i in range(samples)]
            x = of_strip(batch.latents[prompts].float(), batch, self.patch)
            self.velocity(x, levels_of(torch.ones(samples), batch), batch, text=chosen(batch.text, prompts))

    # --- steps -------------------------------------------------------------------------------------------------------

    def _begun(self, batch: Batch) -> tuple[Batch, Tensor]:
        """Return the batch with this rank's strip, and the noise levels, float64 [N + 1]."""
        levels = sigmas(self.config.steps, shift_of(batch, self.config, self.patch))
        self.alone += len(batch.seeds) * self.config.group * self.config.steps
        return share_by(self.velocity.roles.model, batch, self.patch), levels

    def _finished(self, x: Tensor, begin: Tensor, levels: Tensor, batch: Batch) -> Tensor:
        """Take samples [B · G, …], each from its own step on, to the end."""
        x, of = x.clone(), [i // self.config.group for i in range(len(x))]
        for k in range(int(begin.min()), self.config.steps):
            going = (begin <= k).nonzero().flatten()
            for some in self._at_once(going):
                x[some] = self._euler(x[some], levels, k, batch, [of[i] for i in some.tolist()])
        return x

    def _euler(self, x: Tensor, levels: Tensor, k: int, batch: Batch, prompts: list[int]) -> Tensor:
        """Take samples from level k to the next. prompts: index of each one's prompt in the batch."""
        t = levels[k].expand(len(x))
        v = self._predict(x, t, batch, prompts)
        moved = x + float(levels[k] - levels[k + 1]) * v
        return torch.cat([x[:, :, : batch.cond_frames], moved[:, :, batch.cond_frames :]], 2)

    def _predict(self, x: Tensor, t: Tensor, batch: Batch, prompts: list[int]) -> Tensor:
        self.calls += len(x)
        return self.velocity(x, levels_of(t, batch), batch, text=chosen(batch.text, prompts))

    def _at_once(self, going: Tensor) -> tuple[Tensor, ...]:
        """Return the samples, by index, of each pass at a step."""
        return going.split(self.config.videos_at_once or max(1, len(going)))

    def _lacking(self, shared: int, begin: Tensor) -> int:
        """Return how many passes more another rank makes for the groups that it has at the same time.

        Args:
            shared: passes until this rank's groups part.
            begin: step from which each of its samples goes alone, [B · G].
        """
        passes = shared
        for k in range(self.config.steps):
            going = (begin <= k).nonzero().flatten()
            passes += len(self._at_once(going)) if len(going) else 0
        return int(self.world.max([passes])[0]) - passes

    def _idle(self, passes: int, x: Tensor, batch: Batch) -> None:
        """Make passes for nothing, so that a rank which needs more finds this one's weights."""
        for _ in range(passes):
            self.velocity(x[:1], levels_of(torch.ones(1), batch), batch, text=chosen(batch.text, [0]))

    # --- strips ------------------------------------------------------------------------------------------------------

    def _part(self, whole: Tensor, batch: Batch) -> Tensor:
        """Return this rank's part of whole latents, on the batch's device."""
        return of_strip(whole.to(batch.latents.device), batch, self.patch)

    def _with_clean(self, x: Tensor, batch: Batch) -> Tensor:
        """Return x [B, C, T, …] or [B, G, C, T, …] with the batch's clean frames as its first."""
        if not batch.cond_frames:
            return x
        clean = of_strip(batch.latents[:, :, : batch.cond_frames].float(), batch, self.patch)
        clean = clean if x.ndim == clean.ndim else clean[:, None].expand(-1, x.shape[1], *[-1] * (clean.ndim - 1))
        return torch.cat([clean, x.narrow(-3, batch.cond_frames, x.shape[-3] - batch.cond_frames)], -3)

    def _whole(self, x: Tensor, batch: Batch) -> Tensor:
        group = self.velocity.group
        if batch.strip is None or group is None:
            return x
        height, width = batch.latents.shape[3:]
        return joined(x, batch.strip, (height, width), self.patch, group)


def chosen(text: PackedText, samples: Sequence[int]) -> PackedText:
    """Return the texts of some samples, in their order and as often as they are named."""
    if list(samples) == list(range(len(text.lengths))):
        return text
    states = text.unpacked()
    return pack_text([states[i] for i in samples], text.longest).to(text.states.device)
