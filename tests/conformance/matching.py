"""What scenarios write: variables, values made on the spot, and patterns."""

import re
from typing import Any

_VARIABLE = re.compile(r"\$\{([\w.]+)\}")


def filled(value: Any, variables: dict[str, Any]) -> Any:
    """Return a value with its variables and `$repeat`s put in."""
    if isinstance(value, str):
        whole = _VARIABLE.fullmatch(value)
        if whole:
            return variables[whole[1]]
        return _VARIABLE.sub(lambda match: str(variables[match[1]]), value)
    if isinstance(value, list):
        return [filled(one, variables) for one in value]
    if not isinstance(value, dict):
        return value
    if "$repeat" in value:
        what, times = filled(value["$repeat"], variables)
        return what * times if isinstance(what, str) else [what] * times
    return {key: filled(one, variables) for key, one in value.items()}


def at(value: Any, path: str) -> Any:
    """Return what is at a path, as in `messages.0.message_id` or `kind=embed.job_id`."""
    for step in path.split("."):
        if "=" in step:
            name, _, wanted = step.partition("=")
            value = next((one for one in value if one[name] == wanted), {})
        else:
            value = value[int(step)] if isinstance(value, list) else value[step]
    return value


def differences(pattern: Any, value: Any, path: str = "") -> list[str]:
    """Return where a value is not what a pattern says; nothing if it is.

    A dict must have what the pattern has, and may have more; a list must be as long. A dict of
    operators says more: `$length`, `$matches`, `$contains`, `$above`, `$below`, `$any`, `$absent`,
    `$last`, `$some`.
    """
    if isinstance(pattern, dict) and pattern and all(key.startswith("$") for key in pattern):
        return [
            f"{path}: {key} {wanted!r} does not hold of {_short(value)}"
            for key, wanted in pattern.items()
            if not _OPERATORS[key](value, wanted)
        ]
    if isinstance(pattern, dict):
        if not isinstance(value, dict):
            return [f"{path}: not an object but {_short(value)}"]
        found = []
        for key, wanted in pattern.items():
            where = f"{path}.{key}".lstrip(".")
            if key in value:
                found += differences(wanted, value[key], where)
            elif wanted != {"$absent": True}:
                found.append(f"{where}: missing in {_short(value)}")
        return found
    if isinstance(pattern, list):
        if not isinstance(value, list) or len(value) != len(pattern):
            return [f"{path}: not {len(pattern)} items but {_short(value)}"]
        return [
            difference
            for n, (wanted, one) in enumerate(zip(pattern, value, strict=True))
            for difference in differences(wanted, one, f"{path}.{n}".lstrip("."))
        ]
    same = pattern == value and isinstance(pattern, bool) == isinstance(value, bool)
    return [] if same else [f"{path}: not {pattern!r} but {_short(value)}"]


_OPERATORS = {
    "$any": lambda value, wanted: True,
    "$absent": lambda value, wanted: False,
    "$length": lambda value, wanted: len(value) == wanted,
    "$matches": lambda value, wanted: re.search(wanted, value) is not None,
    "$contains": lambda value, wanted: wanted in value,
    "$above": lambda value, wanted: value > wanted,
    "$below": lambda value, wanted: value < wanted,
    "$last": lambda value, wanted: not differences(wanted, value[-1]),
    "$some": lambda value, wanted: any(not differences(wanted, one) for one in value),
}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}..."
