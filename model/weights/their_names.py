"""The layer of this network that a name in the files of others means, for reading.

Read by the last part of a name, whatever prefix and separator it has, so that one table serves FastVideo's folders,
LoRAs of ComfyUI, kohya, PEFT and diffusers, and those of other trainers of the published network (VideoX-Fun,
DiffSynth-Studio). Underscores for dots cannot be undone by rule (`q_linear`), hence the look-up. Written from their
side, apart from `reelwright.model.weights.names`: each checks the other.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

PREFIXES = (
    "base_model.model.", "pipe.dit.", "transformer.", "model.diffusion_model.", "diffusion_model.", "model.", "dit.",
    "lora_unet__", "lora_unet_", "lora_transformer_", "lycoris_",
)  # fmt: skip
ANCHORS = {"patch_embed.proj.weight": "FastVideo", "patch_embedding.weight": "ComfyUI"}
"""A tensor that every checkpoint of the whole network has in a layout, and the name of the layout."""


@dataclass(frozen=True)
class Place:
    """Part `part` of `of` equal parts of a layer's rows: (`blocks.0.attn.qkv`, 1, 3) is the keys' projection."""

    layer: str
    part: int = 0
    of: int = 1


_BLOCK = {
    "adaLN_modulation_1": ("adaLN_modulation.1", 0, 1),
    "adaln_linear_1": ("adaLN_modulation.1", 0, 1),
    "modulation_1": ("adaLN_modulation.1", 0, 1),
    "attn_qkv": ("attn.qkv", 0, 1),
    "attn_proj": ("attn.proj", 0, 1),
    "attn_q_norm": ("attn.q_norm", 0, 1),
    "attn_k_norm": ("attn.k_norm", 0, 1),
    "self_attn_to_q": ("attn.qkv", 0, 3),
    "self_attn_to_k": ("attn.qkv", 1, 3),
    "self_attn_to_v": ("attn.qkv", 2, 3),
    "self_attn_to_out": ("attn.proj", 0, 1),
    "self_attn_q_norm": ("attn.q_norm", 0, 1),
    "self_attn_k_norm": ("attn.k_norm", 0, 1),
    "self_attn_q": ("attn.qkv", 0, 3),
    "self_attn_k": ("attn.qkv", 1, 3),
    "self_attn_v": ("attn.qkv", 2, 3),
    "self_attn_o": ("attn.proj", 0, 1),
    "self_attn_norm_q": ("attn.q_norm", 0, 1),
    "self_attn_norm_k": ("attn.k_norm", 0, 1),
    "pre_crs_attn_norm": ("pre_crs_attn_norm", 0, 1),
    "norm_cross": ("pre_crs_attn_norm", 0, 1),
    "norm3": ("pre_crs_attn_norm", 0, 1),
    "cross_attn_q_linear": ("cross_attn.q_linear", 0, 1),
    "cross_attn_kv_linear": ("cross_attn.kv_linear", 0, 1),
    "cross_attn_proj": ("cross_attn.proj", 0, 1),
    "cross_attn_to_q": ("cross_attn.q_linear", 0, 1),
    "cross_attn_to_k": ("cross_attn.kv_linear", 0, 2),
    "cross_attn_to_v": ("cross_attn.kv_linear", 1, 2),
    "cross_attn_to_out": ("cross_attn.proj", 0, 1),
    "cross_attn_q": ("cross_attn.q_linear", 0, 1),
    "cross_attn_k": ("cross_attn.kv_linear", 0, 2),
    "cross_attn_v": ("cross_attn.kv_linear", 1, 2),
    "cross_attn_o": ("cross_attn.proj", 0, 1),
    "cross_attn_q_norm": ("cross_attn.q_norm", 0, 1),
    "cross_attn_k_norm": ("cross_attn.k_norm", 0, 1),
    "cross_attn_norm_q": ("cross_attn.q_norm", 0, 1),
    "cross_attn_norm_k": ("cross_attn.k_norm", 0, 1),
    "ffn_w1": ("ffn.w1", 0, 1),
    "ffn_w2": ("ffn.w2", 0, 1),
    "ffn_w3": ("ffn.w3", 0, 1),
}
_OUTSIDE = {
    "x_embedder_proj": "x_embedder.proj",
    "patch_embed_proj": "x_embedder.proj",
    "patch_embedding": "x_embedder.proj",
    "t_embedder_mlp_0": "t_embedder.mlp.0",
    "t_embedder_mlp_2": "t_embedder.mlp.2",
    "time_embedder_linear_1": "t_embedder.mlp.0",
    "time_embedder_linear_2": "t_embedder.mlp.2",
    "time_embedding_mlp_0": "t_embedder.mlp.0",
    "time_embedding_mlp_2": "t_embedder.mlp.2",
    "y_embedder_y_proj_0": "y_embedder.y_proj.0",
    "y_embedder_y_proj_2": "y_embedder.y_proj.2",
    "caption_embedder_linear_1": "y_embedder.y_proj.0",
    "caption_embedder_linear_2": "y_embedder.y_proj.2",
    "text_embedding_0": "y_embedder.y_proj.0",
    "text_embedding_2": "y_embedder.y_proj.2",
    "final_layer_adaLN_modulation_1": "final_layer.adaLN_modulation.1",
    "final_layer_adaln_linear": "final_layer.adaLN_modulation.1",
    "head_modulation_1": "final_layer.adaLN_modulation.1",
    "final_layer_linear": "final_layer.linear",
    "final_layer_proj": "final_layer.linear",
    "head_head": "final_layer.linear",
}


def place_of(name: str) -> Place | None:
    """Return the layer, or part of one, that a layer's name in another's file means; None where no layout has it."""
    bare = without_prefixes(name)
    if block := re.fullmatch(r"blocks[._](\d+)[._](.+)", bare):
        found = _BLOCK.get(block[2].replace(".", "_"))
        return Place(f"blocks.{block[1]}.{found[0]}", *found[1:]) if found else None
    outside = _OUTSIDE.get(bare.replace(".", "_"))
    return Place(outside) if outside else None


def without_prefixes(name: str) -> str:
    """Remove the prefixes that tools put before the layers' names: `transformer.`, `lora_unet_`, …."""
    before = None
    while name != before:
        before = name
        for prefix in PREFIXES:
            name = name.removeprefix(prefix)
    return name


def published_parts(names: Iterable[str]) -> dict[str, list[str]]:
    """Sort tensors' names there by this network's names: the rows of one here are theirs one after another.

    A name of no layer stays as it is, and so do the parts of a layer that lacks another part.
    """
    groups: dict[str, dict[Place, str]] = {}
    for name in names:
        layer, _, kind = name.rpartition(".")
        place = place_of(layer)
        groups.setdefault(f"{place.layer}.{kind}" if place else name, {})[place or Place(name)] = name
    parts: dict[str, list[str]] = {}
    for ours, found in groups.items():
        if len(found) == next(iter(found)).of:
            parts[ours] = [found[place] for place in sorted(found, key=lambda place: place.part)]
        else:
            parts |= {name: [name] for name in found.values()}
    return parts
