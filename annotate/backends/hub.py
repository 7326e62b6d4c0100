"""Files of models that transformers loads: from a folder or the hub, with one sentence where there are none."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reelwright.annotate.errors import AnnotatorError
from reelwright.errors import first_line

COMMIT = re.compile(r"[0-9a-f]{40}")
HUB_S = 20.0  # that the hub has to answer


def hub_file(model: str, name: str, revision: str, parameter: str) -> Path:
    """Return a file of a model's folder, or of a hub's model (downloaded unless it is cached).

    Args:
        model: a folder, or an id on the hub.
        name: of the file.
        revision: of the hub's model.
        parameter: the recipe's parameter to set, for the message.

    Raises:
        AnnotatorError: there is no such file.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / name).is_file():
            raise AnnotatorError(f"the folder {model!r} holds no {name}; set {parameter} to a model's folder.")
        return folder / name
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(model, name, revision=revision or None))
    except (OSError, ValueError) as error:
        raise AnnotatorError(
            f"{model!r} is neither a folder here nor a model whose {name} the hub hands out ({first_line(error)}); "
            f"set {parameter} to a hub's id, or download the model and set it to its folder."
        ) from error


def commit_of(model: str, revision: str) -> str:
    """Return the commit of a revision of a hub's model (default: its main branch).

    It is the one in this machine's cache, else the hub's newest; `revision` itself where neither is known. The cache
    comes first, because a commit that changes a model's README must not make all values stale.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.file_download import repo_folder_name

    if COMMIT.fullmatch(revision):
        return revision
    cached = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=model, repo_type="model")
    with contextlib.suppress(OSError):
        return (cached / "refs" / (revision or "main")).read_text().strip()
    try:
        return HfApi().model_info(model, revision=revision or None, timeout=HUB_S).sha or revision
    except Exception:  # no network, no such id, not allowed: one of many classes; loading it will say so
        return revision


def quiet() -> None:
    """Switch progress bars off: a run loads models in many processes, and has a bar of its own."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def refuse_new_weights(model: str, report: Mapping[str, Any], parameter: str) -> None:
    """Raise AnnotatorError where a checkpoint lacked weights: transformers would continue with random ones.

    Args:
        model: its name, for the message.
        report: the loading info of `from_pretrained(..., output_loading_info=True)`.
        parameter: the recipe's parameter to set, for the message.
    """
    absent = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if absent:
        what = f"{len(absent)} weights of its model, such as {absent[0]}"
        raise AnnotatorError(f"{model!r} lacks {what}; set {parameter} to a complete checkpoint.")


def device_of(device: str) -> str:
    """Return the device to load on: "auto" is the GPU that the process was given, or its CPU."""
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
