"""The model that is tuned: loaded, given adapters, and written again, whole or as the adapter alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelwright.annotate.backends.hub import quiet
from reelwright.annotate.backends.videos.form import VideoForm
from reelwright.annotate.backends.videos.forms import FORMS, form_of, pictures_processor
from reelwright.curation.extras import install_command
from reelwright.errors import first_line
from reelwright.training.errors import TrainError
from reelwright.training.tuning.recipe import BaseConfig, LoraConfig
from reelwright.training.tuning.template import Template

if TYPE_CHECKING:
    from torch import Tensor, nn

ADAPTER = "default"  # PEFT's name of the only adapter
VISION = ("visual.", "vision_tower.", "multi_modal_projector.")


@dataclass(frozen=True)
class Base:
    """A loaded model, its processor, and how it is shown videos and asked."""

    model: Any
    processor: Any
    form: VideoForm
    template: Template

    @property
    def ends(self) -> list[int]:
        """Tokens that end an answer."""
        return ends_of(self.model)


def load_base(base: BaseConfig) -> Base:
    """Load a model to the CPU, frozen.

    Raises:
        TrainError: it cannot be loaded, or is of a class whose videos are not known.
    """
    try:
        from transformers import AutoConfig, AutoModelForImageTextToText
    except ImportError as error:
        raise TrainError(f"tuning needs transformers: {install_command('tune')}") from error
    import torch

    quiet()
    try:
        config = AutoConfig.from_pretrained(base.model, revision=base.revision or None)
        if config.model_type not in FORMS:
            raise TrainError(f"base.model = {base.model!r} is a {config.model_type}; known are {', '.join(FORMS)}")
        form = form_of(base.model, base.revision, config)
        processor = pictures_processor(base.model, base.revision, config)
        model = AutoModelForImageTextToText.from_pretrained(
            base.model, revision=base.revision or None, dtype=getattr(torch, base.dtype), use_safetensors=True,
            attn_implementation="sdpa",
        )  # fmt: skip
    except (ImportError, OSError, RuntimeError, ValueError, KeyError) as error:
        if isinstance(error, TrainError):
            raise
        raise TrainError(
            f"base.model = {base.model!r} cannot be loaded ({first_line(error)}); set it to a folder or a hub's id"
        ) from error
    assert form is not None
    model.requires_grad_(False)
    return Base(model, processor, form, Template(processor, form, ends_of(model)))


def ends_of(model: Any) -> list[int]:
    """Return the tokens at which a model's answers end."""
    ends = model.generation_config.eos_token_id
    return list(ends) if isinstance(ends, list) else [ends]


def add_adapters(model: Any, lora: LoraConfig, seed: int) -> None:
    """Give a frozen model adapters, in float32, in place; with `lora.vision`, let its vision be trained too.

    Raises:
        TrainError: PEFT is missing, or the language model has no layer of these names.
    """
    import torch

    try:
        from peft import LoraConfig as Peft
        from peft import inject_adapter_in_model
    except ImportError as error:
        raise TrainError(f"tuning needs peft: {install_command('tune')}") from error
    names = "|".join(map(re.escape, lora.layers))
    wanted = rf"(?:.*\.)?language_model\.layers\.\d+\.(?:\w+\.)*(?:{names})"
    if not any(re.fullmatch(wanted, name) for name, _ in model.named_modules()):
        raise TrainError(f"lora.layers = {list(lora.layers)}: the language model has no such linear layers")
    torch.manual_seed(seed)
    config = Peft(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=wanted)
    inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    for name, parameter in model.named_parameters():
        if ".lora_" in name or (lora.vision and is_vision(name)):
            parameter.requires_grad_(True)
            parameter.data = parameter.data.float()


def is_vision(name: str) -> bool:
    """Return whether a weight is of the vision tower, or of what joins it to the language model."""
    return name.removeprefix("model.").startswith(VISION)


def adapter_tensors(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the adapters among trained weights, under the names of PEFT's files."""
    return {
        f"base_model.model.{name.replace(f'.{ADAPTER}.', '.')}": weight
        for name, weight in weights.items()
        if ".lora_" in name
    }


def save_adapter(folder: Path, weights: Mapping[str, Tensor], base: BaseConfig, lora: LoraConfig) -> None:
    """Write an adapter as PEFT does; vision that was trained goes into a file beside it."""
    from peft import LoraConfig as Peft
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = adapter_tensors(weights)
    layers = sorted({name.removeprefix("base_model.model.").rpartition(".lora_")[0] for name in tensors})
    config = Peft(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=layers,
        base_model_name_or_path=base.model, revision=base.revision or None, inference_mode=True,
    )  # fmt: skip
    config.save_pretrained(folder)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "adapter_model.safetensors")
    if rest := {name: tensor.contiguous() for name, tensor in weights.items() if is_vision(name)}:
        save_file(rest, folder / "vision.safetensors")


def save_merged(folder: Path, weights: Mapping[str, Tensor], base: BaseConfig, lora: LoraConfig) -> None:
    """Write the tuned model whole, as published ones are: loaded again, W + alpha / rank · B A in fp32, rounded once.

    Args:
        folder: to write.
        weights: trained ones by the model's names.
        base: the model that was tuned.
        lora: of the adapters.
    """
    import torch
    from transformers import AutoModelForImageTextToText

    model: nn.Module = AutoModelForImageTextToText.from_pretrained(
        base.model, revision=base.revision or None, dtype="auto", use_safetensors=True
    )
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, down in weights.items():
            if f".lora_A.{ADAPTER}." in name:
                up = weights[name.replace(".lora_A.", ".lora_B.")]
                weight = own[name.replace(f".lora_A.{ADAPTER}.", ".")]
                change = lora.alpha / lora.rank * (up.float() @ down.float())
                weight.copy_((weight.float() + change).to(weight.dtype))
            elif is_vision(name):
                own[name].copy_(down.to(own[name].dtype))
    model.save_pretrained(folder)
    _copy_words(folder, base)


def _copy_words(folder: Path, base: BaseConfig) -> None:
    """Copy tokenizer, chat template and preprocessing from the base, byte for byte: they are not tuned."""
    import shutil

    for source in _words(base):
        target = folder / source.name
        if source.is_file() and not target.exists():
            shutil.copyfile(source, target)


def _words(base: BaseConfig) -> Sequence[Path]:
    folder = Path(base.model).expanduser()
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        kept = ["*.json", "*.jinja", "*.txt", "*.model"]
        folder = Path(snapshot_download(base.model, revision=base.revision or None, allow_patterns=kept))
    weights = ("model.safetensors.index.json",)
    files = [path for suffix in (".json", ".jinja", ".txt", ".model") for path in sorted(folder.glob(f"*{suffix}"))]
    return [path for path in files if path.name not in weights]
