"""Answers that are not valid are asked again with the complaint, and never guessed."""

import json
from typing import Any

from reelwright.annotate import Postponed
from reelwright.annotate.chat.asking import ask_json, ask_text
from reelwright.annotate.chat.base import Answer, Chat, ChatError, Question
from reelwright.annotate.chat.registry import open_chat


def not_wrong(value: dict[str, Any]) -> None:
    if value["token"] == "wrong":
        raise ValueError("token 'wrong' is not in the vocabulary")


def test_wrong_answers_are_asked_again_together(server):
    """Of 20, a third is outside the vocabulary at first, two are so twice, one is never right, one is not JSON."""
    faults = dict.fromkeys(range(0, 18, 3), "wrong") | {4: "wrong,wrong", 5: "wrong,wrong", 19: "wrong,wrong,wrong"}
    questions = [Question(f"token=t{i} faults={faults[i]}" if i in faults else f"token=t{i}") for i in range(20)]
    questions[7] = Question("token=t7 answer=wide")
    found = ask_json(open_chat(server.chat()), questions, not_wrong)
    for i, value in enumerate(found):
        if i in (7, 19):
            assert isinstance(value, ChatError)
        else:
            assert value == {"token": f"t{i}", "numbers": []}
    assert "not in the vocabulary" in str(found[19])
    assert "not one JSON object" in str(found[7])
    seen = server.stats()["seen"]
    assert [seen[f"t{i}"] for i in (0, 1, 4, 7, 19)] == [2, 1, 3, 3, 3]


def test_the_complaint_is_told(server):
    """The server's answer to the second question repeats nothing; what it was sent shows in the texts it parses."""
    told: list[list[str]] = []

    class Listening(Chat):
        """The real chat, and what goes through it."""

        def ask(self, questions):
            told.append([q.text for q in questions])
            return open_chat(server.chat()).ask(questions)

    (value,) = ask_json(Listening(), [Question("token=a faults=wrong,wrong")], not_wrong)
    assert value["token"] == "a"
    first, second, third = (texts[0] for texts in told)
    assert second.startswith(first)
    assert "token 'wrong' is not in the vocabulary" in second
    assert third == second  # not piled up


def test_faults_of_the_server_pass_through(start):
    away = start()
    chat = open_chat(away.chat(patience_s=0, attempts=1))
    assert isinstance(ask_json(chat, [Question("token=a faults=500")], not_wrong)[0], ChatError)
    away.stop()
    assert isinstance(ask_json(chat, [Question("token=b")], not_wrong)[0], Postponed)
    assert ask_json(chat, [], not_wrong) == []


def test_complaints_are_bounded(server):
    def complain(value: dict[str, Any]) -> None:
        raise ValueError(json.dumps(value) * 10_000)

    (error,) = ask_json(open_chat(server.chat()), [Question("token=a")], complain, attempts=2)
    assert len(str(error)) < 500


class Echo(Chat):
    """Answers with the question's text."""

    def __init__(self) -> None:
        self.rounds: list[list[str]] = []

    def ask(self, questions):
        self.rounds.append([q.text for q in questions])
        return [Answer(q.text) for q in questions]


def test_texts_and_objects_are_asked_again_by_one_loop():
    """A text is refused until it holds the complaint, so the second round passes, and only for that question."""

    def second(answer: Answer) -> str:
        if "too plain" not in answer.text:
            raise ValueError("too plain")
        return answer.text

    chat = Echo()
    found = ask_text(chat, [Question("a"), Question("b")], [second, lambda answer: answer.text], attempts=2)
    assert found[1] == "b"
    assert str(found[0]).startswith("a\n\nYour last answer was not valid: too plain")
    assert [len(texts) for texts in chat.rounds] == [2, 1]
    (error,) = ask_text(Echo(), [Question("a")], [second], attempts=1)
    assert str(error) == "after 1 attempts still no valid answer: too plain"
    assert isinstance(error, ChatError)
