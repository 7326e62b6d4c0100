"""Files of conversations: each of the field's forms, and whatever else may stand in them."""

import json

import pytest

from reelwright.recipe_files import RecipeError
from reelwright.training.errors import TrainError
from reelwright.training.tuning.conversations import LONGEST_LINE, ReferenceEvents, read_conversations, read_events
from reelwright.training.tuning.recipe import load_tune_recipe
from reelwright.training.tuning.samples import LeftOut, Sample, is_held_out
from tests.conftest import ROOT

TURNS = [{"from": "human", "value": "<video>\nWhat happens?"}, {"from": "gpt", "value": "a dog runs"}]
QWEN = {"video": "a.mp4", "conversations": TURNS}
CHAT = {
    "messages": [
        {"role": "user", "content": [{"type": "video", "video": {"video_file": "a.mp4"}},
                                     {"type": "text", "text": "What happens?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "a dog runs"}]},
    ]
}  # fmt: skip
TARSIER = {
    "video_file": "a.mp4", "text": {"prompt": "<video>\nWhat happens?", "response": "a dog runs"},
    "extra_info": {"events": ["A dog runs.", " "]},
}  # fmt: skip
TARSIER2 = {  # as DREAM-1K has been since Tarsier2: the answer to be compared with is no text of the turn
    "messages": [
        {"role": "user", "content": [
            {"type": "video", "text": None, "video": {"video_file": "a.mp4", "start_time": 0, "end_time": None}},
            {"type": "text", "text": "What happens?", "video": None, "reference": None},
        ]},
        {"role": "assistant", "content": {"type": "text", "text": "", "video": None, "reference": "a dog runs"}},
    ],
    "dataset": "DREAM/stock", "extra_info": {"events": ["A dog runs."]},
}  # fmt: skip


def part_of(**which) -> dict:
    """Tarsier2's form, about a part of its video."""
    user, answer = TARSIER2["messages"]
    video, text = user["content"]
    seen = video | {"video": {"video_file": "a.mp4", **which}}
    return TARSIER2 | {"messages": [user | {"content": [seen, text]}, answer]}


def written(folder, *lines) -> list[Sample | LeftOut]:
    path = folder / "some.jsonl"
    path.write_bytes(b"\n".join(l if isinstance(l, bytes) else json.dumps(l).encode() for l in lines))  # noqa: E741
    return list(read_conversations(path, folder))


@pytest.mark.parametrize("form", [QWEN, CHAT, TARSIER, TARSIER2, QWEN | {"video": ["a.mp4"]}])
def test_every_form_says_the_same(tmp_path, form):
    (one,) = written(tmp_path, form)
    assert isinstance(one, Sample)
    assert [(turn.role, turn.text) for turn in one.turns] == [("user", "What happens?"), ("assistant", "a dog runs")]
    assert one.video.name == str(tmp_path / "a.mp4")


def test_a_system_turn_stands_first_and_nowhere_else(tmp_path):
    system = {"from": "system", "value": "Be brief."}
    first, second = written(
        tmp_path, QWEN | {"conversations": [system, *TURNS]}, QWEN | {"conversations": [TURNS[0], system, TURNS[1]]}
    )
    assert [(turn.role, turn.text) for turn in first.turns] == [
        ("system", "Be brief."), ("user", "What happens?"), ("assistant", "a dog runs"),
    ]  # fmt: skip
    assert second == LeftOut("some.jsonl:2", "form", "user and assistant do not take turns")


def test_a_list_in_one_file_is_read_as_lines_are(tmp_path):
    path = tmp_path / "some.json"
    path.write_text(json.dumps([QWEN, 3, TARSIER]))
    first, second, third = read_conversations(path, tmp_path)
    assert second == LeftOut("some.json:2", "line")
    assert first.turns == third.turns


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{not json", "line"),
        (b"[1, 2]", "line"),
        (b"\xff\xfe", "line"),
        (b"[" * 100_000, "line"),
        (b'{"video": "' + b"a" * (LONGEST_LINE + 9) + b'"}', "line"),
        ({"video": "a.mp4"}, "form"),
        (QWEN | {"conversations": []}, "form"),
        (QWEN | {"conversations": [TURNS[0]]}, "answer"),
        (QWEN | {"conversations": [*TURNS, TURNS[1]]}, "form"),
        (QWEN | {"conversations": [{"from": "alien", "value": "x"}, TURNS[1]]}, "form"),
        (QWEN | {"conversations": [TURNS[0], {"from": "gpt", "value": " "}]}, "answer"),
        (QWEN | {"conversations": [TURNS[0] | {"value": "<video><video> a"}, TURNS[1]]}, "files"),
        (QWEN | {"video": ["a.mp4", "b.mp4"]}, "files"),
        (QWEN | {"video": 7}, "files"),
        ({"conversations": TURNS}, "files"),
        (QWEN | {"image": "a.png"}, "picture"),
        (TARSIER | {"start_time": 3.5}, "part"),
        (part_of(start_time=0, end_time=4.2), "part"),
        (part_of(frame_indices=[0, 4]), "part"),
        (part_of(start_frame=10), "part"),
        (QWEN | {"video": "../a.mp4"}, "outside"),
        (QWEN | {"video": "/etc/passwd"}, "outside"),
        (QWEN | {"video": "http://somewhere/a.mp4"}, "outside"),
        (QWEN | {"video": "a\0.mp4"}, "outside"),
    ],
)
def test_a_bad_line_is_left_out_by_its_reason_and_costs_no_other(tmp_path, line, reason):
    before, bad, after = written(tmp_path, QWEN, line, QWEN)
    assert isinstance(before, Sample)
    assert isinstance(after, Sample)
    assert (bad.key, bad.reason) == ("some.jsonl:2", reason)


def test_a_link_out_of_the_folder_of_videos_is_outside(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").symlink_to(tmp_path / "secret.mp4")
    path = tmp_path / "some.jsonl"
    path.write_text(json.dumps(QWEN))
    (bad,) = read_conversations(path, tmp_path / "videos")
    assert bad.reason == "outside"


def test_a_folder_that_is_moved_holds_out_the_same_videos(tmp_path):
    sides = []
    for place in ("here", "there/below"):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        lines = [QWEN | {"video": f"videos/{i}.mp4"} for i in range(40)]
        (folder / "some.jsonl").write_text("\n".join(map(json.dumps, lines)))
        found = read_conversations(folder / "some.jsonl", folder)
        sides.append([is_held_out(one, 0.3, 0) for one in found])
    assert sides[0] == sides[1]
    assert 4 <= sum(sides[0]) <= 20


def test_events_are_read_by_video(tmp_path):
    path = tmp_path / "dream.jsonl"
    still = TARSIER | {"video_file": "still.mp4", "events": []}  # a reference in which nothing happens is one, too
    path.write_text("\n".join([json.dumps(TARSIER | {"dataset": "DREAM/stock"}), json.dumps(still), "{}", "nonsense"]))
    found = {"a.mp4": ReferenceEvents(["A dog runs."], "DREAM/stock"), "still.mp4": ReferenceEvents([])}
    assert read_events(path) == found
    path.write_text("\n".join(map(json.dumps, [TARSIER2, part_of(start_time=2), {"messages": [3, {"content": 4}]}])))
    assert read_events(path) == {"a.mp4": ReferenceEvents(["A dog runs."], "DREAM/stock")}


def test_a_file_that_is_none_says_so(tmp_path):
    with pytest.raises(TrainError, match=r"nothing\.jsonl cannot be read"):
        list(read_conversations(tmp_path / "nothing.jsonl", tmp_path))
    (tmp_path / "a.json").write_text('{"video": 1}')
    with pytest.raises(TrainError, match="a list of conversations was expected"):
        list(read_conversations(tmp_path / "a.json", tmp_path))


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "tune").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_of_ours_is_one(path):
    found = load_tune_recipe(path.stem, path)
    assert found.model_dump(exclude_unset=True)
    with pytest.raises(RecipeError, match="'lora.rang' is not a setting"):
        load_tune_recipe(path.stem, path, {"lora.rang": 3})
