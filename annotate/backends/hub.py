"""Files of models that transformers loads: from a folder or the hub, with one sentence where they are not to be had."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reelwright.annotate.backends.errors import AnnotatorError
from reelwright.errors import first_line

COMMIT = re.compile(r"[0-9a-f]{40}")
HUB_S = 20.0  # that the hub has to answer


def hub_file(model: str, name: str, revision: str, parameter: str) -> Path:
    """A file of a model's folder, or of a hub's model (downloaded unless it is cached).

    parameter: what to set in the recipe. Raises AnnotatorError where there is no such file.
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
    """The commit that a revision of a hub's model (default: its main branch) is: the one that this machine has, else
    the hub's newest; `revision` itself where neither tells.

    What is here comes first, as a commit that changes a model's README must not make its values anew.
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
    """No progress bars: a run loads models in many processes, and has a bar of its own."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def refuse_new_weights(model: str, report: Mapping[str, Any], parameter: str) -> None:
    """Raise AnnotatorError where a checkpoint lacked weights: transformers would go on with random ones.

    report: what `from_pretrained(..., output_loading_info=True)` returns beside the model.
    """
    absent = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if absent:
        what = f"{len(absent)} weights of its model, such as {absent[0]}"
        raise AnnotatorError(f"{model!r} lacks {what}; set {parameter} to a complete checkpoint.")


def device_of(device: str) -> str:
    """"auto" is the GPU that the process was given, or its CPU."""
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
