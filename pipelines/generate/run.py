"""`reel generate`: videos and pictures from a checkpoint with its codec and text encoder."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reelwright.errors import UserError
from reelwright.model.codec import load_codec
from reelwright.model.config import STRIDE, AttentionConfig, CodecConfig, TextConfig
from reelwright.model.dtypes import DTYPES
from reelwright.model.sampling.generator import Generator, OnStep
from reelwright.model.sampling.schedules import SHIFT
from reelwright.model.sampling.settings import Settings
from reelwright.model.sampling.video_file import VideoWriter, write_image
from reelwright.model.sparse import use_attention
from reelwright.model.text import load_text_encoder
from reelwright.pipelines.generate.conditions import read_end, read_image
from reelwright.pipelines.weights.convert import exported_recipe, read_note
from reelwright.versions import versions

if TYPE_CHECKING:
    from reelwright.model.dit import DiT
    from reelwright.training.recipe import TrainRecipe

PUBLISHED_FPS = 15.0


@dataclass(frozen=True)
class Source:
    """Where the network comes from: a training checkpoint with its recipe, or a folder of published weights."""

    path: Path
    recipe: "TrainRecipe | None"
    about: dict[str, Any]
    fps: float = PUBLISHED_FPS
    is_checkpoint: bool = False  # else weights in the published layout; those of `reel checkpoint export` have a recipe


@dataclass(frozen=True)
class Loaded:
    """A generator, and what it is made of, for the file's metadata."""

    generator: Generator
    about: dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What to make. One of prompts' rows a segment, one prompt of a row a video."""

    prompts: Iterable[Sequence[str]]
    seeds: Sequence[int]
    settings: Settings
    out: Path
    fps: float
    segments: int = 1  # rows of prompts, as far as that is known
    initial: "InitialFrames | None" = None


@dataclass(frozen=True)
class InitialFrames:
    """Frames that a video begins with, [3, F, H, W] in -1..1, and the file they are from."""

    frames: Tensor
    file: Path
    note: str = ""  # what a person should know of how it was understood


def read_initial_frames(image: Path | None, video: Path | None, settings: Settings, fps: float) -> InitialFrames | None:
    """Read the first frames: an image, or the last `settings.shape.overlap` frames of a video.

    Raises:
        UserError: the file cannot be read.
    """
    size = (settings.shape.width, settings.shape.height)
    if image is not None:
        return InitialFrames(read_image(image, size).unsqueeze(1), image)
    if video is None:
        return None
    frames = read_end(video, size, settings.shape.overlap, fps)
    usable = frames.shape[1] - (frames.shape[1] - 1) % 4
    note = f"the last {usable} frames of {video} begin the new video; what comes before them there is not in it"
    if usable < settings.shape.overlap:
        note = f"{video} has only {frames.shape[1]} frames at {fps:g} fps; its last {usable} begin the new video"
    return InitialFrames(frames[:, frames.shape[1] - usable :], video, note)


def find_source(path: Path) -> Source:
    """Find a training checkpoint, the newest of a run, or published weights.

    Raises:
        UserError: the path is none of these.
    """
    from reelwright.pipelines.weights.convert import recipe_of
    from reelwright.training.checkpoints import find_checkpoint, read_metadata
    from reelwright.training.errors import TrainError

    if not path.exists():
        raise UserError(f"{path}: there is no such checkpoint; give a run's folder, one of its checkpoints, or weights")
    try:
        found = find_checkpoint(path)
    except TrainError:
        trained = exported_recipe(path)
        return Source(path, trained, {"weights": str(path.absolute())}, trained.data.fps if trained else PUBLISHED_FPS)
    said, recipe = read_metadata(found), recipe_of(found)
    kept = ("step", "recipe_fingerprint", "snapshot", "encoder_fingerprint", "code_version")
    origin = {"checkpoint": str(found.absolute()), **{k: said[k] for k in kept if k in said}}
    return Source(found, recipe, origin, recipe.data.fps, is_checkpoint=True)


@dataclass(frozen=True)
class LoadOptions:
    """What a generator is built with besides its source.

    codec, text, attention: in place of the recipe's. loras: files or folders, with their weights. ema: None takes
    averaged weights if there are any. tile: pixels of the VAE's tiles.
    """

    codec: CodecConfig | None = None
    text: TextConfig | None = None
    loras: Sequence[tuple[Path, float]] = ()
    ema: bool | None = None
    device: str = "cpu"
    dtype: str = "fp32"
    attention: AttentionConfig | None = None
    tile: int | None = None


def load(source: Source, options: LoadOptions | None = None) -> Loaded:
    """Build the generator. Raises UserError, ModelError or TrainError."""
    options = options or LoadOptions()
    device, dtype = options.device, options.dtype
    on_gpu = device.startswith("cuda")
    codec, text = encoders(source, options.codec, options.text, on_gpu=on_gpu, tile=options.tile)
    loras = [(_lora_file(path), weight) for path, weight in options.loras]
    model, which = _network(source, options.ema, device, DTYPES[dtype])
    _merge_loras(model, loras)
    attention = options.attention or (source.recipe.attention if source.recipe else AttentionConfig())
    use_attention(model, attention)
    coder, encoder = load_codec(codec, device=device), load_text_encoder(text, device=device)
    about = {
        **source.about,
        **_origin(source.path, is_run="checkpoint" in source.about),
        "weights_used": which,
        "loras": [{"file": str(file.absolute()), "weight": weight, "sha256": _sha256(file)} for file, weight in loras],
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
    return {"weights_from": {name: note[name] for name in kept if name in note}} if note else {}


def default_shift(source: Source, settings: Settings, given_frames: int = 0) -> float:
    """Return the shift that the run trained so many noisy tokens with; the published one for published weights."""
    if source.recipe is None:
        return SHIFT

    frames, rows, columns = settings.shape.latent
    noisy = frames - -(-given_frames // STRIDE[0])
    return source.recipe.sampling.timestep_shift(source.recipe.model.tokens(max(1, noisy), rows, columns))


def generate(loaded: Loaded, request: Request, on_step: OnStep | None = None) -> list[Path]:
    """Make the videos, and write each as it grows: OUT, or OUT-1, OUT-2 … for several. Returns the files.

    Raises UserError or ModelError.
    """
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
    try:
        if request.out.suffix.lower() == ".png":
            picture = torch.cat(list(parts), 2)
            return [write_image(p, picture[i, :, 0], about[i]()) for i, p in enumerate(paths)]
        return _write_videos(parts, paths, request.fps, about)
    except torch.OutOfMemoryError as error:
        raise UserError(
            "the device's memory is not enough; try --tile 256, --sequential, --dtype bf16, a smaller --size or fewer "
            "--frames"
        ) from error


def out_paths(out: Path, count: int) -> list[Path]:
    """One file a video."""
    if count == 1:
        return [out]
    return [out.with_name(f"{out.stem}-{i + 1}{out.suffix}") for i in range(count)]


def _write_videos(
    parts: Iterator[Tensor], paths: list[Path], fps: float, about: list[Callable[[], dict[str, Any]]]
) -> list[Path]:
    with ExitStack() as stack:
        writers = [stack.enter_context(VideoWriter(path, fps)) for path in paths]
        for part in parts:
            for writer, video in zip(writers, part, strict=True):
                writer.write(video)
        return [writer.finish(tell()) for writer, tell in zip(writers, about, strict=True)]


def _noted(prompts: Iterable[Sequence[str]], rows: list[list[str]]) -> Iterator[Sequence[str]]:
    """Pass prompts through as they are asked for, and remember them."""
    for row in prompts:
        rows.append(list(row))
        yield row


def _about(loaded: Loaded, request: Request, rows: list[list[str]], i: int) -> Callable[[], dict[str, Any]]:
    """All settings that a video depends on; prompts are added later."""

    def tell() -> dict[str, Any]:
        file = request.initial.file if request.initial else None
        return {
            "made_by": "reelwright",
            "prompts": [row[i] for row in rows],
            "seed": request.seeds[i],
            "settings": request.settings.flat(),
            "fps": request.fps,
            "begins_with": {"file": str(file), "sha256": _sha256(file)} if file else None,
            **loaded.about,
            "versions": {k: v for k, v in versions().items() if k in ("reelwright", "torch", "python")},
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
    from reelwright.pipelines.weights.convert import network_tensors
    from reelwright.training.checkpoints import tensor_names

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


def _merge_loras(model: "DiT", loras: Sequence[tuple[Path, float]]) -> None:
    from reelwright.model.lora.adapters import load_lora, merge_lora

    for i, (file, weight) in enumerate(loras):
        load_lora(model, file, name=f"lora{i}", weight=weight)
    if loras:
        merge_lora(model, keep_base=False)


def _lora_file(path: Path) -> Path:
    """Return a LoRA file, or the one in a folder that `reel checkpoint import` or `export --lora` wrote."""
    from reelwright.pipelines.weights.convert import LORA_FILE

    found = path / LORA_FILE if path.is_dir() else path
    if not found.is_file():
        raise UserError(f"there is no LoRA file {found}; give PATH or PATH:WEIGHT of a .safetensors file or its folder")
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
