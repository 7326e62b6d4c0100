"""`reel generate`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reelwright.errors import UserError
from reelwright.pipelines.cli.app import app, say
from reelwright.pipelines.cli.generate_options import (
    ContentOptions,
    MachineOptions,
    OutputOptions,
    RefineOptions,
    SamplingOptions,
    ShapeOptions,
    WeightOptions,
    check_text,
    refinement_lora,
)
from reelwright.pipelines.cli.option_groups import GroupedCommand, grouped

if TYPE_CHECKING:
    from reelwright.pipelines.generate.run import Request, Source

VIDEO_SUFFIXES, IMAGE_SUFFIXES = (".mp4",), (".png",)
PARITY_NOTE = (
    "the published negative prompt is not part of this program and our own is used; for parity give it with --negative"
)


@app.command(
    cls=GroupedCommand,
    epilog='Example:  reel generate RUN --prompt "a dog runs on the beach" --size 832x480 --out dog.mp4',
)
@grouped
def generate(
    checkpoint: Annotated[Path, typer.Argument(help="A run, one of its checkpoints, or published weights.")],
    content: ContentOptions,
    shape: ShapeOptions,
    sampling: SamplingOptions,
    refine: RefineOptions,
    weights: WeightOptions,
    machine: MachineOptions,
    output: OutputOptions,
) -> None:
    """Generate video from text, an image or the end of a video, with weights trained here or published.

    Frames come 4k + 1 at a time, as the VAE packs them; width and height are multiples of 16. With --refine, a second
    stage enlarges the video and doubles its frame rate. The request, the seed and the origin of the weights stand in
    the file's comment tag.
    """
    check_text(*content.prompt or (), content.negative or "")
    prompts, count = _prompts(content, shape.segments)
    _check_files(output, content, shape.frames, count)
    _check_refinement(refine, output, shape.frames)
    from reelwright.pipelines.cli.generate_settings import Asked, second_stage
    from reelwright.pipelines.generate.loras import Expert, check_network, expert_of
    from reelwright.pipelines.generate.run import LoadOptions, Request, find_source, load

    asked = Asked(source := find_source(checkpoint), content, shape, sampling, machine, refine)
    loras, text = weights.loras(checkpoint), weights.text_config()
    check_network(checkpoint, source.recipe, loras, refines=refine.refine is not None)
    finer = refinement_lora(refine.refine, checkpoint) if refine.refine else None
    expert = Expert() if sampling.published else expert_of(finer, source.recipe)
    settings, initial = asked.settings(loras, text, expert)
    device, dtype = machine.device_and_dtype()
    settings = settings.changed(bf16_t=asked.published and dtype == "bf16")
    options = LoadOptions(
        codec=weights.codec_config(),
        text=text,
        loras=loras,
        refine=finer,
        ema=weights.weights.ema,
        device=device,
        dtype=dtype,
        attention=asked.attention(),
        tile=machine.tile,
        vae_dtype="bf16" if sampling.published and dtype == "bf16" else None,
    )
    stage = second_stage(refine, finer, machine, settings, expert) if finer else None
    loaded = load(source, options)
    request = Request(
        prompts=prompts,
        seeds=[content.seed + i for i in range(count)],
        settings=settings,
        out=output.out,
        fps=asked.fps,
        segments=len(prompts) if isinstance(prompts, list) else 1,
        initial=initial,
        refine=stage,
    )
    if not output.quiet:
        notes = _notes(initial, asked.shifting(loras), parity=asked_for_parity(sampling, content))
        say(*notes, _summary(source, request, loaded.about))
    _run(loaded, request, output.quiet)


def _notes(initial: Any, shifting: Any, *, parity: bool) -> list[str]:
    """Return what to know of initial frames, of the LoRA whose shift is sampled by, and of parity."""
    found = [initial.note] if initial and initial.note else []
    found += [PARITY_NOTE] if parity else []
    if shifting:
        found.append(f"the shift is that of {shifting.file}, as it was trained; --shift for another")
    return found


def _run(loaded: Any, request: "Request", quiet: bool) -> None:
    from reelwright.pipelines.generate.run import generate as make
    from reelwright.pipelines.runtime.progress import Progress

    with Progress("sampling", quiet=quiet) as bar:
        files = make(loaded, request, on_step=bar.show, on_refine=bar.show)
    say(*(f"wrote {file}" for file in files))


def _summary(source: "Source", request: "Request", about: dict[str, Any]) -> str:
    shape, schedule, guidance = request.settings.shape, request.settings.schedule, request.settings.guidance
    of = f"{source.path} ({about['weights_used']} weights)"
    how = f"{schedule.steps} steps, guidance {guidance.scale:g}, shift {schedule.shift:.3g}"
    size = f"{shape.width} wide × {shape.height} high × {shape.frames}"
    many = f", {request.segments} segments" if request.segments > 1 else ""
    made = f"{len(request.seeds)} × {size} frames{many} from {of}: {how}, {about['dtype']} on {about['device']}"
    return made if request.refine is None else f"{made}; {_refinement(request)}"


def _refinement(request: "Request") -> str:
    assert request.refine is not None
    shape, how = request.settings.shape, request.refine.how
    size = how.plan(shape.frames, shape.height, shape.width).size
    return f"refined to {size.width} wide × {size.height} high, {request.fps * how.times:g} fps"


def _prompts(content: ContentOptions, segments: int) -> tuple[Any, int]:
    """Return rows of prompts, one row per segment with one prompt per video, and the number of videos."""
    prompt, file = content.prompt, content.prompts_file
    if file is None:
        if not prompt:
            raise UserError('nothing to generate: add --prompt "…" (an empty one is allowed) or --prompts-file FILE')
        return [list(prompt)] * segments, len(prompt)
    if prompt or segments > 1:
        raise UserError("--prompts-file has a prompt for every segment; leave out --prompt and --segments")
    if str(file) == "-":
        return _typed(), 1
    try:
        rows = [[line.strip()] for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as text ({error})") from error
    if not rows:
        raise UserError(f"{file} has no prompts; write one line for each segment")
    return rows, 1


def _typed() -> Iterator[list[str]]:
    """Read one prompt per line of standard input, until it ends or a line is empty."""
    while True:
        if sys.stdin.isatty():
            print("prompt of the next segment (empty: done): ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline().strip()
        if not line:
            return
        yield [line]


def asked_for_parity(sampling: SamplingOptions, content: ContentOptions) -> bool:
    """Return whether the published sampler is asked for without its negative prompt."""
    return sampling.published and content.negative is None


def _check_refinement(refine: RefineOptions, output: OutputOptions, frames: int | None) -> None:
    """Raise UserError for options of refinement without --refine, and for a picture."""
    if refine.refine is not None:
        if not refine.refine:
            raise UserError("--refine is empty; name a refinement LoRA, PATH[:WEIGHT], or leave it out")
        if frames == 1 or output.out.suffix.lower() in IMAGE_SUFFIXES:
            raise UserError("--refine is for videos; leave it out for a single frame")
        return
    plain = RefineOptions()
    changed = [f"--{name.replace('_', '-')}" for name in ("to", "spatial_only", "timing", "refine_attention",
               "refine_keep") if getattr(refine, name) != getattr(plain, name)]  # fmt: skip
    if changed:
        raise UserError(f"{changed[0]} is of refinement; add --refine LORA")


def _check_files(output: OutputOptions, content: ContentOptions, frames: int | None, count: int) -> None:
    """Raise UserError for files that cannot be written or read. count: of videos."""
    out, suffix = output.out, output.out.suffix.lower()
    if suffix not in (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES):
        raise UserError(f"--out {out}: name a file ending in .mp4, or in .png for a single frame")
    if suffix in IMAGE_SUFFIXES and frames != 1:
        raise UserError(f"--out {out} is a picture; add --frames 1, or name an .mp4")
    if content.image is not None and content.video is not None:
        raise UserError("--image and --video are two ways to begin; give one of them")
    from reelwright.pipelines.generate.run import out_paths

    existing = [path for path in out_paths(out, count) if path.exists()]
    if existing and not output.force:
        raise UserError(f"{existing[0]} is there already; add --force to replace it")
    if not out.absolute().parent.is_dir():
        raise UserError(f"there is no folder {out.absolute().parent}; make it, or name another --out")
    for file in (content.image, content.video):
        if file is not None and not file.is_file():
            raise UserError(f"there is no file {file}")
