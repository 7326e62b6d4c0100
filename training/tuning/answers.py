"""Learning answers: captioner and judge. Cross-entropy of the answers' tokens and of the token that ends them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from reelwright.annotate.backends.videos.form import VideoForm
from reelwright.training.errors import TrainError
from reelwright.training.tuning.objective import Row, TuneObjective, model_inputs
from reelwright.training.tuning.samples import Item, Sample, Turn
from reelwright.training.tuning.template import IGNORED, Template
from reelwright.training.tuning.videos import Seen, VideoFacts

if TYPE_CHECKING:
    from torch import Tensor, nn

Ask = Callable[[Sample, int, float], tuple[Turn, ...]]
"""(sample, frames, seconds) -> the turns of a sample that brings none, up to its answer."""


class Answers(TuneObjective[Row]):
    """Learns what follows each question. `digits` of a sample replace the digit in its answer by shares of digits."""

    def __init__(self, template: Template, form: VideoForm, ask: Ask) -> None:
        """Take the model's template and form, and how the store's samples are asked about."""
        self.template, self.form, self.ask = template, form, ask
        self.pad = template.tokenizer.pad_token_id or 0

    def lengths(self, item: Item, facts: Sequence[VideoFacts]) -> list[int]:
        """See `TuneObjective.lengths`. The frames of `facts` are those that were sampled."""
        (fact,) = facts
        assert isinstance(item, Sample)
        tokens = self.form.tokens(fact.num_frames, fact.height, fact.width)
        return [len(self.template.encode(self.turns(item, fact.num_frames, fact.duration_s), tokens).ids)]

    def example(self, item: Item, seen: Sequence[Seen]) -> Row:
        """See `TuneObjective.example`."""
        (one,) = seen
        assert isinstance(item, Sample)
        video = self.form.shown(one.frames, one.seconds_per_frame)
        turns = self.turns(item, len(one.frames), one.duration_s)
        made = self.template.encode(turns, video.tokens)
        soft = self._soft(item, turns, made.ids, video.tokens) if item.digits else {}
        return Row(made.ids, video, made.labels, soft)

    def question(self, item: Sample, seen: Seen) -> Row:
        """Return a sample up to its first answer, to be generated."""
        video = self.form.shown(seen.frames, seen.seconds_per_frame)
        turns = self.turns(item, len(seen.frames), seen.duration_s)
        first = next(number for number, turn in enumerate(turns) if turn.role == "assistant")
        return Row(self.template.question_ids(turns[:first], video.tokens), video)

    def turns(self, item: Sample, frames: int, seconds: float) -> tuple[Turn, ...]:
        """Return a sample's conversation: its own, or the use's question with its answer."""
        return item.turns or (*self.ask(item, frames, seconds), Turn("assistant", item.answer))

    def weight(self, example: Row) -> float:
        """Return the learnt tokens."""
        return float(sum(label != IGNORED for label in example.labels))

    def loss(self, network: nn.Module, examples: Sequence[Row], device: Any) -> Tensor:
        """Return the summed cross-entropy; logits are made only of places that are learnt in some text."""
        import torch
        from torch.nn.functional import cross_entropy

        inputs = model_inputs(self.form, examples, self.pad, device)
        longest = inputs["input_ids"].shape[1]
        labels = torch.tensor([row.labels + [IGNORED] * (longest - len(row.labels)) for row in examples])
        places = (labels[:, 1:] != IGNORED).any(0).nonzero().flatten()  # whose next token is learnt
        logits = network(**inputs, logits_to_keep=places.to(device), use_cache=False).logits.float()
        wanted = labels[:, places + 1].to(device)
        total = cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="sum")
        at = {int(place) + 1: number for number, place in enumerate(places)}
        for number, row in enumerate(examples):
            for place, shares in row.soft.items():
                found = logits[number, at[place]].log_softmax(-1)
                total = total + found[row.labels[place]]  # takes the digit's own part out again
                total = total - sum(share * found[token] for token, share in shares.items())
        return total

    def _soft(
        self, item: Sample, turns: Sequence[Turn], ids: list[int], tokens: int
    ) -> dict[int, dict[int, float]]:
        """Find the one token in which answers with other digits differ, and each digit's id there."""
        digit = next((one for one in item.digits if one in item.answer), "")
        found: dict[int, float] = {}
        place = None
        for other, share in item.digits.items():
            if other == digit:
                continue
            answer = Turn("assistant", item.answer.replace(digit, other))
            changed = self.template.encode([*turns[:-1], answer], tokens).ids
            differ = [at for at, (a, b) in enumerate(zip(changed, ids, strict=False)) if a != b]
            if len(changed) != len(ids) or len(differ) != 1 or place not in (None, differ[0]):
                raise TrainError(f"the tokenizer does not write {digit} and {other} as one token each; name another")
            place = differ[0]
            found[changed[place]] = share
        if place is None:  # people agreed
            return {}
        found[ids[place]] = item.digits[digit]
        return {place: found}
