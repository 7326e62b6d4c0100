"""What the options of `reel evaluate` mean together: the models under comparison, each ready to be loaded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from reelwright.errors import UserError
from reelwright.pipelines.cli.generate_options import (
    ContentOptions,
    MachineOptions,
    Precision,
    RefineOptions,
    SamplingOptions,
    ShapeOptions,
    WeightOptions,
)
from reelwright.pipelines.cli.generate_settings import Asked

if TYPE_CHECKING:
    from reelwright.evaluation.suites.suite import Suite
    from reelwright.model.sampling.settings import Settings
    from reelwright.pipelines.evaluate.models import Model
    from reelwright.pipelines.generate.run import Source


@dataclass(frozen=True)
class Sampled:
    """How the models under comparison are sampled: groups of options."""

    shape: ShapeOptions
    sampling: SamplingOptions
    weights: WeightOptions
    machine: MachineOptions
    negative: str | None
    address: str | None = None


def models_of(runs: Sequence[str], suite: Suite, how: Sampled) -> list[Model]:
    """Return the models that are named, with the size and length of the first one's training, unless given.

    Raises:
        UserError, ModelError, TrainError: one cannot be sampled so.
    """
    from reelwright.pipelines.evaluate.models import named_paths
    from reelwright.pipelines.generate.run import find_source

    named = named_paths(runs)
    loras = _loras(how.weights.lora or [], [name for name, _ in named])
    sources = [find_source(path) for _, path in named]
    how = replace(how, shape=_shared(how, sources[0]))
    made = []
    for (name, path), source in zip(named, sources, strict=True):
        own = replace(how.weights, lora=[*loras.get("", []), *loras.get(name, [])] or None)
        made.append(_model(name, path, source, suite, replace(how, weights=own)))
    return made


def _model(name: str, path: Path, source: Source, suite: Suite, given: Sampled) -> Model:
    from reelwright.evaluation.judging.contamination import learned_from
    from reelwright.model.weights.about import read_note
    from reelwright.pipelines.evaluate.models import Model, default_name, fingerprint
    from reelwright.pipelines.generate.loras import check_network
    from reelwright.pipelines.generate.run import LoadOptions

    loras, text = given.weights.loras(path), given.weights.text_config()
    check_network(path, source.recipe, loras, refines=False)
    device, dtype = _device(given)
    settings: dict[str, Settings] = {}
    asked = Asked(source, ContentOptions(), given.shape, given.sampling, given.machine, RefineOptions())
    for task in sorted({prompt.task for prompt in suite.prompts}):
        reference = next((p.reference for p in suite.prompts if p.task == task), None)
        content = ContentOptions(
            negative=given.negative,
            image=reference if task == "i2v" else None,
            video=reference if task == "vc" else None,
        )
        asked = replace(asked, content=content)
        found, _ = asked.settings(loras, text)
        settings[task] = found.changed(bf16_t=asked.published and dtype == "bf16")
    options = LoadOptions(
        codec=given.weights.codec_config(),
        text=text,
        loras=loras,
        ema=given.weights.weights.ema,
        device=device,
        dtype=dtype,
        attention=asked.attention(),
        tile=given.machine.tile,
        vae_dtype="bf16" if given.sampling.published and dtype == "bf16" else None,
    )
    notes = [note for where in (source.path, *(lora.file for lora in loras)) if (note := read_note(where))]
    origin = {
        **source.about, "loras": [lora.about for lora in loras], "learned_from": learned_from(source.path, notes)
    }  # fmt: skip
    return Model(
        name or default_name(source), source.path, options, settings, asked.fps, given.shape.segments,
        fingerprint(source, options), origin,
    )  # fmt: skip


def _device(given: Sampled) -> tuple[str, str]:
    """Return the device and type of the workers, which may run on a cluster whose GPUs are not here."""
    where = given.address or os.environ.get("RAY_ADDRESS")
    wanted = given.machine.device
    if not where or not (wanted == "auto" or wanted.startswith("cuda")):
        return given.machine.device_and_dtype()
    import ray

    from reelwright.pipelines.runtime.cluster import cluster

    with cluster(given.address):
        if not ray.cluster_resources().get("GPU"):
            return given.machine.device_and_dtype()
    return "cuda", given.machine.dtype.value if given.machine.dtype != Precision.AUTO else "bf16"


def _shared(how: Sampled, first: Source) -> ShapeOptions:
    """Fill in the size, length and rate of the first model, so that all are compared at one."""
    from reelwright.model.sampling.settings import Shape

    shape = how.shape
    if shape.size is not None and shape.width_and_height() is None:
        raise UserError(f"--size {shape.size}: models are compared at one size; write WIDTHxHEIGHT, such as 832x480")
    asked = Asked(first, ContentOptions(), shape, how.sampling, how.machine, RefineOptions())
    known = asked.defaults_of_shape()
    width, height = known.get("width", Shape.width), known.get("height", Shape.height)
    frames = shape.frames or known.get("frames", Shape.frames)
    return replace(shape, size=f"{width}x{height}", frames=frames, fps=asked.fps)


def _loras(texts: Sequence[str], names: Sequence[str]) -> dict[str, list[str]]:
    """Read --lora: LORA of all models, or NAME=LORA of one; returns name -> LoRAs, all models' under an empty name."""
    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, lora = text.partition("=")
        if not equals or "/" in name or Path(text.rpartition(":")[0] or text).exists():
            found.setdefault("", []).append(text)
        elif name in names:
            found.setdefault(name, []).append(lora)
        else:
            raise UserError(f"--lora {text}: no model is called {name}; models are named as {name}=RUN")
    return found
