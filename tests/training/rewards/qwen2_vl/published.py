"""Small reward models in the published layouts: files of a base, of HPSv3 and of VideoAlign, with random weights."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

WIDTH, HEADS, KV_HEADS, LAYERS, INNER = 32, 4, 2, 2, 48
SEEN, SEEN_HEADS, DEPTH = 32, 2, 2  # of the vision tower
SECTIONS = [1, 1, 2]  # of mrope, in pairs of a head
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
CONTROL += ["<|video_pad|>"]
RANK, ALPHA = 4, 6
HPSV3_TEXT = "Judge this picture.\nPrompt - {text_prompt}\n\n\nRating: <|Reward|>\nEND\n"
VIDEOALIGN_TEXT = (
    "\nLook: <|VQ_reward|>\nEND\nMove: <|MQ_reward|>\nEND\nPrompt - {text_prompt}\nMatch: <|TA_reward|>\nEND\n"
)
NORM = {"VQ_mean": 3.6757, "VQ_std": 2.2476, "MQ_mean": 1.1646, "MQ_std": 1.3811, "TA_mean": 2.8105, "TA_std": 2.5121}
Weights = dict[str, Tensor]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def tokenizer(folder: Path) -> int:
    """A byte-level BPE with Qwen2-VL's control tokens behind the words; its number of tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=280, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    bpe.train_from_iterator(["a dog runs on the beach while the camera pans left"] * 3, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=CONTROL[0], eos_token="<|im_end|>", additional_special_tokens=CONTROL[1:]
    )
    made.save_pretrained(folder)
    return len(made)


def base(folder: Path) -> Path:
    """A base's config.json, flat as the hub has it, and its tokenizer."""
    folder.mkdir()
    count = tokenizer(folder)
    first = count - len(CONTROL)
    ids = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    number = {token["content"]: token["id"] for token in ids}
    assert sorted(number.values()) == list(range(first, count))
    config = {
        "architectures": ["Qwen2VLForConditionalGeneration"], "model_type": "qwen2_vl", "hidden_act": "silu",
        "hidden_size": WIDTH, "intermediate_size": INNER, "num_attention_heads": HEADS, "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS, "max_position_embeddings": 32768, "max_window_layers": 28,
        "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "rope_scaling": {"type": "mrope", "mrope_section": SECTIONS},
        "sliding_window": 32768, "use_sliding_window": False, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "vocab_size": count + 100,
        "image_token_id": number["<|image_pad|>"], "video_token_id": number["<|video_pad|>"],
        "vision_start_token_id": number["<|vision_start|>"], "vision_end_token_id": number["<|vision_end|>"],
        "vision_config": {"depth": DEPTH, "embed_dim": SEEN, "mlp_ratio": 4, "num_heads": SEEN_HEADS, "in_chans": 3,
                          "hidden_size": WIDTH, "patch_size": 14, "spatial_merge_size": 2, "spatial_patch_size": 14,
                          "temporal_patch_size": 2},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def weights(rows: int, head: dict[str, tuple[int, ...]], seed: int = 0) -> Weights:
    """A full state of the old layout, which is the published one."""
    own = torch.Generator().manual_seed(seed)
    pair = WIDTH // HEADS * KV_HEADS
    matrices = {"model.embed_tokens": (rows, WIDTH), "lm_head": (rows, WIDTH)}
    norms = ["model.norm"]
    biased = {"visual.merger.mlp.0": (4 * SEEN, 4 * SEEN), "visual.merger.mlp.2": (WIDTH, 4 * SEEN)}
    shifted = ["visual.merger.ln_q"]
    for i in range(LAYERS):
        at = f"model.layers.{i}"
        biased |= {f"{at}.self_attn.{n}_proj": (WIDTH if n == "q" else pair, WIDTH) for n in "qkv"}
        matrices |= {f"{at}.self_attn.o_proj": (WIDTH, WIDTH), f"{at}.mlp.gate_proj": (INNER, WIDTH)}
        matrices |= {f"{at}.mlp.up_proj": (INNER, WIDTH), f"{at}.mlp.down_proj": (WIDTH, INNER)}
        norms += [f"{at}.input_layernorm", f"{at}.post_attention_layernorm"]
    for i in range(DEPTH):
        at = f"visual.blocks.{i}"
        biased |= {f"{at}.attn.qkv": (3 * SEEN, SEEN), f"{at}.attn.proj": (SEEN, SEEN)}
        biased |= {f"{at}.mlp.fc1": (4 * SEEN, SEEN), f"{at}.mlp.fc2": (SEEN, 4 * SEEN)}
        shifted += [f"{at}.norm1", f"{at}.norm2"]

    def drawn(*shape: int, scale: float) -> Tensor:
        return torch.randn(*shape, generator=own) * scale

    found = {f"{name}.weight": drawn(*shape, scale=1.5 / shape[-1] ** 0.5) for name, shape in matrices.items()}
    found["model.embed_tokens.weight"] = drawn(rows, WIDTH, scale=1.0)
    found["visual.patch_embed.proj.weight"] = drawn(SEEN, 3, 2, 14, 14, scale=1 / 14)
    for name, shape in biased.items():
        found |= {f"{name}.weight": drawn(*shape, scale=1.5 / shape[-1] ** 0.5)}
        found |= {f"{name}.bias": drawn(shape[0], scale=0.2)}
    for name in norms + shifted:
        size = SEEN if name.startswith("visual") else WIDTH
        found[f"{name}.weight"] = 1 + drawn(size, scale=0.2)
        if name in shifted:
            found[f"{name}.bias"] = drawn(size, scale=0.2)
    return found | {name: drawn(*shape, scale=1.5 / shape[-1] ** 0.5) for name, shape in head.items()}


def hpsv3_head() -> dict[str, tuple[int, ...]]:
    sizes = {0: (1024, WIDTH), 3: (16, 1024), 5: (2, 16)}
    return {f"rm_head.{i}.{kind}": size if kind == "weight" else size[:1]
            for i, size in sizes.items() for kind in ("weight", "bias")}  # fmt: skip


def videoalign_head() -> dict[str, tuple[int, ...]]:
    return {"rm_head.weight": (3, WIDTH)}


def renamed(state: Weights) -> Weights:
    """The layout of transformers 4.52 and later."""

    def name(old: str) -> str:
        if old.startswith("visual."):
            return f"model.{old}"
        return f"model.language_model.{old.removeprefix('model.')}" if old.startswith("model.") else old

    return {name(old): value for old, value in state.items()}


def adapters(state: Weights, seed: int = 1) -> Weights:
    """LoRA factors of the language model's linear layers, in PEFT's names for a state of the old layout."""
    own = torch.Generator().manual_seed(seed)
    found = {}
    for name, weight in state.items():
        if name.startswith("model.layers.") and name.endswith("_proj.weight"):
            at, (out, into) = name.removesuffix(".weight"), weight.shape
            found[f"{at}.lora_A.weight"] = torch.randn(RANK, into, generator=own) / into**0.5
            found[f"{at}.lora_B.weight"] = torch.randn(out, RANK, generator=own) / RANK**0.5
    return found


def merged(state: Weights, lora: Weights, scale: float = ALPHA / RANK) -> Weights:
    """The state with adapters in it, in float64."""
    found = {name: value.double() for name, value in state.items()}
    for name in lora:
        if name.endswith(".lora_A.weight"):
            at = name.removesuffix(".lora_A.weight")
            found[f"{at}.weight"] += scale * lora[f"{at}.lora_B.weight"].double() @ lora[name].double()
    return found


def with_peft(state: Weights, lora: Weights) -> Weights:
    """All in one, as model.pth has it: wrapped layers, and factors under the adapter's name."""
    adapted = {name.rpartition(".lora_")[0] for name in lora}
    found = {}
    for name, value in state.items():
        at, _, kind = name.rpartition(".")
        found[f"{at}.base_layer.{kind}" if at in adapted else name] = value
    return found | {
        name.replace("_A.weight", "_A.default.weight").replace("_B.weight", "_B.default.weight"): value
        for name, value in lora.items()
    }


def prefixed(state: Weights) -> Weights:
    return {f"base_model.model.{name}": value for name, value in state.items()}


def videoalign_settings(folder: Path, **inference: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "data_config": {"meta_data": "x.csv", "data_dir": "x", "max_frame_pixels": 200704, "num_frames": None,
                        "fps": 2.0, "eval_dim": ["VQ", "MQ", "TA"], "prompt_template_type": "detailed_special",
                        "sample_type": "uniform"},
        "model_config": {"output_dim": 3, "use_special_tokens": True, "reward_token": "special"},
        "peft_lora_config": {"lora_enable": True, "lora_r": RANK, "lora_alpha": ALPHA, "use_rslora": False},
        "inference_config": inference or NORM,
    }  # fmt: skip
    (folder / "model_config.json").write_text(json.dumps(settings))


def write(state: Weights, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path
