"""The three uses: captioner, judge, reward. Each brings its objective, network, measures and files."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reelwright.annotate.chat.material import as_material, boundary_of
from reelwright.annotate.chat.prompts import load_prompt
from reelwright.training.distributed.world import World
from reelwright.training.tuning.answers import Answers
from reelwright.training.tuning.base import Base
from reelwright.training.tuning.feed import Feed
from reelwright.training.tuning.objective import TuneObjective
from reelwright.training.tuning.recipe import CaptionerRecipe, JudgeRecipe, RewardRecipe, TuneRecipe
from reelwright.training.tuning.samples import Item, Sample, Turn, VideoRef
from reelwright.training.tuning.videos import Seen

if TYPE_CHECKING:
    from torch import Tensor

HELD_OUT = "held_out.jsonl"


class Use(ABC):
    """A use of one loaded model."""

    objective: TuneObjective[Any]

    def __init__(self, base: Base) -> None:
        """Take the loaded model."""
        self.base = base

    tuned_on: Sequence[str] = ()
    """Ids of the generations that are trained on."""
    learnt: Sequence[str] = ()
    """Dimensions of the judgements that are trained on."""

    @property
    def words(self) -> tuple[str, ...]:
        """Ids of the texts that decide what is asked, for lineage."""
        return ()

    def network(self) -> Any:
        """Return what is trained."""
        return self.base.model

    def vlm_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the trained weights of the vision-language model, by its own names."""
        return weights

    def blank(self) -> Any:
        """Return a small example, for ranks that have none in a pass."""
        seen = Seen(np.zeros((2, 56, 56, 3), np.uint8), 1.0)
        return self.objective.example(self._blank_item(), [seen] * len(self._blank_item().videos))

    @abstractmethod
    def measure(
        self, network: Any, feed: Feed[Any], held: Sequence[Item], world: World, folder: Path
    ) -> dict[str, Any]:
        """Return figures of held-out samples; their rows go to held_out.jsonl."""

    def write(self, folder: Path, weights: dict[str, Tensor], measured: dict[str, Any]) -> None:
        """Write what the tuned model needs beside its weights."""
        return None

    @abstractmethod
    def _blank_item(self) -> Item: ...


class Captioner(Use):
    """Answers the caption's question, or the questions of conversations."""

    def __init__(self, recipe: CaptionerRecipe, base: Base) -> None:
        """Take recipe and model."""
        super().__init__(base)
        self.recipe = recipe
        self.objective: Answers = Answers(base.template, base.form, self._ask)

    @property
    def words(self) -> tuple[str, ...]:
        """The prompt."""
        return (load_prompt(self.recipe.prompt).fingerprint,)

    def measure(
        self, network: Any, feed: Feed[Any], held: Sequence[Item], world: World, folder: Path
    ) -> dict[str, Any]:
        """Answer held-out questions with and without what was learnt, greedily, from the same frames."""
        from reelwright.training.tuning.predict import answer, without_adapters

        items = [item for item in held if isinstance(item, Sample)]
        longest = self.recipe.max_new_tokens
        after = answer(network, self.objective, feed, items, world, max_new_tokens=longest)
        with without_adapters(network):
            before = answer(network, self.objective, feed, items, world, max_new_tokens=longest)
        said = [item.answer or next(t.text for t in item.turns if t.role == "assistant") for item in items]
        rows = [
            {"key": item.key, "video": item.video.name, "reference": text, "answer": new, "before": old}
            for item, text, new, old in zip(items, said, after, before, strict=True)
        ]
        write_rows(folder, rows, world)
        read = [row for row in rows if row["answer"] is not None]
        return {
            "answers": len(read), "unreadable": len(rows) - len(read),
            "same_as_reference": _mean([row["answer"] == row["reference"] for row in read]),
            "same_as_reference_before": _mean([row["before"] == row["reference"] for row in read]),
            "empty": _mean([not row["answer"] for row in read]),
            "words": _mean([len((row["answer"] or "").split()) for row in read]),
            "words_before": _mean([len((row["before"] or "").split()) for row in read]),
        }  # fmt: skip

    def _ask(self, item: Sample, frames: int, seconds: float) -> tuple[Turn, ...]:
        """Ask as the annotator `caption` does."""
        prompt = load_prompt(self.recipe.prompt)
        text = prompt.filled(count=frames, duration=f"{seconds:.1f}")
        return (*([Turn("system", prompt.system)] if prompt.system else []), Turn("user", text))

    def _blank_item(self) -> Sample:
        return Sample("blank", VideoRef("file", ""), (Turn("user", "?"), Turn("assistant", "a")))


class JudgeUse(Use):
    """Answers a judge's question with a digit of the scale."""

    def __init__(self, recipe: JudgeRecipe, base: Base) -> None:
        """Take recipe and model."""
        super().__init__(base)
        self.recipe = recipe
        self.objective: Answers = Answers(base.template, base.form, self._ask)
        self._calibration: dict[str, Any] = {}

    @property
    def words(self) -> tuple[str, ...]:
        """The prompt."""
        return (load_prompt(self.recipe.prompt).fingerprint,)

    def measure(
        self, network: Any, feed: Feed[Any], held: Sequence[Item], world: World, folder: Path
    ) -> dict[str, Any]:
        """Judge held-out generations, and compare with people's means; half of them calibrate the other half."""
        from reelwright.training.tuning.calibration import judged_figures
        from reelwright.training.tuning.predict import expected_digits, without_adapters

        scale = range(self.recipe.lowest, self.recipe.highest + 1)
        level = {str(digit): 1 / len(scale) for digit in scale}
        items = [item for item in held if isinstance(item, Sample) and item.digits]
        asked = [replace(item, digits=level) for item in items]
        after = expected_digits(network, self.objective, feed, asked, world.device, scale)
        with without_adapters(network):
            before = expected_digits(network, self.objective, feed, asked, world.device, scale)
        rows = [
            {"key": item.key, "generation_id": item.video.name, "group": item.group, "dimension": item.dimension,
             "human": sum(int(digit) * share for digit, share in item.digits.items()), "judge": new, "before": old}
            for item, new, old in zip(items, after, before, strict=True)
        ]  # fmt: skip
        figures, self._calibration = judged_figures(rows, self.recipe.calibration, self.recipe.seed)
        write_rows(folder, rows, world)
        return figures

    def write(self, folder: Path, weights: dict[str, Tensor], measured: dict[str, Any]) -> None:
        """Write judge.json: how it was asked about what it has learnt, and its calibration by dimension."""
        from reelwright.training.tuning.judge_file import write_judge

        aspects = {name: words for name, words in self.recipe.aspects.items() if name in self.learnt}
        write_judge(folder, {
            "prompt": self.words[0], "aspects": aspects, "scale": [self.recipe.lowest, self.recipe.highest],
            "sampling": self.recipe.model_dump(mode="json")["sampling"], "calibration": self._calibration,
            "tuned_on": list(self.tuned_on),
        })  # fmt: skip

    def _ask(self, item: Sample, frames: int, seconds: float) -> tuple[Turn, ...]:
        """Ask as the reward `judge` does."""
        prompt, shown = load_prompt(self.recipe.prompt), as_material(item.prompt)
        text = prompt.filled(
            count=frames, duration=f"{seconds:.1f}", aspect=self.recipe.aspects[item.dimension], prompt=shown,
            boundary=boundary_of(shown), lowest=self.recipe.lowest, highest=self.recipe.highest,
        )  # fmt: skip
        return (*([Turn("system", prompt.system)] if prompt.system else []), Turn("user", text))

    def _blank_item(self) -> Sample:
        turns = (Turn("user", "?"), Turn("assistant", "a"))
        return Sample("blank", VideoRef("file", ""), turns)


class RewardUse(Use):
    """Scores a video in each dimension."""

    def __init__(self, recipe: RewardRecipe, base: Base) -> None:
        """Take recipe and model."""
        from reelwright.training.tuning.preference import Preferences

        super().__init__(base)
        self.recipe = recipe
        self.objective: Preferences = Preferences(base.template, base.form, recipe)

    def network(self) -> Any:
        """Return the model with a head."""
        from reelwright.training.tuning.preference import Scorer

        return Scorer(self.base.model, len(self.recipe.dimensions))

    def vlm_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return all but the head's."""
        return {name.removeprefix("vlm."): weight for name, weight in weights.items() if name.startswith("vlm.")}

    def measure(
        self, network: Any, feed: Feed[Any], held: Sequence[Item], world: World, folder: Path
    ) -> dict[str, Any]:
        """Score held-out pairs, and compare with people's choices."""
        from reelwright.training.tuning.chosen import chosen_figures, score_pairs

        rows = score_pairs(network, self.objective, feed, held, world)
        write_rows(folder, rows, world)
        return chosen_figures(rows, self.recipe.dimensions, self.recipe.tie)

    def write(self, folder: Path, weights: dict[str, Tensor], measured: dict[str, Any]) -> None:
        """Write the head, and reward.json: what decides a score beside the weights."""
        from safetensors.torch import save_file

        head = {name.removeprefix("head."): weight for name, weight in weights.items() if name.startswith("head.")}
        save_file(head, folder / "head.safetensors")
        recipe = self.recipe.model_dump(mode="json")
        kept = ("dimensions", "tie", "grey", "question", "sampling", "jpeg_quality")
        told = {"format": 1, **{name: recipe[name] for name in kept}, "normal": measured.get("normal", {})}
        (folder / "reward.json").write_text(json.dumps(told, indent=1), encoding="utf-8")

    def _blank_item(self) -> Item:
        from reelwright.training.tuning.samples import Pair

        return Pair("blank", VideoRef("file", "a"), VideoRef("file", "b"), "", {self.recipe.dimensions[0]: 0})


def use_of(name: str, recipe: TuneRecipe, base: Base) -> Use:
    """Return the use of a recipe. name: captioner, judge or reward."""
    if isinstance(recipe, CaptionerRecipe):
        return Captioner(recipe, base)
    if isinstance(recipe, JudgeRecipe):
        return JudgeUse(recipe, base)
    assert isinstance(recipe, RewardRecipe), name
    return RewardUse(recipe, base)


def write_rows(folder: Path, rows: Sequence[dict[str, Any]], world: World) -> None:
    """Write the rows of held-out samples; the first rank does."""
    if world.is_first:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / HELD_OUT).write_text(text, encoding="utf-8")


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
