"""The scenarios cover the contract, and the suite can fail."""

import re

import pytest
from tests.conformance.contract import METHODS
from tests.conformance.matching import differences, filled
from tests.conformance.play import FOLDER, scenarios

from recollect_server.errors import Reason

TEXT = "\n".join(file.read_text() for file in (FOLDER / "scenarios").glob("*.yaml"))
SMALLEST_SUITE = 60


def test_there_are_enough_scenarios_and_each_has_a_name_of_its_own():
    names = [str(scenario) for scenario in scenarios()]
    assert len(names) >= SMALLEST_SUITE
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_called(method):
    assert f"call: {method}" in TEXT


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_expected(reason):
    assert re.search(rf"expect.*\n?.*reason: {reason}\b", TEXT)


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {}),
        ([{"a": 1}], [{"a": 1}, {"a": 1}]),
        (True, 1),
        (0, False),
        ({"a": {"$absent": True}}, {"a": 1}),
        ({"$length": 2}, [1]),
        ({"$some": {"a": 1}}, [{"a": 2}]),
        ({"$last": {"a": 1}}, [{"a": 1}, {"a": 2}]),
        ({"$matches": "^x"}, "yx"),
        ({"$above": 0}, 0),
    ],
)
def test_a_pattern_that_does_not_hold_is_told(pattern, value):
    assert differences(pattern, value)


def test_a_pattern_that_holds_is_passed_over():
    value = {"a": [{"b": "xyz", "c": 1.5}], "d": 1}
    assert not differences({"a": [{"b": {"$contains": "y"}}], "e": {"$absent": True}}, value)


def test_variables_keep_their_kind_where_they_are_the_whole_value():
    assert filled({"a": "${n}", "b": ["x${n}"], "c": {"$repeat": ["y", 3]}}, {"n": 7}) == {
        "a": 7,
        "b": ["x7"],
        "c": "yyy",
    }
