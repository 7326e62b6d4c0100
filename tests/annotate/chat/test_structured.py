"""JSON answers are parsed strictly."""

import pytest

from reelwright.annotate.chat.structured import parse_object


@pytest.mark.parametrize(
    "text", ['{"a": 1}', ' \n{"a": 1}\n', '```json\n{"a": 1}\n```', '```\n{"a": 1}\n```', '```JSON\r\n{"a": 1}\r\n```']
)
def test_an_object_or_one_fenced_block_is_taken(text):
    assert parse_object(text) == {"a": 1}


@pytest.mark.parametrize(
    "text",
    [
        "", "wide", '"wide"', "[1]", "null", "{'a': 1}", '{"a": 1,}', '{"a": 1} {"a": 2}', 'Sure! {"a": 1}',
        '{"a": 1} is it', '{"a": 1, "a": 2}', '{"b": {"a": 1, "a": 1}}', '{"a": NaN}', '{"a": -Infinity}', '{"a": 1',
        'Here:\n```json\n{"a": 1}\n```', '```json\n{"a": 1}\n```\n```json\n{"a": 2}\n```', '{"a": 1e999}',
        '{"a": "' + "x" * 200_000 + '"}', '{"a":' * 50_000,
    ],
)  # fmt: skip
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="the answer"):
        parse_object(text)
