"""The probability of one class of an image-classification checkpoint, through transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from reelwright.annotate.backends.hub import device_of, hub_file, quiet, refuse_new_weights
from reelwright.annotate.backends.identity import hub_source, model_id
from reelwright.annotate.contract import runtime
from reelwright.annotate.errors import AnnotatorError
from reelwright.errors import first_line


@dataclass(frozen=True)
class ImageClassifier:
    """Which checkpoint (any that AutoModelForImageClassification knows; no code from the hub is run), and its class.

    label: name of the class that counts, as the checkpoint's config spells it. dtype: of the weights.
    device: "auto" is the GPU that the process was given, or its CPU. batch: pictures at once.
    """

    model: str = runtime("")  # `id` stands for it in fingerprints
    revision: str = runtime("")
    label: str = "watermark"
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    device: str = runtime("auto")
    batch: int = runtime(32)

    __pydantic_config__ = {"extra": "forbid"}  # a misspelt key in a recipe is an error

    @property
    def id(self) -> str:
        """Id that changes with the weights; nothing is loaded to find it."""
        return model_id(self.model, self.revision) if self.model else "none"

    @property
    def from_hub(self) -> tuple[str, str] | None:
        """The model and revision to load from a hub."""
        return hub_source(self.model, self.revision)


class Classifier:
    """A checkpoint, loaded by its first pictures."""

    def __init__(self, which: ImageClassifier) -> None:
        self.which = which

    def __call__(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities, float32 [N], of uint8 [H, W, 3] RGB frames."""
        size = self.which.batch
        return np.concatenate([self._probabilities(frames[i : i + size]) for i in range(0, len(frames), size)])

    def _probabilities(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        import torch

        column = self._column
        config = self._model.config
        pixels = self._processor(images=list(frames), input_data_format="channels_last", return_tensors="pt")
        with torch.inference_mode():
            logits = self._model(pixels["pixel_values"].to(self._model.device, self._model.dtype)).logits
        several = config.problem_type == "multi_label_classification"  # each class has a probability of its own
        odds = logits.float().sigmoid() if several else logits.float().softmax(dim=-1)
        return odds[:, column].cpu().numpy()

    @cached_property
    def _column(self) -> int:
        names = {str(name): int(k) for k, name in self._model.config.id2label.items()}
        if self.which.label not in names:
            classes = ", ".join(repr(name[:40]) for name in list(names)[:20])
            raise AnnotatorError(
                f"classifier.label = {self.which.label!r} is no class of {self.which.model!r}; it has {classes}."
            )
        return names[self.which.label]

    @cached_property
    def _model(self) -> Any:
        import torch
        from transformers import AutoModelForImageClassification

        model, report = self._load(
            AutoModelForImageClassification,
            dtype=getattr(torch, self.which.dtype),
            use_safetensors=True,
            output_loading_info=True,
        )
        refuse_new_weights(self.which.model, report, "classifier.model")
        return model.to(device_of(self.which.device)).eval()

    @cached_property
    def _processor(self) -> Any:
        from transformers import AutoImageProcessor

        # their PIL forms, as the others need torchvision; releases before 5 call it so
        form = {"backend": "pil"} if _release() >= 5 else {"use_fast": False}
        return self._load(AutoImageProcessor, **form)

    def _load(self, kind: Any, **more: Any) -> Any:
        if not self.which.model:
            raise AnnotatorError(
                "no image classifier is named; set classifier.model to a checkpoint's folder or id on the hub, "
                "and classifier.label to its class."
            )
        hub_file(self.which.model, "config.json", self.which.revision, "classifier.model")
        quiet()
        try:
            return kind.from_pretrained(self.which.model, revision=self.which.revision or None, **more)
        except (OSError, ValueError, KeyError) as error:
            raise AnnotatorError(
                f"the classifier {self.which.model!r} cannot be loaded ({first_line(error)}); set classifier.model."
            ) from error


def _release() -> int:
    import transformers

    return int(transformers.__version__.partition(".")[0])
