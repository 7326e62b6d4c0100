"""The origins of a run: whether the networks that it was begun with are still at their paths.

An identity is 12 hex digits that another network at the same path does not have. It is cheap: of a run's checkpoint,
the facts that decide its weights; of published weights and LoRA files, names, shapes and a few rows of each tensor,
which any training changes. So 27 GB need not be read at each start.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from glob import escape
from pathlib import Path
from typing import Any

from reelwright.model.weights.pretrained import digest_of_files
from reelwright.model.weights.weight_files import open_weights
from reelwright.training import checkpoints
from reelwright.training.errors import TrainError

DECIDING = ("step", "recipe_fingerprint", "encoder_fingerprint", "sampler")
"""Facts of a checkpoint that its weights follow from, beside its snapshot and its own origins."""


def existing(path: Path, name: str = "init") -> Path:
    """Return the path, or the one run with a folder name that begins with it: runs/stage1 for runs/stage1-NAME-HASH.

    Args:
        path: of a checkpoint, a run's folder or published weights.
        name: of the setting, for messages.

    Raises:
        TrainError: there is none, or there are several.
    """
    if path.exists():
        return path
    runs = sorted(run for run in path.parent.glob(f"{escape(path.name)}-*") if checkpoints.has_checkpoint(run))
    if len(runs) > 1:
        names = ", ".join(run.name for run in runs)
        raise TrainError(f"{name}: {path} could be any of {names}; name one with --set {name}={runs[-1]}")
    if not runs:
        raise TrainError(f"{name}: there is no {path}; give a checkpoint, a run's folder, or published weights")
    return runs[0]


def identity_of(path: Path) -> str:
    """Return the identity of the network or LoRA at a path.

    Args:
        path: a training checkpoint, a run's folder (its newest), published weights or a .safetensors file.

    Raises:
        TrainError, ModelError: there are no weights.
    """
    try:
        found = checkpoints.find_checkpoint(path)
    except TrainError:
        files = open_weights(path).files
        return _identity_of_files(tuple((str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files))
    return identity_of_run(checkpoints.read_metadata(found))


def identity_of_run(metadata: Mapping[str, Any]) -> str:
    """Return the identity of a training checkpoint's weights, by its checkpoint.json or what a record kept of it."""
    begun = [metadata.get("parent"), *(metadata.get("adapters") or {}).values()]
    facts = [
        {name: metadata.get(name) for name in DECIDING},
        (metadata.get("snapshot") or {}).get("content_hash"),
        sorted(str(one.get("identity")) for one in begun if one),
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def kept_origins(
    saved: Mapping[str, Any], now: Mapping[str, Any], *, frozen: Iterable[str], checkpoint: Path
) -> dict[str, Any]:
    """Return the origins of a run that is resumed: as its checkpoint has them, since its weights came from there.

    Args:
        saved: checkpoint.json.
        now: what a run that began now would say: `parent` and `adapters`.
        frozen: adapters that are read again from their paths; `parent` is, where there are adapters.
        checkpoint: for messages.

    Raises:
        TrainError: a network that is read again is another one than at the beginning.
    """
    began, present = saved.get("adapters") or {}, now.get("adapters") or {}
    pairs = [(f"adapter {name}", began.get(name), present.get(name)) for name in sorted(frozen)]
    if "adapters" in now:
        pairs.append(("network", saved.get("parent"), now.get("parent")))
    for name, before, after in pairs:
        known = [(one or {}).get("identity") for one in (before, after)]
        if before and after and None not in known and known[0] != known[1]:
            raise TrainError(
                f"{checkpoint} was begun with another {name} than there is at {after['path']} now; put that one back "
                f"(it was {before['path']}), or give this run another folder (--out)"
            )
    return {name: saved[name] for name in ("parent", "adapters") if name in saved}


@lru_cache(maxsize=64)
def _identity_of_files(files: tuple[tuple[str, int, int], ...]) -> str:
    """Hash files; sizes and times in the key tell a file that was replaced meanwhile."""
    return digest_of_files([Path(file) for file, _, _ in files])
