"""Models under comparison: how each is named, loaded and sampled, and the identity of its weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelwright.errors import UserError

if TYPE_CHECKING:
    from reelwright.model.sampling.settings import Settings
    from reelwright.pipelines.generate.run import LoadOptions, Source

SPEED = ("cache", "batched", "offload")
"""Settings of a sampler that decide its memory and time, and no pixel."""


@dataclass(frozen=True)
class Model:
    """A model under comparison.

    Args:
        name: in the evaluation.
        path: of its checkpoint or weights.
        options: that it is loaded with.
        settings: task -> how it is sampled.
        fps: of its videos.
        segments: of a video.
        fingerprint: of its weights, adapters included.
        origin: where the weights come from, for the lineage.
    """

    name: str
    path: Path
    options: LoadOptions
    settings: Mapping[str, Settings]
    fps: float
    segments: int
    fingerprint: str
    origin: dict[str, Any] = field(default_factory=dict)

    def deciding(self, task: str) -> dict[str, Any]:
        """Return the settings that decide a video of the task, by name."""
        flat = {name: value for name, value in self.settings[task].flat().items() if name not in SPEED}
        return flat | {"fps": self.fps, "segments": self.segments, "dtype": self.options.dtype}


def named_paths(texts: Sequence[str]) -> list[tuple[str, Path]]:
    """Read NAME=PATH, or PATH, of each model; the name is empty where none is given.

    Raises:
        UserError: a name is empty or given twice.
    """
    found: list[tuple[str, Path]] = []
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or Path(text).exists() or "/" in name:
            name, path = "", text
        elif not name.strip() or not path:
            raise UserError(f"{text!r} names no model; write NAME=PATH, or a PATH alone")
        found.append((name.strip(), Path(path)))
    named = [name for name, _ in found if name]
    for name in named:
        if named.count(name) > 1:
            raise UserError(f"two models are called {name}; give each its own NAME=PATH")
    return found


def default_name(source: Source) -> str:
    """Return the name of a model that got none: its run and step, or the folder of its weights."""
    if not source.is_checkpoint:
        return source.path.absolute().name
    step = str(source.about.get("step", source.path.name))
    return f"{source.path.absolute().parent.parent.name}@{step}"


def fingerprint(source: Source, options: LoadOptions) -> str:
    """Return 16 hex digits over the identity of all weights that a video comes from."""
    from reelwright.training.origins import identity_of

    parts = {
        "network": identity_of(source.path),
        "ema": options.ema,
        "loras": [[identity_of(lora.file), lora.weight] for lora in options.loras],
        "codec": options.codec.model_dump(mode="json") if options.codec else None,
        "text": options.text.model_dump(mode="json") if options.text else None,
        "attention": options.attention.model_dump(mode="json") if options.attention else None,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def distinct(models: Sequence[Model]) -> list[Model]:
    """Check that models have names of their own, and return them. Raises UserError."""
    names: dict[str, Model] = {}
    for model in models:
        other = names.setdefault(model.name, model)
        if other is not model:
            raise UserError(f"{other.path} and {model.path} would both be called {model.name}; write NAME=PATH")
    return list(models)


def on_device(model: Model, device: str) -> Model:
    """Return the model as it is loaded on a device of a worker."""
    return replace(model, options=replace(model.options, device=device))
