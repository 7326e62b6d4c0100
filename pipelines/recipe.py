"""A recipe: the YAML file that a curation run is fully described by."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError

from curation.borders import BorderConfig
from curation.clips import CUTTING_VERSION, ClipConfig
from curation.media.encode import EncodeConfig
from curation.scan import ScanLimits
from curation.shots import DETECTOR_VERSION, ShotConfig

DEFAULT_ANNOTATORS: tuple[str, ...] = ("technical", "blur", "motion", "text", "light", "texture")


class RecipeError(ValueError):
    """A recipe that cannot be run: one sentence with what to do."""


class Need(BaseModel, frozen=True, extra="forbid"):
    """What one task of a stage occupies on the cluster."""

    cpus: float = Field(1.0, ge=0)
    gpus: float = Field(0.0, ge=0)


class Resources(BaseModel, frozen=True, extra="forbid"):
    """Stages with their own needs; Ray places them.

    Whole CPUs on purpose: with as many tasks as cores, Ray keeps its worker processes, and their sandboxes keep what
    they have loaded; fractions make it start and end workers all the time.
    """

    probe: Need = Need()
    scan: Need = Need()
    cut: Need = Need()
    annotate: Need = Need()
    write: Need = Need()


class Limits(ScanLimits, frozen=True, extra="forbid"):
    """Bounds that keep one hostile file from costing more than itself."""

    memory_mib: int = Field(2048, ge=256, description="resident memory of a decoding process")
    stall_s: float = Field(60.0, gt=0, description="seconds without a decoded frame after which a file is given up")
    attempts: int = Field(3, ge=1, description="times work is tried again after a worker or a node was lost")


class Batches(BaseModel, frozen=True, extra="forbid"):
    """How much is in flight, and how much a crash can lose."""

    cut_clips: int = Field(8, ge=1, description="clips of one source cut by one task")
    cut_s: float = Field(60.0, gt=0, description="seconds of footage cut by one task")
    commit_mib: int = Field(128, ge=1, description="clip bytes after which the store is committed to")
    commit_s: float = Field(30.0, gt=0, description="seconds after which the store is committed to")
    annotate_clips: int = Field(16, ge=1, description="stored clips annotated by one task")


class CurateRecipe(BaseModel, frozen=True, extra="forbid"):
    """Everything that a curation run depends on."""

    inputs: tuple[str, ...] = Field((), description="folders, files, globs, manifests (CSV, JSONL, Parquet), URIs")
    store: str = Field("", description="folder or object-store URI of the store")
    allow_http: bool = Field(False, description="fetch http(s) inputs")
    shots: ShotConfig = ShotConfig()
    borders: BorderConfig = BorderConfig()
    clips: ClipConfig = ClipConfig()
    encode: EncodeConfig = EncodeConfig()
    annotators: tuple[str | dict[str, dict[str, Any]], ...] = DEFAULT_ANNOTATORS
    limits: Limits = Limits()
    batches: Batches = Batches()
    resources: Resources = Resources()

    def annotator_params(self) -> list[tuple[str, dict[str, Any]]]:
        """(name, parameters) of each annotator, in order."""
        entries: list[dict[str, dict[str, Any]]] = [{a: {}} if isinstance(a, str) else a for a in self.annotators]
        return [(name, params or {}) for entry in entries for name, params in entry.items()]

    @property
    def cutting_fingerprint(self) -> str:
        """16 hex digits of all that decides which clips a source becomes; annotators have their own."""
        parts = {
            "version": [CUTTING_VERSION, DETECTOR_VERSION],
            **{name: getattr(self, name).model_dump() for name in ("shots", "borders", "clips", "encode")},
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def to_yaml(self) -> str:
        """The recipe with every default spelt out, as the `runs` table keeps it."""
        return yaml.safe_dump(json.loads(self.model_dump_json()), sort_keys=False, allow_unicode=True)


def load_recipe(path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> CurateRecipe:
    """Read a YAML recipe (none: the defaults) and set `overrides` ("clips.max_s": 10) over it. Raises RecipeError."""
    data = _read(path) if path else {}
    for key, value in (overrides or {}).items():
        _set(data, key.split("."), value)
    try:
        return CurateRecipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(_explain(error, str(path) if path else "the recipe")) from error


def parse_overrides(pairs: Sequence[str]) -> dict[str, Any]:
    """`clips.max_s=10` → {"clips.max_s": 10}; values are YAML. Raises RecipeError."""
    out = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise RecipeError(f"--set {pair!r} is not KEY=VALUE, for example --set clips.max_s=10")
        try:
            out[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise RecipeError(f"--set {pair!r}: the value is not YAML ({str(error).splitlines()[0]})") from error
    return out


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not a readable YAML recipe ({str(error).splitlines()[0]})") from error
    if not isinstance(data, dict):
        raise RecipeError(f"{path} is not a recipe: it must be a mapping such as 'inputs: [footage/]'")
    return data


def _set(data: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        data = data.setdefault(key, {})
        if not isinstance(data, dict):
            raise RecipeError(f"'{'.'.join(keys)}' cannot be set: '{key}' is a single value")
    data[keys[-1]] = value


def _explain(error: ValidationError, where: str) -> str:
    """The first thing wrong, as a sentence."""
    first = error.errors()[0]
    place = ".".join(str(p) for p in first["loc"]) or "recipe"
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"{where}: '{place}' is not a setting; `reel recipe` prints all there are{more}"
    return f"{where}: '{place}': {first['msg'].lower()}, got {first['input']!r}{more}"
