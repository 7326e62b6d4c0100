"""`reel train RECIPE --plan` of a run on rollouts: calls of the network, videos, scores, and seconds per update."""

from collections.abc import Iterator

from reelwright.pipelines.train.reward_estimate import GIB, RewardEstimate, number
from reelwright.training.budget.devices import Peak
from reelwright.training.budget.rollouts import RolloutPlan, plan_all
from reelwright.training.recipe import TrainRecipe
from reelwright.training.rl.config import RolloutConfig

ALWAYS = (8, 64)
"""GPUs that an update is told for beside those asked for."""


def rollout_lines(recipe: TrainRecipe, *, gpus: int, peak: Peak, mfu: float) -> Iterator[str]:
    """Yield the lines of a plan; none where the objective makes no videos.

    Args:
        recipe: the run's.
        gpus: its ranks.
        peak: of one of them.
        mfu: to tell times by.
    """
    objective, plans = recipe.objective, plan_all(recipe)
    if not plans or not isinstance(objective, RolloutConfig):
        return
    plan = plans[-1]
    yield (
        f"rollouts      groups of {objective.group}, {objective.steps} steps, guidance {objective.guidance:g}: "
        f"{plan.calls:g} guided calls per group in place of {plan.alone} without sharing"
    )
    yield from RewardEstimate(recipe, objective, plan, gpus, peak, mfu).lines()
    counts = sorted({gpus, *ALWAYS} if gpus > 1 else {*ALWAYS})
    yield f"update        by videos of one size, at {mfu:.0%} MFU; the time of rewards is not in it"
    times = "".join(f"{f'{n} GPUs':>13}" for n in counts)
    yield f"  {'':16}{'prompts':>8}{'videos':>8}{'passes':>9}{'PFLOPs':>10}{times}  of which"
    for each in plans:
        yield _row(each, counts, peak, mfu)
    yield from _room(plan, counts, peak, mfu)


def _row(plan: RolloutPlan, counts: list[int], peak: Peak, mfu: float) -> str:
    total = sum(plan.flops.values())
    shares = ", ".join(f"{name} {flops / total:.0%}" for name, flops in plan.flops.items() if flops)
    seconds = (sum(plan.seconds(mfu=mfu, peak_flops=peak.flops, ranks=n).values()) for n in counts)
    times = "".join(f"{number(one):>11} s" for one in seconds)
    size = f"{number(total / 1e15):>10}"
    return (
        f"  {plan.bucket.key:<16}{plan.prompts:>8,}{plan.videos:>8,}{plan.passes:>9,.0f}{size}{times}  {shares}"
    )  # fmt: skip


def _room(plan: RolloutPlan, counts: list[int], peak: Peak, mfu: float) -> Iterator[str]:
    """Yield how quick rewards must be, and what their videos take in memory, at the last size."""
    for n in counts:
        made = plan.seconds(mfu=mfu, peak_flops=peak.flops, ranks=n)["rollouts"]
        yield (
            f"rewards       of {plan.bucket.key} on {n} GPUs are not waited for where one video takes a reward's "
            f"processes together less than {number(made / plan.videos, 2)} s"
        )
    frames = number(plan.video_bytes * plan.videos / GIB)
    yield f"videos        {frames} GiB of frames per update, in the ranks' memory and Ray's object store"
