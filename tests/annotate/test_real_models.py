"""The annotators with the real model classes in this process, on small checkpoints with random weights: what they say
is noise, so only the way from clip to column is tested."""

import json
import os

import pytest

from reelwright import annotate
from reelwright.annotate import annotate_clips
from reelwright.annotate.chat.registry import close_chats
from tests.annotate.chat.checkpoints import llava_video, qwen_vl
from tests.annotate.chat_server import numbered_clip

NUMBERS = (0, 3, 1000, 77, 65535)


@pytest.fixture(scope="module", params=[qwen_vl, llava_video])
def model(request, tmp_path_factory):
    """A checkpoint for which many tokens end an answer, so that answers are short, and whole."""
    folder = request.param(tmp_path_factory.mktemp(request.param.__name__))
    settings = json.loads((folder / "generation_config.json").read_text())
    ends = settings["eos_token_id"]
    settings["eos_token_id"] = [ends] if isinstance(ends, int) else ends
    settings["eos_token_id"] += range(20, 300, 9)
    (folder / "generation_config.json").write_text(json.dumps(settings))
    yield folder
    close_chats()


@pytest.fixture(scope="module")
def clips() -> list[bytes]:
    return [numbered_clip(n, frames=4) for n in NUMBERS]


def load(name: str, model, **parameters):
    chat = {"model": str(model), "backend": "transformers", "max_tokens": 40}
    sampling = {"min_frames": 2, "max_frames": 2, "short_side": 64}
    return annotate.load(name, {"chat": chat, "sampling": sampling, "attempts": 1, **parameters})


def test_captions_in_process(model, clips):
    annotator = load("caption", model)
    together = annotate_clips(clips, [annotator])
    alone = [annotate_clips([clip], [annotator])[0] for clip in clips]
    assert [columns for columns, _ in together] == [columns for columns, _ in alone]
    captions = [columns["caption"] for columns, failures in together if not failures]
    assert len(set(captions)) > 1  # the model saw different clips
    assert all(caption == " ".join(caption.split()) != "" for caption in captions)
    assert all(columns["caption_model"] == str(model) for columns, failures in together if not failures)
    errors = [failure.error for columns, failures in together for failure in failures if columns == {}]
    assert len(captions) + len(errors) == len(clips)
    assert all("after 1 attempts" in error or "empty answer" in error for error in errors)


def test_noise_is_no_cinematography(model, clips):
    ((columns, (failure,)),) = annotate_clips(clips[:1], [load("cinematography", model)])
    assert columns == {}
    assert failure.error.startswith("ChatError: ")
    assert not failure.postponed


def test_the_fingerprint_follows_the_weights(model):
    before = load("caption", model).fingerprint
    weights = model / "model.safetensors"
    content = weights.read_bytes()
    try:
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        os.utime(weights, ns=(1, 1))
        assert load("caption", model).fingerprint != before
    finally:
        weights.write_bytes(content)
    assert load("caption", model, clips_a_call=3).fingerprint == before
    assert load("caption", model).resources.own_process
