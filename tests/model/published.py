"""A published pipeline's folder, made small: real architectures, random weights."""

from pathlib import Path

import torch

CORPUS = ["a dog runs on the beach", "two cats sleep in the sun", "a red car drives through rain", "snow on the hills"]


def save_vae(folder: Path) -> Path:
    """An AutoencoderKLWan under vae/."""
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    vae = AutoencoderKLWan(base_dim=8, z_dim=16, num_res_blocks=1)
    with torch.no_grad():
        for weight in vae.parameters():  # diffusers leaves convolutions at a scale that hardly passes a signal on
            if weight.ndim > 1:
                torch.nn.init.xavier_normal_(weight, gain=0.7)
    vae.save_pretrained(folder / "vae")
    return folder


def save_umt5(folder: Path) -> Path:
    """A UMT5EncoderModel of width 32 under text_encoder/, a unigram model of CORPUS under tokenizer/."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    tokenizer.train_from_iterator(
        CORPUS, trainers.UnigramTrainer(vocab_size=64, special_tokens=special, unk_token="<unk>", show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )
    fast.save_pretrained(folder / "tokenizer")
    torch.manual_seed(0)
    config = UMT5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    UMT5EncoderModel(config).save_pretrained(folder / "text_encoder")
    return folder
