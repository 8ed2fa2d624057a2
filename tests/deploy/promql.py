"""Which metrics and labels a PromQL expression names; enough of the grammar for our own rules."""

import re

_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
_MATCHERS = re.compile(r"([A-Za-z_:][\w:]*)?\s*\{([^{}]*)\}")
_GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^()]*)\)")
_RANGE = re.compile(r"\[[^\]]*\]")
_NAME = re.compile(r"[A-Za-z_:$][\w:]*(?!\w*\s*\()")
_WORDS = frozenset(("and", "or", "unless", "bool", "offset"))
_OPEN = {"(": ")", "[": "]", "{": "}"}


def names(expression: str) -> tuple[set[str], set[str]]:
    """Return the metrics and the labels that an expression names.

    Raises:
        ValueError: brackets do not match, or it names no metric.
    """
    _check_brackets(_TEXT.sub('""', expression))
    text = _TEXT.sub('""', expression)
    labels: set[str] = set()
    for match in _MATCHERS.finditer(text):
        for matcher in filter(None, (part.strip() for part in match[2].split(","))):
            found = re.fullmatch(r'([A-Za-z_]\w*)\s*(=|!=|=~|!~)\s*""', matcher)
            if found is None:
                raise ValueError(f"{matcher!r} is no matcher in {expression!r}")
            labels.add(found[1])
    for match in _GROUPING.finditer(text):
        labels |= {part.strip() for part in match[2].split(",") if part.strip()}
    text = _GROUPING.sub(" ", _RANGE.sub("", re.sub(r"\{[^{}]*\}", "", text)))
    metrics = {name for name in _NAME.findall(text) if name not in _WORDS}
    if not metrics:
        raise ValueError(f"no metric is named in {expression!r}")
    return metrics, labels


def _check_brackets(text: str) -> None:
    waiting: list[str] = []
    for character in text:
        if character in _OPEN:
            waiting.append(_OPEN[character])
        elif character in _OPEN.values() and (not waiting or waiting.pop() != character):
            raise ValueError(f"brackets do not match in {text!r}")
    if waiting:
        raise ValueError(f"brackets do not match in {text!r}")
