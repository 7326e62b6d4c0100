"""`reel refine`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from reelwright.errors import UserError
from reelwright.pipelines.cli.app import app, say
from reelwright.pipelines.cli.generate_options import (
    MemoryOptions,
    NetworkOptions,
    OutputOptions,
    StageOptions,
    check_text,
    refinement_lora,
)
from reelwright.pipelines.cli.option_groups import GroupedCommand, grouped, option_group

if TYPE_CHECKING:
    from reelwright.pipelines.generate.loras import LoRA
    from reelwright.pipelines.generate.run import Source


@option_group
class WhatOptions:
    """What the video shows, and what it begins with."""

    heading: ClassVar[str] = "Content"

    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", help="Text. Default: of the tag of a generated VIDEO, else empty.")
    ] = None
    image: Annotated[Path | None, typer.Option(help="Picture that VIDEO begins with.")] = None
    video: Annotated[Path | None, typer.Option(help="Video whose end VIDEO begins with.")] = None
    given: Annotated[
        int | None, typer.Option(min=1, help="Frames of VIDEO that --video gave it. Default: 13.", show_default=False)
    ] = None
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0
    fps: Annotated[
        float | None,
        typer.Option(min=1, max=240, help="Rate to read VIDEO at. Default: its own, at most as trained or refined."),
    ] = None
    window: Annotated[int, typer.Option(min=5, help="Frames of VIDEO that are refined at a time: 4k + 1.")] = 93
    overlap: Annotated[int, typer.Option(min=5, help="Frames that windows share.")] = 13


@option_group
class RefinerOptions(NetworkOptions):
    """The networks and the LoRA besides the checkpoint's."""

    lora: Annotated[
        str | None, typer.Option(help="PATH[:WEIGHT] of a refinement LoRA, its folder, or refinement_lora.")
    ] = None


@app.command(
    cls=GroupedCommand,
    epilog="Example:  reel refine dog.mp4 weights/longcat --lora refinement_lora --to 720p --out dog-720p.mp4",
)
@grouped
def refine(
    film: Annotated[Path, typer.Argument(metavar="VIDEO", help="Video to refine, generated or not.")],
    checkpoint: Annotated[Path, typer.Argument(help="A run, one of its checkpoints, or published weights.")],
    what: WhatOptions,
    stage: StageOptions,
    weights: RefinerOptions,
    machine: MemoryOptions,
    output: OutputOptions,
) -> None:
    """Refine a video: enlarge it and double its frame rate, window by window, with a refinement LoRA.

    `reel generate --refine` does the same right after generating.
    """
    from reelwright.model.sampling.settings import Settings
    from reelwright.pipelines.cli.generate_settings import second_stage
    from reelwright.pipelines.generate.film import Film, refine_film
    from reelwright.pipelines.generate.loras import expert_of
    from reelwright.pipelines.generate.run import LoadOptions, find_source, load
    from reelwright.pipelines.runtime.progress import Progress

    check_text(what.prompt or "")
    _check_files(film, what, output)
    source = find_source(checkpoint)
    lora = _lora(weights.lora, source)
    device, dtype = machine.device_and_dtype()
    second = second_stage(
        stage,
        lora,
        machine,
        Settings.of(frames=what.window, overlap=what.overlap, bf16_t=source.recipe is None and dtype == "bf16"),
        expert_of(lora, source.recipe),
    )
    begins = (what.image, what.video)
    subject = Film.read(film, second.how, fps=what.fps, trained_fps=source.fps, begins=begins, given=what.given or 13)
    options = LoadOptions(
        codec=weights.codec_config(),
        text=weights.text_config(),
        refine=lora,
        ema=weights.weights.ema,
        device=device,
        dtype=dtype,
        tile=machine.tile,
    )
    loaded = load(source, options)
    if not output.quiet:
        say(*filter(None, [subject.note, subject.summary(second)]))
    with Progress("refining", quiet=output.quiet) as bar:
        refine_film(loaded, subject, second, what.prompt, what.seed, output.out, bar.show)
    say(f"wrote {output.out}")


def _lora(text: str | None, source: "Source") -> "LoRA | None":
    """Find the LoRA; a network that was trained for refinement needs none. Raises UserError."""
    from reelwright.pipelines.generate.loras import PURPOSE, REFINEMENT

    kind = source.recipe.objective.kind if source.recipe is not None else ""
    if text is None:
        if kind != REFINEMENT:
            raise UserError(f"{source.path} was not trained for refinement; add --lora with a refinement LoRA")
        return None
    if kind in PURPOSE:
        hint = "leave out --lora" if kind == REFINEMENT else "give the base that the run began with"
        raise UserError(
            f"{source.path} was trained for {PURPOSE[kind]}, and --lora {text} would be on top of that; {hint}"
        )
    return refinement_lora(text, source.path)


def _check_files(film: Path, what: WhatOptions, output: OutputOptions) -> None:
    """Raise UserError for files that cannot be read or written."""
    if what.image is not None and what.video is not None:
        raise UserError("--image and --video are two ways to begin; give one of them")
    if what.given is not None and what.video is None:
        raise UserError("--given counts the frames that --video gave; name that video, or leave --given out")
    if what.window % 4 != 1 or what.window <= what.overlap:
        raise UserError(
            f"--window {what.window} with --overlap {what.overlap}: a window has 4k + 1 frames, such as 93, and more "
            "than windows share"
        )
    for file in (film, what.image, what.video):
        if file is not None and not file.is_file():
            raise UserError(f"there is no file {file}")
    out = output.out
    if out.suffix.lower() != ".mp4":
        raise UserError(f"--out {out}: name a file ending in .mp4")
    if out.exists() and (out.samefile(film) or not output.force):
        hint = "name another --out" if out.samefile(film) else "add --force to replace it"
        raise UserError(f"{out} is there already; {hint}")
    if not out.absolute().parent.is_dir():
        raise UserError(f"there is no folder {out.absolute().parent}; make it, or name another --out")
