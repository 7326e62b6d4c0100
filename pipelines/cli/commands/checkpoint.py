"""`reel checkpoint …`: weights in and out."""

from pathlib import Path
from typing import Annotated

import typer

from reelwright.pipelines.cli.app import app, printable, say

checkpoint = typer.Typer(
    help="Exchange weights with the published layout.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(checkpoint, name="checkpoint")

Out = Annotated[Path, typer.Argument(help="New folder.")]
MaxShard = Annotated[str, typer.Option(help="Largest file: 5GB, 500MB.")]
Dtype = Annotated[str | None, typer.Option(help="Cast to fp32, bf16 or fp16; as they are if not given.")]


@checkpoint.command(
    name="import",
    epilog="Example:  reel checkpoint import LongCat-Video/dit weights/longcat   then   "
    "reel train RECIPE --set init=weights/longcat",
)
def import_(
    source: Annotated[Path, typer.Argument(help="Published folder, .safetensors file, or LoRA file.")],
    out: Out,
    base: Annotated[Path | None, typer.Option(help="Weights a LoRA is for; else the published.")] = None,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Draw missing tensors at random.")] = False,
    allow_unexpected: Annotated[bool, typer.Option("--allow-unexpected", help="Drop unexpected tensors.")] = False,
    max_shard: MaxShard = "5GB",
    dtype: Dtype = None,
) -> None:
    """Check published weights, or a LoRA file, against the network.

    Copy them to a folder that `reel train` and `reel generate` take. Keys that do not fit are listed, and nothing is
    written.
    """
    from reelwright.model.lora.files import is_lora
    from reelwright.model.weights.weight_files import open_weights

    size, cast = _size(max_shard), _dtype(dtype)
    if is_lora(open_weights(source)):
        _import_lora(source, out, base)
        return
    from reelwright.model.weights.weight_files import read_config
    from reelwright.training.weights.convert import import_weights, report_keys
    from reelwright.training.weights.describe import config_line

    weights = open_weights(source)
    config, extra = read_config(source, weights)
    say(f"network: {config_line(config)}", f"in: {len(weights.files)} files, {', '.join(weights.dtypes())}")
    if extra := {k: v for k, v in extra.items() if not k.startswith("_")}:
        say(f"note: config fields without a meaning here are carried along: {printable(', '.join(sorted(extra)))}")
    if extra.get("enable_bsa"):
        say("note: enable_bsa is set; attention is dense unless asked for: reel generate --attention sparse")
    report = report_keys(weights, config)
    say(*map(printable, report.lines()))
    report.check(source, allow_missing=allow_missing, allow_unexpected=allow_unexpected)
    made = import_weights(source, out, config, extra, report, dtype=cast, max_shard_bytes=size)
    _made(made, f"next: reel train RECIPE --snapshot NAME --set init={out}")


@checkpoint.command(
    epilog="Example:  reel checkpoint export runs/a/checkpoints/step-00001000 out --dtype bf16   or, for ComfyUI,   "
    "reel checkpoint export runs/a out --lora --format comfyui --verify"
)
def export(
    run: Annotated[
        Path, typer.Argument(metavar="CKPT", help="A step-… folder, a run (its newest), weights, or a LoRA file.")
    ],
    out: Out,
    ema: Annotated[bool, typer.Option("--ema", help="Averaged weights.")] = False,
    lora: Annotated[bool, typer.Option("--lora", help="The adapter alone; else it is merged.")] = False,
    adapter: Annotated[str, typer.Option(help="Which adapter.")] = "default",
    base: Annotated[Path | None, typer.Option(help="What the run began with, where that has moved.")] = None,
    max_shard: MaxShard = "5GB",
    dtype: Dtype = None,
    format_: Annotated[
        str, typer.Option("--format", help="published or diffusers; a LoRA also fastvideo, comfyui, kohya.")
    ] = "published",
    components: Annotated[
        Path | None, typer.Option(help="With --format diffusers: published pipeline to take the VAE and the rest from.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read back by the others' names and compare outputs.")
    ] = False,
) -> None:
    """Write a training checkpoint in the published layout, or its adapter as a LoRA file with published keys.

    --format writes files for other projects: a network for FastVideo and SGLang (diffusers), a LoRA for diffusers,
    FastVideo, ComfyUI or kohya. Weights and LoRA files are taken too, to turn one form into another.
    """
    from reelwright.training.weights.formats import Choice, is_lora_source

    choice = Choice(ema, _dtype(dtype), adapter, base, _size(max_shard), components)
    if lora or is_lora_source(run):
        _export_lora(run, out, format_, choice, verify)
    else:
        _export_network(run, out, format_, choice, verify)


def _export_lora(source: Path, out: Path, form: str, choice, verify: bool) -> None:  # type: ignore[no-untyped-def]
    from reelwright.training.weights.formats import LORA_FORMATS, lora_layers_of, write_lora_as
    from reelwright.training.weights.verify import verify_lora

    _among(form, LORA_FORMATS, "a LoRA")
    layers, note = lora_layers_of(source, choice)
    made = write_lora_as(layers, out, form, note)
    if verify:
        (file,) = out.glob("*.safetensors")
        say(verify_lora(layers, file).line("layers"))
    _made(made, f"next: reel checkpoint show {out}")


def _export_network(source: Path, out: Path, form: str, choice, verify: bool) -> None:  # type: ignore[no-untyped-def]
    from reelwright.pipelines.train.run import generate_command
    from reelwright.training.weights.convert import recipe_of
    from reelwright.training.weights.formats import NETWORK_FORMATS, open_network, write_network
    from reelwright.training.weights.verify import verify_network

    _among(form, NETWORK_FORMATS, "a network")
    network = open_network(source, choice)
    made = write_network(network, out, form)
    if verify:
        say(verify_network(network, out).line("tensors"))
    following = (
        generate_command(str(out), recipe_of(network.source)) if network.trained else f"reel checkpoint show {out}"
    )
    _made(made, f"next: {following}")


def _among(form: str, formats: tuple[str, ...], what: str) -> None:
    from reelwright.errors import UserError

    if form not in formats:
        raise UserError(f"--format {form!r}: {what} goes out as {', '.join(formats)}")


@checkpoint.command(epilog="Example:  reel checkpoint show runs/a")
def show(path: Annotated[Path, typer.Argument(help="Training checkpoint, folder of weights, or LoRA file.")]) -> None:
    """Describe a checkpoint: network, sizes, keys and origin."""
    from reelwright.training.weights.describe import describe

    say(*map(printable, describe(path)))


def _import_lora(source: Path, out: Path, base: Path | None) -> None:
    from reelwright.model.config import LONGCAT_VIDEO
    from reelwright.model.errors import ModelError
    from reelwright.model.weights.weight_files import read_config
    from reelwright.training.weights.convert import check_lora, import_lora
    from reelwright.training.weights.describe import lora_line

    config = read_config(base)[0] if base else LONGCAT_VIDEO
    try:
        layers = check_lora(source, config)
    except ModelError as error:
        raise error if base else ModelError(f"{error}. Name the weights that it is for with --base") from None
    say(lora_line(layers), f"keys: {len(layers)} layers, all in the network")
    _made(import_lora(source, out), f'next: reel generate CKPT --lora {out} --prompt "a red ball" --out x.mp4')


def _made(made, following: str) -> None:  # type: ignore[no-untyped-def]  # its class would import torch
    size = f"{made.num_bytes / 1e9:,.2f} GB" if made.num_bytes > 1e8 else f"{made.num_bytes / 1e6:,.2f} MB"
    say(
        f"{made.path}: {made.parameters / 1e9:,.4f} B parameters, {made.files} files, {size}",
        f"sha256 {made.sha256}",
        following,
    )


def _size(text: str) -> int:
    """'5GB' -> bytes."""
    import re

    from reelwright.errors import UserError

    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", text, re.IGNORECASE)
    if not found or float(found[1]) == 0:
        raise UserError(f"--max-shard {text!r} is no size; write 5GB or 500MB")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** " KMGT".index(found[2].upper() or " "))


def _dtype(text: str | None):  # type: ignore[no-untyped-def]
    from reelwright.errors import UserError
    from reelwright.model.dtypes import DTYPES

    if text is not None and text not in DTYPES:
        raise UserError(f"--dtype {text!r} is none of {', '.join(DTYPES)}")
    return DTYPES[text] if text else None
