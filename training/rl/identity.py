"""The identity of a run's rewards, as checkpoints tell it: whether two are one, and whether a judge judges itself.

A reward is told by `Reward.describe`, with its `use`. The fingerprint of a `service` does not know what is served where
the recipe does not state it; `served`, which the service told of itself, does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelwright.training.errors import TrainError
from reelwright.training.rewards.contract import marks_of

if TYPE_CHECKING:
    from reelwright.training.distributed.world import World

HELD_OUT = "held out"
"""The `use` of a reward that is not optimised."""

SERVED, UNSTATED = "served:", "unstated"
"""A service's model: SERVED and the fingerprint that the recipe expects, or UNSTATED."""
JUDGE = "judge"
"""Its first model answers; the others are texts."""

Told = Mapping[str, Any]


def refuse_other_rewards(saved: Mapping[str, Told], now: Mapping[str, Told], checkpoint: Path) -> None:
    """Raise TrainError where a reward is not what it was, though the recipe is the same.

    Args:
        saved: rewards of the checkpoint, by label.
        now: rewards of today.
        checkpoint: for messages.
    """
    changed = [label for label, one in saved.items() if label in now and _differs(one, now[label])]
    if not changed:
        return
    served = [label for label in changed if saved[label]["fingerprint"] == now[label]["fingerprint"]]
    if served == changed:
        was, here = (marks_of(told[served[0]])[1] for told in (saved, now))
        raise TrainError(
            f"{checkpoint} learned from {', '.join(changed)} of another reward than its service gives now ({here} in "
            f"place of {was}); serve that one again, or give this run another folder (--out)"
        )
    raise TrainError(
        f"{checkpoint} learned from {', '.join(changed)} of other files or another version than there are now; "
        "put them back, or give this run another folder (--out)"
    )


def refuse_other_memory(saved: Mapping[str, Told], now: Mapping[str, Told], checkpoint: Path) -> None:
    """Raise TrainError where a run would go on with the state of other rewards: what they were is in it."""
    before, here = ([(label, one["use"] == HELD_OUT) for label, one in told.items()] for told in (saved, now))
    if saved and (before != here or any(_differs(saved[label], now[label]) for label in saved)):
        raise TrainError(
            f"{checkpoint} remembers the rewards {_listed(saved)}, and this recipe has {_listed(now)}; name the "
            "same ones in the same order, or take its weights alone with init (of a LoRA: from its merged weights, "
            "reel checkpoint export)"
        )


def refuse_unlike_ranks(here: Mapping[str, Told], world: World) -> None:
    """Raise TrainError on every rank where one has other rewards than the first, as behind one address by two services.

    Args:
        here: rewards of this rank, by label; every rank has the same labels.
        world: this rank and the others.
    """
    marks = {label: list(marks_of(one)) for label, one in here.items()}
    first = world.broadcast(marks)
    unlike = [label for label in marks if marks[label] != first[label]]
    if not world.sum([len(unlike)])[0]:
        return
    if not unlike:
        raise TrainError("another rank has other rewards than the first one, and says which; this rank ends with it")
    was, found = (one[unlike[0]][1] or one[unlike[0]][0] for one in (first, marks))
    raise TrainError(
        f"rank {world.rank} has another reward for {', '.join(unlike)} than the first ({found} in place of {was}); "
        "let all ranks reach the same files and services"
    )


def refuse_judges_of_themselves(told: Mapping[str, Told]) -> None:
    """Raise TrainError where a held-out reward is one that is optimised, under whatever label and wherever computed."""
    for held, one in _held_out(told).items():
        for label, other in _optimised(told).items():
            if _content(one) and _content(one) == _content(other):
                raise TrainError(
                    f"held_out.{held} is the same reward as rewards.{label}, {one['name']} {_content(one)}; a reward "
                    "that is optimised is no evaluator: hold out another one"
                )


def doubts(told: Mapping[str, Told]) -> list[str]:
    """Return a line per held-out reward that reads a model which an optimised one reads too."""
    lines = []
    for held, one in _held_out(told).items():
        models = _models(one)
        kin = [label for label, other in _optimised(told).items() if models & _models(other)]
        if kin:
            lines.append(
                f"held-out reward {held} reads the same model as {', '.join(kin)}: a policy that fools the model fools "
                "this judge too; hold out a reward of another model"
            )
    return lines


def _models(told: Told) -> set[str]:
    """Return the models that a reward reads, by id and hash."""
    one = told.get("served") or told
    found = [str(model) for model in one.get("models") or () if not str(model).startswith(SERVED)]
    return set(found[:1] if one.get("name") == JUDGE else found)


def _content(told: Told) -> str:
    """Return the fingerprint of what gives the scores, wherever it is computed; "" where nobody knows."""
    stated = [str(model).removeprefix(SERVED) for model in told.get("models") or () if str(model).startswith(SERVED)]
    own = stated[0].replace(UNSTATED, "") if stated else told["fingerprint"]
    return marks_of(told)[1] or own


def _differs(one: Told, other: Told) -> bool:
    """Return whether two rewards differ in what both tell."""
    pairs = zip(marks_of(one), marks_of(other), strict=True)
    return any(a != b for a, b in pairs if a and b)


def _held_out(told: Mapping[str, Told]) -> dict[str, Told]:
    return {label: one for label, one in told.items() if one["use"] == HELD_OUT}


def _optimised(told: Mapping[str, Told]) -> dict[str, Told]:
    return {label: one for label, one in told.items() if one["use"] != HELD_OUT}


def _listed(told: Mapping[str, Told]) -> str:
    names = (
        f"{label}{' (held out)' if one['use'] == HELD_OUT else ''} {_content(one)[:6]}"
        for label, one in told.items()
    )
    return ", ".join(names) or "none"
