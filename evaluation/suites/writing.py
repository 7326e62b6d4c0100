"""Write a suite as the YAML file that `load_suite` reads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from reelwright.evaluation.suites.suite import Prompt


def write_suite(path: Path, name: str, prompts: Sequence[Prompt]) -> None:
    """Write prompts; paths of references go from the file's folder, so that the folder can be moved."""
    rows = [_row(prompt, path.absolute().parent) for prompt in prompts]
    text = yaml.safe_dump({"name": name, "prompts": rows}, sort_keys=False, allow_unicode=True, width=112)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _row(prompt: Prompt, folder: Path) -> dict[str, Any]:
    facts = {
        "id": prompt.id,
        "category": prompt.category,
        "kind": prompt.kind,
        "task": prompt.task if prompt.task != "t2v" else "",
        "reference": os.path.relpath(prompt.reference.absolute(), folder) if prompt.reference else "",
        "short": prompt.short,
        "dimensions": list(prompt.dimensions),
        "samples": prompt.samples if prompt.samples > 1 else None,
    }
    return {name: value for name, value in facts.items() if value} | {"prompt": prompt.text}
