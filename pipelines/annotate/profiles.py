"""The two sets of annotators that a recipe names by `profile`."""

from typing import Any

CPU = (
    "technical", "blur", "motion", "text", "light", "texture", "combing", "camera_motion", "watermark",
    "aesthetic_standin", "frame_hash", "near_duplicates", "composed_caption", "captions", "caption_embedding",
    "clusters", "cluster_names", "density",
)  # fmt: skip
FULL = (*CPU, "aesthetics", "visual_embedding", "caption", "caption_rewrites", "cinematography", "watermark_vlm")

PROFILES: dict[str, tuple[str, ...]] = {"cpu": CPU, "full": FULL}
"""cpu: needs no download and no GPU. full: asks models as well; which ones, the recipe says."""

_VLM: dict[str, Any] = {"chat": {"model": "Qwen/Qwen2.5-VL-7B-Instruct"}}
_ASK = ("caption", "cinematography", "watermark_vlm", "caption_rewrites", "cluster_names")

PARAMETERS: dict[str, dict[str, dict[str, Any]]] = {
    "cpu": {},
    "full": {"near_duplicates": {"by": "embedding"}, **dict.fromkeys(_ASK, _VLM)},
}
"""What a profile sets otherwise than an annotator does by itself; a recipe's `parameters` go over it."""
