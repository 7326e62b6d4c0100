"""Suites: ours, those of files, those of pictures; and what is refused."""

import json
from pathlib import Path

import cv2
import pytest
import torch

from reelwright.evaluation.errors import EvaluationError
from reelwright.evaluation.suites.files import load_suite
from reelwright.evaluation.suites.pictures import CONCISE_WORDS, PLAIN, find_pictures, prompts_of
from reelwright.evaluation.suites.suite import PICTURE_KINDS, Prompt, Suite
from reelwright.evaluation.suites.writing import write_suite
from reelwright.model.sampling.video_file import write_image


def test_ours_has_48_categories_with_two_short_prompts_and_a_long_one() -> None:
    ours = load_suite("ours")
    kinds: dict[str, list[str]] = {}
    for prompt in ours.prompts:
        kinds.setdefault(prompt.category, []).append(prompt.kind)
        words = len(prompt.text.split())
        assert (words <= 15) if prompt.kind == "short" else (40 <= words <= 110), prompt.id
    assert len(kinds) == 48
    assert all(sorted(some) == ["long", "short", "short"] for some in kinds.values())
    assert len({prompt.text for prompt in ours.prompts}) == 144


def test_our_drawn_pictures_have_the_four_kinds_each() -> None:
    suite = load_suite("pictures")
    kinds: dict[Path, list[str]] = {}
    for prompt in suite.prompts:
        assert prompt.reference is not None
        kinds.setdefault(prompt.reference, []).append(prompt.kind)
        assert (prompt.task, bool(prompt.text)) == ("i2v", prompt.kind != "empty"), prompt.id
    assert len(kinds) == 6
    assert all(some == [*PICTURE_KINDS] for some in kinds.values())
    assert all(cv2.imread(str(file)).shape == (240, 416, 3) for file in kinds)
    assert len(suite.hash) == 16


def picture(path: Path, caption: str = "") -> Path:
    write_image(path, torch.rand(3, 16, 16))
    if caption:
        path.with_suffix(".txt").write_text(caption)
    return path


def test_a_picture_has_four_prompts_and_the_contradictory_one_is_another_s(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", "A brown dog runs along a wide empty beach at noon, and jumps.")
    picture(tmp_path / "b.png", "Rain falls on a roof. It stops.")
    picture(tmp_path / "c.png")
    prompts = prompts_of(find_pictures([tmp_path]))
    assert [p.kind for p in prompts] == [*PICTURE_KINDS] * 3
    texts = {(p.reference.name if p.reference else "", p.kind): p.text for p in prompts}
    assert texts["a.png", "concise"] == "A brown dog runs along a wide empty"
    assert len(texts["a.png", "concise"].split()) == CONCISE_WORDS
    assert texts["b.png", "concise"] == "Rain falls on a roof"
    assert texts["a.png", "contradictory"] == "Rain falls on a roof. It stops."
    assert texts["b.png", "contradictory"].startswith("A brown dog")
    assert texts["c.png", "contradictory"]
    assert texts["c.png", "detailed"] == PLAIN["detailed"]
    assert {p.text for p in prompts if p.kind == "empty"} == {""}
    assert {p.task for p in prompts} == {"i2v"}


def test_a_written_suite_is_the_same_suite_and_may_be_moved(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    picture(tmp_path / "one" / "p.png", "A dog: it barks.")
    prompts = [*load_suite("tiny").prompts, *prompts_of(find_pictures([tmp_path / "one"])),
               Prompt("v", "long text", short="text", dimensions=("Diversity",), samples=3)]  # fmt: skip
    write_suite(tmp_path / "one" / "s.yaml", "mine", prompts)
    (tmp_path / "one").rename(tmp_path / "two")
    found = load_suite(tmp_path / "two" / "s.yaml")
    assert found.name == "mine"
    assert [(p.id, p.text, p.category, p.kind, p.task, p.short, p.dimensions, p.samples) for p in found.prompts] == [
        (p.id, p.text, p.category, p.kind, p.task, p.short, p.dimensions, p.samples) for p in prompts
    ]
    assert found.prompts[4].reference == (tmp_path / "two" / "p.png").absolute()


def test_the_hash_is_of_prompts_and_pictures_and_not_of_places(tmp_path: Path) -> None:
    def suite(path: Path, text: str = "it moves") -> Suite:
        return Suite("s", [Prompt("a", text, task="i2v", reference=path)])

    first = picture(tmp_path / "a.png")
    copy = tmp_path / "copy.png"
    copy.write_bytes(first.read_bytes())
    assert suite(first).hash == suite(copy).hash
    assert suite(first).hash != suite(first, "it stands").hash
    assert suite(first).hash != suite(picture(tmp_path / "b.png")).hash
    with pytest.raises(EvaluationError, match="there is no reference"):
        _ = suite(tmp_path / "gone.png").hash


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "x"}, "has no `prompt`"),
        ({"prompt": "x", "promt": 1}, "'promt' is none of"),
        ({"prompt": 3}, "prompt is 3, and str is wanted"),
        ({"prompt": ""}, "is empty, and it has no picture"),
        ({"prompt": "x", "task": "i2v"}, "task i2v needs a reference"),
        ({"prompt": "x", "task": "t2v", "reference": "a.png"}, "begins with nothing"),
        ({"prompt": "x", "samples": 0}, "at least 1"),
        ({"prompt": "x", "task": "3d"}, "'3d' is none of"),
    ],
)
def test_what_a_suite_cannot_be_is_said(tmp_path: Path, row: dict, said: str) -> None:
    file = tmp_path / "s.jsonl"
    file.write_text(json.dumps({"prompt": "fine"}) + "\n" + json.dumps(row))
    with pytest.raises(EvaluationError, match=said):
        load_suite(file)


def test_files_that_are_no_suites_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("prompts: [1")
    (tmp_path / "b.yaml").write_text("just text")
    (tmp_path / "c.jsonl").write_text("{")
    (tmp_path / "d.yaml").write_text("prompts: [{id: a, prompt: x}, {id: a, prompt: y}]")
    (tmp_path / "e.txt").write_text("x")
    for name, said in {"a.yaml": "not YAML", "b.yaml": "begins with", "c.jsonl": "line 1 is not JSON",
                       "d.yaml": "two prompts are called a", "e.txt": "a suite is a"}.items():  # fmt: skip
        with pytest.raises(EvaluationError, match=said):
            load_suite(tmp_path / name)
    with pytest.raises(EvaluationError, match="ours"):
        load_suite("nothing")
