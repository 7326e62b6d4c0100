"""Recipes of `reel tune`: one class per use, with what they share."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from reelwright.annotate.chat.frame_times import FrameSampling
from reelwright.recipe_files import load

_NAMED_ELSEWHERE = {
    "base": ("model", "revision"), "data": ("sql", "jsonl", "videos", "workers"), "compute": ("device",),
}  # fmt: skip


class Section(BaseModel):
    """A part of a recipe; a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BaseConfig(Section):
    """The model that is tuned."""

    model: str = Field("Qwen/Qwen2.5-VL-7B-Instruct", description="folder or hub id: Qwen2.5-VL or LLaVA-OneVision")
    revision: str = Field("", description="of the hub's model")
    dtype: Literal["bfloat16", "float32"] = Field("bfloat16", description="of frozen weights; trained ones are fp32")


class LoraConfig(Section):
    """Low-rank adapters on the language model's linear layers (Hu et al., 2021), by PEFT."""

    rank: int = Field(16, ge=1)
    alpha: float = Field(32.0, gt=0, description="the adapter is scaled by alpha / rank")
    dropout: float = Field(0.05, ge=0, lt=1)
    layers: tuple[str, ...] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"), min_length=1,
        description="names of linear layers in a block of the language model",
    )  # fmt: skip
    vision: bool = Field(False, description="train the vision tower and its merger too, at vision_rate times the rate")
    vision_rate: float = Field(0.1, gt=0)


class DataConfig(Section):
    """Samples: from SQL over the store, from JSON lines, or both."""

    sql: str = Field("", description="one SELECT over the store; its columns are in docs/tuning.md")
    jsonl: tuple[str, ...] = Field((), description=".jsonl or .json files of conversations about videos")
    videos: str = Field("", description="folder that the files' video paths are in; default: each file's own")
    holdout: float = Field(0.1, ge=0, lt=1, description="share that is not trained on; sources are never split")
    max_tokens: int = Field(8192, ge=16, description="a longer sample is left out, and counted")
    workers: int = Field(4, ge=1, description="sandboxes that decode, per rank")


class OptimConfig(Section):
    """AdamW with a warm-up and a cosine to nothing."""

    lr: float = Field(1e-4, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float = Field(1.0, gt=0)
    warmup: float = Field(0.03, ge=0, lt=1, description="share of the steps")
    schedule: Literal["cosine", "constant"] = "cosine"


class ComputeConfig(Section):
    """How a step is computed."""

    precision: Literal["bf16", "fp32"] = Field("bf16", description="of products; bf16 is autocast's")
    per_forward: int = Field(1, ge=1, description="samples of one forward pass; LLaVA-OneVision takes one")
    checkpointing: bool = Field(True, description="compute activations again in the backward pass")
    device: str = Field("", description='"" is the GPU where there is one')


class TuneRecipe(Section):
    """What every use has."""

    base: BaseConfig = BaseConfig()
    lora: LoraConfig = LoraConfig()
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    compute: ComputeConfig = ComputeConfig()
    sampling: FrameSampling = Field(FrameSampling(), description="frames that the model is shown")
    jpeg_quality: int = Field(90, ge=0, le=100, description="of frames, which chats show as JPEG; 0: as decoded")
    steps: int = Field(1000, ge=1)
    samples_per_step: int = Field(16, ge=1)
    seed: int = 0
    save_every: int = Field(200, ge=1, description="steps between checkpoints, of which the last two stay")
    log_every: int = Field(10, ge=1)
    measured: int = Field(200, ge=0, description="held-out samples that are measured at the end, at most")
    merge: bool = Field(True, description="write the tuned model whole, beside its adapter")

    @property
    def fingerprint(self) -> str:
        """16 hex digits over all settings that decide the weights; model and data have ids of their own."""
        kept = self.model_dump(mode="json", exclude={"save_every", "log_every", "measured", "merge"})
        for section, names in _NAMED_ELSEWHERE.items():
            for name in names:
                kept[section].pop(name)
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


class CaptionerRecipe(TuneRecipe):
    """A captioner: the store's captions, or conversations, become what it answers."""

    prompt: str = Field("caption", description="question about the store's clips: a built-in prompt's name, or a file")
    max_new_tokens: int = Field(512, ge=1, description="of an answer that is measured")


class JudgeRecipe(TuneRecipe):
    """A judge: people's scores of a generation become the digit that it answers."""

    prompt: str = Field("judge", description="a built-in prompt's name, or a file like it")
    aspects: dict[str, str] = Field(
        {
            "text_alignment": "how well the video shows what the prompt says",
            "visual_quality": "how good the picture looks",
            "motion_quality": "how natural and steady the motion is",
            "overall": "how well the video shows what the prompt says, and how good it looks",
            "image_alignment": "how well the video keeps to its first frame, which was given",
        },
        min_length=1, description="dimension -> the judgement asked for, in words that follow \"Judge\"",
    )  # fmt: skip
    lowest: int = Field(1, ge=0, le=8)
    highest: int = Field(5, ge=1, le=9)
    calibration: Literal["isotonic", "linear"] = Field("isotonic", description="fitted on half of the held-out scores")


class RewardRecipe(TuneRecipe):
    """A reward: people's choices between two generations become a score per dimension."""

    dimensions: tuple[str, ...] = Field(("overall",), min_length=1)
    tie: float = Field(5.0, gt=1, description="k of Rao and Kupper (1967): strengths within a factor k look alike")
    grey: bool = Field(False, description="show luma alone, so that colour earns nothing")
    question: str = Field(
        "A generator was given this prompt: {prompt}\nWatch the video that it made.",
        description="text of the question; {prompt} is where the prompt goes",
    )

    @model_validator(mode="after")
    def _one_field(self) -> RewardRecipe:
        if self.question.count("{prompt}") != 1:
            raise ValueError("question must hold {prompt} once")
        return self


RECIPES: dict[str, type[TuneRecipe]] = {"captioner": CaptionerRecipe, "judge": JudgeRecipe, "reward": RewardRecipe}


def load_tune_recipe(use: str, path: Path | None, overrides: dict[str, Any] | None = None) -> TuneRecipe:
    """Read a recipe of a use.

    Args:
        use: captioner, judge or reward.
        path: the YAML file; None: the defaults.
        overrides: values by dotted name.

    Raises:
        RecipeError: the file cannot be read, or a setting is unknown or out of range.
    """
    return load(RECIPES[use], path, overrides, example="steps: 1000")
