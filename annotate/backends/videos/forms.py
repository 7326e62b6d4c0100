"""The form of each class of models, and the processor that renders its chats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reelwright.annotate.backends.videos.form import VideoForm
from reelwright.annotate.backends.videos.llava_onevision import LlavaOnevisionForm
from reelwright.annotate.backends.videos.qwen2_5_vl import Qwen25VLForm

FORMS: Mapping[str, type[VideoForm]] = {"qwen2_5_vl": Qwen25VLForm, "llava_onevision": LlavaOnevisionForm}
"""By `model_type` of config.json."""


def form_of(model: str, revision: str, config: Any) -> VideoForm | None:
    """Return how a model is shown videos; None of a class that is not known.

    Args:
        model: a folder, or an id on the hub.
        revision: of the hub's model.
        config: of the model.
    """
    from transformers import AutoImageProcessor

    kind = FORMS.get(config.model_type)
    if kind is None:
        return None
    images = AutoImageProcessor.from_pretrained(model, revision=revision or None, backend="pil")
    return kind(config, images)  # type: ignore[call-arg]


def pictures_processor(model: str, revision: str, config: Any) -> Any:
    """Return a model's processor without its video processor, which needs torchvision; `form_of` stands for that."""
    from transformers import AutoImageProcessor, AutoTokenizer
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    kind = PROCESSOR_MAPPING[type(config)]

    class ImagesOnly(kind):  # type: ignore[misc, valid-type]
        """The model's processor without the video processor, which needs torchvision."""

        def check_argument_for_proper_class(self, name: str, argument: Any) -> Any:
            return None if argument is None else super().check_argument_for_proper_class(name, argument)

    parts = {
        "image_processor": AutoImageProcessor.from_pretrained(model, revision=revision or None, backend="pil"),
        "tokenizer": AutoTokenizer.from_pretrained(model, revision=revision or None),
    }
    settings, _ = kind.get_processor_dict(model, revision=revision or None)
    return ImagesOnly.from_args_and_dict([parts.get(name) for name in kind.get_attributes()], settings)
