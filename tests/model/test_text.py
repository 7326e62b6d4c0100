"""Text encoders: hashed words, and umT5 at a tiny size with random weights and a tokenizer made here."""

from pathlib import Path

import pytest
import torch

from reelwright.model.config import TextConfig
from reelwright.model.errors import ModelError
from reelwright.model.text import load_text_encoder, pad_text, text_fingerprint
from reelwright.model.text.clean import clean_text
from reelwright.model.text.hashing import units
from tests.model.published import CORPUS, save_umt5

torch.set_num_threads(1)
HASHING = TextConfig()


# --- hashing ---------------------------------------------------------------------------------------------------------


def test_states_are_words_then_pairs() -> None:
    assert units("A dog, a DOG!") == ["a", "dog", "a", "dog", "a dog", "dog a", "a dog"]
    assert units("猫が眠る") == ["猫", "が", "眠", "る", "猫 が", "が 眠", "眠 る"]
    assert units("кот  спит") == ["кот", "спит", "кот спит"]
    assert units("हिन्दी") == ["हिन्दी"]  # vowel signs do not break a word
    assert units(" \n ?! ") == [""]


def test_equal_words_have_equal_states_and_others_are_near_orthogonal() -> None:
    encoder = load_text_encoder(TextConfig(dim=1024))
    first, second = encoder.encode(["dog bites man", "man bites dog"])
    torch.testing.assert_close(first[0], second[2])
    assert not torch.equal(first[3], second[3])  # the pairs tell the two apart
    assert torch.cosine_similarity(first[0], first[1], dim=0).abs() < 0.15


def test_states_have_unit_variance() -> None:
    states = torch.cat(load_text_encoder(TextConfig(dim=256)).encode(CORPUS))
    assert abs(states.mean()) < 0.05
    assert abs(states.std() - 1) < 0.05


def test_states_are_the_same_everywhere() -> None:
    """Written down once: they hang neither on Python's hash seed nor on a library's random numbers."""
    (states,) = load_text_encoder(TextConfig(dim=4)).encode(["猫 cat"])
    expect = [
        [-1.1354, 1.0622, 0.1642, 1.1589],
        [-0.6107, 0.4999, 0.3487, -0.5941],
        [-0.0367, -1.0102, 0.7013, -1.2820],
    ]
    torch.testing.assert_close(states, torch.tensor(expect), rtol=0, atol=1e-4)


def test_any_text_has_between_one_and_so_many_states() -> None:
    encoder = load_text_encoder(TextConfig(dim=8, tokens=16))
    lengths = [len(s) for s in encoder.encode(["", "one", "word " * 100, "\udcff \x00", "🎬"])]
    assert lengths == [1, 1, 16, 1, 1]


def test_the_stand_in_says_so() -> None:
    assert load_text_encoder(HASHING).fingerprint.startswith("hashing-standin-")
    assert text_fingerprint(HASHING) == load_text_encoder(HASHING).fingerprint
    assert text_fingerprint(TextConfig(dim=8)) != text_fingerprint(HASHING)


def test_padding() -> None:
    states = [torch.ones(2, 4), torch.ones(5, 4)]
    text, mask = pad_text(states, 3)
    assert text.shape == (2, 3, 4)
    assert mask.tolist() == [[True, True, False], [True, True, True]]
    assert text[0].sum(1).tolist() == [4, 4, 0]
    with pytest.raises(ModelError, match="one D"):
        pad_text([torch.ones(2, 4), torch.ones(2, 5)], 3)


# --- umT5 ------------------------------------------------------------------------------------------------------------


def test_cleaning() -> None:
    assert clean_text("  a &amp;amp; b\n\tc\u3000d ") == "a & b c d"
    assert clean_text("x &amp;lt; y") == "x < y"
    assert clean_text("schÃ¶n") == "schön"


@pytest.fixture(scope="module")
def umt5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_umt5(tmp_path_factory.mktemp("umt5"))


def test_umt5_states_are_the_model_s_own(umt5_folder: Path) -> None:
    from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

    encoder = load_text_encoder(TextConfig(kind="umt5", path=str(umt5_folder)))
    (state,) = encoder.encode([" a dog   runs "])
    tokens = PreTrainedTokenizerFast.from_pretrained(umt5_folder / "tokenizer")("a dog runs", return_tensors="pt")
    with torch.no_grad():
        expect = UMT5EncoderModel.from_pretrained(umt5_folder / "text_encoder")(tokens.input_ids).last_hidden_state[0]
    assert state.shape == (tokens.input_ids.shape[1], 32)
    assert encoder.dim == 32
    torch.testing.assert_close(state, expect, rtol=1e-5, atol=1e-5)


def test_umt5_states_do_not_hang_on_the_batch(umt5_folder: Path) -> None:
    encoder = load_text_encoder(TextConfig(kind="umt5", path=str(umt5_folder), tokens=12))
    together = encoder.encode([*CORPUS, "", "sun " * 100, *CORPUS])
    assert len(together[4]) == 1  # the end token alone
    assert len(together[5]) == 12
    for text, state in zip(CORPUS, together[:4], strict=True):
        torch.testing.assert_close(encoder.encode([text])[0], state, rtol=1e-5, atol=1e-5)


def test_umt5_fingerprint_follows_weights_tokenizer_and_settings(umt5_folder: Path, tmp_path: Path) -> None:
    import shutil

    config = TextConfig(kind="umt5", path=str(umt5_folder))
    same = text_fingerprint(config)
    assert same == load_text_encoder(config).fingerprint
    assert text_fingerprint(config.model_copy(update={"tokens": 128})) != same
    assert text_fingerprint(config.model_copy(update={"dtype": "bf16"})) != same
    copy = shutil.copytree(umt5_folder, tmp_path / "copy")
    assert text_fingerprint(TextConfig(kind="umt5", path=str(copy))) == same
    file = copy / "tokenizer" / "tokenizer.json"
    file.write_text(file.read_text().replace("</s>", "</e>"))
    assert text_fingerprint(TextConfig(kind="umt5", path=str(copy))) != same


def test_umt5_without_its_tokenizer_is_one_sentence(umt5_folder: Path) -> None:
    import shutil

    alone = umt5_folder.parent / "alone"
    shutil.copytree(umt5_folder / "text_encoder", alone / "text_encoder", dirs_exist_ok=True)
    with pytest.raises(ModelError, match="no tokenizer beside"):
        load_text_encoder(TextConfig(kind="umt5", path=str(alone)))
