"""Pictures and texts as vectors of one space, by a CLIP model (Radford et al., 2021) through transformers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from reelwright.annotate.backends.hub import device_of, hub_file, quiet, refuse_new_weights
from reelwright.annotate.backends.identity import hub_source, model_id
from reelwright.annotate.contract import runtime
from reelwright.annotate.errors import AnnotatorError
from reelwright.errors import first_line

# what is known of a hub's model without asking the hub: the revision meant where none is named, length of its vectors
KNOWN = {"openai/clip-vit-large-patch14": ("32bd64288804d66eefd0ccbe215aa642df71cc41", 768)}

MAX_CHARACTERS = 10_000  # of a text; 77 tokens hold far fewer


@dataclass(frozen=True)
class ClipModel:
    """Which CLIP model, and where it runs: parameters of the annotators that look through one.

    model, revision: a folder, or a hub's id at a revision (one of CLIP ViT-L/14 is set where none is named). Not part
        of the parameters' fingerprint, as `id` stands there: the same weights in another folder make the same values.
    dtype: of the weights; float16 and bfloat16 are for GPUs.
    device: "auto" is the GPU that the process was given, or its CPU.
    batch: pictures at once.
    """

    model: str = runtime("openai/clip-vit-large-patch14")
    revision: str = runtime("")
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    device: str = runtime("auto")
    batch: int = runtime(64)

    __pydantic_config__ = {"extra": "forbid"}  # a misspelt key in a recipe is an error

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError("clip.model is empty; name a CLIP model's folder or its id on the hub")
        if self.batch < 1:
            raise ValueError(f"clip.batch = {self.batch}; it must be at least 1")

    @property
    def id(self) -> str:
        """Id that changes with the weights; nothing is loaded to find it."""
        return model_id(self.model, self.pinned)

    @property
    def from_hub(self) -> tuple[str, str] | None:
        """The model and revision to load from a hub."""
        return hub_source(self.model, self.pinned)

    @property
    def pinned(self) -> str:
        """The revision of the weights: the one that was set, else the known one."""
        return self.revision or KNOWN.get(self.model, ("", 0))[0]

    @property
    def dim(self) -> int:
        """Length of its vectors, from its config.json. Raises AnnotatorError where there is no such CLIP model."""
        if not self.revision and self.model in KNOWN and not Path(self.model).is_dir():
            return KNOWN[self.model][1]
        config = json.loads(hub_file(self.model, "config.json", self.pinned, "clip.model").read_text("utf-8"))
        if config.get("model_type") != "clip":
            what = config.get("model_type", "none")
            raise AnnotatorError(f"{self.model!r} holds a model of type {what!r}, not a CLIP model; set clip.model.")
        return int(config.get("projection_dim", 512))  # CLIPConfig's default, which configs leave out


VIT_L_14 = ClipModel()


class ClipEncoder:
    """A CLIP model, loaded by its first use."""

    def __init__(self, clip: ClipModel) -> None:
        self.clip = clip

    def embed_images(self, frames: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        """Return unit vectors, float32 [N, dim], of uint8 [N, H, W, 3] RGB frames, or of N frames of different sizes.

        The model's own preprocessing: bicubic to its size, the middle square, its mean and deviation.
        """
        parts = [frames[i : i + self.clip.batch] for i in range(0, len(frames), self.clip.batch)]
        return _joined([self._images(list(part)) for part in parts], self.clip.dim)

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors, float32 [N, dim]; a text is cut at the model's longest (77 tokens)."""
        parts = [texts[i : i + self.clip.batch] for i in range(0, len(texts), self.clip.batch)]
        return _joined([self._texts(list(part)) for part in parts], self.clip.dim)

    def _images(self, frames: list[np.ndarray]) -> np.ndarray:
        import torch

        pixels = self._processor(images=frames, input_data_format="channels_last", return_tensors="pt")["pixel_values"]
        model = self._model
        with torch.inference_mode():
            seen = model.vision_model(pixel_values=pixels.to(model.device, model.dtype)).pooler_output
            return _unit(model.visual_projection(seen))

    def _texts(self, texts: list[str]) -> np.ndarray:
        import torch

        cut = [text[:MAX_CHARACTERS] for text in texts]
        model = self._model
        longest = model.config.text_config.max_position_embeddings
        tokens = self._tokenizer(cut, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        with torch.inference_mode():
            read = model.text_model(**tokens.to(model.device)).pooler_output
            return _unit(model.text_projection(read))

    @cached_property
    def _processor(self) -> Any:
        import transformers

        # its PIL form, as the torchvision one needs torchvision and resizes a little otherwise; older releases have
        # that form alone, under the plain name
        kind = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
        return self._load(kind)

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import CLIPTokenizerFast

        return self._load(CLIPTokenizerFast)

    @cached_property
    def _model(self) -> Any:
        import torch
        from transformers import CLIPModel as Both

        # whole: the classes of one half take the length of the vectors from that half's config, where it may be absent
        dtype = getattr(torch, self.clip.dtype)
        model, report = self._load(Both, dtype=dtype, use_safetensors=True, output_loading_info=True)
        refuse_new_weights(self.clip.model, report, "clip.model")
        return model.to(device_of(self.clip.device)).eval()

    def _load(self, kind: Any, **more: Any) -> Any:
        hub_file(self.clip.model, "config.json", self.clip.pinned, "clip.model")
        quiet()
        try:
            return kind.from_pretrained(self.clip.model, revision=self.clip.pinned or None, **more)
        except (OSError, ValueError, KeyError) as error:
            raise AnnotatorError(
                f"the CLIP model {self.clip.model!r} cannot be loaded ({first_line(error)}); set clip.model."
            ) from error


def _unit(vectors: Any) -> np.ndarray:
    found = vectors.float().cpu().numpy()
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def _joined(parts: list[np.ndarray], dim: int) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros((0, dim), np.float32)
