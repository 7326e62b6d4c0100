"""Folders of published weights: where they are, and a fingerprint of their content. Nothing here unpickles."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from reelwright.curation.extras import install_command
from reelwright.errors import first_line
from reelwright.model.errors import ModelError

ROWS_HASHED = 8  # of every tensor: any training step changes them all, and 11 GB need not be read
FILES = ("*.json", "*.safetensors", "*.model", "*.txt")


def resolve(path: str, part: str, *, revision: str | None = None) -> Path:
    """Local folder of the weights at `path`: a folder, or a hub id, which is downloaded or taken from the cache.

    part: subfolder of a pipeline that holds them ("vae", "text_encoder"); a folder with the weights themselves will do.
    Raises ModelError when they are not there.
    """
    if not path:
        raise ModelError(f"no path to the {part} weights is given; name a folder or a hub id")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        folder = _download(path, part, revision)
    inner = folder / part
    found = inner if (inner / "config.json").is_file() else folder
    if not (found / "config.json").is_file():
        raise ModelError(f"{found} has no config.json; it must be a diffusers or transformers folder (or hold {part}/)")
    return found


def digest(folder: Path, *more: str) -> str:
    """12 hex digits of a folder's config.json and weights, however the weights are split into files."""
    config = {k: v for k, v in json.loads((folder / "config.json").read_text()).items() if not _is_provenance(k)}
    total = hashlib.sha256(json.dumps([config, *more], sort_keys=True).encode())
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder} has no .safetensors file; weights in pickle files are not read")
    _update(total, files)
    return total.hexdigest()[:12]


def digest_of_files(files: Iterable[Path]) -> str:
    """12 hex digits of weights' names, shapes and some rows of each tensor, however they are split into files."""
    total = hashlib.sha256()
    _update(total, files)
    return total.hexdigest()[:12]


def _update(total: "hashlib._Hash", files: Iterable[Path]) -> None:
    from safetensors import safe_open

    tensors = {}
    for file in files:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - not a dict
                tensors[name] = _rows(opened.get_slice(name))
    for name in sorted(tensors):
        total.update(name.encode() + tensors[name])


def _rows(tensor) -> bytes:  # type: ignore[no-untyped-def] # safetensors' slice has no public type
    import torch

    shape = tensor.get_shape()
    head = f"{tensor.get_dtype()}{shape}".encode()
    if not shape or not all(shape):
        return head
    picked = sorted({k * (shape[0] - 1) // max(1, ROWS_HASHED - 1) for k in range(ROWS_HASHED)})
    rows = [tensor[i : i + 1].contiguous().view(-1).view(torch.uint8).numpy().tobytes() for i in picked]
    return head + b"".join(rows)


def _is_provenance(key: str) -> bool:
    """Return whether a config's key tells of the saving alone (`_name_or_path`, `transformers_version`)."""
    return key.startswith("_") or key.endswith("_version")


def _download(path: str, part: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ModelError(f"{path} is no folder, and hub ids need: {install_command('models')}") from error
    inner = [f"{folder}/{name}" for folder in (part, "tokenizer") for name in FILES]
    try:
        found = Path(snapshot_download(path, revision=revision, allow_patterns=inner))
        if not (found / part / "config.json").is_file():  # a model's own repository; * matches / too, hence the second
            found = Path(snapshot_download(path, revision=revision, allow_patterns=list(FILES), ignore_patterns="*/*"))
        return found
    except Exception as error:  # no network, no such id, not allowed: the hub's reason is one of many classes
        raise ModelError(f"{path!r} is neither a folder nor a hub id that can be had ({first_line(error)})") from error
