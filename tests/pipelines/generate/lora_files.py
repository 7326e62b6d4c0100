"""LoRA files as runs and exports leave them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from reelwright.model.checkpoint import weights_hash
from reelwright.model.config import LoRAConfig
from reelwright.model.lora.adapters import add_lora, save_lora
from reelwright.model.weights.weight_files import open_weights
from tests.pipelines.generate.test_generate import network

TARGETS = ("*.qkv", "*.ffn.w?", "*adaLN_modulation.1", "final_layer.linear")


def save_adapter(path: Path, seed: int, note: dict[str, Any] | None = None) -> Path:
    """A LoRA file that does something; beside it, what `reel checkpoint export` would say of it."""
    model = network(1)
    add_lora(model, LoRAConfig(rank=2, alpha=1, targets=TARGETS), name="a", seed=seed)
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".up." in name:
                weight.copy_(torch.randn(weight.shape, generator=noise))
    save_lora(model, path, name="a")
    if note is not None:
        digest = weights_hash(open_weights(path))
        (path.parent / "about.json").write_text(json.dumps({"kind": "lora", "sha256": digest, **note}))
    return path


@pytest.fixture(scope="module")
def loras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `fine` (of refinement) and `quick` (16 steps), as exports leave them."""
    folder = tmp_path_factory.mktemp("loras")
    snapshot = {"name": "beach", "content_hash": "c0ffee", "num_clips": 3, "store": "STORE"}
    for i, (name, objective) in enumerate(
        {"fine": {"kind": "refinement"}, "quick": {"kind": "consistency", "phases": 4}}.items()
    ):
        (folder / name).mkdir()
        note = {"objective": objective, "snapshot": snapshot, "step": 7, "source": f"runs/{name}"}
        save_adapter(folder / name / "lora.safetensors", i, note)
    return folder
