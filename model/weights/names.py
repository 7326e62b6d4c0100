"""Names of the network's layers in the files of other projects, for writing.

A fused layer's rows are its projections one after another (q, k, v; or k, v), so a third or a half of them is one layer
of theirs. Names read off FastVideo's converter (hao-ai-lab/FastVideo 935b0a6,
scripts/checkpoint_conversion/longcat_to_fastvideo.py), whose folders are `FastVideo/LongCat-Video-*-Diffusers` on the
Hub, and off ComfyUI-WanVideoWrapper (kijai/ComfyUI-WanVideoWrapper 3317577 and 0cf30c6, nodes_model_loading.py and
wanvideo/modules/model.py). `reelwright.model.weights.their_names` reads them, by a table of its own.
"""

import re
from collections.abc import Mapping

from reelwright.model.errors import ModelError

LayerNames = Mapping[str, tuple[str, ...]]
"""Layer of this network -> its layers there, in the order of rows; `*` is the block's number."""

FASTVIDEO: LayerNames = {
    "x_embedder.proj": ("patch_embed.proj",),
    "t_embedder.mlp.0": ("time_embedder.linear_1",),
    "t_embedder.mlp.2": ("time_embedder.linear_2",),
    "y_embedder.y_proj.0": ("caption_embedder.linear_1",),
    "y_embedder.y_proj.2": ("caption_embedder.linear_2",),
    "blocks.*.adaLN_modulation.1": ("blocks.*.adaln_linear_1",),
    "blocks.*.attn.qkv": ("blocks.*.self_attn.to_q", "blocks.*.self_attn.to_k", "blocks.*.self_attn.to_v"),
    "blocks.*.attn.q_norm": ("blocks.*.self_attn.q_norm",),
    "blocks.*.attn.k_norm": ("blocks.*.self_attn.k_norm",),
    "blocks.*.attn.proj": ("blocks.*.self_attn.to_out",),
    "blocks.*.pre_crs_attn_norm": ("blocks.*.norm_cross",),
    "blocks.*.cross_attn.q_linear": ("blocks.*.cross_attn.to_q",),
    "blocks.*.cross_attn.kv_linear": ("blocks.*.cross_attn.to_k", "blocks.*.cross_attn.to_v"),
    "blocks.*.cross_attn.q_norm": ("blocks.*.cross_attn.q_norm",),
    "blocks.*.cross_attn.k_norm": ("blocks.*.cross_attn.k_norm",),
    "blocks.*.cross_attn.proj": ("blocks.*.cross_attn.to_out",),
    "blocks.*.ffn.w1": ("blocks.*.ffn.w1",),
    "blocks.*.ffn.w2": ("blocks.*.ffn.w2",),
    "blocks.*.ffn.w3": ("blocks.*.ffn.w3",),
    "final_layer.adaLN_modulation.1": ("final_layer.adaln_linear",),
    "final_layer.linear": ("final_layer.proj",),
}
COMFYUI: LayerNames = {
    "x_embedder.proj": ("patch_embedding",),
    "t_embedder.mlp.0": ("time_embedding.mlp.0",),
    "t_embedder.mlp.2": ("time_embedding.mlp.2",),
    "y_embedder.y_proj.0": ("text_embedding.0",),
    "y_embedder.y_proj.2": ("text_embedding.2",),
    "blocks.*.adaLN_modulation.1": ("blocks.*.modulation.1",),
    "blocks.*.attn.qkv": ("blocks.*.self_attn.q", "blocks.*.self_attn.k", "blocks.*.self_attn.v"),
    "blocks.*.attn.q_norm": ("blocks.*.self_attn.norm_q",),
    "blocks.*.attn.k_norm": ("blocks.*.self_attn.norm_k",),
    "blocks.*.attn.proj": ("blocks.*.self_attn.o",),
    "blocks.*.pre_crs_attn_norm": ("blocks.*.norm3",),
    "blocks.*.cross_attn.q_linear": ("blocks.*.cross_attn.q",),
    "blocks.*.cross_attn.kv_linear": ("blocks.*.cross_attn.k", "blocks.*.cross_attn.v"),
    "blocks.*.cross_attn.q_norm": ("blocks.*.cross_attn.norm_q",),
    "blocks.*.cross_attn.k_norm": ("blocks.*.cross_attn.norm_k",),
    "blocks.*.cross_attn.proj": ("blocks.*.cross_attn.o",),
    "blocks.*.ffn.w1": ("blocks.*.ffn.w1",),
    "blocks.*.ffn.w2": ("blocks.*.ffn.w2",),
    "blocks.*.ffn.w3": ("blocks.*.ffn.w3",),
    "final_layer.adaLN_modulation.1": ("head.modulation.1",),
    "final_layer.linear": ("head.head",),
}


def names_there(layer: str, names: LayerNames) -> tuple[str, ...]:
    """Return the names of a layer of this network there: one, or one per projection that it fuses."""
    block = re.fullmatch(r"blocks\.(\d+)\.(.+)", layer)
    try:
        found = names[f"blocks.*.{block[2]}" if block else layer]
    except KeyError:
        raise ModelError(f"{layer} is no layer of the published network, so it has no name in other layouts") from None
    return tuple(name.replace("*", block[1]) for name in found) if block else found
