"""Weight files as they are published: config.json and (sharded) safetensors in diffusers' layout, read lazily."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from reelwright.model.config import DiTConfig
from reelwright.model.errors import ModelError
from reelwright.model.weights.their_names import ANCHORS, published_parts

CLASS_NAME = "LongCatVideoTransformer3DModel"
FASTVIDEO_CLASS = "LongCatTransformer3DModel"
"""The class that FastVideo's converted folders name; its config calls num_heads num_attention_heads."""
STEM = "diffusion_pytorch_model"
ANCHOR = "x_embedder.proj.weight"
"""A tensor that every checkpoint of the network has: the text before this name is a prefix."""
SUBFOLDERS = ("dit", "transformer")
"""The folder of the network in a whole published pipeline."""


class TensorFiles(Mapping[str, Tensor]):
    """Tensors of one or more safetensors files by name, in the order of the files.

    A prefix before all names (`model.`) is taken off; names of FastVideo's and ComfyUI's layouts are turned into the
    published ones, their q, k, v put together. A tensor is read when asked for; on the CPU it is mapped: its pages come
    from the file as they are used. One file is open at a time, so pages of tensors that were cast or copied are given
    back when the next is opened.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(files)
        self.metadata: dict[str, str] = {}
        self._where: dict[str, Path] = {}
        self._shapes: dict[str, tuple[tuple[int, ...], str]] = {}
        self._opened: tuple[Path | None, Any] = (None, None)
        for file in files:
            opened = self._open(file)
            self.metadata |= opened.metadata() or {}
            for name in opened.keys():  # noqa: SIM118 - no mapping
                if name in self._where:
                    raise ModelError(f"{file}: {name} is in {self._where[name].name} too")
                piece = opened.get_slice(name)
                self._where[name], self._shapes[name] = file, (tuple(piece.get_shape()), piece.get_dtype())
        self.layout = next((maker for name, maker in ANCHORS.items() if _prefix(self._where, name) is not None), None)
        self._stored = self._by_shown_name()

    def __getitem__(self, name: str) -> Tensor:
        stored = self._stored[name]
        parts = [self._open(self._where[part]).get_tensor(part) for part in stored]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor."""
        shapes: dict[str, tuple[int, ...]] = {}
        for name, stored in self._stored.items():
            parts = [self._shapes[part][0] for part in stored]
            shapes[name] = parts[0] if len(parts) == 1 else (sum(rows for rows, *_ in parts), *parts[0][1:])
        return shapes

    def dtypes(self) -> list[str]:
        """Return the dtypes that occur, by safetensors' names: F32, BF16."""
        return sorted({dtype for _, dtype in self._shapes.values()})

    @property
    def num_bytes(self) -> int:
        """Size of the files in bytes."""
        return sum(f.stat().st_size for f in self.files)

    def _by_shown_name(self) -> dict[str, list[str]]:
        if self.layout is not None:
            return published_parts(self._where)
        prefix = _prefix(self._where, ANCHOR) or ""
        return {name.removeprefix(prefix): [name] for name in self._where}

    def _open(self, file: Path) -> Any:
        from safetensors import SafetensorError, safe_open

        if self._opened[0] != file:
            self._opened = (None, None)
            try:
                self._opened = (file, safe_open(str(file), "pt"))
            except (OSError, SafetensorError) as error:
                raise unreadable(file, error) from None
        return self._opened[1]


def unreadable(file: Path | str, error: Exception, what: str = "safetensors") -> ModelError:
    """Return the error of a file of weights that cannot be opened.

    Args:
        file: its path.
        error: an OSError, or the library's.
        what: it should be.
    """
    if isinstance(error, OSError) and error.strerror:
        return ModelError(f"{file}: cannot be read ({error.strerror})")
    size = os.path.getsize(file) if os.path.isfile(file) else 0
    return ModelError(
        f"{file}: not a {what} file, or a damaged one: its header does not describe its {size:,} bytes; copy or "
        "download it again, or write it anew with reel checkpoint export"
    )


def open_weights(path: str | Path) -> TensorFiles:
    """Open a folder in diffusers' layout, the pipeline's folder above it, or one .safetensors file."""
    path = Path(path)
    if path.is_file():
        return TensorFiles([path])
    folder = weights_folder(path)
    indexes = sorted(folder.glob("*.safetensors.index.json"))
    if len(indexes) > 1:
        raise ModelError(f"{folder}: several index files ({', '.join(i.name for i in indexes)}); keep one of them")
    if indexes:
        return TensorFiles(_indexed(indexes[0]))
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        what = f"{len(files)} .safetensors files and no index" if files else "no .safetensors file"
        raise ModelError(f"{folder}: {what}; expected {STEM}.safetensors, or shards and {STEM}.safetensors.index.json")
    return TensorFiles(files)


def weights_folder(path: str | Path) -> Path:
    """Return the folder itself, or the `dit` or `transformer` folder in it.

    Raises:
        ModelError: there is neither.
    """
    path = Path(path)
    if not path.is_dir():
        raise ModelError(f"{path}: no such file or folder")
    below = [path / sub for sub in SUBFOLDERS if (path / sub).is_dir()]
    return below[0] if below and not any(path.glob("*.safetensors")) else path


def read_config(path: str | Path, weights: TensorFiles | None = None) -> tuple[DiTConfig, dict[str, Any]]:
    """Return (config, the config's other fields) of a folder's config.json.

    For a single file, it comes from its metadata's `config`, else from the shapes of its tensors.

    Raises:
        ModelError: the config is another network's, or not valid.
    """
    path = Path(path)
    file = path.parent / "config.json" if path.is_file() else weights_folder(path) / "config.json"
    if file.is_file():
        return parse_config(file.read_text(), file)
    if path.is_dir():
        raise ModelError(f"{file} is missing; it holds the sizes of the network")
    weights = weights or open_weights(path)
    if "config" in weights.metadata:
        return parse_config(weights.metadata["config"], path)
    return infer_config(weights.shapes(), path), {}


def parse_config(text: str, source: str | Path) -> tuple[DiTConfig, dict[str, Any]]:
    """Split a config into the fields that DiTConfig knows, and the others (block sparse attention, …)."""
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise ModelError(f"{source}: not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise ModelError(f"{source}: expected an object of fields")
    if (kind := fields.get("_class_name", CLASS_NAME)) not in (CLASS_NAME, FASTVIDEO_CLASS):
        raise ModelError(f"{source} is of a {kind}; this network is {CLASS_NAME}")
    if "num_attention_heads" in fields:
        fields.setdefault("num_heads", fields.pop("num_attention_heads"))
    known = {k: v for k, v in fields.items() if k in DiTConfig.model_fields}
    try:
        return DiTConfig(**known), {k: v for k, v in fields.items() if k not in known and k != "_class_name"}
    except ValidationError as error:
        first = error.errors()[0]
        raise ModelError(f"{source}: {'.'.join(map(str, first['loc'])) or 'config'}: {first['msg']}") from None


def dump_config(config: DiTConfig, extra: Mapping[str, Any] | None = None) -> str:
    """config.json's text, with the published names. text_tokens, which they do not have, only if it differs."""
    fields = {"_class_name": CLASS_NAME, **(extra or {}), **config.model_dump(mode="json")}
    if config.text_tokens == DiTConfig().text_tokens:
        del fields["text_tokens"]
    return json.dumps(fields, indent=2, sort_keys=True) + "\n"


def infer_config(shapes: Mapping[str, Sequence[int]], source: str | Path = "the file") -> DiTConfig:
    """Sizes from the shapes of the tensors. mlp_ratio is the smallest that gives the FFN's width."""
    try:
        hidden, channels, *patch = shapes[ANCHOR]
        ffn = shapes["blocks.0.ffn.w1.weight"][0]
        sizes: dict[str, Any] = {
            "in_channels": channels,
            "hidden_size": hidden,
            "patch_size": tuple(patch),
            "depth": 1 + max(int(n.split(".")[1]) for n in shapes if n.startswith("blocks.")),
            "num_heads": hidden // shapes["blocks.0.attn.q_norm.weight"][0],
            "caption_channels": shapes["y_embedder.y_proj.0.weight"][1],
            "adaln_tembed_dim": shapes["t_embedder.mlp.0.weight"][0],
            "frequency_embedding_size": shapes["t_embedder.mlp.0.weight"][1],
            "out_channels": shapes["final_layer.linear.weight"][0] // (patch[0] * patch[1] * patch[2]),
        }
        ratios = (DiTConfig(**sizes, mlp_ratio=r) for r in (4, 1, 2, 3, 5, 6, 7, 8))
        return next(config for config in ratios if config.ffn_width == ffn)
    except (KeyError, ValueError, IndexError, ZeroDivisionError, StopIteration):
        raise ModelError(f"{source}: not the tensors of a {CLASS_NAME}; give a folder with config.json") from None


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, with the permissions of any new file: the library makes it for its owner alone."""
    from safetensors.torch import save_file

    save_file(dict(tensors), str(path), metadata=dict(metadata))
    usual = path.with_name(f".{path.name}.{os.getpid()}.mode")
    usual.touch()
    path.chmod(usual.stat().st_mode & 0o777)
    usual.unlink()


def shard_names(count: int) -> list[str]:
    """Names of a set of shards, as diffusers has them."""
    if count == 1:
        return [f"{STEM}.safetensors"]
    return [f"{STEM}-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]


def write_index(folder: Path, where: Mapping[str, str], total_bytes: int) -> None:
    """Write diffusers' index: the file of each tensor, and the size of all."""
    index = {"metadata": {"total_size": total_bytes}, "weight_map": dict(sorted(where.items()))}
    (folder / f"{STEM}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _indexed(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(f"{index}: not an index of safetensors (weight_map is missing)") from None
    if outside := [n for n in names if os.path.basename(n) != n or not n.endswith(".safetensors")]:
        raise ModelError(f"{index}: {outside[0]!r} is not the name of a safetensors file beside it")
    if absent := [n for n in names if not (index.parent / n).is_file()]:
        raise ModelError(f"{index.parent}: {len(absent)} of {len(names)} files are missing: {', '.join(absent[:3])}")
    return [index.parent / n for n in names]


def _prefix(names: Mapping[str, Any], anchor: str) -> str | None:
    """Return the text before a name that every checkpoint of a layout has; None unless the name occurs once."""
    found = [n.removesuffix(anchor) for n in names if n == anchor or n.endswith(f".{anchor}")]
    return found[0] if len(found) == 1 else None
