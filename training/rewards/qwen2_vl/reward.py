"""Parameters that rewards from a tuned Qwen2-VL share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reelwright.annotate.contract import Resources, runtime
from reelwright.training.rewards.contract import Reward
from reelwright.training.rewards.qwen2_vl.source import Source


@dataclass(frozen=True)
class Qwen2VLReward(Reward):
    """A reward that is read from hidden states of a tuned Qwen2-VL.

    Paths are no part of the fingerprint; `models` stands there for the content of what they name.

    Args:
        checkpoint: a file or folder of this machine, or an id on the hub.
        revision: of the hub's checkpoint.
        base: the Qwen2-VL that was tuned, for its config and tokenizer: a folder or an id on the hub.
        base_revision: of the hub's base.
        instruction: the file with the model's own instruction text, or the installed package that has it.
        instruction_sha256: of that text.
        dtype: of weights and hidden states; heads are float32.
        device: "auto" is the GPU that the process was given, or its CPU.
        batch: pictures or videos per forward.
        gpus: of the process that holds the model.
    """

    checkpoint: str = runtime("")
    revision: str = runtime("")
    base: str = runtime("")
    base_revision: str = runtime("")
    instruction: str = runtime("")
    instruction_sha256: str = ""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    device: str = runtime("auto")
    batch: int = runtime(4)
    gpus: float = runtime(1.0)

    def __post_init__(self) -> None:
        for name in ("checkpoint", "base"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty; set it to a folder or an id on the hub")
        if self.batch < 1:
            raise ValueError(f"batch = {self.batch}; it must be at least 1")

    @property
    def resources(self) -> Resources:
        """A process of its own, with a GPU unless told otherwise."""
        return Resources(gpus=self.gpus, batch=self.batch, own_process=True)

    @property
    def source(self) -> Source:
        """Where its model lies."""
        return Source(
            self.checkpoint,
            self.revision,
            self.base,
            self.base_revision,
            self.instruction,
            self.instruction_sha256,
            self.dtype,
            self.device,
            self.batch,
        )
