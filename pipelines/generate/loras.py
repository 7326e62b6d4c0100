"""LoRA files of a generation: where a name leads, what each is for, and which exclude one another."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from reelwright.errors import UserError
from reelwright.model.config import AttentionConfig, TimestepShift
from reelwright.model.refinement.noise import FULL
from reelwright.model.weights.about import read_note
from reelwright.training.weights.convert import lora_file

if TYPE_CHECKING:
    from reelwright.training.recipe import TrainRecipe

PUBLISHED = {"cfg_step_lora": "consistency", "refinement_lora": "refinement"}
"""What the published files are for, by name: sampling in 16 steps without guidance, and refinement."""

MOST_COPIES = 8  # of a copy of a copy …

REFINEMENT = "refinement"
PURPOSE = {
    "cfg_distillation": "sampling without guidance",
    "consistency": "sampling in few steps",
    "dmd": "sampling in few steps",
    REFINEMENT: "refinement",
}
"""By the objective that a LoRA was trained with. Each was trained on the base alone, so no two go together."""


@dataclass(frozen=True)
class Expert:
    """What sampling repeats of an expert's training; by default nothing is known, and the published settings hold.

    settings: of a `model.refinement.plan.Refinement`. attention: None: the published one.
    """

    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    attention: AttentionConfig | None = None


@dataclass(frozen=True)
class LoRA:
    """A LoRA file, and what its name or the record beside it says.

    objective: that it was trained with. steps: that a distilled one samples in. law: of the shift that it is sampled
    by; None: unknown, as of the published files. expert: how one of refinement was trained.
    """

    file: Path
    weight: float = 1.0
    objective: str | None = None
    steps: int | None = None
    law: TimestepShift | None = None
    expert: Expert = field(default_factory=Expert)

    @property
    def about(self) -> dict[str, Any]:
        """Facts for the record of a generated file."""
        facts = {"file": str(self.file.absolute()), "weight": self.weight, "file_sha256": sha256(self.file)}
        facts |= {"objective": self.objective} if self.objective else {}
        note = read_note(self.file) or {}
        return facts | {name: note[name] for name in ("snapshot",) if name in note} | trained_before(note)

    @property
    def sampling(self) -> dict[str, Any]:
        """Settings that a distilled network wants, by name."""
        return distilled_sampling(self.objective, self.steps)


def distilled_sampling(objective: str | None, steps: int | None = None) -> dict[str, Any]:
    """Return the settings of sampling, by name, that follow from an objective; empty: none does.

    Args:
        objective: its kind.
        steps: that it distils to; None: 16, as published.
    """
    if objective == "cfg_distillation":
        return {"guidance": 1.0}
    if objective in ("consistency", "dmd"):
        return {"guidance": 1.0, "distilled": True, "steps": steps or 16}
    return {}


def sampling_of(recipe: "TrainRecipe | None") -> dict[str, Any]:
    """Return the settings that a network wants whose own weights were distilled, by name; None: published weights."""
    if recipe is None:
        return {}
    return distilled_sampling(recipe.objective.kind, _steps(recipe.objective.model_dump()))


def trained_before(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a lineage tells of the snapshots of parents and adapters; empty where a record has none.

    Args:
        said: metadata of a checkpoint, or the record beside weights.
    """
    from reelwright.training.lineage import snapshots_before

    before = snapshots_before(said)
    return {"trained_before": before} if before else {}


def find_lora(name: Path, weight: float, beside: Path) -> LoRA:
    """Find a LoRA file: by its path, in a folder that `reel checkpoint` wrote, or by its name in published weights.

    Args:
        name: file, folder, or a published name (cfg_step_lora, refinement_lora).
        weight: its strength.
        beside: the published weights, or a folder of them.

    Raises:
        UserError: there is no such file.
    """
    found = lora_file(name)
    if not found.is_file():
        found = _published(name, beside) or found
    if not found.is_file():
        if (name / "checkpoints").is_dir() or (name / "checkpoint.json").is_file():
            raise UserError(f"{name} is a run; write its LoRA first: reel checkpoint export {name} OUT --lora")
        raise UserError(f"there is no LoRA file {found}; give PATH or PATH:WEIGHT of a .safetensors file or its folder")
    record = _record(found)
    trained = record.get("objective", {})
    kind, expert = trained.get("kind"), Expert()
    if kind == REFINEMENT and "published" not in record:
        expert = Expert(refined_as(trained, record.get("timing")), _attention(record, found))
    return LoRA(found, weight, kind, _steps(trained), _law(record), expert)


def _steps(objective: Mapping[str, Any]) -> int | None:
    """Return the steps that the settings of an objective say that it distils to."""
    steps = objective.get("steps") or objective.get("phases")
    return steps if isinstance(steps, int) else None


def refined_as(objective: Mapping[str, Any], timing: str | None) -> dict[str, Any]:
    """Return what sampling repeats of the training of an expert of ours: settings of a `Refinement`.

    Training has one clean latent frame for a picture, and no copies of frames; the published expert's kernel takes
    multiples of four.

    Args:
        objective: its settings.
        timing: of the up-sampler.
    """
    known: dict[str, Any] = {"latent_multiple": 1}
    if "threshold" in objective:
        known["threshold"] = float(objective["threshold"])
    if "shift" in objective:
        known["schedule"] = replace(FULL, shift=float(objective["shift"]))
    return known | ({"timing": timing} if timing else {})


def expert_of(lora: LoRA | None, recipe: "TrainRecipe | None") -> Expert:
    """Return how the expert that refines was trained.

    Args:
        lora: the expert; None: the network itself is.
        recipe: of the network; None: it is published.
    """
    if lora is not None:
        return lora.expert
    if recipe is None or recipe.data.pair is None:
        return Expert()
    return Expert(refined_as(recipe.objective.model_dump(), recipe.data.pair.timing), recipe.attention)


def shifting(loras: Sequence[LoRA]) -> LoRA | None:
    """Return the LoRA whose shift is sampled by: the distilled one's, else the last that says one; None: none does."""
    known = [lora for lora in loras if lora.law is not None]
    distilled = [lora for lora in loras if lora.sampling]
    if distilled:
        known = [lora for lora in known if lora.sampling]
    return known[-1] if known else None


def check_stack(loras: Sequence[LoRA]) -> None:
    """Check LoRAs that are sampled with together.

    Raises:
        UserError: one is of refinement, or two exclude one another.
    """
    named = [lora for lora in loras if lora.objective in PURPOSE]
    for lora in named:
        if lora.objective == REFINEMENT:
            raise UserError(
                f"--lora {lora.file} is for refinement and does not sample from noise; give it with --refine"
            )
    if len(named) > 1:
        first, second = named[:2]
        raise UserError(
            f"--lora {first.file} (for {PURPOSE[first.objective or '']}) and --lora {second.file} "
            f"(for {PURPOSE[second.objective or '']}) exclude one another, as each was trained on the base alone; "
            "leave one out"
        )


def check_refinement(lora: LoRA) -> None:
    """Check the LoRA that refines. Raises UserError for one that is known to be for something else."""
    if lora.objective not in (None, REFINEMENT):
        purpose = PURPOSE.get(lora.objective or "", f"objective {lora.objective}")
        raise UserError(f"{lora.file} is for {purpose}, not for refinement; name a refinement LoRA to refine with")


def check_network(path: Path, recipe: "TrainRecipe | None", loras: Sequence[LoRA], *, refines: bool) -> None:
    """Check that a network can sample, with these LoRAs, and refine after it.

    A run's adapter is part of its network, so it counts as the LoRAs do.

    Args:
        path: of the network, for messages.
        recipe: that it was trained by; None: it is published.
        loras: that it samples with.
        refines: whether another LoRA refines with it afterwards.

    Raises:
        UserError: it was trained for something that excludes one of these.
    """
    kind = recipe.objective.kind if recipe is not None else ""
    if kind == REFINEMENT:
        raise UserError(
            f"{path} was trained for refinement and does not sample from noise; refine a video with it: reel refine "
            f"VIDEO {path} --out OUT.mp4"
        )
    other = next((lora for lora in loras if lora.objective in PURPOSE), None)
    if kind not in PURPOSE or not (other or refines):
        return
    what = "the LoRA of --refine" if other is None else f"--lora {other.file} (for {PURPOSE[other.objective or '']})"
    raise UserError(
        f"{path} was trained for {PURPOSE[kind]}, and its adapter excludes {what}, as each was trained on the base "
        f"alone; give the base, and --lora with the adapter (reel checkpoint export {path} OUT --lora)"
    )


def sha256(path: Path) -> str:
    """Return a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _published(name: Path, beside: Path) -> Path | None:
    """Find a bare name in lora/ of the published weights, or of those that a checked copy was made from."""
    if len(name.parts) != 1:
        return None
    source = (read_note(beside) or {}).get("source")
    places = [beside, beside.parent]
    places += [Path(source), Path(source).parent] if isinstance(source, str) else []
    stem = name.name.removesuffix(".safetensors")
    files = (place / "lora" / f"{stem}.safetensors" for place in places)
    return next((file for file in files if file.is_file()), None)


def _law(record: Mapping[str, Any]) -> TimestepShift | None:
    """Return the law of the shift in a record; older ones have it among the objective's settings alone."""
    for said in (record.get("sampling"), record.get("objective")):
        if isinstance(said, Mapping) and "shift_at_reference" in said:
            return TimestepShift(**{name: said[name] for name in TimestepShift.model_fields if name in said})
    return None


def _attention(record: Mapping[str, Any], file: Path) -> AttentionConfig | None:
    """Return the attention in a record; None where it says none."""
    said = record.get("attention")
    if said is None:
        return None
    try:
        return AttentionConfig.model_validate(said)
    except ValidationError as error:
        why = error.errors()[0]["msg"]
        raise UserError(f"{file}: the attention in the record beside it cannot be read ({why}); correct it") from None


def _record(file: Path) -> Mapping[str, Any]:
    """Return what is known of a training, from the record beside a file, or beside the file that it was made from.

    Its `objective` has the settings of the objective, its `sampling` the law of the shift, its `attention` and `timing`
    those of the training.
    """
    for _ in range(MOST_COPIES):
        if file.stem in PUBLISHED:
            return {"objective": {"kind": PUBLISHED[file.stem]}, "published": True}
        note = read_note(file)
        if note is None or note.get("kind") != "lora":
            break
        if isinstance(note.get("objective"), Mapping):
            return note
        file = Path(str(note.get("source", "")))
    return {}
