"""A captioner learns a rule that it can only see in the pictures; resumed, merged, and loaded by others."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from reelwright.training import checkpoints as saved
from reelwright.training.distributed.world import World
from reelwright.training.errors import TrainError
from reelwright.training.tuning.recipe import load_tune_recipe
from reelwright.training.tuning.run import TuneJob, read_result, run_tuning
from tests.annotate.chat import checkpoints
from tests.training.tuning.miniature import SETTINGS, conversations

STEPS, HALF = 32, 16


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """40 good samples, and four that cannot be used."""
    path = conversations(tmp_path_factory.mktemp("data") / "data", 40)
    (path.parent / "videos" / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"\0" * 400)
    turns = json.loads(path.read_text().splitlines()[0])["conversations"]
    bad = [
        {"video": "videos/broken.mp4", "conversations": turns},
        {"video": "videos/absent.mp4", "conversations": turns},
        {"video": "videos", "conversations": turns},
        {"video": "videos/0.mp4", "conversations": [turns[0], turns[1] | {"value": "a dog " * 400}]},
    ]
    with path.open("a") as file:
        file.writelines(json.dumps(one) + "\n" for one in bad)
    return path


def job(base: Path, data: Path, folder: Path, **more) -> TuneJob:
    settings = SETTINGS | {"base.model": str(base), "data.jsonl": [str(data)], "steps": STEPS, "save_every": HALF,
                           "data.max_tokens": 400, "lora.dropout": 0.05, "optim.schedule": "constant"}  # fmt: skip
    return TuneJob("captioner", load_tune_recipe("captioner", None, settings | more), folder)


@pytest.fixture(scope="module")
def tuned(data, tmp_path_factory) -> tuple[TuneJob, list[str]]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("tuned")
    lines: list[str] = []
    made = job(checkpoints.qwen_vl(folder / "base"), data, folder / "run")
    assert run_tuning(made, World.alone("cpu"), lines.append).finished
    return made, lines


def test_it_learns_the_rule_on_held_out_clips(tuned):
    measured = read_result(tuned[0].folder)["measured"]
    assert measured["answers"] >= 8
    assert measured["same_as_reference"] > 0.9
    assert measured["same_as_reference_before"] < 0.1


def test_samples_that_cannot_be_used_are_counted_by_their_reasons(tuned):
    made, lines = tuned
    counts = read_result(made.folder)["data"]["counts"]
    assert counts["left_out"] == {"decode": 1, "missing": 2, "too_long": 1}
    assert counts["train"] + counts["held_out"] == 40
    rows = [json.loads(line) for line in (made.folder / "left_out.jsonl").read_text().splitlines()]
    assert sorted(row["key"] for row in rows) == [f"train.jsonl:{n}" for n in (41, 42, 43, 44)]
    assert any("more tokens than data.max_tokens" in line and "train.jsonl:44" in line for line in lines)


@pytest.mark.exhaustive
def test_a_resumed_run_ends_with_the_same_bits(tuned, tmp_path):
    made, _ = tuned
    half = made.folder / "checkpoints" / f"step-{HALF:08d}"
    shutil.copytree(half, tmp_path / "run" / "checkpoints" / half.name)
    lines: list[str] = []
    again = TuneJob("captioner", made.recipe, tmp_path / "run")
    run_tuning(again, World.alone("cpu"), lines.append)
    assert any(f"resuming from step {HALF} of {STEPS}" in line for line in lines)
    first, second = (saved.read_tensors(saved.find_checkpoint(one.folder)) for one in (made, again))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_folder_of_another_recipe_is_refused(tuned, data):
    made, _ = tuned
    other = TuneJob("captioner", made.recipe.model_copy(update={"seed": 9}), made.folder)
    with pytest.raises(TrainError, match="another recipe, base model or data"):
        run_tuning(other, World.alone("cpu"), lambda _: None)


def test_adapter_and_merged_model_are_the_trained_one(tuned):
    """PEFT itself puts the adapter on the base; its logits are the merged model's."""
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    made, _ = tuned
    base = AutoModelForImageTextToText.from_pretrained(made.recipe.base.model, dtype=torch.float32)
    ids = torch.arange(20)[None] + 40
    plain = base(input_ids=ids).logits
    by_peft = PeftModel.from_pretrained(base, made.folder / "adapter").eval()(input_ids=ids).logits
    merged = AutoModelForImageTextToText.from_pretrained(made.folder / "model", dtype=torch.float32)
    torch.testing.assert_close(merged(input_ids=ids).logits, by_peft, rtol=1e-4, atol=1e-4)
    assert (by_peft - plain).abs().max() > 0.1


def test_only_adapters_of_the_language_model_are_trained(tuned):
    made, _ = tuned
    names = [name for name in saved.tensor_names(saved.find_checkpoint(made.folder)) if name.startswith("model.")]
    assert len(names) == 2 * 7 * 2  # two blocks of seven layers, two factors each
    assert all("language_model.layers" in name and ".lora_" in name for name in names)


def test_the_result_says_what_the_model_is_made_of(tuned):
    made, _ = tuned
    told = read_result(made.folder)
    assert set(told["base"]["files"]) >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert told["data"]["fingerprint"] == told["made_from"]["data"]
    assert told["recipe"]["lora"]["rank"] == made.recipe.lora.rank
    assert told["steps"] == STEPS


def test_the_chat_answers_as_the_tuned_model_did_when_it_was_measured(tuned):
    """Frames go another way there, through the annotators' sampling and JPEG, and come out the same."""
    from reelwright.annotate.chat.base import Question
    from reelwright.annotate.chat.model import ChatModel
    from reelwright.annotate.chat.payload import jpegs
    from reelwright.annotate.chat.registry import close_chats, open_chat
    from reelwright.curation.media.frames import Frames, read

    made, _ = tuned
    rows = [json.loads(line) for line in (made.folder / "held_out.jsonl").read_text().splitlines()]
    sampling, questions = made.recipe.sampling, []
    for row in rows:
        facts, (frames,) = read(
            Path(row["video"]).read_bytes(), [need for need in sampling.needs if isinstance(need, Frames)]
        )
        seen = jpegs(sampling.seen(frames, facts)[0], made.recipe.jpeg_quality)
        questions.append(Question("Which colour?", frames=seen, fps=len(seen) * facts.fps / facts.num_frames))
    chat = ChatModel(str(made.folder / "model"), backend="transformers", send="video", max_tokens=12, concurrency=4)
    answers = open_chat(chat).ask(questions)
    close_chats()
    assert [answer.text for answer in answers] == [row["answer"] for row in rows]


@pytest.mark.exhaustive
def test_llava_onevision_learns_it_too(data, tmp_path):
    made = job(checkpoints.llava_video(tmp_path / "base"), data, tmp_path / "run", steps=40)
    run_tuning(made, World.alone("cpu"), lambda _: None)
    assert read_result(made.folder)["measured"]["same_as_reference"] > 0.9
