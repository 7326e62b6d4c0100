"""Write a LoRA in the forms that others load: diffusers (PEFT), FastVideo, ComfyUI, kohya.

| form | keys | fused layers | scale |
|---|---|---|---|
| diffusers | `transformer.` + published layer, `.lora_A.weight`, `.lora_B.weight` | lora_B block-diagonal | in lora_B |
| fastvideo | FastVideo's layer, `.lora_A`, `.lora_B`, `.lora_alpha` | q, k, v apart | alpha if whole, else in lora_B |
| comfyui | `diffusion_model.` + ComfyUI's layer, `.lora_down.weight`, `.lora_up.weight`, `.alpha` | apart | alpha |
| kohya | `lora_unet_` + ComfyUI's layer with underscores for dots, as above | apart | alpha |

Readers divide alpha by the rows of the first matrix. diffusers files have no alpha: PEFT takes it from the header's
`lora_adapter_metadata`, which other readers of the same keys (DiffSynth-Studio, VideoX-Fun) do not look at, so the
scale is in lora_B, and the header says alpha = rank for each layer. FastVideo cuts alpha to an integer. Sources:
huggingface/diffusers 58eb52c0 (loaders/peft.py, utils/peft_utils.py), Comfy-Org/ComfyUI 17358c8 (comfy/lora.py),
FastVideo 2f3d407 (layers/lora/linear.py), and those of `reelwright.model.weights.names`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from reelwright.model.lora.layer_weights import LayerWeights
from reelwright.model.weights.names import COMFYUI, FASTVIDEO, LayerNames, names_there


@dataclass(frozen=True)
class Form:
    """How a LoRA file of others names and scales.

    names: of layers; None: as published, fused layers whole. alpha: suffix of its own tensor; "": the scale is in `up`.
    """

    file: str
    names: LayerNames | None
    prefix: str
    down: str
    up: str
    alpha: str = ""
    whole_alpha: bool = False
    underscores: bool = False


_KOHYA = (".lora_down.weight", ".lora_up.weight", ".alpha")
FORMS: Mapping[str, Form] = {
    "diffusers": Form("pytorch_lora_weights.safetensors", None, "transformer.", ".lora_A.weight", ".lora_B.weight"),
    "fastvideo": Form("lora.safetensors", FASTVIDEO, "", ".lora_A", ".lora_B", alpha=".lora_alpha", whole_alpha=True),
    "comfyui": Form("lora.safetensors", COMFYUI, "diffusion_model.", *_KOHYA),
    "kohya": Form("lora.safetensors", COMFYUI, "lora_unet_", *_KOHYA, underscores=True),
}


@dataclass(frozen=True)
class Pair:
    """A layer's two matrices there: low [rank, in], high [out, rank]; the update is scale · high @ low."""

    low: Tensor
    high: Tensor
    scale: Tensor


def to_form(layers: Mapping[str, LayerWeights], form: Form) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return (tensors, header) of a file in a form of others; layers are named as published."""
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    for layer, weights in layers.items():
        names = names_there(layer, form.names) if form.names is not None else (layer,)
        for name, pair in zip(names, _pairs(weights, len(names)), strict=True):
            key = form.prefix + (name.replace(".", "_") if form.underscores else name)
            tensors |= _tensors(key, pair, form)
            ranks[name] = pair.low.shape[0]
    header = {"format": "pt"}
    if form.names is None:
        header["lora_adapter_metadata"] = json.dumps(_peft_config(ranks, form.prefix), sort_keys=True)
    return tensors, header


def _pairs(weights: LayerWeights, count: int) -> list[Pair]:
    """One pair per layer there. A single one for a fused layer has a block-diagonal `high` of all ranks."""
    if count == len(weights.ups):
        lows = weights.down.chunk(count)
        return [Pair(low, high, weights.scale) for low, high in zip(lows, weights.ups, strict=True)]
    whole = weights.ups[0] if len(weights.ups) == 1 else torch.block_diag(*weights.ups)
    return [Pair(weights.down, high, weights.scale) for high in whole.chunk(count)]


def _tensors(key: str, pair: Pair, form: Form) -> dict[str, Tensor]:
    """Return contiguous copies: several keys never share bytes in a file."""
    rank = pair.low.shape[0]
    alpha = float(pair.scale.float() * rank)  # rounded to fp32, as scale is: 1/3 of rank 48 is 16
    folds = not form.alpha or (form.whole_alpha and not alpha.is_integer())
    high = (pair.high.float() * float(pair.scale)).to(pair.high.dtype) if folds else pair.high
    found = {key + form.down: pair.low.clone(), key + form.up: high.clone()}
    if form.alpha:
        found[key + form.alpha] = torch.tensor(float(rank) if folds else alpha)
    return found


def _peft_config(ranks: Mapping[str, int], prefix: str) -> dict[str, object]:
    """PEFT's LoraConfig, its keys prefixed as diffusers asks.

    Ranks differ between fused and other layers, and diffusers before 0.42 takes one alpha for all where the header does
    not say otherwise. Patterns are regular expressions from the start of a name (`^`), or `proj` would match any.
    """
    rank = max(set(ranks.values()), key=list(ranks.values()).count)
    others = {f"^{name}": r for name, r in ranks.items() if r != rank}
    config = {"r": rank, "lora_alpha": rank, "rank_pattern": others, "alpha_pattern": others}
    return {prefix + k: v for k, v in (config | {"target_modules": sorted(ranks)}).items()}
