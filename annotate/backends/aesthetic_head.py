"""The layers of an aesthetics predictor, read from safetensors."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from reelwright.annotate.backends.hub import hub_file
from reelwright.annotate.backends.identity import hub_source, model_id
from reelwright.annotate.contract import runtime
from reelwright.annotate.errors import AnnotatorError
from reelwright.errors import first_line

PUBLISHED = "ttj/sac-logos-ava1-l14-linearMSE"  # the weights of sac+logos+ava1-l14-linearMSE.pth as safetensors
KNOWN = {PUBLISHED: "1e77fa05081323d99725fc40a9bf9f88180490e7"}  # the revision meant where none is named
CONVERT = (
    "python -c \"import sys, torch, safetensors.torch as s; s.save_file(torch.load(sys.argv[1], weights_only=True), "
    'sys.argv[2])" head.pth head.safetensors'
)


@dataclass(frozen=True)
class HeadFile:
    """Where the layers lie: a .safetensors file, or `file` in a folder or at a hub's id and revision.

    activation: between the layers. The published ones have none, though five (they were trained with dropout alone,
        which does nothing here), but for those with relu in their name.
    """

    model: str = runtime(PUBLISHED)
    file: str = runtime("model.safetensors")
    revision: str = runtime("")
    activation: Literal["none", "relu"] = "none"

    __pydantic_config__ = {"extra": "forbid"}  # a misspelt key in a recipe is an error

    def __post_init__(self) -> None:
        for name in (self.model, self.file):
            if Path(name).suffix in (".pth", ".pt", ".bin", ".ckpt"):
                raise ValueError(f"head: {name!r} is a pickle, which can run code; convert it once: {CONVERT}")

    @property
    def id(self) -> str:
        """Id that changes with the loaded weights."""
        path = Path(self.model).expanduser()
        if path.exists():
            return f"{self._path.stem}#{hashlib.sha256(self._path.read_bytes()).hexdigest()[:16]}"
        return f"{model_id(self.model, self._pinned)}/{self.file}"

    @property
    def from_hub(self) -> tuple[str, str] | None:
        """The model and revision to load from a hub."""
        return None if Path(self.model).expanduser().is_file() else hub_source(self.model, self._pinned)

    def load(self, dim: int) -> AestheticHead:
        """Return the layers, for embeddings of this length. Raises AnnotatorError where they are something else."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            found = load_file(self._path)
        except (SafetensorError, OSError) as error:
            raise AnnotatorError(f"head.model: {self._path} is not safetensors ({first_line(error)}).") from error
        weights = {name: tensor.float().numpy() for name, tensor in found.items()}
        return AestheticHead(_layers(weights, dim, str(self._path)), self.activation)

    @property
    def _path(self) -> Path:
        path = Path(self.model).expanduser()
        return path if path.is_file() else hub_file(self.model, self.file, self._pinned, "head.model and head.file")

    @property
    def _pinned(self) -> str:
        return self.revision or KNOWN.get(self.model, "")


class AestheticHead:
    """Affine layers (weight float32 [out, in], bias [out]) one after another; the last makes one number."""

    def __init__(self, layers: list[tuple[np.ndarray, np.ndarray]], activation: str = "none") -> None:
        self.layers = layers
        self.activation = activation

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        """Scores, float32 [N], of embeddings, float32 [N, dim]."""
        found = embeddings
        for k, (weight, bias) in enumerate(self.layers):
            found = found @ weight.T + bias
            if self.activation == "relu" and k + 1 < len(self.layers):
                found = np.maximum(found, 0)
        return found[:, 0]


def _layers(weights: dict[str, np.ndarray], dim: int, where: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """`layers.0.weight`, `layers.0.bias`, `layers.2.weight`, ... in order of their numbers, or `weight` and `bias`."""
    names = sorted((n for n in weights if re.fullmatch(r"(.*\.)?weight", n)), key=_number)
    used = {n.removesuffix("weight") + kind for n in names for kind in ("weight", "bias")}
    if odd := sorted(used ^ weights.keys()):
        raise AnnotatorError(f"head.model: {where} holds no aesthetics predictor: it lacks or has over {odd[0]!r}.")
    layers = [(weights[n], weights[n.removesuffix("weight") + "bias"]) for n in names]
    sizes = [dim, *(len(bias) for _, bias in layers)]
    fits = all(w.shape == (out, size) for (w, _), (size, out) in zip(layers, pairwise(sizes), strict=True))
    if not layers or not fits or sizes[-1] != 1:
        shapes = ", ".join("x".join(map(str, w.shape)) for w, _ in layers)
        raise AnnotatorError(
            f"head.model: the layers of {where} ({shapes or 'none'}) do not lead from an embedding's {dim} numbers "
            "to one; set head and clip to a pair that was trained together."
        )
    return layers


def _number(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", name))
