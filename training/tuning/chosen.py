"""A reward against people's choices: scores of held-out pairs, and how often they agree."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reelwright.training.distributed.world import World
from reelwright.training.tuning.feed import Feed
from reelwright.training.tuning.preference import PairExample, Preferences
from reelwright.training.tuning.samples import Item, LeftOut, Pair


def score_pairs(
    network: Any, objective: Preferences, feed: Feed[PairExample], pairs: Sequence[Item], world: World
) -> list[dict[str, Any]]:
    """Return a row per pair that decodes: its choices, and both videos' scores by dimension."""
    import torch

    network.eval()
    rows = []
    for pair in pairs:
        example = feed.example(pair)
        if isinstance(example, LeftOut):
            continue
        assert isinstance(pair, Pair)
        names = objective.recipe.dimensions
        row: dict[str, Any] = {"key": pair.key, "group": pair.group, "choices": dict(pair.choices)}
        for side, shown in (("first", example.first), ("second", example.second)):
            with torch.no_grad():
                scores = objective.scores(network, [shown], world.device)[0].tolist()
            row[side] = dict(zip(names, scores, strict=True))
        rows.append(row)
    return rows


def chosen_figures(rows: Sequence[Mapping[str, Any]], dimensions: Sequence[str], k: float) -> dict[str, Any]:
    """Return figures by dimension, and mean and deviation of the scores, which normalise them.

    accuracy: share of pairs with a better video where its score is the higher. accuracy_with_ties: share of all pairs
    where the likeliest of better, same and worse by Rao and Kupper's model is what people chose.
    """
    figures: dict[str, Any] = {"pairs": len(rows)}
    normal = {}
    for name in dimensions:
        some = [row for row in rows if name in row["choices"]]
        differences = np.array([row["first"][name] - row["second"][name] for row in some])
        choices = np.array([row["choices"][name] for row in some])
        decided = choices != 0
        figures[f"{name}/decided"] = int(decided.sum())
        right = np.sign(differences[decided]) == choices[decided]
        figures[f"{name}/accuracy"] = float(right.mean()) if decided.any() else float("nan")
        guessed = np.array([likeliest(one, k) for one in differences])
        figures[f"{name}/accuracy_with_ties"] = float((guessed == choices).mean()) if some else float("nan")
        scores = [row[side][name] for row in rows for side in ("first", "second")]
        if scores:
            normal[name] = {"mean": float(np.mean(scores)), "std": float(np.std(scores)) or 1.0}
    return {**figures, "normal": normal}


def likeliest(difference: float, k: float) -> int:
    """Return the likeliest choice, 1, 0 or −1, for a difference of scores."""
    wins, loses = (1 / (1 + math.exp(min(700.0, math.log(k) - d))) for d in (difference, -difference))
    chances = {1: wins, -1: loses, 0: (k * k - 1) * wins * loses}
    return max(chances, key=lambda one: chances[one])
