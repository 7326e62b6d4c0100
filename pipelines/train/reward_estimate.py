"""What the rewards of a run take, for `reel train RECIPE --plan`: processes, GPUs, forwards, time and memory."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from reelwright.pipelines.train.reward_pools import together
from reelwright.training.batch import TASKS
from reelwright.training.budget.devices import Peak
from reelwright.training.budget.rollouts import RolloutPlan
from reelwright.training.recipe import TrainRecipe
from reelwright.training.rewards.contract import Reward
from reelwright.training.rl.config import RolloutConfig

GIB = 1 << 30


@dataclass(frozen=True)
class RewardEstimate:
    """Rewards of an update whose videos are all of one size.

    ranks: of the run. peak: of a GPU. mfu: to tell times by.
    """

    recipe: TrainRecipe
    objective: RolloutConfig
    plan: RolloutPlan
    ranks: int
    peak: Peak
    mfu: float

    def lines(self) -> Iterator[str]:
        """Yield where each reward is computed, the GPUs that all need, and what an update's scores take."""
        for label in self.rewards:
            yield self._place(label)
        if gpus := sum(count * self._gpus(first) for first, count in self.processes.items()):
            yield f"rewards       need {gpus:g} GPUs beside the {self.ranks} of the ranks, {self.ranks + gpus:g} in all"
        alone = [label for label in self.rewards if self._first(label) == label]
        if known := [row for row in map(self._work, alone) if row]:
            yield f"scores        of an update of {self.plan.bucket.key}, at {self.mfu:.0%} MFU of a reward's processes"
            yield f"  {'':18}{'videos':>8}{'forwards':>10}{'PFLOPs':>10}{'time':>12}{'weights per process':>24}"
            yield from known

    @cached_property
    def rewards(self) -> Mapping[str, Reward]:
        """By label."""
        return self.objective.load_rewards()

    @cached_property
    def pools(self) -> Mapping[str, list[str]]:
        """Labels of each pool of processes by the first of them; rewards in the ranks are in none."""
        uses = self.objective.uses
        found = together({label: one for label, one in self.rewards.items() if not uses[label].is_local(one)})
        return {labels[0]: labels for labels in found}

    @cached_property
    def processes(self) -> Mapping[str, int]:
        """Of each pool."""
        asked = {label: self.objective.uses[label].processes for label in self.rewards}
        return {
            first: max(asked[label] or self.rewards[label].resources.processes or 1 for label in labels)
            for first, labels in self.pools.items()
        }

    def _first(self, label: str) -> str:
        return next((first for first, labels in self.pools.items() if label in labels), label)

    def _gpus(self, first: str) -> float:
        return max(self.rewards[label].resources.gpus for label in self.pools[first])

    def _place(self, label: str) -> str:
        wants, first = self.rewards[label].resources, self._first(label)
        count = self.processes.get(first)
        alone = f"{count} process{'es' if count > 1 else ''} of its own" if count else "in the ranks"
        where = alone if first == label else f"by the same pass as {first}"
        gpus = f", {wants.gpus:g} GPUs each" if wants.gpus and first == label else ""
        kind = "reward" if label in self.objective.rewards else "held out"
        return f"{kind:<14}{label}: {where}{gpus}, {wants.batch} per call"

    def _work(self, label: str) -> str:
        """Return what scores of an update take; "" where the cost of a reward's model is not known."""
        bucket, reward = self.plan.bucket, self.rewards[label]
        work = reward.work(bucket.frames, bucket.height, bucket.width, self.recipe.data.rate_of(bucket.frames))
        if work is None:
            return ""
        videos = self.plan.videos * self._share(label)
        flops = videos * work.flops
        seconds = flops / (self.mfu * self.peak.flops * self.processes.get(label, self.ranks))
        return (
            f"  {label:<18}{videos:>8,.0f}{videos * work.forwards:>10,.0f}{number(flops / 1e15):>10}"
            f"{number(seconds):>10} s{number(reward.model_bytes / GIB):>20} GiB"
        )

    def _share(self, label: str) -> float:
        """Return the share of the videos that a reward is asked about, by the weights of tasks."""
        weights = {task: getattr(self.recipe.tasks, task) for task in TASKS}
        asked = [weight for task, weight in weights.items() if label in self.objective.asked_of(task)]
        return sum(asked) / sum(weights.values())


def number(value: float, digits: int = 1) -> str:
    """Return a number with so many digits after the point, or two that count where it is small."""
    return f"{value:,.{digits}f}" if value >= 1 or not value else f"{value:.2g}"
