"""A chat model in this process, by transformers: Qwen2.5-VL, LLaVA-Video (as LLaVA-OneVision), or of text alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from reelwright.annotate.backends.videos.form import VideoForm
from reelwright.annotate.backends.videos.forms import form_of, pictures_processor
from reelwright.annotate.chat.base import EXCERPT, Answer, Chat, ChatError, Question, Token, excerpt
from reelwright.annotate.chat.budget import Budget
from reelwright.annotate.chat.model import ChatModel, TransformersOptions
from reelwright.annotate.chat.payload import pixels, times_line
from reelwright.annotate.contract import Postponed
from reelwright.annotate.errors import AnnotatorError

NOT_OURS = {"LlavaQwenForCausalLM": "LLaVA-NeXT's own"}  # formats that transformers would load as something else


class TransformersChat(Chat):
    """Up to `concurrency` questions are generated together, fewer where memory does not suffice; one caller at a time.

    Greedy at temperature 0; sampled answers are made one by one, each from `seed`, so that company does not matter.
    A schema does not steer this backend.
    """

    def __init__(self, chat: ChatModel, options: TransformersOptions) -> None:
        self.chat = chat
        self.sampling = chat.sampling
        self.budget = Budget(chat)
        self._lock = threading.Lock()
        self._together = 1 if self.sampling.temperature else options.concurrency
        self._form, self._sees, self._processor, self._model = _load(chat, options)
        if self._form and self._form.most:
            self._together = min(self._together, self._form.most)
        tokenizer = getattr(self._processor, "tokenizer", self._processor)
        tokenizer.padding_side = "left"
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        self._tokenizer = tokenizer
        self._control = sorted({*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}, key=len, reverse=True)

    def ask(self, questions: Sequence[Question]) -> list[Answer | Exception]:
        """Ask in batches on this process's device, questions with pictures apart from questions without."""
        found = dict(self.ask_each(questions))
        return [found[i] for i in range(len(questions))]

    def ask_each(self, questions: Sequence[Question]) -> Iterator[tuple[int, Answer | Exception]]:
        """Ask the same way, and yield the answers of each batch when they are there."""
        for seeing in (True, False):  # a batch has pictures in all its questions or in none
            mine = [i for i, q in enumerate(questions) if (q.frames is not None) == seeing]
            while mine:
                now, mine = mine[: self._together], mine[self._together :]
                with self._lock:
                    answers = self._answers([questions[i] for i in now])
                yield from zip(now, answers, strict=True)

    def _answers(self, questions: Sequence[Question]) -> Sequence[Answer | Exception]:
        """Answer a batch; if it fails, answer it in two halves, so that a question costs only itself."""
        import torch

        if spent := self.budget.spent():
            return [Postponed(spent)] * len(questions)
        try:
            return self._generate(questions)
        except Postponed:  # no question's fault
            raise
        except Exception as error:
            why = f"{type(error).__name__}: {error}"[:EXCERPT]
            out_of_memory = isinstance(error, torch.OutOfMemoryError)
        if len(questions) == 1:
            return [ChatError(f"{self.chat.model} gave no answer: {why}")]
        half = len(questions) // 2
        if out_of_memory:
            torch.cuda.empty_cache()
            self._together = min(self._together, half)
        return [*self._answers(questions[:half]), *self._answers(questions[half:])]

    def _generate(self, questions: Sequence[Question]) -> list[Answer | Exception]:
        import torch

        inputs = self._inputs(questions).to(self._model.device)
        for key, value in inputs.items():
            if torch.is_tensor(value) and value.is_floating_point():
                inputs[key] = value.to(self._model.dtype)
        how: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if self.sampling.temperature:
            torch.manual_seed(self.sampling.seed)
            how = {"do_sample": True, "temperature": self.sampling.temperature, "top_p": 1.0, "top_k": 0}
        top = max(q.top_logprobs for q in questions)
        with torch.inference_mode():
            made = self._model.generate(
                **inputs, max_new_tokens=self.sampling.max_tokens, pad_token_id=self._tokenizer.pad_token_id,
                return_dict_in_generate=True, output_logits=top > 0, **how,
            )  # fmt: skip
        tokens = made.sequences[:, inputs["input_ids"].shape[1] :]
        asked = inputs["attention_mask"].sum(dim=1).tolist()
        answers = [self._answer(row, asked[i]) for i, row in enumerate(tokens)]
        if not top:
            return answers
        return [
            replace(one, tokens=self._likeliest(row[: one.output_tokens], [step[i] for step in made.logits], top))
            if isinstance(one, Answer) else one
            for i, (one, row) in enumerate(zip(answers, tokens, strict=True))
        ]  # fmt: skip

    def _likeliest(self, tokens: Any, logits: Sequence[Any], top: int) -> tuple[Token, ...]:
        """Return an answer's tokens with the likeliest in their places. tokens: int64 [N]; logits: [V], N or more."""
        found = []
        for token, scores in zip(tokens.tolist(), logits, strict=False):
            chances = scores.float().log_softmax(-1)
            ids = dict.fromkeys([*chances.topk(min(top, len(chances))).indices.tolist(), token])
            likeliest: dict[str, float] = {}
            for one in ids:  # several ids may be written the same; the likeliest comes first
                likeliest.setdefault(self._tokenizer.decode([one]), min(0.0, float(chances[one])))
            found.append(Token(self._tokenizer.decode([token]), likeliest))
        return tuple(found)

    def _answer(self, tokens: Any, input_tokens: int) -> Answer | Exception:
        """tokens: int64 [N], filled up with padding after the end."""
        ends = {self._tokenizer.pad_token_id, self._tokenizer.eos_token_id, *_ends_of(self._model)}
        given = tokens.tolist()
        length = next((i for i, token in enumerate(given) if token in ends), len(given))
        text = self._tokenizer.decode(given[:length], skip_special_tokens=True).strip()
        answer = Answer(text, int(input_tokens), length, length >= self.sampling.max_tokens)
        self.budget.add(answer.input_tokens, answer.output_tokens)
        return answer if text else ChatError(f"{self.chat.model} gave an empty answer")

    def _inputs(self, questions: Sequence[Question]) -> Any:
        """Return the model's inputs, padded on the left."""
        prompts = [
            self._processor.apply_chat_template(self._messages(q), tokenize=False, add_generation_prompt=True)
            for q in questions
        ]
        if questions[0].frames is None:
            return self._tokenizer(prompts, padding=True, return_tensors="pt", add_special_tokens=False)
        if not self._sees:
            raise AnnotatorError(f"{self.chat.model} is a model of text alone and cannot be shown frames")
        if self._form:
            return self._with_videos(self._form, questions, prompts)
        return self._processor(
            text=prompts, **self._media(questions), padding=True, return_tensors="pt", add_special_tokens=False
        )

    def _with_videos(self, form: VideoForm, questions: Sequence[Question], prompts: Sequence[str]) -> Any:
        """Return inputs with one video per question, made as they are for tuning: seconds between frames included."""
        seen = [pixels(q.frames) for q in questions if q.frames is not None]
        shown = [form.shown(f, 1 / q.fps if q.fps else 0.0) for f, q in zip(seen, questions, strict=True)]
        texts = [form.expanded(text, video.tokens) for text, video in zip(prompts, shown, strict=True)]
        inputs = self._tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=False)
        inputs.update(form.inputs(inputs["input_ids"], shown))
        return inputs

    def _media(self, questions: Sequence[Question]) -> dict[str, Any]:
        from PIL import Image

        frames = [pixels(q.frames) for q in questions if q.frames is not None]
        if self.chat.send == "images":
            return {"images": [[Image.fromarray(frame) for frame in one] for one in frames]}
        metadata = [
            {"total_num_frames": len(one), "fps": q.fps or 1.0, "frames_indices": list(range(len(one)))}
            for one, q in zip(frames, questions, strict=True)
        ]
        return {
            "videos": [np.ascontiguousarray(one.transpose(0, 3, 1, 2)) for one in frames],
            "video_metadata": metadata, "do_sample_frames": False,
        }  # fmt: skip

    def _messages(self, question: Question) -> list[dict[str, Any]]:
        """In the form of transformers' chat templates; control tokens are removed from the text."""
        said = [("system", question.system, []), ("user", question.text, self._shown(question))]
        return [
            {"role": role, "content": [*shown, {"type": "text", "text": text}] if self._sees else text}
            for role, text, shown in [(role, self._tame(text), shown) for role, text, shown in said]
            if text or shown
        ]

    def _shown(self, question: Question) -> list[dict[str, Any]]:
        if question.frames is None:
            return []
        if self.chat.send == "video":
            return [{"type": "video"}]
        line = times_line(len(question.frames), question.fps)
        return [{"type": "text", "text": line}, *[{"type": "image"}] * len(question.frames)]

    def _tame(self, text: str) -> str:
        for token in self._control:
            text = text.replace(token, " ")
        return text


def _load(chat: ChatModel, options: TransformersOptions) -> tuple[VideoForm | None, bool, Any, Any]:
    """Return how it is shown videos, whether it sees, its processor (of text alone: its tokenizer) and the model."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    device_map = {"device_map": "auto"} if options.gpus > 1 else {}
    try:
        config = AutoConfig.from_pretrained(chat.model, revision=chat.revision or None)
        _refuse_other_formats(chat, config)
        sees = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        kind = AutoModelForImageTextToText if sees else AutoModelForCausalLM
        form = form_of(chat.model, chat.revision, config) if chat.send == "video" else None
        processor = _processor(chat, config, form) if sees else _tokenizer(chat)
        model = kind.from_pretrained(
            chat.model, revision=chat.revision or None, dtype=chat.dtype, use_safetensors=True, **device_map
        )
    except (ImportError, OSError, RuntimeError, ValueError) as error:  # RuntimeError: of memory, for one
        why = excerpt(str(error))
        raise AnnotatorError(f"chat.model = {chat.model!r} cannot be loaded by transformers: {why}") from error
    return form, sees, processor, (model if device_map else model.to(device)).eval()


def _processor(chat: ChatModel, config: Any, form: VideoForm | None) -> Any:
    from transformers import AutoProcessor
    from transformers.utils import is_torchvision_available

    revision = chat.revision or None
    if is_torchvision_available() and form is None:
        return AutoProcessor.from_pretrained(chat.model, revision=revision)
    if chat.send == "video" and form is None:
        raise AnnotatorError(
            f"chat.send = 'video' needs torchvision for the video processor of a {config.model_type}; install it or "
            "set send: images"
        )
    return pictures_processor(chat.model, chat.revision, config)


def _tokenizer(chat: ChatModel) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(chat.model, revision=chat.revision or None)


def _refuse_other_formats(chat: ChatModel, config: Any) -> None:
    for architecture in config.architectures or ():
        if architecture in NOT_OURS:
            raise AnnotatorError(
                f"chat.model = {chat.model!r} is saved in {NOT_OURS[architecture]} format ({architecture}); name a "
                "conversion to transformers' format, or serve it and set backend: server"
            )


def _ends_of(model: Any) -> list[int]:
    ends = model.generation_config.eos_token_id
    return ends if isinstance(ends, list) else [ends]
