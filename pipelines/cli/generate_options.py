"""The options of `reel generate`, in groups, and their joint meaning."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from reelwright.errors import UserError, first_line
from reelwright.pipelines.cli.option_groups import option_group

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reelwright.model.config import AttentionConfig, CodecConfig, TextConfig
    from reelwright.model.refinement.plan import Refinement
    from reelwright.pipelines.generate.loras import LoRA


class Rule(StrEnum):
    """A rule of classifier-free guidance."""

    CFG_ZERO = "cfg-zero"
    CFG = "cfg"


class Average(StrEnum):
    """Which weights of a checkpoint: averaged over steps (EMA), or of its last step."""

    AUTO = "auto"
    EMA = "ema"
    LAST = "last"

    @property
    def ema(self) -> bool | None:
        """Whether averaged weights are wanted; None: if there are any."""
        return {Average.AUTO: None, Average.EMA: True, Average.LAST: False}[self]


class Precision(StrEnum):
    """The type that the network computes in."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"


class FitMode(StrEnum):
    """How an image or video that a generation begins with gets its size."""

    AUTO = "auto"
    COVER = "cover"
    STRETCH = "stretch"


class TimingForm(StrEnum):
    """Where refinement's up-sampler puts frames in time."""

    PUBLISHED = "published"
    EXACT = "exact"


class AttentionForm(StrEnum):
    """The self-attention of the network."""

    AUTO = "auto"
    DENSE = "dense"
    SPARSE = "sparse"


@option_group
class ContentOptions:
    """The content of a video."""

    heading: ClassVar[str] = "Content"

    prompt: Annotated[list[str] | None, typer.Option("--prompt", "-p", help="Text; repeat it for more videos.")] = None
    prompts_file: Annotated[
        Path | None, typer.Option(help="A line is a segment's prompt; - reads them as you type, after each segment.")
    ] = None
    image: Annotated[Path | None, typer.Option(help="Picture to begin with.")] = None
    video: Annotated[
        Path | None, typer.Option(help="Video to go on from. OUT begins with its last frames, not with all of it.")
    ] = None
    fit: Annotated[
        FitMode, typer.Option(help="cover: scale --image or --video and cut edges; stretch: as published.")
    ] = FitMode.AUTO
    negative: Annotated[
        str | None,
        typer.Option(help='What guidance avoids. Default: a list of unwanted traits; "" for the stand-in.'),
    ] = None
    seed: Annotated[int, typer.Option(min=0, help="Of the first video; the next has the next one.")] = 0


@option_group
class ShapeOptions:
    """Size and length of a video."""

    heading: ClassVar[str] = "Size and length"

    size: Annotated[
        str | None,
        typer.Option(help="WIDTHxHEIGHT, or 480p or 720p in the aspect of --image or --video.  [default: as trained]"),
    ] = None
    frames: Annotated[int | None, typer.Option(min=1, help="Frames of a segment: 4k + 1. Default: as trained.")] = None
    fps: Annotated[float | None, typer.Option(min=1, max=240, help="Default: as trained; 15 as published.")] = None
    segments: Annotated[int, typer.Option(min=1, help="Segments of --frames; each goes on from the last.")] = 1
    overlap: Annotated[
        int | None,
        typer.Option(min=1, help="Frames that a segment shares with the one before: 4k + 1.  [default: 13, or fewer]"),
    ] = None

    def width_and_height(self) -> tuple[int, int] | None:
        """Return the size in pixels, if one was given in pixels."""
        width, _, height = (self.size or "").lower().partition("x")
        return (int(width), int(height)) if width.isdecimal() and height.isdecimal() else None


@option_group
class SamplingOptions:
    """How noise becomes a video."""

    heading: ClassVar[str] = "Sampling"

    steps: Annotated[int | None, typer.Option(min=1, max=1000, help="Sampling steps.")] = None
    guidance: Annotated[float | None, typer.Option(min=0, help="1: none.")] = None
    rule: Annotated[Rule, typer.Option(help="Rule of guidance.")] = Rule.CFG_ZERO
    shift: Annotated[float | None, typer.Option(min=0.01, help="Default: as trained; 12 as published.")] = None
    distilled: Annotated[
        bool, typer.Option("--distilled", help="16 steps without guidance; a distilled --lora brings it.")
    ] = False
    enhance_hf: Annotated[bool, typer.Option(help="Finer last steps where a video goes on, if not distilled.")] = True
    zero_init: Annotated[float, typer.Option(min=0, max=1, help="Share of first steps that CFG-zero* leaves out.")] = (
        0.0
    )
    published: Annotated[
        bool, typer.Option("--published", help="All as the published sampler, for comparison; the docs list it.")
    ] = False
    attention: Annotated[AttentionForm, typer.Option(help="auto: as trained.")] = AttentionForm.AUTO
    keep: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of key blocks that sparse attention keeps; default 1/16.")
    ] = None


@option_group
class StageOptions:
    """How a video is refined."""

    heading: ClassVar[str] = "Refinement"

    to: Annotated[str, typer.Option(help="Size: 720p in the video's aspect, or WIDTHxHEIGHT in 64s.")] = "720p"
    spatial_only: Annotated[
        bool, typer.Option("--spatial-only", help="Keep the frame rate, which is doubled otherwise.")
    ] = False
    timing: Annotated[
        TimingForm | None,
        typer.Option(help="published: time stretched by 0.5 %; exact: frames' own times. Default: as trained."),
    ] = None
    refine_attention: Annotated[
        AttentionForm, typer.Option(help="Of refinement alone; auto: as trained, else sparse, as published.")
    ] = AttentionForm.AUTO
    refine_keep: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of key blocks that it keeps. Default: as trained; 1/16.")
    ] = None

    def refinement(self, trained: Mapping[str, Any] | None = None) -> Refinement:
        """Return the refinement that was asked for.

        Args:
            trained: settings that the expert was trained with; published ones in their place.
        """
        from reelwright.model.refinement.plan import Refinement

        asked = {"timing": self.timing.value} if self.timing else {}
        return Refinement(to=self.to, spatial_only=self.spatial_only, **{**(trained or {}), **asked})

    def attention(self, trained: AttentionConfig | None = None) -> AttentionConfig:
        """Return refinement's attention, on top of the expert's own. Raises UserError.

        Args:
            trained: that the expert was trained with; None: the published one.
        """
        from reelwright.model.config import AttentionConfig

        trained, keep = trained or AttentionConfig(form="sparse"), self.refine_keep
        form = trained.form if self.refine_attention == AttentionForm.AUTO else self.refine_attention.value
        if keep is not None and form == "dense":
            asked = self.refine_attention == AttentionForm.DENSE
            hint = "leave one of the two out" if asked else "this expert's is dense: add --refine-attention sparse"
            raise UserError(f"--refine-keep {keep:g} is of sparse attention; {hint}")
        changed = {"form": form} if keep is None else {"form": form, "keep": keep, "cdf": None}
        return trained.model_copy(update=changed)


@option_group
class RefineLoRAOption:
    """The LoRA that refines, which turns refinement on."""

    refine: Annotated[
        str | None, typer.Option(help="PATH[:WEIGHT] of a refinement LoRA: a second stage makes the video finer.")
    ] = None


@option_group
class RefineOptions(StageOptions, RefineLoRAOption):
    """Whether and how a generated video is refined."""


@option_group
class NetworkOptions:
    """The networks besides the checkpoint's."""

    heading: ClassVar[str] = "Weights"

    weights: Annotated[Average, typer.Option(help="ema: averaged; auto: averaged if there are any.")] = Average.AUTO
    codec: Annotated[str | None, typer.Option(help="Folder or hub id of Wan's VAE, or dct.")] = None
    text_encoder: Annotated[str | None, typer.Option(help="Folder or hub id of umT5, or hashing.")] = None

    def codec_config(self) -> CodecConfig | None:
        """Return the codec that was asked for, if any."""
        from reelwright.model.config import CodecConfig

        if self.codec is None:
            return None
        return CodecConfig(kind="dct") if self.codec == "dct" else CodecConfig(kind="wan", path=self.codec)

    def text_config(self) -> TextConfig | None:
        """Return the text encoder that was asked for, if any."""
        from reelwright.model.config import TextConfig

        if self.text_encoder is None:
            return None
        is_stand_in = self.text_encoder == "hashing"
        return TextConfig(kind="hashing") if is_stand_in else TextConfig(kind="umt5", path=self.text_encoder)


@option_group
class WeightOptions(NetworkOptions):
    """The networks and adapters besides the checkpoint's."""

    lora: Annotated[
        list[str] | None, typer.Option(help="PATH[:WEIGHT] of a file, its folder, or a published name; repeatable.")
    ] = None

    def loras(self, beside: Path) -> list[LoRA]:
        """Find the LoRAs that are sampled with. beside: the checkpoint. Raises UserError."""
        from reelwright.pipelines.generate.loras import check_stack, find_lora

        found = [find_lora(*path_and_weight(text), beside) for text in self.lora or []]
        check_stack(found)
        return found


def refinement_lora(text: str, beside: Path) -> LoRA:
    """Find the LoRA that refines: PATH[:WEIGHT]. Raises UserError."""
    from reelwright.pipelines.generate.loras import check_refinement, find_lora

    found = find_lora(*path_and_weight(text), beside)
    check_refinement(found)
    return found


@option_group
class MemoryOptions:
    """Where it is computed, and how much memory the VAE and kept frames may take."""

    heading: ClassVar[str] = "Machine and memory"

    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = "auto"
    dtype: Annotated[Precision, typer.Option(help="auto: bf16 on a GPU.")] = Precision.AUTO
    tile: Annotated[
        int | None, typer.Option(min=0, help="Pixels of the VAE's tiles, in 32s: less memory; 0: whole frames.")
    ] = None
    offload_cache: Annotated[
        bool, typer.Option("--offload-cache", help="Keep keys and values of initial frames in the host's memory.")
    ] = False

    def device_and_dtype(self) -> tuple[str, str]:
        """Return the device and the type to compute with.

        Raises:
            UserError: the device cannot be used here.
        """
        import torch

        device = self.device if self.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"--device {device} cannot be used here ({first_line(error)})") from error
        if self.dtype != Precision.AUTO:
            return device, self.dtype.value
        return device, "bf16" if device.startswith("cuda") else "fp32"


@option_group
class MachineOptions(MemoryOptions):
    """Where it is computed, and how much memory that may take."""

    sequential: Annotated[bool, typer.Option("--sequential", help="Guidance in two passes: less memory.")] = False
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Compute initial frames in every step.")] = False


@option_group
class OutputOptions:
    """The files that are written."""

    heading: ClassVar[str] = "Output"

    out: Annotated[Path, typer.Option("--out", "-o", help="File to write: .mp4, or .png with --frames 1.")]
    force: Annotated[bool, typer.Option("--force", help="Replace OUT.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the files' names.")] = False


def check_text(*texts: str) -> None:
    """Raise UserError for text whose bytes were not UTF-8: Python keeps them as what no encoder takes."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"the text {text[:40]!r} is not UTF-8 at character {error.start}; type it again") from None


def path_and_weight(text: str) -> tuple[Path, float]:
    """FILE or FILE:WEIGHT; a colon may be part of the name."""
    name, _, weight = text.rpartition(":")
    try:
        return (Path(name), float(weight)) if name else (Path(text), 1.0)
    except ValueError:
        return Path(text), 1.0
