"""Checkpoints as VideoAlign publishes them: settings, and weights in one of two forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from reelwright.training.errors import TrainError
from reelwright.training.rewards.qwen2_vl.files import hub_folder, read_base_tensors, read_json, read_tensors
from reelwright.training.rewards.qwen2_vl.lora import Rank, merge
from reelwright.training.rewards.qwen2_vl.network import EMBEDDING
from reelwright.training.rewards.qwen2_vl.weight_names import common_names

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SETTINGS = "model_config.json"
FULL = "model.pth"
ADAPTER, REST = "adapter_model.safetensors", "non_lora_state_dict.pth"
UNDERSTOOD = {  # section and key -> the published value, as others read the model in another way
    ("data_config", "prompt_template_type"): "detailed_special",
    ("data_config", "sample_type"): "uniform",
    ("data_config", "num_frames"): None,
    ("model_config", "reward_token"): "special",
    ("model_config", "output_dim"): 3,
}


@dataclass(frozen=True)
class Settings:
    """What `model_config.json` says of scoring.

    per_second: frames to look at. max_pixels: of a frame. inference: mean and deviation of each dimension, or nothing,
    and then scores are as they come. lora: of the adapters, if there are any.
    """

    per_second: float
    max_pixels: int
    inference: Mapping[str, float]
    lora: Rank | None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the settings. Raises TrainError where they are not the published kind."""
        found = read_json(path)
        for (section, key), value in UNDERSTOOD.items():
            if (own := found.get(section, {}).get(key, value)) != value:
                raise TrainError(f"{path}: {section}.{key} = {own!r}; only models with {value!r} are understood")
        data, lora = found.get("data_config", {}), found.get("peft_lora_config") or {}
        try:
            inference = {key: float(value) for key, value in (found.get("inference_config") or {}).items()}
            rank = Rank.of(lora) if lora.get("lora_enable") else None
            return cls(float(data["fps"]), int(data["max_frame_pixels"]), inference, rank)
        except (KeyError, TypeError, ValueError) as error:
            raise TrainError(f"{path} lacks a setting or has another form ({error!r}); download it again") from error

    def normalised(self, dimension: str, raw: float) -> float:
        """Return a score in deviations from the mean of the model's own training data."""
        if not self.inference:
            return raw
        return (raw - self.inference[f"{dimension}_mean"]) / self.inference[f"{dimension}_std"]


@dataclass(frozen=True)
class Checkpoint:
    """A `checkpoint-<step>` folder, and the settings beside it."""

    folder: Path
    settings: Settings

    @classmethod
    def find(cls, checkpoint: str, revision: str, step: int) -> Self:
        """Return a checkpoint of a folder or of a hub's model.

        Args:
            checkpoint: the folder with model_config.json, or an id on the hub.
            revision: of the hub's model.
            step: of the checkpoint; 0: the last.

        Raises:
            TrainError: there is none, or none of this step.
        """
        folder = hub_folder(checkpoint, revision, [SETTINGS, "checkpoint-*/*"], "checkpoint")
        there = {int(f.name.partition("-")[2]): f for f in folder.glob("checkpoint-*") if f.name[11:].isdigit()}
        wanted = step or max(there, default=0)
        if wanted not in there:
            steps = ", ".join(map(str, sorted(there))) or "none"
            raise TrainError(f"{folder} holds no checkpoint-{step or '<step>'} (steps there: {steps}); set step")
        return cls(there[wanted], Settings.read(folder / SETTINGS))

    @property
    def is_full(self) -> bool:
        """Whether it holds all weights, and needs none of its base."""
        return (self.folder / FULL).is_file()

    @property
    def files(self) -> list[Path]:
        """The files that decide scores."""
        own = [FULL] if self.is_full else [ADAPTER, REST]
        return [self.folder.parent / SETTINGS, *(self.folder / name for name in own)]

    def weights(self, base: str, revision: str, dtype: torch.dtype) -> dict[str, Tensor]:
        """Return all weights by common names, adapters merged.

        Args:
            base: the model that was tuned, whose weights are read where the checkpoint holds only what was trained.
            revision: of the hub's base.
            dtype: of merged weights.

        Raises:
            TrainError: a file is missing or damaged, or an adapter does not fit.
        """
        _, *files = self.files
        if absent := [file.name for file in files if not file.is_file()]:
            raise TrainError(f"{self.folder} holds neither {FULL} nor {' and '.join(absent)}; download the checkpoint")
        found: dict[str, Tensor] = {}
        if not self.is_full:
            found = common_names(read_base_tensors(base, revision), base)
            found.pop(EMBEDDING, None)  # it lacks the rows of the added tokens, which were trained
        for file in files:
            found |= common_names(read_tensors(file), str(file))
        return merge(found, self.settings.lora, dtype)
