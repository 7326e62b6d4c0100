"""Read LoRA files of others: diffusers, PEFT, FastVideo, ComfyUI, kohya and trainers that write like them.

The scale of a layer is its alpha over its rank: of its own tensor (`.alpha`, `.lora_alpha`), else of diffusers' header
(`lora_adapter_metadata`), else 1, as diffusers and ComfyUI take it. Layers of theirs that make one fused layer here are
put together block by block, exactly.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reelwright.model.errors import ModelError
from reelwright.model.lora.layer_weights import LayerWeights
from reelwright.model.weights.their_names import Place, place_of, without_prefixes

_KEY = re.compile(
    r"(?P<layer>.+?)(?:\.lora_(?P<peft>[AB]|down|up)(?:\.(?!bias$)\w+)??(?:\.weight)?"
    r"|[._]lora\.(?P<lora>down|up)\.weight"
    r"|\.(?P<alpha>alpha|lora_alpha)|\.(?P<rank>lora_rank))"
)
_PART = {"A": "low", "down": "low", "B": "high", "up": "high"}
BLOCKS = {"attn.qkv": 3, "cross_attn.kv_linear": 2, "adaLN_modulation.1": 6}
"""Equal parts of rows that a published LoRA may adapt apart; the final layer's modulation has 2."""
READABLE = "published LongCat, diffusers or PEFT, FastVideo, ComfyUI and kohya"


@dataclass(frozen=True)
class Piece:
    """low [rank, in], high [out, rank] of a layer of theirs, scale = alpha / rank."""

    low: Tensor
    high: Tensor
    scale: float


def looks_like_lora(names: Iterable[str]) -> bool:
    """Return whether a file's names belong to a LoRA of another trainer."""
    return any((found := _KEY.fullmatch(name)) and (found["peft"] or found["lora"]) for name in names)


def parse_forms(tensors: Mapping[str, Tensor], header: Mapping[str, str], path: str | Path) -> dict[str, LayerWeights]:
    """Sort a file's tensors by layer of this network.

    Raises:
        ModelError: names of no layout known here, adapters of other kinds, or matrices that do not fit each other.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    others = []
    for key, tensor in tensors.items():
        if not (found := _KEY.fullmatch(key)):
            others.append(key)
            continue
        part = _PART.get(found["peft"] or found["lora"]) or ("alpha" if found["alpha"] else "rank")
        parts.setdefault(found["layer"], {})[part] = tensor
    if others or not parts:
        raise ModelError(
            f"{path}: {len(others)} of {len(tensors)} keys are of no LoRA that can be read ({_some(others)}): two "
            f"matrices per linear layer, in the form of {READABLE}; merge anything else (DoRA, LoHa, LoKr, biases, "
            "whole differences) into the weights where it was made"
        )
    places = {layer: place_of(layer) for layer in parts}
    if unknown := [layer for layer, place in places.items() if place is None]:
        raise ModelError(
            f"{path}: {len(unknown)} of {len(parts)} layers are not named as any layout of this network does "
            f"({_some(unknown)}); LoRAs of {READABLE} are read"
        )
    said = _peft_scales(header)
    gathered: dict[str, dict[Place, Piece]] = {}
    for layer, place in places.items():
        assert place is not None
        pieces = gathered.setdefault(place.layer, {})
        if place in pieces or len({p.of for p in (place, *pieces)}) > 1:
            raise ModelError(f"{path}: {place.layer} is there twice, under names of several layouts ({layer})")
        pieces[place] = _piece(layer, parts[layer], said, path)
    return {layer: _joined(layer, pieces, path) for layer, pieces in sorted(gathered.items())}


def _piece(layer: str, found: Mapping[str, Tensor], said: "_Scales", path: str | Path) -> Piece:
    low, high = found.get("low"), found.get("high")
    if low is None or high is None:
        raise ModelError(f"{path}: {layer} is not whole; it has only {', '.join(sorted(found))}")
    if low.ndim != 2 or high.ndim != 2 or low.shape[0] != high.shape[1]:
        shapes = [tuple(low.shape), tuple(high.shape)]
        raise ModelError(f"{path}: {layer}: ranks do not agree: {shapes}; [rank, in] and [out, rank] are needed")
    rank = low.shape[0]
    scale = float(found["alpha"]) / rank if "alpha" in found else said.scale(layer, rank)
    return Piece(low, high, scale)


def _joined(layer: str, pieces: Mapping[Place, Piece], path: str | Path) -> LayerWeights:
    of = next(iter(pieces)).of
    if of == 1:
        (piece,) = pieces.values()
        return LayerWeights(*_blocks(layer, piece), torch.tensor(piece.scale))
    there = {place.part: piece for place, piece in pieces.items()}
    if len({(p.low.shape[1], p.high.shape[0], p.low.dtype) for p in there.values()}) > 1:
        shapes = {part: (tuple(p.low.shape), tuple(p.high.shape)) for part, p in there.items()}
        raise ModelError(f"{path}: parts of {layer} do not fit each other: {shapes}")
    first = next(iter(there.values()))
    if len(there) == of and all(torch.equal(p.low, first.low) and p.scale == first.scale for p in there.values()):
        return LayerWeights(first.low, [torch.cat([there[i].high for i in range(of)])], torch.tensor(first.scale))
    rank, scale = max(p.low.shape[0] for p in there.values()), max((p.scale for p in there.values()), key=abs)
    padded = [_padded(there.get(i), first, rank, scale) for i in range(of)]
    return LayerWeights(torch.cat([p.low for p in padded]), [p.high for p in padded], torch.tensor(scale))


def _padded(piece: Piece | None, like: Piece, rank: int, scale: float) -> Piece:
    """Fill up with zeros to `rank`, and bring to `scale`; None: a projection that is not adapted."""
    low, high = like.low.new_zeros(rank, like.low.shape[1]), like.high.new_zeros(like.high.shape[0], rank)
    if piece is not None:
        own = piece.low.shape[0]
        low[:own] = piece.low
        high[:, :own] = piece.high if piece.scale == scale else piece.high.float() * (piece.scale / scale)
    return Piece(low, high, scale)


def _blocks(layer: str, piece: Piece) -> tuple[Tensor, list[Tensor]]:
    """Take a block-diagonal `high` of a fused layer apart again; any other is whole."""
    count = 2 if layer.startswith("final_layer.") else BLOCKS.get(layer.partition(".")[2].partition(".")[2], 1)
    (out, rank), high = piece.high.shape, piece.high
    if count > 1 and not out % count and not rank % count:
        ups = [rows.chunk(count, dim=1)[i] for i, rows in enumerate(high.chunk(count))]
        if int(high.count_nonzero()) == sum(int(up.count_nonzero()) for up in ups):
            return piece.low, [up.contiguous() for up in ups]
    return piece.low, [high]


@dataclass(frozen=True)
class _Scales:
    """Read ranks and alphas from diffusers' header."""

    config: Mapping[str, Any]

    def scale(self, layer: str, rank: int) -> float:
        """Alpha over rank of a layer; 1 where nothing is said."""
        if "lora_alpha" not in self.config:
            return 1.0
        bare = without_prefixes(layer)
        alpha = next(
            (a for pattern, a in self.config.get("alpha_pattern", {}).items() if _matches(pattern, bare)),
            self.config["lora_alpha"],
        )
        return float(alpha) / (math.sqrt(rank) if self.config.get("use_rslora") else rank)


def _peft_scales(header: Mapping[str, str]) -> _Scales:
    """Read `lora_adapter_metadata`; its keys have the component's prefix (`transformer.r`)."""
    try:
        said = json.loads(header.get("lora_adapter_metadata", "{}"))
        return _Scales({key.rpartition(".")[2]: value for key, value in said.items()})
    except (ValueError, AttributeError):
        return _Scales({})


def _matches(pattern: str, layer: str) -> bool:
    """Say whether a pattern is for a layer: for its end, or all of it after `^`, as PEFT has it."""
    try:
        return re.fullmatch(rf"(?:.*\.)?(?:{pattern})", layer) is not None
    except re.error:
        return False


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
