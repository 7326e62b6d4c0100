"""`reel generate`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reelwright.errors import UserError
from reelwright.pipelines.cli.app import app, say
from reelwright.pipelines.cli.generate_options import (
    AttentionForm,
    ContentOptions,
    MachineOptions,
    OutputOptions,
    SamplingOptions,
    ShapeOptions,
    WeightOptions,
)
from reelwright.pipelines.cli.option_groups import GroupedCommand, grouped

if TYPE_CHECKING:
    from reelwright.model.config import AttentionConfig
    from reelwright.model.sampling.settings import Settings
    from reelwright.pipelines.generate.run import InitialFrames, Request, Source

VIDEO_SUFFIXES, IMAGE_SUFFIXES = (".mp4",), (".png",)


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
    weights: WeightOptions,
    machine: MachineOptions,
    output: OutputOptions,
) -> None:
    """Generate video from text, an image or the end of a video, with weights trained here or published.

    Frames come 4k + 1 at a time, as the VAE packs them; width and height are multiples of 16. The request, the seed
    and the origin of the weights stand in the file's comment tag.
    """
    prompts, count = _prompts(content, shape.segments)
    _check_files(output, content, shape.frames, count)

    from reelwright.pipelines.generate.run import LoadOptions, Request, find_source, load

    source = find_source(checkpoint)
    fps = shape.fps or source.fps
    settings, initial = _settings(source, content, shape, sampling, machine)
    device, dtype = machine.device_and_dtype()
    settings = settings.changed(bf16_t=source.recipe is None and dtype == "bf16")
    options = LoadOptions(
        codec=weights.codec_config(),
        text=weights.text_config(),
        loras=weights.loras(),
        ema=weights.weights.ema,
        device=device,
        dtype=dtype,
        attention=_attention(source, sampling),
        tile=machine.tile,
    )
    loaded = load(source, options)
    request = Request(
        prompts=prompts,
        seeds=[content.seed + i for i in range(count)],
        settings=settings,
        out=output.out,
        fps=fps,
        segments=len(prompts) if isinstance(prompts, list) else 1,
        initial=initial,
    )
    if not output.quiet:
        say(*filter(None, [initial.note if initial else "", _summary(source, request, loaded.about)]))
    _run(loaded, request, output.quiet)


def _attention(source: "Source", sampling: SamplingOptions) -> "AttentionConfig":
    """Return the requested attention, on top of the one that the network was trained with. Raises UserError."""
    from reelwright.model.config import AttentionConfig

    trained = source.recipe.attention if source.recipe else AttentionConfig()
    form = trained.form if sampling.attention == AttentionForm.AUTO else sampling.attention.value
    if sampling.keep is not None and form == "dense":
        raise UserError(f"--keep {sampling.keep:g} is of sparse attention; add --attention sparse")
    changed = {"form": form} if sampling.keep is None else {"form": form, "keep": sampling.keep, "cdf": None}
    return trained.model_copy(update=changed)


def _run(loaded: Any, request: "Request", quiet: bool) -> None:
    from reelwright.pipelines.generate.run import generate as make
    from reelwright.pipelines.runtime.progress import Progress

    with Progress("sampling", quiet=quiet) as bar:
        files = make(loaded, request, on_step=bar.show)
    say(*(f"wrote {file}" for file in files))


def _summary(source: "Source", request: "Request", about: dict[str, Any]) -> str:
    shape, schedule, guidance = request.settings.shape, request.settings.schedule, request.settings.guidance
    of = f"{source.path} ({about['weights_used']} weights)"
    how = f"{schedule.steps} steps, guidance {guidance.scale:g}, shift {schedule.shift:.3g}"
    size = f"{shape.width} wide × {shape.height} high × {shape.frames}"
    many = f", {request.segments} segments" if request.segments > 1 else ""
    return f"{len(request.seeds)} × {size} frames{many} from {of}: {how}, {about['dtype']} on {about['device']}"


def _settings(
    source: "Source",
    content: ContentOptions,
    shape: ShapeOptions,
    sampling: SamplingOptions,
    machine: MachineOptions,
) -> "tuple[Settings, InitialFrames | None]":
    """Return the settings of the sampler, and the frames that a video begins with.

    The options stand over the settings of the recipe's samples, or over the published ones. Raises ModelError before
    any weights are read.
    """
    from reelwright.model.config import LONGCAT_VIDEO
    from reelwright.model.sampling.settings import Settings, Shape
    from reelwright.pipelines.generate.run import default_shift, read_initial_frames
    from reelwright.training.sample_shape import sample_shape

    known: dict[str, Any] = {}
    if source.recipe is not None:
        known = dict(zip(("width", "height", "frames"), sample_shape(source.recipe), strict=True))
        known |= {"steps": source.recipe.samples.steps, "guidance": source.recipe.samples.guidance}
    if size := shape.width_and_height():
        known["width"], known["height"] = size
    if sampling.distilled:
        known |= {"steps": 16, "guidance": 1.0}
    asked = {"frames": shape.frames, "overlap": shape.overlap, "steps": sampling.steps,
             "guidance": sampling.guidance, "shift": sampling.shift}  # fmt: skip
    known |= {name: value for name, value in asked.items() if value is not None}
    known |= {"rule": sampling.rule.value, "negative": content.negative, "distilled": sampling.distilled}
    known |= {"cache": not machine.no_cache, "batched": not machine.sequential}
    if "overlap" not in known:
        known["overlap"] = min(Shape.overlap, max(1, known.get("frames", Shape.frames) - 4))
    settings = Settings.of(**known)
    settings.check(source.recipe.model.patch_size if source.recipe else LONGCAT_VIDEO.patch_size)
    initial = read_initial_frames(content.image, content.video, settings, shape.fps or source.fps)
    if sampling.shift is None:
        first = default_shift(source, settings, initial.frames.shape[1] if initial else 0)
        given = min(settings.shape.overlap, settings.shape.frames)
        has_later = shape.segments > 1 or content.prompts_file
        later = default_shift(source, settings, given) if has_later else None
        settings = settings.changed(shift=first, later_shift=later)
    return settings, initial


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
