"""Small checkpoints of the real architectures, with random weights, saved as published ones are."""

import json
from pathlib import Path
from typing import Any

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% elif part['type'] == 'video' %}VIDEO"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN_TOKENS = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
LLAVA_TOKENS = ["<image>", "<video>"]
TEXT = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 4096, "initializer_range": 0.4}  # fmt: skip


def qwen_vl(folder: Path) -> Path:
    """Qwen2.5-VL: two layers to see with and two to speak with."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessorPil

    template = CHATML.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    template = template.replace("VIDEO", "<|vision_start|><|video_pad|><|vision_end|>")
    ids = _tokenizer(folder, QWEN_TOKENS, template)
    torch.manual_seed(0)
    config = Qwen2_5_VLConfig(
        vision_config={"depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48, "out_hidden_size": 64,
                       "fullatt_block_indexes": [1], "initializer_range": 0.4},
        text_config=TEXT | {"vocab_size": len(ids), "bos_token_id": ids["<|im_end|>"],
                            "eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"],
                            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}},
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    _save(Qwen2_5_VLForConditionalGeneration(config), folder, ids)
    Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=112 * 112).save_pretrained(folder)
    return folder


def llava_video(folder: Path, *, pictures_only: bool = False) -> Path:
    """LLaVA-OneVision's architecture, which the LLaVA-Video checkpoints have in transformers' format.

    pictures_only: name LLaVA's processor, which makes the same input of several pictures (16 tokens and a newline each)
    and has no video processor: `transformers serve` can then load it without torchvision.
    """
    import torch
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionImageProcessorPil,
        Qwen2Config,
        SiglipVisionConfig,
    )  # fmt: skip

    ids = _tokenizer(folder, LLAVA_TOKENS, CHATML.replace("IMAGE", "<image>").replace("VIDEO", "<video>"))
    torch.manual_seed(0)
    vision = SiglipVisionConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
                                image_size=56, patch_size=14)  # fmt: skip
    text = Qwen2Config(**TEXT, vocab_size=len(ids), bos_token_id=None, eos_token_id=ids["<|im_end|>"])
    config = LlavaOnevisionConfig(
        vision_config=vision, text_config=text, image_token_index=ids["<image>"], video_token_index=ids["<video>"],
        image_grid_pinpoints=[[56, 56], [112, 112]], vision_feature_select_strategy="full", vision_feature_layer=-1,
    )  # fmt: skip
    _save(LlavaOnevisionForConditionalGeneration(config), folder, ids)
    LlavaOnevisionImageProcessorPil(
        size={"height": 56, "width": 56}, image_grid_pinpoints=[[56, 56], [112, 112]]
    ).save_pretrained(folder)  # fmt: skip
    settings: dict[str, Any] = {"vision_feature_select_strategy": "full", "image_token": "<image>"}
    if pictures_only:
        settings |= {"processor_class": "LlavaProcessor", "patch_size": 14, "num_additional_image_tokens": 1}
    else:
        settings |= {"processor_class": "LlavaOnevisionProcessor", "num_image_tokens": 16, "video_token": "<video>"}
    (folder / "processor_config.json").write_text(json.dumps(settings))
    return folder


def text_model(folder: Path) -> Path:
    """Qwen2's architecture: text alone."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    ids = _tokenizer(folder, [], CHATML)
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**TEXT, vocab_size=len(ids), bos_token_id=None))
    _save(model, folder, ids)
    return folder


def _tokenizer(folder: Path, extra: list[str], template: str) -> dict[str, int]:
    """A byte-level BPE of some 300 tokens, as Qwen2's; its vocabulary."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *extra]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        ["a dog runs on the beach while the camera pans left"] * 3,
        trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<|endoftext|>", eos_token="<|im_end|>", extra_special_tokens=extra
    )
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return tokenizer.get_vocab()


def _save(model, folder: Path, ids: dict[str, int]) -> None:
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    model.save_pretrained(folder)
