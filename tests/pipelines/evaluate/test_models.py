"""How models under comparison are named, and which LoRA goes to which."""

from pathlib import Path

import pytest

from reelwright.errors import UserError
from reelwright.pipelines.cli.evaluate_settings import _loras
from reelwright.pipelines.evaluate.models import default_name, named_paths
from reelwright.pipelines.generate.run import Source


def test_a_name_may_stand_before_a_path_and_a_path_may_hold_the_sign(tmp_path: Path) -> None:
    odd = tmp_path / "lr=3"
    odd.mkdir()
    assert named_paths(["base=runs/a", "runs/b", str(odd), "runs/lr=3/x"]) == [
        ("base", Path("runs/a")), ("", Path("runs/b")), ("", odd), ("", Path("runs/lr=3/x")),
    ]  # fmt: skip
    with pytest.raises(UserError, match="two models are called a"):
        named_paths(["a=x", "a=y"])
    with pytest.raises(UserError, match="names no model"):
        named_paths(["=x"])


def test_without_a_name_it_is_the_run_and_its_step_or_the_folder() -> None:
    checkpoint = Source(Path("runs/first/checkpoints/step-00000010"), None, {"step": 10}, is_checkpoint=True)
    assert default_name(checkpoint) == "first@10"
    assert default_name(Source(Path("weights/LongCat"), None, {})) == "LongCat"


def test_a_lora_goes_to_all_models_or_to_one(tmp_path: Path) -> None:
    (tmp_path / "a=b.safetensors").write_bytes(b"")
    texts = ["style:0.5", "tuned=sharp:0.8", f"{tmp_path}/a=b.safetensors:2"]
    assert _loras(texts, ["base", "tuned"]) == {
        "": ["style:0.5", f"{tmp_path}/a=b.safetensors:2"], "tuned": ["sharp:0.8"],
    }  # fmt: skip
    with pytest.raises(UserError, match="no model is called other"):
        _loras(["other=sharp"], ["base"])
