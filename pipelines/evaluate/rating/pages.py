"""The page that people rate on, served or sent: one template, one script, and what it is about as JSON."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from reelwright.curation.media.untagged import untagged
from reelwright.curation.store import Store, StoreError
from reelwright.evaluation.rating.answers import Answer, as_shown, tasks_now
from reelwright.evaluation.rating.scales import DIMENSIONS
from reelwright.evaluation.rating.study import Study, Task
from reelwright.pipelines.browse.report.page import head
from reelwright.pipelines.browse.sheets import write_whole
from reelwright.pipelines.evaluate.references import pictures

FOLDER = Path(__file__).parent
SIDES = {1: "A is better", 0: "Same", -1: "B is better"}
"""Answers to a pair as the page's buttons name them."""
MAX_INSIDE = 256 << 20
"""Bytes of videos in one page; a browser takes more only with patience, and then they lie beside it."""


def served_page(study: Study, rater: str | None) -> str:
    """Return the page of the server. rater: whose link it is; None: they choose their name."""
    names = {"raters": [rater]} if rater else {}  # whoever has a link of their own learns of no other rater
    return _page(_about(study) | names | {"mode": "server", "rater": rater})


def task_facts(study: Study, task: Task, url: Callable[[str, str], str]) -> dict[str, Any]:
    """Return what the page may know of a task: no model, no id of a generation, nor that it is a repeat.

    Args:
        study: that it is of.
        task: a rater's.
        url: kind of a file (video, picture) and its name in the pages -> where the page finds it.
    """
    item = study.items[task.item_id]
    order = [item.generation_id] if item.other_id is None else [item.generation_id, item.other_id]
    if task.is_swapped:
        order.reverse()
    prompt = item.prompt if task.expected is None else check_text(study.settings.kind, task.expected)
    found = {"task_id": task.task_id, "prompt": prompt, "dimensions": list(study.asked(task.item_id)),
             "videos": [url("video", video_id(study, one)) for one in order]}  # fmt: skip
    return found | ({"picture": url("picture", video_id(study, item.picture))} if item.picture else {})


def check_text(kind: str, expected: int) -> str:
    """Return what an attention check says in place of a prompt."""
    answer = f"“{expected}” to every question" if kind == "mos" else f"“{SIDES[expected]}”"
    return f"This one checks that texts are read. Whatever the video shows, answer {answer}."


def answer_facts(study: Study, rater: str, answers: dict[tuple[str, str], Answer]) -> dict[str, Any]:
    """Return a rater's answers as the page sends them, by task."""
    tasks = {task.task_id: task for task in (*study.base[rater], *study.extra[rater])}
    return {
        task_id: {"task_id": task_id, "values": as_shown(tasks[task_id], one.values), "seconds": one.seconds}
        for (who, task_id), one in answers.items()
        if who == rater
    }


def video_id(study: Study, generation_id: str) -> str:
    """Return the name of a video, or of a picture, in a study's pages."""
    return hashlib.sha256(f"{study.study_id}\x1f{generation_id}".encode()).hexdigest()[:24]


def videos_of(study: Study) -> dict[str, str]:
    """Return the study's generations by their names in its pages."""
    ids = {one for item in study.items.values() for one in (item.generation_id, item.other_id) if one}
    return {video_id(study, one): one for one in ids}


def pictures_of(study: Study) -> dict[str, str]:
    """Return the ids of the pictures that the study's videos begin with, by their names in its pages."""
    return {video_id(study, item.picture): item.picture for item in study.items.values() if item.picture}


def write_static(
    store: Store, study: Study, out: Path, answers: dict[tuple[str, str], Answer], *, beside: bool = False
) -> Path:
    """Write a study as a file to send out, which asks no server for anything; return its path.

    Each rater has the tasks that they have now; whoever was given more since, because others disagree, needs a newer
    file, in which their answers are remembered by the browser.

    Args:
        store: with the videos.
        study: the study.
        out: the page.
        answers: given so far: they decide who gets more.
        beside: put the videos into a folder beside the page and not into it.

    Raises:
        StoreError: a video is missing, or a file cannot be written.
    """
    folder = out.with_name(f"{out.stem}-videos")
    names = videos_of(study)
    urls: dict[str, str] = {}
    if beside:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make {folder}: {error.strerror}; choose a folder you can write.") from error
    whole = 0
    for name, mp4 in _named(store, names):
        whole += len(mp4)
        if beside:
            write_whole(folder / f"{name}.mp4", mp4)
            urls[name] = f"{folder.name}/{name}.mp4"
        elif whole > MAX_INSIDE:
            raise StoreError(
                f"the study's videos are larger than {MAX_INSIDE >> 20} MiB, too much for one page; "
                "add --beside to put them into a folder beside it."
            )
        else:
            urls[name] = "data:video/mp4;base64," + base64.b64encode(mp4).decode()
    for name, jpeg in _pictures(store, study):
        if beside:
            write_whole(folder / f"{name}.jpg", jpeg)
        inside = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
        urls[name] = f"{folder.name}/{name}.jpg" if beside else inside
    tasks = {
        rater: [task_facts(study, task, lambda _, name: name) for task in tasks_now(study, rater, answers)]
        for rater in study.settings.raters
    }
    about = _about(study) | {"mode": "file", "rater": None, "tasks": tasks, "urls": urls}
    write_whole(out, _page(about).encode("utf-8", "replace"))
    return out


def _named(store: Store, names: dict[str, str]) -> Iterable[tuple[str, bytes]]:
    back = {generation: name for name, generation in names.items()}
    return ((back[generation], untagged(mp4)) for generation, mp4 in store.read_generated(sorted(back)))


def _pictures(store: Store, study: Study) -> Iterable[tuple[str, bytes]]:
    names = pictures_of(study)
    there = pictures(store, names.values())
    return ((name, there[one]) for name, one in names.items() if one in there)


def _about(study: Study) -> dict[str, Any]:
    asked = [DIMENSIONS[name] for name in study.settings.dimensions]
    return {
        "study_id": study.study_id,
        "kind": study.settings.kind,
        "raters": list(study.settings.raters),
        "dimensions": [
            {"name": one.name, "title": one.title, "question": one.question, "levels": one.levels} for one in asked
        ],
    }


@cache
def script() -> str:
    """Return the page's script."""
    return (FOLDER / "rate.js").read_text(encoding="utf-8")


def policy() -> str:
    """Return the Content-Security-Policy of the page: its own script by its hash, its own videos, nothing else."""
    digest = base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; media-src 'self' data: file:; "
        "img-src 'self' data: file:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'"
    )


def _page(about: dict[str, Any]) -> str:
    # Within a script element only "<" could end it; "\u003c" is the same to JSON.
    text = json.dumps(about, ensure_ascii=False).replace("<", "\\u003c").replace("\u2028", "\\u2028")
    css = (FOLDER / "rate.css").read_text(encoding="utf-8")
    before, rest = (FOLDER / "page.html").read_text(encoding="utf-8").split("{{ data }}")
    rest = rest.replace("{{ script }}", script())
    return head("Rating · reelwright", css, policy()) + before + text + rest
