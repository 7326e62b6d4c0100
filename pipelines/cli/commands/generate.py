"""`reel generate`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reelwright.errors import UserError, first_line
from reelwright.pipelines.cli.app import app, say

if TYPE_CHECKING:
    from reelwright.model.config import AttentionConfig, CodecConfig, TextConfig
    from reelwright.model.sampling.settings import Settings
    from reelwright.pipelines.generate.run import Request, Source

VIDEO_SUFFIXES, IMAGE_SUFFIXES = (".mp4",), (".png",)


@app.command(epilog='Example:  reel generate RUN --prompt "a dog runs on the beach" --size 832x480 --out dog.mp4')
def generate(
    checkpoint: Annotated[Path, typer.Argument(help="A run, one of its checkpoints, or published weights.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write: .mp4, or .png with --frames 1.")],
    prompt: Annotated[list[str] | None, typer.Option("--prompt", "-p", help="Text; repeat it for more videos.")] = None,
    prompts_file: Annotated[
        Path | None, typer.Option(help="A line is a segment's prompt; - reads them as you type, after each segment.")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="Picture to begin with.")] = None,
    video: Annotated[
        Path | None, typer.Option(help="Video to go on from. OUT begins with its last frames, not with all of it.")
    ] = None,
    segments: Annotated[int, typer.Option(min=1, help="Segments of --frames; each goes on from the last.")] = 1,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels: 832x480. Default: as trained.")] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Frames of a segment: 4k + 1. Default: as trained.")] = None,
    overlap: Annotated[
        int | None,
        typer.Option(min=1, help="Frames that a segment shares with the one before: 4k + 1.  [default: 13, or fewer]"),
    ] = None,
    fps: Annotated[float | None, typer.Option(min=1, max=240, help="Default: as trained; 15 as published.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, max=1000, help="Sampling steps.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the first video; the next has the next one.")] = 0,
    guidance: Annotated[float | None, typer.Option(min=0, help="1: none.")] = None,
    rule: Annotated[str, typer.Option(help="cfg-zero or cfg.")] = "cfg-zero",
    negative: Annotated[str, typer.Option(help="What guidance leads away from.")] = "",
    shift: Annotated[float | None, typer.Option(min=0.01, help="Default: as trained; 12 as published.")] = None,
    distilled: Annotated[bool, typer.Option("--distilled", help="16 steps without guidance.")] = False,
    lora: Annotated[list[str] | None, typer.Option(help="PATH[:WEIGHT] of a file or its folder; repeatable.")] = None,
    weights: Annotated[str, typer.Option(help="auto, ema (averaged) or last.")] = "auto",
    codec: Annotated[str | None, typer.Option(help="Folder or hub id of Wan's VAE, or dct.")] = None,
    text_encoder: Annotated[str | None, typer.Option(help="Folder or hub id of umT5, or hashing.")] = None,
    tile: Annotated[
        int | None, typer.Option(min=0, help="Pixels of the VAE's tiles, in 32s: less memory; 0: whole frames.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    attention: Annotated[str, typer.Option(help="auto (as trained), dense or sparse.")] = "auto",
    keep: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of key blocks that sparse attention keeps; default 1/16.")
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Compute given frames anew in every step.")] = False,
    sequential: Annotated[bool, typer.Option("--sequential", help="Guidance in two passes: less memory.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the files' names.")] = False,
) -> None:
    """Generate video from text, an image or the end of a video, with weights trained here or published.

    Frames come 4k + 1 at a time, as the VAE packs them; width and height are multiples of 16. What was asked, the seed
    and where the weights come from stand in the file's comment tag.
    """
    _check_choice("--rule", rule, ("cfg-zero", "cfg"))
    _check_choice("--weights", weights, ("auto", "ema", "last"))
    _check_choice("--dtype", dtype, ("auto", "fp32", "bf16"))
    _check_choice("--attention", attention, ("auto", "dense", "sparse"))
    texts, count = _prompts(prompt, prompts_file, segments)
    _check_files(out, image, video, frames, count, force)
    asked: dict[str, Any] = {"frames": frames, "steps": steps, "guidance": guidance, "shift": shift}
    asked |= {"overlap": overlap, "rule": rule, "negative": negative, "distilled": distilled}
    asked |= {"cache": not no_cache, "batched": not sequential}

    import torch

    from reelwright.pipelines.generate.run import Request, default_shift, find_source, load, read_beginning

    source = find_source(checkpoint)
    settings = _settings(source, size, asked)
    begins = read_beginning(image, video, settings, fps or source.fps)
    if shift is None:
        first = default_shift(source, settings, begins.frames.shape[1] if begins else 0)
        given = min(settings.shape.overlap, settings.shape.frames)
        later = default_shift(source, settings, given) if segments > 1 or prompts_file else None
        settings = settings.changed(shift=first, later_shift=later)
    where = device if device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    _check_device(where)
    precision = dtype if dtype != "auto" else ("bf16" if where.startswith("cuda") else "fp32")
    settings = settings.changed(bf16_t=source.recipe is None and precision == "bf16")
    loaded = load(
        source,
        codec=_codec(codec),
        text=_text(text_encoder),
        loras=[_lora(given) for given in lora or []],
        ema={"auto": None, "ema": True, "last": False}[weights],
        device=where,
        dtype=precision,
        attention=_attention(source, attention, keep),
        tile=tile,
    )
    request = Request(
        prompts=texts,
        seeds=[seed + i for i in range(count)],
        settings=settings,
        out=out,
        fps=fps or source.fps,
        segments=segments if prompts_file is None else len(texts) if isinstance(texts, list) else 1,
        begins=begins,
    )
    if not quiet:
        say(*filter(None, [begins.note if begins else "", _summary(source, request, loaded.about)]))
    _run(loaded, request, quiet)


def _attention(source: "Source", form: str, keep: float | None) -> "AttentionConfig | None":
    """As asked for, on top of what the network was trained with."""
    from reelwright.model.config import AttentionConfig

    trained = source.recipe.attention if source.recipe else AttentionConfig()
    kind = trained.form if form == "auto" else form
    if keep is not None and kind == "dense":
        raise UserError(f"--keep {keep:g} is of sparse attention; add --attention sparse")
    changed = {"form": kind} if keep is None else {"form": kind, "keep": keep, "cdf": None}
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


def _settings(source: "Source", size: str | None, asked: dict[str, Any]) -> "Settings":
    """The recipe's sample settings, or the published ones, under what was asked for. Raises ModelError early."""
    from reelwright.model.config import LONGCAT_VIDEO
    from reelwright.model.sampling.settings import Settings, Shape
    from reelwright.training.sample_shape import sample_shape

    known: dict[str, Any] = {}
    if source.recipe is not None:
        known = dict(zip(("width", "height", "frames"), sample_shape(source.recipe), strict=True))
        known |= {"steps": source.recipe.samples.steps, "guidance": source.recipe.samples.guidance}
    if size is not None:
        known["width"], known["height"] = _size(size)
    if asked["distilled"]:
        known |= {"steps": 16, "guidance": 1.0}
    known |= {k: v for k, v in asked.items() if v is not None}
    if "overlap" not in known:
        known["overlap"] = min(Shape.overlap, max(1, known.get("frames", Shape.frames) - 4))
    settings = Settings.of(**known)
    settings.check(source.recipe.model.patch_size if source.recipe else LONGCAT_VIDEO.patch_size)
    return settings


def _prompts(prompt: list[str] | None, file: Path | None, segments: int) -> tuple[Any, int]:
    """(rows of prompts, one row a segment, one prompt of it a video; number of videos)."""
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
    """A prompt a line of standard input, until it ends or a line is empty."""
    while True:
        if sys.stdin.isatty():
            print("prompt of the next segment (empty: done): ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline().strip()
        if not line:
            return
        yield [line]


def _check_files(
    out: Path, image: Path | None, video: Path | None, frames: int | None, count: int, force: bool
) -> None:
    suffix = out.suffix.lower()
    if suffix not in (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES):
        raise UserError(f"--out {out}: name a file ending in .mp4, or in .png for a single frame")
    if suffix in IMAGE_SUFFIXES and frames != 1:
        raise UserError(f"--out {out} is a picture; add --frames 1, or name an .mp4")
    if image is not None and video is not None:
        raise UserError("--image and --video are two ways to begin; give one of them")
    from reelwright.pipelines.generate.run import out_paths

    there = [path for path in out_paths(out, count) if path.exists()]
    if there and not force:
        raise UserError(f"{there[0]} is there already; add --force to replace it")
    if not out.absolute().parent.is_dir():
        raise UserError(f"there is no folder {out.absolute().parent}; make it, or name another --out")
    for given in (image, video):
        if given is not None and not given.is_file():
            raise UserError(f"there is no file {given}")


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise UserError(f"--size {text}: write WIDTHxHEIGHT in pixels, such as 832x480")
    return int(width), int(height)


def _lora(text: str) -> tuple[Path, float]:
    """FILE or FILE:WEIGHT; a colon may be part of the name."""
    name, _, weight = text.rpartition(":")
    try:
        return (Path(name), float(weight)) if name else (Path(text), 1.0)
    except ValueError:
        return Path(text), 1.0


def _codec(path: str | None) -> "CodecConfig | None":
    from reelwright.model.config import CodecConfig

    if path is None:
        return None
    return CodecConfig(kind="dct") if path == "dct" else CodecConfig(kind="wan", path=path)


def _text(path: str | None) -> "TextConfig | None":
    from reelwright.model.config import TextConfig

    if path is None:
        return None
    return TextConfig(kind="hashing") if path == "hashing" else TextConfig(kind="umt5", path=path)


def _check_choice(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(f"{option} {value!r}: it is one of {', '.join(allowed)}")


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {device} cannot be used here ({first_line(error)})") from error
