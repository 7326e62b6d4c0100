"""vLLM inside a running Ray: `ray.data.llm` over the questions, its engines on GPUs and in an environment of their own.

vLLM pins its own torch and transformers, so only Ray's engine stages run in `runtime_env`; what is ours (rows in, rows
out) runs in the job's environment. A run loads the engines once and streams all its questions through them, and ends
them: ask for much at once (`answered` over a whole dataset), or keep a server (`vllm serve`) where questions come a few
at a time.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from annotate.backends.chat import Answer, Chat, ChatError, ChatModel, Question
from annotate.backends.errors import AnnotatorError
from annotate.backends.payload import messages_of
from annotate.backends.retry import Budget
from annotate.contract import Postponed

if TYPE_CHECKING:
    import ray.data

ROWS = 16  # questions a block and a batch of the engine; it has many batches at once
MOST_PICTURES = 64  # of one question
SHOWN = 300  # characters of an error that are repeated


class VllmChat(Chat):
    """Each call is a run of `ray.data.llm`, one at a time. Where the engine fails rather than a question, all are
    Postponed."""

    def __init__(self, chat: ChatModel) -> None:
        import ray

        if not ray.is_initialized():
            raise AnnotatorError(
                "chat.backend = 'vllm' asks inside Ray, and none is running; run it by `reel annotate`, or set "
                "backend: server"
            )
        self.chat, self.budget = chat, Budget(chat)
        self._lock = threading.Lock()  # two runs at once would wait for one another's GPUs

    def ask(self, questions: Sequence[Question]) -> list[Answer | Exception]:
        if not questions:
            return []
        with self._lock:
            if spent := self.budget.spent():
                return [Postponed(spent)] * len(questions)
            return self._run(questions)

    def _run(self, questions: Sequence[Question]) -> list[Answer | Exception]:
        import ray.data

        rows = [row_of(self.chat, i, question) for i, question in enumerate(questions)]
        try:
            dataset = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // ROWS))
            found = {row["id"]: _answer(row) for row in answered(self.processor(), dataset).iter_rows()}
        except Exception as error:  # an engine that does not start, a node that is lost: anything
            why = " ".join(str(error).split())[-SHOWN:]
            return [Postponed(f"vLLM in Ray did not answer: {type(error).__name__}: {why}")] * len(questions)
        return [found.get(i, ChatError("vLLM in Ray returned no row")) for i in range(len(questions))]

    def processor(self) -> Any:
        """The processor of `ray.data.llm` that turns rows of `row_of` into rows with an answer."""
        from ray.data.llm import build_processor

        return build_processor(config_of(self.chat), preprocess=request_of, postprocess=reply_of)


def answered(processor: Any, rows: ray.data.Dataset) -> ray.data.Dataset:
    """rows of `row_of` -> rows of `reply_of`, in any order; those that failed hold `__inference_error__`. Lazy."""
    return processor(rows)


def config_of(chat: ChatModel) -> Any:
    """The vLLMEngineProcessorConfig: `gpus` a copy by tensor parallelism, `copies` of it, more by `engine`."""
    from ray.data.llm import vLLMEngineProcessorConfig

    if chat.gpus != int(chat.gpus):
        raise AnnotatorError(f"chat.gpus = {chat.gpus}; vLLM takes whole GPUs: 1 or more a copy")
    engine: dict[str, Any] = {
        "tensor_parallel_size": max(1, int(chat.gpus)),
        "dtype": chat.dtype,
        "seed": chat.seed,
        "limit_mm_per_prompt": {"image": MOST_PICTURES, "video": 1},
    }
    about_media = {"media_io_kwargs": {"video": {"num_frames": -1}}}  # frames are sampled already: take all
    revision = {"revision": chat.revision} if chat.revision else {}
    return vLLMEngineProcessorConfig(
        model_source=chat.model,
        engine_kwargs=engine | revision | dict(chat.engine or {}),
        runtime_env=dict(chat.runtime_env) if chat.runtime_env else None,
        concurrency=(chat.copies, chat.copies),
        batch_size=ROWS,
        max_concurrent_batches=max(8, -(-chat.concurrency // ROWS)),
        should_continue_on_error=True,  # a question costs only itself
        prepare_multimodal_stage={"enabled": True, "model_config_kwargs": about_media | revision},
        chat_template_stage={"enabled": True},
        tokenize_stage={"enabled": False},  # the engine tokenizes, as pictures become tokens there
        detokenize_stage={"enabled": False},
    )


def row_of(chat: ChatModel, at: int | str, question: Question) -> dict[str, Any]:
    """A question as a row. The request is one JSON string: Arrow would fill nested parts up with nulls."""
    sampling: dict[str, Any] = {"max_tokens": chat.max_tokens, "temperature": chat.temperature, "seed": chat.seed}
    if question.schema is not None:
        sampling["structured_outputs"] = {"json": json.dumps(dict(question.schema))}
    request = {"messages": messages_of(chat, question), "sampling_params": sampling}
    return {"id": at, "request": json.dumps(request)}


def request_of(row: dict[str, Any]) -> dict[str, Any]:
    """What the stages of `ray.data.llm` read."""
    return json.loads(row["request"])


def reply_of(row: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a row that the engine answered."""
    return {
        "id": row["id"],
        "text": row["generated_text"],
        "input_tokens": int(row["num_input_tokens"]),
        "output_tokens": int(row["num_generated_tokens"]),
    }


def _answer(row: dict[str, Any]) -> Answer | Exception:
    if error := row.get("__inference_error__"):
        return ChatError(f"vLLM refuses the question: {' '.join(str(error).split())[:SHOWN]}")
    text = str(row["text"]).strip()
    return Answer(text, row["input_tokens"], row["output_tokens"]) if text else ChatError("the answer is empty")
