"""A recipe: the YAML file that a curation run is fully described by."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field

from reelwright.curation.borders import BorderConfig
from reelwright.curation.clips import CUTTING_VERSION, ClipConfig
from reelwright.curation.ingest.inputs import ManifestConfig
from reelwright.curation.limits import Limits
from reelwright.curation.media.encode import EncodeConfig
from reelwright.curation.shots import DETECTOR_VERSION, ShotConfig
from reelwright.curation.signed import address
from reelwright.pipelines.recipes.credentials import check_names
from reelwright.recipe_files import RecipeError, load, parse_overrides

__all__ = [
    "Batches", "CurateRecipe", "Need", "OwnNeed", "RecipeError", "Resources", "load_recipe",
    "merged", "parse_overrides",
]  # fmt: skip


ADDED = "+"  # before an annotator's name: in addition to the profile's


class Need(BaseModel, frozen=True, extra="forbid"):
    """CPUs and memory of one task of a stage on the cluster."""

    cpus: float = Field(1.0, ge=0)
    gpus: float = Field(0.0, ge=0)


class OwnNeed(BaseModel, frozen=True, extra="forbid"):
    """Resources of one actor of an annotator, where they differ from the annotator's own, and the number of actors."""

    cpus: float | None = Field(None, ge=0)
    gpus: float | None = Field(None, ge=0)
    actors: int = Field(0, ge=0, description="0: as many as the cluster has room for, within reason")


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
    scan_split_s: float = Field(
        600.0,
        ge=0,
        description="seconds of a part: films of twice as many or more are scanned in parts, by many; 0: none",
    )
    annotators: dict[str, OwnNeed] = Field({}, description="of annotators that keep a process of their own, by name")


class Batches(BaseModel, frozen=True, extra="forbid"):
    """How much is in flight, and how much a crash can lose."""

    cut_clips: int = Field(8, ge=1, description="clips of one source cut by one task")
    cut_s: float = Field(60.0, gt=0, description="seconds of footage cut by one task")
    commit_mib: int = Field(128, ge=1, description="clip bytes after which the store is committed to")
    commit_s: float = Field(30.0, gt=0, description="seconds after which the store is committed to")
    annotate_clips: int = Field(16, ge=1, description="stored clips annotated by one task")


class CurateRecipe(BaseModel, frozen=True, extra="forbid"):
    """Everything that a curation run depends on."""

    inputs: tuple[str, ...] = Field((), description="folders, files, globs, manifests, URIs")
    store: str = Field("", description="folder or object-store URI of the store")
    allow_http: bool = Field(False, description="fetch http(s) inputs")
    credentials: dict[str, Any] = Field(
        {}, description="of object stores, by reference: AWS_SECRET_ACCESS_KEY: NAME_OF_THE_VARIABLE_THAT_HOLDS_IT"
    )
    images: bool = Field(False, description="still images (JPEG, PNG, WebP, TIFF, BMP, AVIF) are clips of one frame")
    manifests: ManifestConfig = ManifestConfig()
    shots: ShotConfig = ShotConfig()
    borders: BorderConfig = BorderConfig()
    clips: ClipConfig = ClipConfig()
    encode: EncodeConfig = EncodeConfig()
    profile: Literal["cpu", "full"] = Field("cpu", description="which annotators, where `annotators` names none")
    annotators: tuple[str | dict[str, dict[str, Any] | None], ...] = Field(
        (), description="names, or {name: parameters}; with + before each they are added to the profile's, +edges"
    )
    parameters: dict[str, dict[str, Any]] = Field({}, description="parameters of annotators, by name")
    limits: Limits = Limits()
    batches: Batches = Batches()
    resources: Resources = Resources()

    def fingerprint_of(self, stage: str) -> str:
        """Return the fingerprint of a step: an annotator's own, or that of cutting."""
        from reelwright.annotate import load

        for name, params in self.annotator_params():
            if name == stage:
                return load(name, params).fingerprint
        return self.cutting_fingerprint

    def annotator_params(self) -> list[tuple[str, dict[str, Any]]]:
        """(name, parameters) of each annotator, in order.

        Raises RecipeError for parameters of one that is not used, and for a list that adds and replaces at once.
        """
        named: dict[str, dict[str, Any]] = {}
        for entry in self.annotators:
            named |= {entry: {}} if isinstance(entry, str) else {name: params or {} for name, params in entry.items()}
        added = [name for name in named if name.startswith(ADDED)]
        if added and len(added) < len(named):
            other = next(name for name in named if not name.startswith(ADDED))
            raise RecipeError(
                f"annotators: {added[0]} is added to the profile's, and {other} replaces them; write + before all "
                "names, or before none"
            )
        with_profile = bool(added) or not named
        own = _in_profile(self.profile) if with_profile else {}
        listed: dict[str, dict[str, Any]] = {name: {} for name in own}
        listed |= {name.removeprefix(ADDED): params for name, params in named.items()}
        for name in self.parameters:
            if name not in listed:
                raise RecipeError(f"parameters.{name}: the recipe has no such annotator; it has {', '.join(listed)}")
        return [(n, merged(own.get(n, {}), p, self.parameters.get(n, {}))) for n, p in listed.items()]

    def naming(self, names: Iterable[str]) -> "CurateRecipe":
        """Return the recipe with those of these annotators that are in no profile: they run where they are named."""
        from reelwright.annotate.registry import in_no_profile

        known = {name for name, _ in self.annotator_params()}
        listed = [name for entry in self.annotators for name in ([entry] if isinstance(entry, str) else entry)]
        before = ADDED if all(name.startswith(ADDED) for name in listed) else ""
        new = [f"{before}{name}" for name in dict.fromkeys(names) if name not in known and in_no_profile(name)]
        return self.model_copy(update={"annotators": (*self.annotators, *new)})

    @property
    def cutting_fingerprint(self) -> str:
        """16 hex digits over all settings that decide a source's clips; annotators have fingerprints of their own."""
        parts = {
            "version": [CUTTING_VERSION, DETECTOR_VERSION],
            **{name: getattr(self, name).model_dump() for name in ("shots", "borders", "clips", "encode")},
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def to_yaml(self) -> str:
        """Return the recipe with every default spelt out, as the `runs` table keeps it: without signatures of links."""
        said = json.loads(self.model_dump_json()) | {"inputs": [str(address(name)) for name in self.inputs]}
        return yaml.safe_dump(said, sort_keys=False, allow_unicode=True)


def _in_profile(profile: str) -> dict[str, dict[str, Any]]:
    from reelwright.annotate import in_profile

    try:
        return in_profile(profile)
    except ValueError as error:
        raise RecipeError(f"annotators: {error}") from error


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Later layers over earlier ones, also inside of mappings."""
    out: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
            out[key] = merged(out[key], value) if both else value
    return out


def load_recipe(path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> CurateRecipe:
    """Read a YAML recipe (none: the defaults) and set `overrides` ("clips.max_s": 10) over it. Raises RecipeError."""
    recipe = load(CurateRecipe, path, overrides, see="`reel recipe` prints all there are")
    check_names(recipe.credentials)
    return recipe
