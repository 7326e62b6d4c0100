"""Pixels, frames, instruction texts, rsLoRA, and the sentences where a library is missing."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from reelwright.annotate.backends.videos.patches import (
    STD,
    PictureError,
    fitted,
    picture_patches,
    prepared,
    resized_picture,
    video_patches,
)
from reelwright.annotate.errors import AnnotatorError
from reelwright.training.errors import TrainError
from reelwright.training.rewards.qwen2_vl.files import base_id
from reelwright.training.rewards.qwen2_vl.frames import chosen
from reelwright.training.rewards.qwen2_vl.hpsv3 import INSTRUCTION, PIXELS
from reelwright.training.rewards.qwen2_vl.instruction import read_instruction
from reelwright.training.rewards.qwen2_vl.lora import Rank, merge
from reelwright.training.rewards.qwen2_vl.reader import _at
from reelwright.training.rewards.qwen2_vl.tokens import load_tokenizer
from tests.training.rewards.qwen2_vl.published import sha256

CPU = torch.device("cpu")


@pytest.mark.parametrize("size", [(480, 832), (448, 448), (832, 480), (100, 90), (720, 1280), (31, 900)])
def test_pictures_are_those_of_the_published_processor(size):
    """Sizes, pixels and order of patches, of noise too, where ways to resize differ most."""
    from transformers import Qwen2VLImageProcessorPil

    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    theirs = Qwen2VLImageProcessorPil(min_pixels=PIXELS, max_pixels=PIXELS)(Image.fromarray(frame), return_tensors="pt")
    height, width = fitted(*size, PIXELS, PIXELS)
    assert theirs["image_grid_thw"].tolist() == [[1, height // 14, width // 14]]
    picture = resized_picture(frame, (height, width))
    ours = picture_patches(prepared(np.stack([picture]), (height, width), CPU)[0])
    assert ours.grid == (1, height // 14, width // 14)
    assert ours.tokens == height * width // 28**2
    assert (ours.values - theirs["pixel_values"]).abs().max() < 1e-5


def test_a_video_is_cut_into_patches_of_two_frames():
    frames = torch.arange(4 * 3 * 56 * 84, dtype=torch.float32).reshape(4, 3, 56, 84)
    found = video_patches(frames)
    assert found.grid == (2, 4, 6)
    tokens = found.values.reshape(2, 2, 3, 2, 2, 3, 2, 14, 14)  # t, row, column, their halves, channel, time, pixels
    for t, row, column, a, b in [(0, 0, 0, 0, 1), (1, 1, 2, 1, 0), (0, 1, 1, 1, 1)]:
        top, left = 28 * row + 14 * a, 28 * column + 14 * b
        part = frames[2 * t : 2 * t + 2, :, top : top + 14, left : left + 14]
        assert torch.equal(tokens[t, row, column, a, b], part.transpose(0, 1))


def test_a_strip_is_too_narrow():
    assert fitted(10, 2000, PIXELS, PIXELS)
    with pytest.raises(PictureError, match="2001 × 10 pixels: one side may be at most 200 times the other"):
        fitted(10, 2001, PIXELS, PIXELS)


@pytest.mark.parametrize(
    ("count", "rate", "wanted"),
    [(93, 15, 12), (93, 8, 24), (93, 30, 6), (93, 120, 4), (5, 15, 4), (3, 15, 2), (2, 1, 2),
     (4000, 2, 768), (93, 1, 92)],
)  # fmt: skip
def test_frames_are_chosen_by_the_real_rate(count, rate, wanted):
    found = chosen(count, rate, 2.0)
    assert len(found) == wanted
    assert found.tolist() == torch.linspace(0, count - 1, wanted).round().long().tolist()


@pytest.mark.parametrize(("count", "rate"), [(1, 15.0), (93, 0.0), (93, float("nan"))])
def test_what_is_no_video_has_no_frames_to_choose(count, rate):
    with pytest.raises(PictureError, match="at least 2, and a rate above 0, are needed"):
        chosen(count, rate, 2.0)


SOURCE = '"""A module."""\nimport not_installed_here\nINSTRUCTION = """Ü {text_prompt}  \n"""\n'
SOURCE += 'prompt_with_special_token = "x <|Reward|>"\nraise SystemExit\n'
TEXT = "Ü {text_prompt}  \nx <|Reward|>"


def test_an_instruction_comes_from_a_text_a_python_file_or_a_package(tmp_path, monkeypatch):
    """The publisher's file is parsed and not run."""
    (tmp_path / "text.txt").write_bytes(TEXT.encode())
    (tmp_path / "prompts.py").write_bytes(SOURCE.encode())
    home = tmp_path / "site" / "some_package" / "dataset"
    home.mkdir(parents=True)
    (home.parent / "__init__.py").write_text("raise SystemExit")
    (home / "data_collator_qwen.py").write_bytes(SOURCE.encode())
    monkeypatch.syspath_prepend(tmp_path / "site")
    for where in (str(tmp_path / "text.txt"), str(tmp_path / "prompts.py"), "some_package"):
        assert read_instruction(where, sha256(TEXT), INSTRUCTION) == TEXT


def test_another_text_is_refused_with_both_hashes_until_it_is_meant(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    with pytest.raises(TrainError) as told:
        read_instruction(str(path), INSTRUCTION.sha256, INSTRUCTION)
    assert str(told.value).startswith(f"instruction = {str(path)!r} has the SHA-256 {sha256(TEXT)}, and f6ee5747")
    assert f"set instruction_sha256 to {sha256(TEXT)} if this one is meant" in str(told.value)
    path.write_text("no field")
    with pytest.raises(TrainError, match=r"has 0 fields \{text_prompt\}; it must have one"):
        read_instruction(str(path), sha256("no field"), INSTRUCTION)


@pytest.mark.parametrize(
    ("named", "why"),
    [("", "instruction is empty; set it to"), ("not_there", "neither a file nor an installed package"),
     ("no/such/file.py", "neither a file nor an installed package"),
     ("json", "neither a file nor an installed package")],
)  # fmt: skip
def test_an_instruction_that_is_not_there_says_where_to_get_it(named, why):
    with pytest.raises(TrainError, match=why) as told:
        read_instruction(named, INSTRUCTION.sha256, INSTRUCTION)
    assert "pip install --no-deps hpsv3==1.0.0" in str(told.value)


def test_a_python_file_without_the_constant_says_so(tmp_path):
    (tmp_path / "x.py").write_text("INSTRUCTION = 'x'\n")
    with pytest.raises(TrainError, match="has no constant 'prompt_with_special_token'"):
        read_instruction(str(tmp_path / "x.py"), INSTRUCTION.sha256, INSTRUCTION)


def test_a_merge_adds_in_float32_and_rounds_once():
    own = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 5, generator=own).bfloat16()
    down, up = (torch.randn(*shape, generator=own).bfloat16() for shape in ((3, 5), (6, 3)))
    state = {"a.base_layer.weight": weight, "a.lora_A.default.weight": down, "a.lora_B.default.weight": up}
    for stable, scale in ((False, 7 / 3), (True, 7 / 3**0.5)):
        wanted = weight.double() + scale * (up.double() @ down.double())
        (found,) = merge(state, Rank(3, 7.0, stable), torch.bfloat16).values()
        assert found.dtype == torch.bfloat16
        assert torch.equal(found, wanted.float().bfloat16())


@pytest.mark.parametrize(("down", "up"), [(2, 3), (3, 2), (2, 2)])
def test_a_factor_of_another_rank_than_the_settings_is_refused(down, up):
    state = {
        "a.weight": torch.zeros(5, 4), "a.lora_A.weight": torch.zeros(down, 4), "a.lora_B.weight": torch.zeros(5, up),
    }  # fmt: skip
    with pytest.raises(TrainError, match=f"'a' has factors of rank {down} and {up}, and its settings say 3"):
        merge(state, Rank(3, 7.0), torch.float32)


def test_weights_are_in_a_base_s_id_where_they_are_used(tmp_path):
    (tmp_path / "config.json").write_text("{}")

    def ids():
        return [base_id(str(tmp_path), "", weights=used) for used in (False, True)]

    before = ids()
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    after = ids()
    assert after[0] == before[0]
    assert after[1] != before[1]


@pytest.mark.parametrize("times", [(1, 0), (2, 0), (2, 1)])
def test_a_mark_that_is_missing_or_double_in_one_text_is_refused(times):
    """Two and none would make as many states as there are texts."""
    mark = torch.tensor([[at < n for at in range(3)] for n in times])
    with pytest.raises(TrainError, match="each special token once"):
        _at(torch.zeros(2, 3, 4), mark)


def test_a_missing_library_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(AnnotatorError, match=r"pictures for Qwen2-VL need Pillow: pip install .*\[models\]"):
        resized_picture(np.zeros((3, 3, 3), np.uint8), (28, 28))
    with pytest.raises(TrainError, match=r"Qwen2-VL needs transformers: pip install .*\[models\]"):
        load_tokenizer("x", "", [])


def test_levels_are_whole_and_luma_has_no_colour():
    frames = np.random.default_rng(0).integers(0, 256, (2, 40, 60, 3), dtype=np.uint8)
    found = prepared(frames, (28, 56), CPU)
    levels = (found * torch.tensor(STD).view(1, 3, 1, 1)) * 255
    assert found.shape == (2, 3, 28, 56)
    offsets = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1) * 255
    assert (levels + offsets - (levels + offsets).round()).abs().max() < 1e-3
    grey = prepared(frames, (28, 56), CPU, grey=True) * torch.tensor(STD).view(1, 3, 1, 1) * 255 + offsets
    assert (grey - grey.mean(1, keepdim=True)).abs().max() < 1e-3


def test_a_revision_of_the_hub_s_model_is_the_one_that_is_taken(tmp_path):
    """From a cache of two revisions, without a network; a process of its own: settings are read once."""
    cached = tmp_path / "models--team--judge"
    for number, name in enumerate(("main", "v2")):
        commit = str(number) * 40
        (cached / "snapshots" / commit).mkdir(parents=True)
        (cached / "snapshots" / commit / "config.json").write_text("{}")
        (cached / "refs").mkdir(exist_ok=True)
        (cached / "refs" / name).write_text(commit)
    ask = "from reelwright.training.rewards.qwen2_vl.files import hub_folder as f; import sys; "
    code = ask + "print(f('team/judge', sys.argv[1], ['config.json'], 'base').name)"
    env = os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    for revision, commit in (("", "0" * 40), ("v2", "1" * 40)):
        done = subprocess.run(
            [sys.executable, "-c", code, revision], env=env, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == commit
