"""Suites as files: YAML or JSONL of ours, and the full-info JSON of VBench and VBench-2.0."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from reelwright.errors import first_line
from reelwright.evaluation.errors import EvaluationError
from reelwright.evaluation.suites.suite import Prompt, Suite

OWN = Path(__file__).parent / "own"
"""Suites that come with the program, by the file's name."""
FIELDS = {"id": str, "prompt": str, "category": str, "kind": str, "task": str, "reference": str, "short": str,
          "dimensions": list, "samples": int}  # fmt: skip
"""What a prompt in a file may have."""
MOST_BYTES = 64 << 20


def load_suite(name: str | Path) -> Suite:
    """Read a suite.

    Args:
        name: one that comes with the program (`ours`, `tiny`), or a file: YAML with `prompts`, JSONL with a prompt a
            line, or a benchmark's full-info JSON.

    Raises:
        EvaluationError: there is no such suite, or the file is none.
    """
    own = OWN / f"{name}.yaml"
    if own.is_file() and not Path(name).exists():
        return _ours(own, _yaml(own))
    path = Path(name)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in OWN.glob("*.yaml")))
        raise EvaluationError(f"there is no suite {name}; give a file, or one of {known}")
    if path.suffix in (".yaml", ".yml"):
        return _ours(path, _yaml(path))
    if path.suffix == ".jsonl":
        return _ours(path, {"prompts": _lines(path)})
    if path.suffix == ".json":
        from reelwright.evaluation.suites.full_info import from_full_info

        return from_full_info(path, _json(path, _text(path)))
    raise EvaluationError(f"{path}: a suite is a .yaml, a .jsonl or a benchmark's .json file")


def _ours(path: Path, data: Any) -> Suite:
    if not isinstance(data, Mapping) or not isinstance(data.get("prompts"), Sequence):
        raise EvaluationError(f"{path}: a suite begins with `prompts:` and a list of {{prompt: …}}")
    if unknown := sorted(data.keys() - {"name", "prompts", "about"}):
        raise EvaluationError(f"{path}: {unknown[0]!r} is no part of a suite, which has name, about and prompts")
    prompts = [_prompt(path, i, row) for i, row in enumerate(data["prompts"])]
    return Suite(str(data.get("name") or path.stem), prompts)


def _prompt(path: Path, index: int, row: Any) -> Prompt:
    where = f"{path}, prompt {index + 1}"
    if not isinstance(row, Mapping) or "prompt" not in row:
        raise EvaluationError(f"{where}: it has no `prompt`")
    for key, value in row.items():
        if key not in FIELDS:
            raise EvaluationError(f"{where}: {key!r} is none of {', '.join(FIELDS)}")
        if not isinstance(value, FIELDS[key]):
            raise EvaluationError(f"{where}: {key} is {value!r}, and {FIELDS[key].__name__} is wanted")
    given = dict(row)
    reference = given.pop("reference", None)
    dimensions = tuple(str(d) for d in given.pop("dimensions", ()))
    task = given.pop("task", None) or ("i2v" if reference else "t2v")
    return Prompt(
        id=given.pop("id", None) or f"p{index + 1:04d}",
        text=given.pop("prompt"),
        task=task,
        reference=(path.parent / Path(reference).expanduser()).absolute() if reference else None,
        dimensions=dimensions,
        **given,
    )


def _yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(_text(path))
    except yaml.YAMLError as error:
        raise EvaluationError(f"{path} is not YAML ({first_line(error)})") from error


def _lines(path: Path) -> list[Any]:
    return [_json(path, line, n) for n, line in enumerate(_text(path).splitlines(), 1) if line.strip()]


def _json(path: Path, text: str, line: int = 0) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        at = f", line {line}" if line else ""
        raise EvaluationError(f"{path}{at} is not JSON ({first_line(error)})") from error


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise EvaluationError(f"{path} has over {MOST_BYTES >> 20} MiB, and no suite has")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{path} cannot be read as text ({error})") from error
