"""Answers of a tuned model to held-out questions: greedy, and the expected digit of a judge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from reelwright.training.distributed.world import World
from reelwright.training.tuning.answers import Answers
from reelwright.training.tuning.feed import Feed
from reelwright.training.tuning.objective import Row, model_inputs
from reelwright.training.tuning.samples import LeftOut, Sample
from reelwright.training.tuning.videos import VideoError


def answer(
    model: Any, objective: Answers, feed: Feed[Row], items: Sequence[Sample], world: World, *, max_new_tokens: int
) -> list[str | None]:
    """Return the greedy answer to each sample's first question; None where its video does not decode.

    All ranks call it together and generate the same answers.
    """
    import torch

    tokenizer, ends = objective.template.tokenizer, objective.template.ends
    found: list[str | None] = []
    model.eval()
    for item in items:
        row = _question(objective, feed, item)
        if row is None:
            found.append(None)
            continue
        inputs = model_inputs(objective.form, [row], objective.pad, world.device)
        for name, value in inputs.items():
            if torch.is_tensor(value) and value.is_floating_point():
                inputs[name] = value.to(model.dtype)
        with torch.no_grad():
            tokens = model.generate(
                **inputs, max_new_tokens=max_new_tokens, do_sample=False, temperature=None, top_p=None, top_k=None,
                pad_token_id=objective.pad, synced_gpus=world.size > 1,
            )[0, len(row.ids) :].tolist()  # fmt: skip
        length = next((at for at, token in enumerate(tokens) if token in ends), len(tokens))
        found.append(tokenizer.decode(tokens[:length], skip_special_tokens=True).strip())
    return found


def expected_digits(
    network: Any, objective: Answers, feed: Feed[Row], items: Sequence[Sample], device: Any, scale: Sequence[int]
) -> list[float | None]:
    """Return each judgement's mean digit, by the probabilities of the scale's digits in its place.

    Args:
        network: the model.
        objective: with a judge's question.
        feed: reads the videos.
        items: whose `digits` name every digit of the scale, so that each one's token is known.
        device: of the network.
        scale: the digits.

    Returns:
        A mean per sample; None where its video does not decode.
    """
    import torch

    found: list[float | None] = []
    network.eval()
    for item in items:
        example = feed.example(item)
        if isinstance(example, LeftOut):
            found.append(None)
            continue
        ((place, shares),) = example.soft.items()
        inputs = model_inputs(objective.form, [example], objective.pad, device)
        with torch.no_grad():
            logits = network(**inputs, logits_to_keep=torch.tensor([place - 1], device=device), use_cache=False).logits
        tokens = _tokens_of_digits(example, place, shares, item)
        chances = logits[0, 0, [tokens[one] for one in scale]].float().softmax(-1)
        found.append(float(sum(one * chance for one, chance in zip(scale, chances.tolist(), strict=True))))
    return found


@contextmanager
def without_adapters(model: Any) -> Iterator[None]:
    """Let a model answer as its base does."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def _question(objective: Answers, feed: Feed[Row], item: Sample) -> Row | None:
    from reelwright.annotate.backends.videos.patches import PictureError

    try:
        return objective.question(item, feed.videos.seen(item.video))
    except (VideoError, PictureError):
        return None


def _tokens_of_digits(
    example: Row, place: int, shares: Mapping[int, float], item: Sample
) -> dict[int, int]:
    """Return digit -> token, of an example whose soft label lists them in the order of `item.digits`."""
    own = example.ids[place]
    digit = next(one for one in item.digits if one in item.answer)
    others = [one for one in item.digits if one != digit]
    tokens = [token for token in shares if token != own]
    return {int(digit): own} | {int(one): token for one, token in zip(others, tokens, strict=True)}
