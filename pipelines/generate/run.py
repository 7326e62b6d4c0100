"""`reel generate`: videos and pictures from a checkpoint with its codec and text encoder."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from reelwright.errors import UserError
from reelwright.model.codec import load_codec
from reelwright.model.config import (
    LONGCAT_VIDEO,
    STRIDE,
    AttentionConfig,
    CodecConfig,
    TextConfig,
    TimestepShift,
)
from reelwright.model.dtypes import DTYPES
from reelwright.model.refinement.refiner import FirstStage
from reelwright.model.sampling.generator import Generator, OnStep
from reelwright.model.sampling.schedules import SHIFT
from reelwright.model.sampling.settings import Settings
from reelwright.model.sampling.video_file import VideoWriter, write_image
from reelwright.model.sparse import use_attention
from reelwright.model.text import load_text_encoder
from reelwright.model.weights.about import read_note
from reelwright.pipelines.generate.initial import InitialFrames
from reelwright.pipelines.generate.loaded import Loaded
from reelwright.pipelines.generate.loras import LoRA, trained_before
from reelwright.pipelines.generate.refine import (
    ADAPTER,
    SecondStage,
    about_beginning,
    about_refined,
    check_video,
    recorded_versions,
    refined_parts,
)
from reelwright.pipelines.generate.rescue import first_stage_of, kept_where_refinement_ends
from reelwright.pipelines.generate.spool import Spool
from reelwright.training.weights.convert import exported_recipe

if TYPE_CHECKING:
    from reelwright.model.dit import DiT
    from reelwright.training.recipe import TrainRecipe

PUBLISHED_FPS = 15.0
SPAN = 16
"""Frames of the first stage that are read from disk at a time, where it is kept."""
LESS_MEMORY = "--tile 256, --sequential, --offload-cache, --dtype bf16, a smaller --size or fewer --frames"
CPU_MEMORY = ("can't allocate memory", "Storage size calculation overflowed")
"""Words of PyTorch's RuntimeErrors for what no CPU's memory can hold."""


@dataclass(frozen=True)
class Source:
    """Where the network comes from: a training checkpoint with its recipe, or a folder of published weights."""

    path: Path
    recipe: "TrainRecipe | None"
    about: dict[str, Any]
    fps: float = PUBLISHED_FPS
    is_checkpoint: bool = False  # else weights in the published layout; those of `reel checkpoint export` have a recipe


@dataclass(frozen=True)
class Request:
    """What to make. One of prompts' rows a segment, one prompt of a row a video."""

    prompts: Iterable[Sequence[str]]
    seeds: Sequence[int]
    settings: Settings
    out: Path
    fps: float
    segments: int = 1  # rows of prompts, as far as that is known
    initial: InitialFrames | None = None
    refine: SecondStage | None = None


def find_source(path: Path) -> Source:
    """Find a training checkpoint, the newest of a run, or published weights.

    Raises:
        UserError: the path is none of these.
    """
    from reelwright.training.checkpoints import find_checkpoint, read_metadata
    from reelwright.training.errors import TrainError
    from reelwright.training.weights.convert import recipe_of

    if not path.exists():
        raise UserError(f"{path}: there is no such checkpoint; give a run's folder, one of its checkpoints, or weights")
    try:
        found = find_checkpoint(path)
    except TrainError:
        trained = exported_recipe(path)
        return Source(path, trained, {"weights": str(path.absolute())}, trained.data.fps if trained else PUBLISHED_FPS)
    said, recipe = read_metadata(found), recipe_of(found)
    kept = ("step", "recipe_fingerprint", "snapshot", "encoder_fingerprint", "code_version")
    origin = {"checkpoint": str(found.absolute()), **{k: said[k] for k in kept if k in said}, **trained_before(said)}
    return Source(found, recipe, origin, recipe.data.fps, is_checkpoint=True)


@dataclass(frozen=True)
class LoadOptions:
    """What a generator is built with besides its source.

    codec, text, attention: in place of the recipe's. loras: that are sampled with. refine: that refines; it waits
    unused. ema: None takes averaged weights if there are any. tile: pixels of the VAE's tiles. vae_dtype: in place of
    the codec's.
    """

    codec: CodecConfig | None = None
    text: TextConfig | None = None
    loras: Sequence[LoRA] = ()
    refine: LoRA | None = None
    ema: bool | None = None
    device: str = "cpu"
    dtype: str = "fp32"
    attention: AttentionConfig | None = None
    tile: int | None = None
    vae_dtype: Literal["fp32", "bf16"] | None = None


def load(source: Source, options: LoadOptions | None = None) -> Loaded:
    """Build the generator. Raises UserError, ModelError or TrainError."""
    options = options or LoadOptions()
    device, dtype = options.device, options.dtype
    on_gpu = device.startswith("cuda")
    codec, text = encoders(source, options.codec, options.text, on_gpu=on_gpu, tile=options.tile)
    if options.vae_dtype is not None:
        codec = codec.model_copy(update={"dtype": options.vae_dtype})
    model, which = _network(source, options.ema, device, DTYPES[dtype])
    _attach_loras(model, options)
    attention = options.attention or (source.recipe.attention if source.recipe else AttentionConfig())
    use_attention(model, attention)
    coder, encoder = load_codec(codec, device=device), load_text_encoder(text, device=device)
    about = {
        **source.about,
        **_origin(source.path, is_run="checkpoint" in source.about),
        "weights_used": which,
        "loras": [lora.about for lora in options.loras],
        "codec": coder.fingerprint,
        "text_encoder": encoder.fingerprint,
        "dtype": dtype,
        "device": device,
        "attention": attention.model_dump(mode="json") if attention.form == "sparse" else "dense",
    }
    return Loaded(Generator(model.eval().requires_grad_(False), coder, encoder), about)


def _origin(path: Path, *, is_run: bool) -> dict[str, Any]:
    """Return the run's name, or the origin in the record beside weights: `reel lineage` continues there."""
    if is_run:
        return {"run": path.parent.parent.name}
    note = read_note(path)
    kept = ("source", "sha256", "step", "recipe_fingerprint", "snapshot", "code_version")
    return {"weights_from": {name: note[name] for name in kept if name in note} | trained_before(note)} if note else {}


def default_shift(
    source: Source, settings: Settings, given_frames: int = 0, *, law: TimestepShift | None = None
) -> float:
    """Return the shift of so many noisy tokens.

    Args:
        source: of the network; its run's law holds, and for published weights the published shift.
        settings: of the sampler, with the size.
        given_frames: clean ones.
        law: that a LoRA was trained by, in place of the network's.
    """
    recipe = source.recipe
    if law is None and recipe is None:
        return SHIFT
    frames, rows, columns = settings.shape.latent
    noisy = frames - -(-given_frames // STRIDE[0])
    tokens = (recipe.model if recipe else LONGCAT_VIDEO).tokens(max(1, noisy), rows, columns)
    return (law or (recipe.sampling if recipe else TimestepShift())).timestep_shift(tokens)


def generate(
    loaded: Loaded, request: Request, on_step: OnStep | None = None, on_refine: OnStep | None = None
) -> list[Path]:
    """Make the videos, and write each as it grows: OUT, or OUT-1, OUT-2 … for several. Returns the files.

    on_step, on_refine: called after each step of the first stage, and of its refinement.

    Raises UserError or ModelError.
    """
    _check_stages(loaded, request)
    paths = out_paths(request.out, len(request.seeds))
    given = request.initial.frames.expand(len(paths), -1, -1, -1, -1) if request.initial else None
    rows: list[list[str]] = []
    parts = loaded.generator.stream(
        _noted(request.prompts, rows),
        request.seeds,
        request.settings,
        initial=given,
        on_step=on_step,
        segments=request.segments,
    )
    about = [_about(loaded, request, rows, i) for i in range(len(paths))]
    with memory_may_end(LESS_MEMORY):
        if request.out.suffix.lower() == ".png":
            picture = finite(torch.cat(list(parts), 2))
            return [write_image(p, picture[i, :, 0], about[i]()) for i, p in enumerate(paths)]
        if request.refine is not None:
            return _refined(loaded, request, request.refine, parts, rows, about, on_refine)
        return write_videos(parts, paths, request.fps, about)


def _check_stages(loaded: Loaded, request: Request) -> None:
    """Raise UserError for a second stage that the first one's LoRAs, merged for good, would stay on in."""
    merged = [one["file"] for one in loaded.about["loras"]]
    if request.refine is not None and request.refine.lora is None and merged:
        raise UserError(
            f"refinement without a LoRA of its own would keep the first stage's LoRA {merged[0]} on; name a refinement "
            "LoRA, or refine the finished video with refinement's own network: reel refine"
        )


@contextmanager
def memory_may_end(hint: str) -> Iterator[None]:
    """Say in a sentence that the memory is not enough, and what to try. A CPU's allocator has no error of its own."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        ended = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(w in str(error) for w in CPU_MEMORY)
        if not ended:
            raise
        raise UserError(f"the device's memory is not enough; try {hint}") from error


def out_paths(out: Path, count: int) -> list[Path]:
    """One file a video."""
    if count == 1:
        return [out]
    return [out.with_name(f"{out.stem}-{i + 1}{out.suffix}") for i in range(count)]


def _refined(
    loaded: Loaded,
    request: Request,
    stage: SecondStage,
    parts: Iterator[Tensor],
    rows: list[list[str]],
    about: list[Callable[[], dict[str, Any]]],
    on_step: OnStep | None,
) -> list[Path]:
    """Keep the first stage on disk until its last frame is out, and refine it: adapters are changed once."""
    count, initial = len(request.seeds), request.initial
    with tempfile.TemporaryDirectory(prefix="reel-first-stage-") as folder:
        spool = Spool(Path(folder), count)
        for part in parts:
            spool.write(finite(part))
        check_video(spool.frames)
        prompts = rows[0] if len(rows) == 1 else [""] * count
        given = initial.frames.shape[1] if initial else 0
        large = initial.large.expand(count, -1, -1, -1, -1) if initial and initial.large is not None else None
        first = FirstStage(spool.read, spool.frames, given, large)
        refined = refined_parts(loaded.generator, stage, first, prompts, request.seeds, on_step)
        fps = request.fps * stage.how.times

        def tell(i: int) -> dict[str, Any]:
            return {**about[i](), "fps": fps, **about_refined(loaded.about, stage, prompts[i])}

        def keep() -> list[Path]:
            again = (spool.read(i, min(i + SPAN, spool.frames)) for i in range(0, spool.frames, SPAN))
            return write_videos(again, kept, request.fps, about)

        kept = out_paths(first_stage_of(request.out), count)
        with kept_where_refinement_ends(keep), memory_may_end(LESS_MEMORY), closing(refined):
            paths = out_paths(request.out, count)
            return write_videos(refined, paths, fps, [partial(tell, i) for i in range(count)])


def write_videos(
    parts: Iterator[Tensor], paths: list[Path], fps: float, about: list[Callable[[], dict[str, Any]]]
) -> list[Path]:
    """Write videos as their parts come, each with what `about` says at the end."""
    with ExitStack() as stack:
        writers = [stack.enter_context(VideoWriter(path, fps)) for path in paths]
        for part in parts:
            for writer, video in zip(writers, finite(part), strict=True):
                writer.write(video)
        return [writer.finish(tell()) for writer, tell in zip(writers, about, strict=True)]


def finite(frames: Tensor) -> Tensor:
    """Return the frames. Raises UserError where they hold NaN or infinity, which a file shows as black or noise."""
    if not bool(frames.isfinite().all()):
        raise UserError(
            "the network's frames hold numbers that are not finite (NaN or infinity), so nothing is written; check the "
            "weights and LoRAs, or sample with --dtype fp32"
        )
    return frames


def _noted(prompts: Iterable[Sequence[str]], rows: list[list[str]]) -> Iterator[Sequence[str]]:
    """Pass prompts through as they are asked for, and remember them."""
    for row in prompts:
        rows.append(list(row))
        yield row


def _about(loaded: Loaded, request: Request, rows: list[list[str]], i: int) -> Callable[[], dict[str, Any]]:
    """All settings that a video depends on; prompts are added later."""

    def tell() -> dict[str, Any]:
        begun = request.initial
        return {
            "made_by": "reelwright",
            "prompts": [row[i] for row in rows],
            "seed": request.seeds[i],
            "settings": request.settings.flat(),
            "fps": request.fps,
            "begins_with": about_beginning(begun.file, begun.frames.shape[1]) if begun else None,
            **loaded.about,
            "versions": recorded_versions(),
        }

    return tell


def encoders(
    source: Source, codec: CodecConfig | None, text: TextConfig | None, *, on_gpu: bool, tile: int | None = None
) -> tuple[CodecConfig, TextConfig]:
    """Those that were asked for, else the recipe's, else those in the published folder.

    On a GPU umT5-xxl is loaded in bf16 unless the recipe has it otherwise: in fp32 it takes 23 GB. tile: in place of
    the codec's.
    """
    codec, text = _named_encoders(source, codec, text)
    ours = source.recipe is not None and text == source.recipe.text
    if on_gpu and not ours and text.kind == "umt5":
        text = text.model_copy(update={"dtype": "bf16"})
    if tile is not None and codec.kind != "wan":
        raise UserError(f"--tile {tile} is of Wan's VAE; the codec here is {codec.kind}")
    return codec if tile is None else codec.model_copy(update={"tile": tile}), text


def _named_encoders(
    source: Source, codec: CodecConfig | None, text: TextConfig | None
) -> tuple[CodecConfig, TextConfig]:
    if source.recipe is not None:
        return codec or source.recipe.codec, text or source.recipe.text
    if codec is None and (source.path / "vae" / "config.json").is_file():
        codec = CodecConfig(kind="wan", path=str(source.path))
    if text is None and (source.path / "text_encoder" / "config.json").is_file():
        text = TextConfig(kind="umt5", path=str(source.path))
    for name, found in (("codec", codec), ("text-encoder", text)):
        if found is None:
            raise UserError(f"{source.path} does not say its {name.replace('-', ' ')}; add --{name} FOLDER_OR_HUB_ID")
    assert codec is not None
    assert text is not None
    return codec, text


def _network(source: Source, ema: bool | None, device: str, dtype: torch.dtype) -> "tuple[DiT, str]":
    from reelwright.model.checkpoint import load_model
    from reelwright.model.dit import DiT

    if source.recipe is None or not source.is_checkpoint:
        which = "published" if source.recipe is None else "exported"
        return load_model(source.path, dtype=dtype, device=device), which
    from reelwright.training.checkpoints import tensor_names
    from reelwright.training.weights.convert import network_tensors

    if ema is None:
        ema = any(name.startswith("ema.") for name in tensor_names(source.path))
    with torch.device("meta"):
        model = DiT(source.recipe.model)
    state = {name: t.to(device, dtype) for name, t in network_tensors(source.path, ema=ema)}
    missing = sorted(set(model.state_dict()) ^ set(state))
    if missing:
        raise UserError(f"{source.path} does not fit its recipe's model: {missing[0]} and {len(missing) - 1} others")
    model.load_state_dict(state, assign=True)
    return model, "ema" if ema else "last"


def _attach_loras(model: "DiT", options: "LoadOptions") -> None:
    """Merge LoRAs into the network for good; beside a refinement's LoRA, which waits unused, so that they come off."""
    from reelwright.model.lora.adapters import load_lora, merge_lora, set_lora_weights

    for i, lora in enumerate(options.loras):
        load_lora(model, lora.file, name=f"lora{i}", weight=lora.weight)
    if options.refine is not None:
        load_lora(model, options.refine.file, name=ADAPTER)
        set_lora_weights(model, {ADAPTER: 0.0})
    if options.loras:
        merge_lora(model, keep_base=options.refine is not None)
