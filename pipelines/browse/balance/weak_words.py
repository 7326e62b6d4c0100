"""What an evaluation says of the footage, in words and as JSON."""

from __future__ import annotations

from typing import Any

from reelwright.evaluation.weakness import FEW_PROMPTS
from reelwright.pipelines.browse.balance.weak import Advice, Weak

SHOWN, PROMPTS, WIDTH = 12, 2, 60
"""Categories in the list, prompts of a weak one, characters of a prompt."""


def words(advice: Advice) -> list[str]:
    """Return the lines that a person reads."""
    of = advice.evaluated
    better = "lower is better, so signs are turned" if of.measure.startswith("-") else "higher is better"
    lines = [
        f"{of.name}: {of.model} by {of.measure.removeprefix('-')} ({better}), {len(advice.scores)} categories; "
        "95 % intervals by bootstrap over prompts",
    ]
    lines += [_score_line(one) for one in advice.scores[:SHOWN]]
    if len(advice.scores) > SHOWN:
        lines.append(f"  … {len(advice.scores) - SHOWN} more, none of them weaker; --json has all")
    lines += _few(advice)
    if not advice.weak:
        return [*lines, "", "no category is called weak: nothing to weigh up"]
    lines += ["", f"weak, the interval clear of 0: {len(advice.weak)} of {len(advice.scores)}"]
    for one in advice.weak:
        lines += _advice_lines(one, advice)
    return [*lines, "", *_cost_lines(advice)]


def _few(advice: Advice) -> list[str]:
    few = [one for one in advice.scores if one.has_few]
    if not few:
        return []
    below = [one.name for one in few if one.gap.high < 0]
    also = f"; below the others all the same: {', '.join(below[:SHOWN])}" if below else ""
    return [f"  {len(few)} of {len(advice.scores)} categories have fewer than {FEW_PROMPTS} prompts, too few to be "
            f"called weak: give the suite more{also}"]  # fmt: skip


def _score_line(one: Any) -> str:
    failed = f", {one.failed} failed" if one.failed else ""
    mark = "weak" if one.is_weak else ""
    return (
        f"  {mark:4}  {one.name:28} {one.mean.value:8.4g}   against the others {one.gap.value:+.3g} "
        f"[{one.gap.low:+.3g}, {one.gap.high:+.3g}]   {len(one.prompts)} prompts{failed}"
    )


def _advice_lines(one: Weak, advice: Advice) -> list[str]:
    shown = ", ".join(f'"{_cut(text)}"' for text in one.score.prompts[:PROMPTS])
    lines = [f"{one.score.name}: weakest at {shown}"]
    if not one.near:
        best = one.nearest
        return [
            *lines,
            f"  collect: no footage is near; the nearest cluster is {best.cluster.name} (cosine {best.cosine:.2f}, "
            f"where its own captions have {best.cluster.spread:.2f}). Weights cannot help",
        ]
    factors = {cluster.id: factor for cluster, factor in advice.scarce}
    equal = 1 / len(advice.clusters)
    for near in one.near:
        cluster = near.cluster
        facts = (
            f"{cluster.name} (cluster {cluster.id}, cosine {near.cosine:.2f}): {cluster.clips:,} clips, "
            f"{cluster.hours:.3g} h, {cluster.share:.1%} of the weight where an equal part is {equal:.1%}"
        )
        if cluster.id in factors:
            more = advice.collect.get(cluster.id, 0)
            collect = f"; better, collect {more:,} clips like these" if more else ""
            lines.append(f"  weigh up x {factors[cluster.id]:.3g}: {facts}{collect}")
        else:
            lines.append(f"  not scarce: {facts}; look at its captions and at what its clips cost (clip_loss_means)")
    return lines


def _cost_lines(advice: Advice) -> list[str]:
    if advice.weights is None:
        return ["nothing near the weak categories is scarce, so there are no weights to give"]
    before, after = advice.effective
    at = f"; {advice.at_cap:,} clips at the cap of {advice.weights.cap:g}" if advice.at_cap else ""
    return [
        f"weighed so, {advice.clips:,} clips are as good as {after:,.0f} of equal weight (before: {before:,.0f}; Kish: "
        f"(Σw)² / Σw²){at}"
    ]


def _cut(text: str) -> str:
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def as_json(advice: Advice) -> dict[str, Any]:
    """Return the advice as JSON has it."""
    factors = {cluster.id: factor for cluster, factor in advice.scarce}

    def near(one: Any) -> dict[str, Any]:
        c = one.cluster
        return {"cluster_id": c.id, "cluster_name": c.name, "cosine": one.cosine, "clips": c.clips, "hours": c.hours,
                "share": c.share, "factor": factors.get(c.id), "collect": advice.collect.get(c.id, 0)}  # fmt: skip

    found = {one.score.name: one for one in advice.weak}
    return {
        "evaluation": advice.evaluated.name, "model": advice.evaluated.model, "measure": advice.evaluated.measure,
        "categories": [
            {"category": one.name, "mean": vars(one.mean), "gap": vars(one.gap), "weak": one.is_weak,
             "failed": one.failed, "prompts": one.prompts,
             "near": [near(n) for n in found[one.name].near] if one.name in found else []}
            for one in advice.scores
        ],
        "effective_size": {"before": advice.effective[0], "after": advice.effective[1]},
        "at_cap": advice.at_cap,
        "weights": dict(advice.weights.weights) if advice.weights else {},
    }  # fmt: skip
