"""What may stand in a prompt."""

import json

import pytest

from recollect_server.memory.prompt import MOST_JSON_DEPTH, is_json_object


def _nested(depth: int, inner: str) -> str:
    return '{"a":' * depth + inner + "}" * depth


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        ' {"a": [1, -2.5e3, true, null, "x"]} ',
        r'{"a": "\ud83d\ude00"}',
        '{"a": "\u2028 \u0627"}',
        _nested(MOST_JSON_DEPTH, "1"),
    ],
)
def test_an_object_that_can_be_passed_on_is_taken(text):
    assert is_json_object(text)
    assert json.loads(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "1",
        '{"a": 1} x',
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        r'{"a": "\ud800"}',
        r'{"\udc00": 1}',
        '{"a": "\x01"}',
        _nested(MOST_JSON_DEPTH, "[1]"),
        _nested(100_000, "1"),
    ],
)
def test_what_cannot_be_passed_on_is_no_object(text):
    assert not is_json_object(text)
