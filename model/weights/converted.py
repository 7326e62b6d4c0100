"""The converted layout that FastVideo and SGLang load: `reel checkpoint export --format diffusers`, as a stream.

On the Hub it is `FastVideo/LongCat-Video-{T2V,I2V,VC}-Diffusers`: `model_index.json`, `transformer/` with the network
under FastVideo's names, and the published vae/, text_encoder/, tokenizer/ and scheduler/. The `diffusers` package has
no class for this network (0.42.1: LongCat-Image and LongCat-AudioDiT alone); the published folder is what the authors'
own diffusers-style class reads. Source: hao-ai-lab/FastVideo 935b0a6,
scripts/checkpoint_conversion/longcat_to_fastvideo.py.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from reelwright.model.config import DiTConfig
from reelwright.model.weights.names import FASTVIDEO, LayerNames, names_there
from reelwright.model.weights.weight_files import FASTVIDEO_CLASS, dump_config

COMPONENTS = ("vae", "text_encoder", "tokenizer", "scheduler")
"""Folders of a published pipeline that go along as they are."""
MODEL_INDEX: Mapping[str, Any] = {
    "_class_name": "LongCatPipeline",
    "_diffusers_version": "0.32.0",
    "workload_type": "video-generation",
    "tokenizer": ["transformers", "AutoTokenizer"],
    "text_encoder": ["transformers", "UMT5EncoderModel"],
    "vae": ["diffusers", "AutoencoderKLWan"],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "transformer": ["diffusers", FASTVIDEO_CLASS],
}
"""model_index.json for text to video; for others `_class_name` is LongCat{ImageToVideo,VideoContinuation}Pipeline."""


def converted(tensors: Iterable[tuple[str, Tensor]], names: LayerNames = FASTVIDEO) -> Iterator[tuple[str, Tensor]]:
    """Rename a stream of (name, tensor); a fused layer's rows become one tensor per projection, copied."""
    for name, tensor in tensors:
        layer, _, kind = name.rpartition(".")
        there = names_there(layer, names)
        if len(there) == 1:
            yield f"{there[0]}.{kind}", tensor
            continue
        yield from ((f"{n}.{kind}", part.clone()) for n, part in zip(there, tensor.chunk(len(there)), strict=True))


def converted_config(config: DiTConfig, extra: Mapping[str, Any] | None = None) -> str:
    """Return config.json's text with FastVideo's class and name of the heads."""
    fields = json.loads(dump_config(config, extra))
    fields |= {"_class_name": FASTVIDEO_CLASS, "num_attention_heads": fields.pop("num_heads")}
    return json.dumps(fields, indent=2, sort_keys=True) + "\n"
