"""What a tuned model is made of: recipe, base model's files, data, code."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelwright.annotate.backends.hub import commit_of
from reelwright.annotate.backends.identity import CONTENT, file_hash, model_id
from reelwright.training.tuning.plan import Plan
from reelwright.training.tuning.recipe import BaseConfig, TuneRecipe

if TYPE_CHECKING:
    from reelwright.curation.store import Store

LIBRARIES = ("peft", "torch", "transformers", "tokenizers")


def describe_run(
    use: str, recipe: TuneRecipe, plan: Plan, store: Store | None, words: Sequence[str]
) -> dict[str, Any]:
    """Return a run's lineage; `made_from` is what a resumed run must share.

    Args:
        use: captioner, judge or reward.
        recipe: of the run.
        plan: its samples.
        store: that its SQL is about.
        words: ids of the prompts that are asked.
    """
    base = describe_base(recipe.base)
    data = {
        "fingerprint": plan.fingerprint, "counts": plan.counts, "sql": recipe.data.sql,
        "store": store.uri if store is not None else None,
        "jsonl": {name: file_hash(Path(name).expanduser()) for name in recipe.data.jsonl},
    }  # fmt: skip
    # settings by content: the same model or file elsewhere is the same run
    made_from = {"use": use, "recipe": recipe.fingerprint, "base": base["id"], "data": plan.fingerprint,
                 "words": list(words)}  # fmt: skip
    return {
        "use": use, "made_from": made_from, "recipe": recipe.model_dump(mode="json"), "base": base, "data": data,
        "versions": {name: _version(name) for name in ("reelwright", *LIBRARIES)},
    }  # fmt: skip


def describe_base(base: BaseConfig) -> dict[str, Any]:
    """Return a base model's id, and the hash of each of its files, or a hub's commit."""
    folder = Path(base.model).expanduser()
    if not folder.is_dir():
        commit = commit_of(base.model, base.revision) or "main"
        return {"id": f"{base.model}@{commit}", "model": base.model, "commit": commit}
    files = sorted(path for path in folder.rglob("*") if path.suffix in CONTENT and path.is_file())
    hashes = {path.relative_to(folder).as_posix(): file_hash(path) for path in files}
    return {"id": model_id(base.model), "model": str(folder.absolute()), "files": hashes}


@cache
def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
