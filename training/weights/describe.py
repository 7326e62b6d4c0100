"""Describes a training checkpoint, a folder of weights, or a LoRA file in lines for a person."""

import json
from pathlib import Path
from typing import Any

from reelwright.model.config import DiTConfig
from reelwright.model.lora.files import adapter_names, is_lora, read_lora
from reelwright.model.lora.layer_weights import LayerWeights
from reelwright.model.weights.about import ABOUT
from reelwright.model.weights.weight_files import TensorFiles, open_weights, read_config
from reelwright.training.checkpoints import find_checkpoint, read_metadata, tensor_names
from reelwright.training.weights.convert import numel, recipe_of, report_keys


def describe(path: Path) -> list[str]:
    """Lines on a training checkpoint, a folder of weights, or a LoRA file."""
    if (path / "checkpoint.json").is_file() or (path / "checkpoints").is_dir():
        return _describe_training(find_checkpoint(path))
    weights = open_weights(path)
    lines = _describe_lora(path, weights) if is_lora(weights) else _describe_weights(path, weights)
    note = path / ABOUT if path.is_dir() else path.parent / ABOUT
    if note.is_file():
        lines += [f"{key:12} {_plain(value)}" for key, value in json.loads(note.read_text()).items() if value]
    return lines


def config_line(config: DiTConfig) -> str:
    """Describe a network in a line."""
    return (
        f"{config.depth} blocks, hidden {config.hidden_size}, {config.num_heads} heads, "
        f"{config.in_channels} latent channels, patch {'×'.join(map(str, config.patch_size))}, "
        f"text width {config.caption_channels}"
    )


def lora_line(layers: dict[str, LayerWeights]) -> str:
    """Describe a LoRA in a line: its layers, ranks and alphas."""
    ranks = sorted({w.rank for w in layers.values()})
    alphas = sorted({w.alpha for w in layers.values()})
    kinds = sorted({name.partition(".")[2].partition(".")[2] or name for name in layers})
    return (
        f"LoRA of {len(layers)} layers, rank {_range(ranks)}, alpha {_range(alphas)}, "
        f"{sum(w.down.numel() + sum(u.numel() for u in w.ups) for w in layers.values()) / 1e6:,.3f} M parameters: "
        f"{', '.join(kinds)}"
    )


def _describe_training(path: Path) -> list[str]:
    found, recipe = read_metadata(path), recipe_of(path)
    shapes = tensor_names(path)
    kinds = sorted({name.partition(".")[0] for name in shapes})
    counts = {k: sum(numel(s) for n, s in shapes.items() if n.startswith(f"{k}.")) for k in kinds}
    lines = [f"training checkpoint {path}", f"{'step':12} {found.get('step')}"]
    lines += [f"{'model':12} {config_line(recipe.model)}"]
    lines += [f"{k:12} {n / 1e6:,.3f} M values" for k, n in counts.items()]
    if names := adapter_names(shapes):
        lines.append(f"{'adapters':12} {', '.join(names)}")
    shown = ("recipe_fingerprint", "snapshot", "encoder_fingerprint", "code_version", "metrics")
    return lines + [f"{k:12} {_plain(found[k])}" for k in shown if found.get(k)]


def _describe_weights(path: Path, weights: TensorFiles) -> list[str]:
    config, _ = read_config(path, weights)
    report = report_keys(weights, config)
    count = sum(map(numel, weights.shapes().values()))
    return [
        f"weights {path}",
        f"{'model':12} {config_line(config)}",
        *([f"{'names':12} {weights.layout}'s, read as the published ones"] if weights.layout else []),
        f"{'parameters':12} {count / 1e9:,.4f} B, {', '.join(weights.dtypes())}, {len(weights.files)} files",
        *(f"{'keys' if not i else '':12} {line}" for i, line in enumerate(report.lines())),
    ]


def _describe_lora(path: Path, weights: TensorFiles) -> list[str]:
    layers = read_lora(weights.files[0])
    return [f"weights {path}", f"{'model':12} {lora_line(layers)}", f"{'dtype':12} {', '.join(weights.dtypes())}"]


def _range(values: list[Any]) -> str:
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g} to {values[-1]:g}"


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
