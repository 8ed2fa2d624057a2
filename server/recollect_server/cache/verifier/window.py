"""The well-known recipe: the last messages, cut and joined, as one vector within a distance."""

from collections.abc import Sequence

MESSAGES = 6
CHARACTERS = 200
DISTANCE = 0.12
"""Cosine distance within which the recipe calls two conversations the same."""


def window_text(
    texts: Sequence[str], messages: int = MESSAGES, characters: int = CHARACTERS
) -> str:
    """Return the text that the recipe embeds: the last `messages`, each cut, joined by " | "."""
    return " | ".join(text[:characters] for text in texts[-messages:])
