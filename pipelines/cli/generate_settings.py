"""What the options of `reel generate` mean together: settings of the sampler, first frames, attention, refinement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reelwright.errors import UserError
from reelwright.pipelines.cli.generate_options import (
    AttentionForm,
    ContentOptions,
    FitMode,
    MachineOptions,
    MemoryOptions,
    RefineOptions,
    SamplingOptions,
    ShapeOptions,
    StageOptions,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reelwright.model.config import AttentionConfig, TextConfig
    from reelwright.model.sampling.settings import Settings
    from reelwright.pipelines.generate.initial import Beginning, InitialFrames
    from reelwright.pipelines.generate.loras import Expert, LoRA
    from reelwright.pipelines.generate.refine import SecondStage
    from reelwright.pipelines.generate.run import Source

DEFAULT_CLASS = "480p"


@dataclass(frozen=True)
class Asked:
    """The options of a generation, apart from weights and output."""

    source: Source
    content: ContentOptions
    shape: ShapeOptions
    sampling: SamplingOptions
    machine: MachineOptions
    refine: RefineOptions

    @property
    def published(self) -> bool:
        """Whether the published defaults hold: they are asked for, or nobody trained the weights here."""
        return self.sampling.published or self.source.recipe is None

    @property
    def fps(self) -> float:
        """Frames per second of the first stage."""
        from reelwright.pipelines.generate.run import PUBLISHED_FPS

        return self.shape.fps or (PUBLISHED_FPS if self.sampling.published else self.source.fps)

    def settings(
        self, loras: Sequence[LoRA], text: TextConfig | None, expert: Expert | None = None
    ) -> tuple[Settings, InitialFrames | None]:
        """Return the settings of the sampler, and the frames that a video begins with.

        The options stand over what a distilled network or LoRA wants, over the settings of the recipe's samples, over
        the published ones.

        Args:
            loras: that are sampled with.
            text: encoder in place of the recipe's.
            expert: how the one that refines was trained; its timing says which frames a refined video begins with.

        Raises:
            ModelError: sizes do not go together; no weights have been read yet.
            UserError: a file that the video begins with cannot be read.
        """
        from reelwright.model.config import LONGCAT_VIDEO
        from reelwright.model.sampling.settings import Settings, Shape
        from reelwright.pipelines.generate.loras import sampling_of

        beginning = self._beginning()
        known = self._defaults(beginning)
        if self.sampling.distilled:
            known |= {"steps": 16, "guidance": 1.0, "distilled": True}
        known |= sampling_of(self.source.recipe)
        for lora in loras:
            known |= lora.sampling
        known |= self._given(text)
        known.setdefault("overlap", min(Shape.overlap, max(1, known.get("frames", Shape.frames) - 4)))
        if self.sampling.published:
            known |= PARITY | {"guidance": max(1.0, known.get("guidance", 4.0))}
        settings = Settings.of(**known)
        settings.check(self.source.recipe.model.patch_size if self.source.recipe else LONGCAT_VIDEO.patch_size)
        refinement = self.refine.refinement(expert.settings if expert else None) if self.refine.refine else None
        if refinement is not None:
            refinement.plan(settings.shape.frames, settings.shape.height, settings.shape.width)
        initial = beginning.read(settings, self.fps, refinement)
        return self._shifted(settings, initial, self.shifting(loras)), initial

    def defaults_of_shape(self) -> dict[str, Any]:
        """Return width, height and frames that hold unless others are given, as far as the network says them."""
        return self._defaults(self._beginning())

    def shifting(self, loras: Sequence[LoRA]) -> LoRA | None:
        """Return the LoRA whose shift is sampled by; None: the network's own or the one that was given."""
        from reelwright.pipelines.generate.loras import shifting

        return None if self.sampling.shift is not None or self.sampling.published else shifting(loras)

    def _beginning(self) -> Beginning:
        from reelwright.pipelines.generate.initial import Beginning

        fit = self.content.fit
        stretch = fit == FitMode.STRETCH or (fit == FitMode.AUTO and self.sampling.published)
        return Beginning(self.content.image, self.content.video, "stretch" if stretch else "cover")

    def _defaults(self, beginning: Beginning) -> dict[str, Any]:
        """Return size, steps and guidance that hold unless others are given."""
        from reelwright.training.sample_shape import sample_shape

        known: dict[str, Any] = {}
        recipe = self.source.recipe
        if recipe is not None and not self.published:
            known = dict(zip(("width", "height", "frames"), sample_shape(recipe), strict=True))
            samples = recipe.samples
            known |= {"steps": samples.steps, "guidance": samples.guidance, "distilled": samples.distilled}
        if pixels := self.shape.width_and_height():
            known["width"], known["height"] = pixels
        elif self.shape.size is not None or (self.published and beginning.file is not None):
            size = beginning.size_of_class(self.shape.size or DEFAULT_CLASS)
            known["width"], known["height"] = size.width, size.height
        return known

    def _given(self, text: TextConfig | None) -> dict[str, Any]:
        """Return the settings that options give."""
        shape, sampling, machine = self.shape, self.sampling, self.machine
        asked = {"frames": shape.frames, "overlap": shape.overlap, "steps": sampling.steps,
                 "guidance": sampling.guidance, "shift": sampling.shift}  # fmt: skip
        known: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        known |= {"rule": sampling.rule.value, "negative": self._negative(text)}
        known |= {"zero_init": sampling.zero_init, "enhance_hf": sampling.enhance_hf}
        known |= {"cache": not machine.no_cache, "batched": not machine.sequential, "offload": machine.offload_cache}
        return known

    def _negative(self, text: TextConfig | None) -> str:
        """Return the negative prompt; by default words, except for the stand-in, which knows no word's meaning."""
        from reelwright.model.sampling.guidance import NEGATIVE

        if self.content.negative is not None:
            return self.content.negative
        encoder = text or (self.source.recipe.text if self.source.recipe else None)
        return "" if encoder is not None and encoder.kind == "hashing" else NEGATIVE

    def _shifted(self, settings: Settings, initial: InitialFrames | None, lora: LoRA | None) -> Settings:
        """Return the settings with the shift that so many noisy tokens were trained with, unless one was given.

        lora: that was trained by a shift of its own.
        """
        from reelwright.pipelines.generate.run import default_shift

        if self.sampling.shift is not None or self.sampling.published:
            return settings
        law = lora.law if lora else None
        first = default_shift(self.source, settings, initial.frames.shape[1] if initial else 0, law=law)
        given = min(settings.shape.overlap, settings.shape.frames)
        has_later = self.shape.segments > 1 or self.content.prompts_file
        later = default_shift(self.source, settings, given, law=law) if has_later else None
        return settings.changed(shift=first, later_shift=later)

    def attention(self) -> AttentionConfig:
        """Return the attention that was asked for, on top of what the network was trained with. Raises UserError."""
        from reelwright.model.config import AttentionConfig

        sampling = self.sampling
        recipe = None if sampling.published else self.source.recipe
        trained = recipe.attention if recipe else AttentionConfig()
        form = trained.form if sampling.attention == AttentionForm.AUTO else sampling.attention.value
        if sampling.keep is not None and form == "dense":
            raise UserError(f"--keep {sampling.keep:g} is of sparse attention; add --attention sparse")
        changed = {"form": form} if sampling.keep is None else {"form": form, "keep": sampling.keep, "cdf": None}
        return trained.model_copy(update=changed)


PARITY = {"posterior": True, "cut_levels": True, "fit_condition": True, "bf16_noise": True}


def second_stage(
    options: StageOptions,
    lora: LoRA | None,
    machine: MemoryOptions,
    settings: Settings,
    expert: Expert,
) -> SecondStage:
    """Return how a video is refined: its windows are the first stage's segments.

    Args:
        options: that were given.
        lora: that refines; None: the network does.
        machine: of the VAE's tiles, and where keys and values lie.
        settings: of the first stage.
        expert: how the one that refines was trained.

    Raises:
        UserError: options exclude one another.
    """
    from reelwright.model.config import STRIDE
    from reelwright.model.refinement.refiner import LEAST_OVERLAP
    from reelwright.pipelines.generate.refine import TILE_PX, SecondStage

    tile = TILE_PX if machine.tile is None else machine.tile
    overlap = max(settings.shape.overlap, LEAST_OVERLAP)
    return SecondStage(
        lora,
        options.refinement(expert.settings),
        options.attention(expert.attention),
        tile,
        window=max(settings.shape.frames, overlap + STRIDE[0]),
        overlap=overlap,
        bf16_t=settings.schedule.bf16_t,
        offload=machine.offload_cache,
    )
