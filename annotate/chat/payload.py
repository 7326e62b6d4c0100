"""A question as the JSON body of an OpenAI-compatible chat completion, frames as JPEG data URLs."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from reelwright.annotate.chat.base import Question
from reelwright.annotate.chat.model import ChatModel


def body_of(chat: ChatModel, question: Question) -> bytes:
    """Return the request, ready to be sent. Takes milliseconds of CPU per frame: keep it off an event loop."""
    body: dict[str, Any] = {
        "model": chat.model,
        "messages": messages_of(chat, question),
        **asdict(chat.sampling),
    }
    if question.schema is not None:
        body["response_format"] = response_format(question)
    if question.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": question.top_logprobs}
    if question.frames is not None and chat.send == "video":
        # vLLM: these are all the frames there are, and the frames per second; it must not sample them again
        video_options = {"num_frames": len(question.frames)} | ({"fps": question.fps} if question.fps else {})
        body["media_io_kwargs"] = {"video": video_options}
    return json.dumps(body).encode()


def messages_of(chat: ChatModel, question: Question) -> list[dict[str, Any]]:
    """Return the messages of OpenAI's form: the system prompt, then frames and text."""
    system = [{"role": "system", "content": question.system}] if question.system else []
    if question.frames is None:
        return [*system, {"role": "user", "content": question.text}]
    text = {"type": "text", "text": question.text}
    return [*system, {"role": "user", "content": [*_pictures(chat, question), text]}]


def response_format(question: Question) -> dict[str, Any]:
    """Return structured output in OpenAI's form, which vLLM takes too; strict where strict mode takes the schema."""
    schema = dict(question.schema or {})
    strict = schema.get("additionalProperties") is False
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": strict}}


def times_line(count: int, fps: float) -> str:
    """Return the line that introduces pictures in a row as frames of one video."""
    if not fps:
        return f"{count} frames of one video, in order of time:\n"
    return f"{count} frames of one video, in order of time, {1 / fps:.2f} s apart:\n"


def jpegs(frames: np.ndarray | Sequence[bytes], quality: int) -> list[bytes]:
    """Encode uint8 [T, H, W, 3] RGB as JPEGs; frames that are JPEGs already are left as they are."""
    return [jpeg(frame, quality) for frame in frames] if isinstance(frames, np.ndarray) else list(frames)


def pixels(frames: np.ndarray | Sequence[bytes]) -> np.ndarray:
    """Decode JPEGs to uint8 [T, H, W, 3] RGB; an array is left as it is."""
    import cv2

    if isinstance(frames, np.ndarray):
        return frames
    read = [cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_COLOR) for one in frames]
    return np.stack([cv2.cvtColor(one, cv2.COLOR_BGR2RGB) for one in read])


def jpeg(frame: np.ndarray, quality: int) -> bytes:
    """Encode uint8 [H, W, 3] RGB; raises ValueError where that is not possible."""
    import cv2

    done, encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        raise ValueError(f"a frame of shape {frame.shape} cannot be encoded as JPEG")
    return encoded.tobytes()


def _pictures(chat: ChatModel, question: Question) -> list[dict[str, Any]]:
    assert question.frames is not None
    encoded = [base64.b64encode(one).decode("ascii") for one in jpegs(question.frames, chat.jpeg_quality)]
    if chat.send == "video":
        # JPEGs joined by commas are a video to vLLM: the sampled frames as they are, without a codec in between
        return [{"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{','.join(encoded)}"}}]
    urls = [{"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{one}"}} for one in encoded]
    return [{"type": "text", "text": times_line(len(encoded), question.fps)}, *urls]
