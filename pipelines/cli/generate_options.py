"""The options of `reel generate`, in groups, and their joint meaning."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from reelwright.errors import UserError, first_line

if TYPE_CHECKING:
    from reelwright.model.config import CodecConfig, TextConfig


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


class AttentionForm(StrEnum):
    """The self-attention of the network."""

    AUTO = "auto"
    DENSE = "dense"
    SPARSE = "sparse"


@dataclass(frozen=True, kw_only=True)
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
    negative: Annotated[str, typer.Option(help="Text that guidance leads away from.")] = ""
    seed: Annotated[int, typer.Option(min=0, help="Of the first video; the next has the next one.")] = 0


@dataclass(frozen=True, kw_only=True)
class ShapeOptions:
    """Size and length of a video."""

    heading: ClassVar[str] = "Size and length"

    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels: 832x480. Default: as trained.")] = None
    frames: Annotated[int | None, typer.Option(min=1, help="Frames of a segment: 4k + 1. Default: as trained.")] = None
    fps: Annotated[float | None, typer.Option(min=1, max=240, help="Default: as trained; 15 as published.")] = None
    segments: Annotated[int, typer.Option(min=1, help="Segments of --frames; each goes on from the last.")] = 1
    overlap: Annotated[
        int | None,
        typer.Option(min=1, help="Frames that a segment shares with the one before: 4k + 1.  [default: 13, or fewer]"),
    ] = None

    def width_and_height(self) -> tuple[int, int] | None:
        """Return the size in pixels, if one was given. Raises UserError."""
        if self.size is None:
            return None
        width, _, height = self.size.lower().partition("x")
        if not (width.isdecimal() and height.isdecimal()):
            raise UserError(f"--size {self.size}: write WIDTHxHEIGHT in pixels, such as 832x480")
        return int(width), int(height)


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How noise becomes a video."""

    heading: ClassVar[str] = "Sampling"

    steps: Annotated[int | None, typer.Option(min=1, max=1000, help="Sampling steps.")] = None
    guidance: Annotated[float | None, typer.Option(min=0, help="1: none.")] = None
    rule: Annotated[Rule, typer.Option(help="Rule of guidance.")] = Rule.CFG_ZERO
    shift: Annotated[float | None, typer.Option(min=0.01, help="Default: as trained; 12 as published.")] = None
    distilled: Annotated[bool, typer.Option("--distilled", help="16 steps without guidance.")] = False
    attention: Annotated[AttentionForm, typer.Option(help="auto: as trained.")] = AttentionForm.AUTO
    keep: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of key blocks that sparse attention keeps; default 1/16.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class WeightOptions:
    """The networks besides the checkpoint's."""

    heading: ClassVar[str] = "Weights"

    weights: Annotated[Average, typer.Option(help="ema: averaged; auto: averaged if there are any.")] = Average.AUTO
    lora: Annotated[list[str] | None, typer.Option(help="PATH[:WEIGHT] of a file or its folder; repeatable.")] = None
    codec: Annotated[str | None, typer.Option(help="Folder or hub id of Wan's VAE, or dct.")] = None
    text_encoder: Annotated[str | None, typer.Option(help="Folder or hub id of umT5, or hashing.")] = None

    def loras(self) -> list[tuple[Path, float]]:
        """Return files or folders with their weights."""
        return [_path_and_weight(text) for text in self.lora or []]

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


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """Where it is computed, and how much memory that may take."""

    heading: ClassVar[str] = "Machine and memory"

    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = "auto"
    dtype: Annotated[Precision, typer.Option(help="auto: bf16 on a GPU.")] = Precision.AUTO
    tile: Annotated[
        int | None, typer.Option(min=0, help="Pixels of the VAE's tiles, in 32s: less memory; 0: whole frames.")
    ] = None
    sequential: Annotated[bool, typer.Option("--sequential", help="Guidance in two passes: less memory.")] = False
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Compute initial frames in every step.")] = False

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


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """The files that are written."""

    heading: ClassVar[str] = "Output"

    out: Annotated[Path, typer.Option("--out", "-o", help="File to write: .mp4, or .png with --frames 1.")]
    force: Annotated[bool, typer.Option("--force", help="Replace OUT.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the files' names.")] = False


def _path_and_weight(text: str) -> tuple[Path, float]:
    """FILE or FILE:WEIGHT; a colon may be part of the name."""
    name, _, weight = text.rpartition(":")
    try:
        return (Path(name), float(weight)) if name else (Path(text), 1.0)
    except ValueError:
        return Path(text), 1.0
