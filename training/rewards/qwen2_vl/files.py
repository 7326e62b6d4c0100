"""Files of reward models: where they are, an id of their content, and their tensors. No code in them is run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from reelwright.annotate.backends.hub import commit_of, hub_file
from reelwright.annotate.backends.identity import file_hash
from reelwright.errors import first_line
from reelwright.training.errors import TrainError

if TYPE_CHECKING:
    from torch import Tensor

BASE_FILES = ("config.json", "tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "added_tokens.json")
"""Files of a base model that decide scores, apart from its weights."""


def is_here(model: str) -> bool:
    """Return whether a model is a file or a folder of this machine, and not an id on a hub."""
    return bool(model) and Path(model).expanduser().exists()


def files_id(name: str, files: Sequence[Path]) -> str:
    """Return `name#hash` over the names and contents of files, wherever they lie."""
    hashes = [(file.name, file_hash(file)) for file in sorted(files)]
    return f"{name}#{hashlib.sha256(repr(hashes).encode()).hexdigest()[:16]}"


def hub_id(model: str, revision: str) -> str:
    """Return `id@commit` of a hub's model."""
    return f"{model}@{commit_of(model, revision) or 'main'}"


def base_id(base: str, revision: str, *, weights: bool) -> str:
    """Return the id of a base model: of its config and tokenizer, and of its weights where they are used."""
    if not is_here(base):
        return hub_id(base, revision)
    folder = Path(base).expanduser()
    used = [folder / name for name in BASE_FILES if (folder / name).is_file()]
    return files_id(folder.resolve().name, [*used, *(sorted(folder.glob("*.safetensors")) if weights else ())])


def hub_folder(model: str, revision: str, patterns: Sequence[str], parameter: str) -> Path:
    """Return a model's folder: the one that is named, or a hub's model (downloaded unless it is cached).

    Args:
        model: a folder, or an id on the hub.
        revision: of the hub's model.
        patterns: of the names of files that are needed.
        parameter: of the recipe, for the message.

    Raises:
        TrainError: it is neither.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, revision=revision or None, allow_patterns=list(patterns)))
    except Exception as error:  # no network, no such id, not allowed: the hub's reason is one of many classes
        raise TrainError(
            f"{parameter} = {model!r} is neither a folder here nor a model that the hub hands out "
            f"({first_line(error)}); download the model and set {parameter} to its folder"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file. Raises TrainError where there is none."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise TrainError(f"{path} cannot be read as JSON ({first_line(error)})") from error
    if not isinstance(found, dict):
        raise TrainError(f"{path} holds a {type(found).__name__}, not an object")
    return found


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors file, or of a torch file without anything but tensors.

    Where the torch file nests them under "model", those are meant.

    Raises:
        TrainError: it is missing, damaged, or holds something else.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, UnpicklingError) as error:
        raise TrainError(f"{path} cannot be read as tensors alone ({first_line(error)})") from error
    if isinstance(found, dict) and isinstance(found.get("model"), dict):
        found = found["model"]
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise TrainError(f"{path} holds something other than tensors by name; name a reward model's checkpoint")
    return found


def read_base_tensors(base: str, revision: str) -> dict[str, Tensor]:
    """Return the weights of a base model, in one file or several. Raises where they are not there."""
    folder = Path(base).expanduser()
    one = "model.safetensors"
    if (folder / one).is_file():
        return read_tensors(folder / one)
    if folder.is_dir() or not _on_hub(base, one, revision):
        index = read_json(hub_file(base, f"{one}.index.json", revision, "base"))
        names = sorted(set(index["weight_map"].values()))
    else:
        names = [one]
    return {k: v for name in names for k, v in read_tensors(hub_file(base, name, revision, "base")).items()}


def _on_hub(model: str, name: str, revision: str) -> bool:
    from huggingface_hub import file_exists, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(model, name, revision=revision or None), str):
        return True
    try:
        return bool(file_exists(model, name, revision=revision or None))
    except Exception:  # no network: the index may be in the cache
        return False
