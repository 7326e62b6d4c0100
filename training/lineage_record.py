"""The form of what a checkpoint, or about.json beside weights, says of its origin, as far as a lineage reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ValidationError, model_validator

from reelwright.training.errors import TrainError


class _Part(BaseModel):
    """A snapshot of a mix."""

    name: str
    content_hash: str
    num_clips: int
    store: str
    sql: str
    share: float = 0.0


class _Snapshot(_Part):
    mix: list[_Part] | None = None


class _NamedSnapshot(BaseModel):
    """A snapshot that a parent was trained on."""

    name: str
    content_hash: str


class _Parents(BaseModel):
    """What has a parent, and adapters by their role."""

    parent: _Parent | None = None
    adapters: dict[str, _Parent | None] | None = None


class _Parent(_Parents):
    path: str
    snapshot: _NamedSnapshot | None = None
    step: int | None = None
    recipe_fingerprint: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.snapshot and (self.step is None or self.recipe_fingerprint is None):
            raise ValueError("a trained parent needs step and recipe_fingerprint")
        return self


class _Network(BaseModel):
    depth: int
    hidden_size: int


class _Lora(BaseModel):
    rank: int


class _Recipe(BaseModel):
    steps: int
    model: _Network
    lora: _Lora | None = None


class _Reward(BaseModel):
    name: str
    version: Any
    fingerprint: str
    use: str | dict[str, Any]
    models: list[Any]


class _Checkpoint(_Parents):
    step: int
    recipe: _Recipe
    recipe_fingerprint: str
    encoder_fingerprint: str
    code_version: str
    snapshot: _Snapshot
    metrics: dict[str, Any] = {}
    rewards: dict[str, _Reward] = {}
    resumed_from: _Parent | None = None


def refuse_damaged_checkpoint(metadata: Mapping[str, Any], file: Path) -> None:
    """Raise TrainError where a checkpoint's metadata lacks what a lineage needs. file: that they are from."""
    _refuse_damaged(_Checkpoint, metadata, f"{file}: damaged", "use another checkpoint")


def refuse_damaged_note(said: Mapping[str, Any], path: Path) -> None:
    """Raise TrainError where a record beside weights names parents that are none. path: of the weights."""
    what = "import or export the weights again, or move about.json away"
    _refuse_damaged(_Parents, said, f"{path}: about.json beside it is damaged", what)


def _refuse_damaged(kind: type[BaseModel], said: Mapping[str, Any], what: str, to_do: str) -> None:
    try:
        kind.model_validate(dict(said))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "its content"
        why = "is missing" if first["type"] == "missing" else "has another form than reelwright writes"
        raise TrainError(f"{what}: {place} {why}; {to_do}") from None
