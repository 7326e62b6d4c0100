"""Settings that objectives on rollouts share: groups, critical step, rewards and their weights."""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from reelwright.model.config import Part, TimestepShift
from reelwright.training.batch import Task
from reelwright.training.errors import TrainError
from reelwright.training.registry import ObjectiveConfig, VideosMade
from reelwright.training.rl.identity import (
    HELD_OUT,
    doubts,
    refuse_judges_of_themselves,
    refuse_other_memory,
    refuse_other_rewards,
)
from reelwright.training.rl.stop_settings import StopSettings

if TYPE_CHECKING:
    from reelwright.training.rewards.contract import Reward
    from reelwright.training.rewards.scoring import Scorer


class RewardUse(Part):
    """A reward of a run."""

    kind: str = Field("", description="name of the reward; empty: the label that it stands under")
    weight: float = Field(1.0, description="of its advantage in the sum")
    tasks: tuple[Task, ...] = Field((), description="whose videos it is asked about; empty: all")
    parameters: dict[str, Any] = Field({}, description="of the reward")
    local: bool | None = Field(
        None, description="scored in the processes that train; null: where it needs no GPU and no process of its own"
    )
    processes: int = Field(0, ge=0, description="Ray actors that share its videos; 0: as many as it asks for itself")
    time_limit_s: float = Field(300.0, gt=0, description="of a call; then its process or thread is replaced")

    def is_local(self, reward: "Reward") -> bool:
        """Return whether it is scored in the processes that train, and not by actors."""
        if self.local is not None:
            return self.local
        return not (self.processes or reward.resources.gpus or reward.resources.own_process)


class RolloutConfig(TimestepShift, ObjectiveConfig):
    """Rollouts: groups of videos of one prompt, scored by rewards."""

    rewards: dict[str, RewardUse] = Field({}, description="label: the rewards that are optimised, at least one")
    held_out: dict[str, RewardUse] = Field(
        {}, description="label: rewards that are scored and logged, and never optimised"
    )
    prompts: str = Field("", description="file of prompts, one per line, in place of the captions of the snapshot")
    group: int = Field(4, ge=2, description="videos of a group")
    steps: int = Field(16, ge=2, description="sampling steps of a rollout")
    critical: int = Field(6, ge=1, description="the stochastic step is drawn from so many first ones")
    noise: float = Field(1.0, gt=0, description="a of the stochastic step's noise, min(a √(tΔ / (1 - t)), noise_cap)")
    noise_cap: float = Field(0.45, gt=0, description="largest size of that noise")
    guidance: float = Field(4.0, ge=1, description="scale of rollouts and of the trained pass; 1: none")
    rule: Literal["cfg-zero", "cfg"] = Field("cfg-zero", description="of the guidance")
    negative: str = Field("", description="negative prompt of the guidance")
    videos_at_once: int = Field(
        0, ge=0, description="videos per pass of the network once a group's ways part; 0: all of a micro-batch"
    )
    deviation: Literal["largest", "group"] = Field(
        "largest", description="advantages are divided by: the largest deviation of all groups, or each group's own"
    )
    advantage_clip: float = Field(5.0, ge=0, description="largest size of an advantage; 0: any")
    advantage_eps: float = Field(
        1e-4, gt=0, description="added to the deviation; a reward whose deviations are as small needs a smaller one"
    )
    stop: StopSettings = Field(StopSettings(), description="when a held-out reward falls and the trained ones rise")
    max_failed: float = Field(
        0.5, ge=0, le=1, description="share of a reward's scores that may fail in a step before the run stops"
    )

    @model_validator(mode="after")
    def _check(self) -> "RolloutConfig":
        if not self.rewards:
            raise ValueError("rewards must name at least one reward, as in rewards: {sharpness_standin: {weight: 1}}")
        both = sorted(set(self.rewards) & set(self.held_out))
        if both:
            raise ValueError(f"{both[0]!r} is under rewards and held_out; a reward that is optimised is no evaluator")
        if self.critical >= self.steps:
            raise ValueError(
                f"critical {self.critical} must be below steps {self.steps}: noise of the last step would stay in the "
                "video"
            )
        return self

    @model_validator(mode="after")
    def _check_kinds(self) -> "RolloutConfig":
        found = self.load_rewards()
        for held in self.held_out:  # what hashes of models tell beyond this, a run's start refuses: they take long
            if same := [label for label in self.rewards if found[label] == found[held]]:
                raise ValueError(
                    f"held_out.{held} is the same reward as rewards.{same[0]}; a reward that is optimised is no "
                    "evaluator: hold out another one"
                )
        return self

    def load_rewards(self) -> "dict[str, Reward]":
        """Return the rewards of the run by label, optimised ones first, then held-out ones; no model is loaded.

        Raises:
            ValueError: a kind is unknown, or has no such parameter.
        """
        from reelwright.training.rewards.registry import load

        found = {}
        for section, uses in (("rewards", self.rewards), ("held_out", self.held_out)):
            for label, use in uses.items():
                try:
                    found[label] = load(use.kind or label, use.parameters)
                except ValueError as error:
                    raise ValueError(f"{section}.{label}: {error}") from None
        return found

    def origins(self, scorer: "Scorer | None" = None) -> dict[str, Any]:
        """Return what each reward is: name, version, fingerprint, models with their hashes, parameters, and its use.

        With a file of prompts, also its hash.

        Args:
            scorer: has the rewards at hand, and has asked services what they serve; None: nobody has.
        """
        told = scorer.describe() if scorer else {}
        told = {label: told.get(label) or reward.describe() for label, reward in self.load_rewards().items()}
        for label, one in told.items():
            one["use"] = {"weight": self.rewards[label].weight} if label in self.rewards else HELD_OUT
        return {"rewards": told} | self._prompts_origin()

    def remarks(self, origins: Mapping[str, Any]) -> list[str]:
        """Return doubts about the held-out rewards; raise TrainError where one of them is optimised too."""
        refuse_judges_of_themselves(origins["rewards"])
        return doubts(origins["rewards"])

    def refuse_changed(self, saved: Mapping[str, Any], now: Mapping[str, Any], checkpoint: Path) -> None:
        """Raise TrainError where rewards or prompts are not what they were, though the recipe is the same."""
        refuse_other_rewards(saved.get("rewards", {}), now.get("rewards", {}), checkpoint)
        if (prompts := saved.get("prompts")) and prompts["sha256"] != now["prompts"]["sha256"]:
            raise TrainError(
                f"{prompts['file']} has other prompts than {checkpoint} learned from; put them back, or give this run "
                "another folder (--out)"
            )

    def refuse_state(self, saved: Mapping[str, Any], now: Mapping[str, Any], checkpoint: Path) -> None:
        """Raise TrainError where the other run remembers other rewards than these: what they were is in its state."""
        refuse_other_memory(saved.get("rewards", {}), now.get("rewards", {}), checkpoint)

    def shows(self, figure: str, value: float) -> bool:
        """Whether a figure stands in the line of a step: a reward's mean does, `reward/LABEL` or `held_out/LABEL`."""
        kind, _, label = figure.partition("/")
        is_mean = kind in ("reward", "held_out") and "/" not in label
        return super().shows(figure, value) or (is_mean and math.isfinite(value))

    def _prompts_origin(self) -> dict[str, Any]:
        if not self.prompts:
            return {}
        from reelwright.training.rl.prompts import read_prompts

        prompts = read_prompts(Path(self.prompts))
        digest = hashlib.sha256("\n".join(prompts).encode()).hexdigest()
        return {"prompts": {"file": self.prompts, "count": len(prompts), "sha256": digest}}

    def __hash__(self) -> int:  # rewards are a dict, and memory is planned once per recipe, by its hash
        return hash(self.model_dump_json())

    @property
    def uses(self) -> dict[str, RewardUse]:
        """All rewards by label, those that are optimised first."""
        return {**self.rewards, **self.held_out}

    def deciding(self) -> Self:
        """Return the settings without those of where and how long rewards are computed, and when the run gives up."""
        own = RewardUse.model_fields
        plain = {name: own[name].default for name in ("local", "processes", "time_limit_s")}

        def without(uses: dict[str, RewardUse]) -> dict[str, RewardUse]:
            return {label: use.model_copy(update=plain) for label, use in uses.items()}

        given_up = {"max_failed": type(self).model_fields["max_failed"].default, "stop": StopSettings()}
        return self.model_copy(
            update={"rewards": without(self.rewards), "held_out": without(self.held_out), **given_up}
        )

    @property
    def makes_videos(self) -> bool:
        """They are what is learned from."""
        return True

    @property
    def videos_made(self) -> VideosMade:
        """A group per prompt."""
        alone = self.group * self.steps
        return VideosMade(self.group, self.rollout_calls, alone, self.guided_passes, self.videos_at_once)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of all rewards, those that are optimised first."""
        return (*self.rewards, *self.held_out)

    def asked_of(self, task: Task) -> tuple[str, ...]:
        """Return the labels of the rewards that are asked about a task's videos."""
        return tuple(label for label, use in self.uses.items() if not use.tasks or task in use.tasks)

    @property
    def weights(self) -> tuple[float, ...]:
        """Weights of the rewards that are optimised."""
        return tuple(use.weight for use in self.rewards.values())

    @property
    def guided_passes(self) -> int:
        """Passes of the network, of one sample, that a guided prediction takes."""
        return 1 if self.guidance == 1 else 2

    @property
    def critical_mean(self) -> float:
        """Mean index of the stochastic step."""
        return (self.critical - 1) / 2

    @property
    def rollout_calls(self) -> float:
        """Guided predictions, of one sample, that a group's rollout takes; in the mean."""
        return self.shared_calls

    @property
    def shared_calls(self) -> float:
        """Guided predictions, of one sample, that a group takes where what it shares is computed once; in the mean."""
        return self.critical_mean + 1 + self.group * (self.steps - 1 - self.critical_mean)
