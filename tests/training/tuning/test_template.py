"""What is learnt, and where in time it is: against the tokenizer's own words and the formula of positions."""

from pathlib import Path

import numpy as np
import pytest
import torch

from reelwright.annotate.backends.videos.patches import TIME
from reelwright.training.errors import TrainError
from reelwright.training.tuning.base import Base, load_base
from reelwright.training.tuning.objective import Row, model_inputs
from reelwright.training.tuning.recipe import BaseConfig
from reelwright.training.tuning.samples import Turn
from reelwright.training.tuning.template import IGNORED
from tests.annotate.chat import checkpoints

MAKERS = {"qwen_vl": checkpoints.qwen_vl, "llava_video": checkpoints.llava_video}
TALK = (
    Turn("system", "Be brief."),
    Turn("user", "What happens? assistant assistant"),
    Turn("assistant", "a dog runs; the assistant said <|im_end|> twice\n"),
    Turn("user", "And then?"),
    Turn("assistant", "it rests"),
)


@pytest.fixture(scope="module", params=list(MAKERS))
def base(request, tmp_path_factory) -> Base:
    folder = MAKERS[request.param](tmp_path_factory.mktemp("base") / request.param)
    return load_base(BaseConfig(model=str(folder), dtype="float32"))


def runs_of(labels: list[int]) -> list[list[int]]:
    found: list[list[int]] = [[]]
    for label in labels:
        if label == IGNORED:
            found.append([])
        else:
            found[-1].append(label)
    return [run for run in found if run]


def test_learnt_are_the_answers_and_their_end_tokens_alone(base):
    made = base.template.encode(TALK, 7)
    words = base.processor.tokenizer
    assert [words.decode(run) for run in runs_of(made.labels)] == [
        "a dog runs; the assistant said   twice\n<|im_end|>", "it rests<|im_end|>",
    ]  # fmt: skip
    assert all(label in (IGNORED, token) for label, token in zip(made.labels, made.ids, strict=True))
    assert IGNORED < 0  # no token has this number
    assert words.decode(made.ids).count(base.form.token) == 7


def test_a_question_has_the_tokens_that_an_answer_is_generated_after(base):
    made = base.template.encode(TALK[:3], 5)
    question = base.template.question_ids(TALK[:2], 5)
    first = next(at for at, label in enumerate(made.labels) if label != IGNORED)
    assert made.ids[:first] == question
    assert base.processor.tokenizer.decode(question).endswith("<|im_start|>assistant\n")


def test_placeholders_in_words_are_no_videos(base):
    turns = (Turn("user", f"what is {base.form.token}?"), Turn("assistant", f"a {base.form.token}"))
    made = base.template.encode(turns, 3)
    assert base.processor.tokenizer.decode(made.ids).count(base.form.token) == 3


def test_a_template_that_ends_no_answer_is_refused(base):
    template = base.template
    ends, template.ends = template.ends, {-1}
    try:
        with pytest.raises(TrainError, match="does not end an answer"):
            template.encode(TALK, 3)
    finally:
        template.ends = ends


@pytest.mark.parametrize("count", [2, 5])
def test_a_video_becomes_as_many_tokens_as_were_counted_and_the_model_takes_it(base, count):
    frames = np.random.default_rng(0).integers(0, 256, (count, 48, 90, 3), np.uint8)
    shown = base.form.shown(frames, 0.5)
    assert shown.tokens == base.form.tokens(count, 48, 90)
    made = base.template.encode(TALK, shown.tokens)
    inputs = model_inputs(base.form, [Row(made.ids, shown)], 0, "cpu")
    with torch.no_grad():
        assert base.model(**inputs).logits.shape[1] == len(made.ids)


def qwen(tmp_path: Path) -> Base:
    return load_base(BaseConfig(model=str(checkpoints.qwen_vl(tmp_path / "qwen")), dtype="float32"))


def test_places_in_time_are_seconds_of_the_sampled_frames(tmp_path):
    """Position in time = int(t · seconds of two sampled frames · tokens_per_second), after the text before it."""
    base = qwen(tmp_path)
    frames = np.random.default_rng(0).integers(0, 256, (7, 56, 84, 3), np.uint8)  # odd: the last is repeated
    seconds = 0.7  # between sampled frames, whatever the file's rate
    shown = base.form.shown(frames, seconds)
    t, h, w = shown.grid
    assert t == 4
    made = base.template.encode(TALK, shown.tokens)
    inputs = model_inputs(base.form, [Row(made.ids, shown)], 0, "cpu")
    positions, _ = base.model.model.get_rope_index(
        inputs["input_ids"], mm_token_type_ids=inputs["mm_token_type_ids"], video_grid_thw=inputs["video_grid_thw"],
        second_per_grid_ts=inputs["second_per_grid_ts"], attention_mask=inputs["attention_mask"],
    )  # fmt: skip
    place = inputs["input_ids"][0] == base.model.config.video_token_id
    rate = base.model.config.vision_config.tokens_per_second
    first = int(place.nonzero()[0])
    expect = torch.arange(t).repeat_interleave(h * w // 4) * (TIME * seconds * rate)
    assert torch.equal(positions[0, 0, place], first + expect.long())
    assert torch.equal(positions[1, 0, place].reshape(t, h // 2, w // 2)[0, :, 0], first + torch.arange(h // 2))


def test_an_odd_video_is_the_even_one_with_its_last_frame_twice(tmp_path):
    form = qwen(tmp_path).form
    frames = np.random.default_rng(1).integers(0, 256, (5, 56, 56, 3), np.uint8)
    odd, even = form.shown(frames, 0.5), form.shown(np.concatenate([frames, frames[-1:]]), 0.5)
    assert odd.grid == even.grid
    assert torch.equal(odd.values, even.values)
